// SPDX-License-Identifier: MIT
// Training on plain loops: the forward with batch statistics, the backward of every operation, and a loss over logits.
// The conventions are those of ops.h: dense arrays of T, sums in double, results that do not depend on the threads.
// Notation: L the loss, dy = dL/dy the gradient of an operation's output.
#pragma once

#include "backends/distributed/data_parallel.h"
#include "backends/planned/loss_terms.h"
#include "backends/reference/ops.h"
#include "backends/training.h"
#include "core/try.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace mfres::reference {

/// What the backward of an operation reads and where it adds. Gradients are added to, because a value may be read by
/// several nodes; a null pointer stands for a gradient that nobody needs.
template <typename T>
struct Gradients {
    const T* output = nullptr;    ///< y, as the forward computed it
    const T* of_output = nullptr; ///< dy
    std::vector<T*> of_inputs;
    std::vector<T*> of_parameters; ///< in the order of Node::parameters; running statistics have none
};

/// What batch_norm keeps for inference, and whether training uses it too.
template <typename T>
struct RunningStatistics {
    T* mean = nullptr;
    T* variance = nullptr;
    double momentum = 0.1; ///< the batch's share
    NormStatistics used = NormStatistics::batch;
};

/// Calls body(i) for every element i of a channel in the samples [first, end).
template <typename Body>
void for_channel(const Shape& shape, std::int64_t c, std::int64_t first, std::int64_t end, const Body& body) {
    const std::int64_t size = plane_size(shape);
    for (std::int64_t n = first; n < end; ++n) {
        const std::int64_t begin = (n * shape[1] + c) * size;
        for (std::int64_t i = begin; i < begin + size; ++i)
            body(i);
    }
}

/// Of channel c over the samples [first, end).
template <typename T>
Moments moments(const Shape& shape, const T* x, std::int64_t c, std::int64_t first, std::int64_t end) {
    const auto count = static_cast<double>((end - first) * plane_size(shape));
    double sum = 0.0;
    for_channel(shape, c, first, end, [&](std::int64_t i) { sum += static_cast<double>(x[i]); });
    const double mean = sum / count;
    double squares = 0.0;
    for_channel(shape, c, first, end, [&](std::int64_t i) {
        squares += (static_cast<double>(x[i]) - mean) * (static_cast<double>(x[i]) - mean);
    });
    return {mean, squares / count};
}

/// Of channel c of a batch_norm, as it keeps them.
template <typename T>
Moments running_moments(const Operands<T>& in, std::int64_t c) {
    return {static_cast<double>(in.parameters[2][c]), static_cast<double>(in.parameters[3][c])};
}

/// Of every group of `together` samples and every channel, [group][channel]; over all ranks where there are several,
/// which then have one group each. Errors: those of Communicator.
template <typename T>
Result<std::vector<Moments>> all_moments(const Operands<T>& in, const Shape& shape, std::int64_t together,
                                         Communicator& ranks, int threads) {
    const std::int64_t channels = shape[1];
    std::vector<Moments> all(static_cast<std::size_t>(shape[0] / together * channels));
    parallel_ranges(channels, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c)
            for (std::int64_t n = 0; n < shape[0]; n += together)
                all[static_cast<std::size_t>(n / together * channels + c)] =
                    moments(shape, in.inputs[0], c, n, n + together);
    });
    if (ranks.alone())
        return all;
    std::vector<double> pivots; // running means are the same on all ranks
    for (std::int64_t c = 0; c < channels; ++c)
        pivots.push_back(static_cast<double>(in.parameters[2][c]));
    MFRES_CHECK(merge_moments(ranks, static_cast<double>(together * plane_size(shape)), pivots, all));
    return all;
}

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias with the batch's own moments per channel, or the running
/// ones. In the first case the running ones move by `momentum` towards the batch's, the variance towards the unbiased
/// one, squares / (count - 1); a single value has none, its 0 is taken. The batch is that of all ranks.
template <typename T>
Status batch_norm_training(const BatchNorm& op, const Operands<T>& in, const Shape& out, T* y,
                           const RunningStatistics<T>& running, Communicator& ranks, int threads) {
    const T* x = in.inputs[0];
    const bool fixed = running.used == NormStatistics::running;
    std::vector<Moments> batch;
    if (!fixed) {
        MFRES_TRY(batch, all_moments(in, out, out[0], ranks, threads));
    }
    const auto count = static_cast<double>(out[0] * plane_size(out) * ranks.size());
    const auto move = [&](T& value, double target) {
        value = static_cast<T>((1.0 - running.momentum) * static_cast<double>(value) + running.momentum * target);
    };
    parallel_ranges(out[1], threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c) {
            const Moments own = fixed ? running_moments(in, c) : batch[static_cast<std::size_t>(c)];
            const double scale = static_cast<double>(in.parameters[0][c]) / std::sqrt(own.variance + op.epsilon);
            const auto bias = static_cast<double>(in.parameters[1][c]);
            for_channel(out, c, 0, out[0], [&](std::int64_t i) {
                y[i] = static_cast<T>((static_cast<double>(x[i]) - own.mean) * scale + bias);
            });
            if (fixed)
                continue;
            move(running.mean[c], own.mean);
            move(running.variance[c], own.variance * count / std::max(count - 1.0, 1.0));
        }
    });
    return {};
}

/// Computes one node as training does: batch_norm with the statistics that `running` says, over the samples of all
/// ranks, everything else as forward(). Errors: those of Communicator.
template <typename T>
Status forward_training(const Node& node, const Operands<T>& in, T* y, const RunningStatistics<T>& running, int threads,
                        Communicator& ranks = single_rank()) {
    if (node.kind() == OpKind::batch_norm)
        return batch_norm_training(node.as<BatchNorm>(), in, node.shape, y, running, ranks, threads);
    forward(node, in, y, threads);
    return {};
}

/// to[i] += f(i), i over all elements.
template <typename T, typename Function>
void accumulate(const Shape& shape, T* to, int threads, const Function& f) {
    if (to == nullptr)
        return;
    parallel_ranges(shape.elements(), threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            to[i] = static_cast<T>(static_cast<double>(to[i]) + f(i));
    });
}

/// Sum of f(i) over all elements, plane by plane.
template <typename Function>
double sum_over(const Shape& shape, int threads, const Function& f) {
    const std::int64_t size = plane_size(shape);
    std::vector<double> parts(static_cast<std::size_t>(shape[0] * shape[1]));
    for_planes(shape, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t plane = begin; plane < end; ++plane)
            for (std::int64_t i = plane * size; i < (plane + 1) * size; ++i)
                parts[static_cast<std::size_t>(plane)] += f(i);
    });
    double sum = 0.0;
    for (const double part : parts)
        sum += part;
    return sum;
}

/// dx[n, i, q] += sum over the group's outputs o and taps t of weight[o, i, t] * dy[n, o, p], q = p * stride + t *
/// dilation - padding. Works on whole rows along z.
template <typename T>
void conv_input_gradient(const Conv& op, const Operands<T>& in, const Shape& out, const T* dy, T* dx, int threads) {
    const Shape& from = in.shapes[0];
    const std::int64_t in_per_group = from[1] / op.groups;
    const std::int64_t out_per_group = out[1] / op.groups;
    const std::int64_t taps = op.kernel[0] * op.kernel[1] * op.kernel[2];

    /// The output position along an axis that reads input position q with tap k, or -1.
    const auto reader = [&](std::size_t axis, std::int64_t q, std::int64_t k) -> std::int64_t {
        const std::int64_t scaled = q + op.padding[axis] - k * op.dilation[axis];
        const bool inside =
            scaled >= 0 && scaled % op.stride[axis] == 0 && scaled / op.stride[axis] < out[static_cast<int>(axis) + 2];
        return inside ? scaled / op.stride[axis] : -1;
    };
    const auto row = [&](std::int64_t index, std::vector<double>& sums) {
        const std::int64_t qy = index % from[3];
        const std::int64_t qx = index / from[3] % from[2];
        const std::int64_t channel = index / from[3] / from[2] % from[1];
        const std::int64_t n = index / from[3] / from[2] / from[1];
        const std::int64_t first_out = channel / in_per_group * out_per_group;
        std::fill(sums.begin(), sums.end(), 0.0);
        for (std::int64_t o = first_out; o < first_out + out_per_group; ++o) {
            const T* w = in.parameters[0] + (o * in_per_group + channel % in_per_group) * taps;
            for (std::int64_t kx = 0; kx < op.kernel[0]; ++kx) {
                const std::int64_t px = reader(0, qx, kx);
                for (std::int64_t ky = 0; px >= 0 && ky < op.kernel[1]; ++ky) {
                    const std::int64_t py = reader(1, qy, ky);
                    if (py < 0)
                        continue;
                    const T* line = dy + (((n * out[1] + o) * out[2] + px) * out[3] + py) * out[4];
                    for (std::int64_t kz = 0; kz < op.kernel[2]; ++kz) {
                        const double tap = w[(kx * op.kernel[1] + ky) * op.kernel[2] + kz];
                        const TapRange range = tap_range(op, 2, kz, from[4], out[4]);
                        for (std::int64_t z = range.first; z < range.end; ++z)
                            sums[static_cast<std::size_t>(z * op.stride[2] + range.shift)] +=
                                tap * static_cast<double>(line[z]);
                    }
                }
            }
        }
        T* to = dx + index * from[4];
        for (std::int64_t z = 0; z < from[4]; ++z)
            to[z] = static_cast<T>(static_cast<double>(to[z]) + sums[static_cast<std::size_t>(z)]);
    };
    parallel_ranges(from[0] * from[1] * from[2] * from[3], threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<double> sums(static_cast<std::size_t>(from[4]));
        for (std::int64_t index = begin; index < end; ++index)
            row(index, sums);
    });
}

/// dweight[o, i, t] += sum over n, p of dy[n, o, p] * x[n, i, p * stride + t * dilation - padding].
template <typename T>
void conv_weight_gradient(const Conv& op, const Operands<T>& in, const Shape& out, const T* dy, T* dw, int threads) {
    const Shape& from = in.shapes[0];
    const std::int64_t in_per_group = from[1] / op.groups;
    const std::int64_t out_per_group = out[1] / op.groups;

    const auto tap = [&](std::int64_t o, std::int64_t channel, std::int64_t kx, std::int64_t ky, std::int64_t kz) {
        const TapRange xs = tap_range(op, 0, kx, from[2], out[2]);
        const TapRange ys = tap_range(op, 1, ky, from[3], out[3]);
        const TapRange zs = tap_range(op, 2, kz, from[4], out[4]);
        double sum = 0.0;
        for (std::int64_t n = 0; n < out[0]; ++n)
            for (std::int64_t px = xs.first; px < xs.end; ++px)
                for (std::int64_t py = ys.first; py < ys.end; ++py) {
                    const std::int64_t qx = px * op.stride[0] + xs.shift;
                    const std::int64_t qy = py * op.stride[1] + ys.shift;
                    const T* line = in.inputs[0] + (((n * from[1] + channel) * from[2] + qx) * from[3] + qy) * from[4];
                    const T* slope = dy + (((n * out[1] + o) * out[2] + px) * out[3] + py) * out[4];
                    for (std::int64_t z = zs.first; z < zs.end; ++z)
                        sum += static_cast<double>(slope[z]) * static_cast<double>(line[z * op.stride[2] + zs.shift]);
                }
        return sum;
    };
    parallel_ranges(out[1] * in_per_group, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t pair = begin; pair < end; ++pair) {
            const std::int64_t o = pair / in_per_group;
            const std::int64_t channel = o / out_per_group * in_per_group + pair % in_per_group;
            T* to = dw + pair * op.kernel[0] * op.kernel[1] * op.kernel[2];
            for (std::int64_t kx = 0; kx < op.kernel[0]; ++kx)
                for (std::int64_t ky = 0; ky < op.kernel[1]; ++ky)
                    for (std::int64_t kz = 0; kz < op.kernel[2]; ++kz, ++to)
                        *to = static_cast<T>(static_cast<double>(*to) + tap(o, channel, kx, ky, kz));
        }
    });
}

template <typename T>
void conv_backward(const Conv& op, const Operands<T>& in, const Shape& out, const Gradients<T>& gradients,
                   int threads) {
    if (gradients.of_inputs[0] != nullptr)
        conv_input_gradient(op, in, out, gradients.of_output, gradients.of_inputs[0], threads);
    if (gradients.of_parameters[0] != nullptr)
        conv_weight_gradient(op, in, out, gradients.of_output, gradients.of_parameters[0], threads);
    if (op.bias && gradients.of_parameters[1] != nullptr)
        for (std::int64_t o = 0; o < out[1]; ++o) {
            double sum = 0.0;
            for_channel(out, o, 0, out[0], [&](std::int64_t i) { sum += static_cast<double>(gradients.of_output[i]); });
            T& to = gradients.of_parameters[1][o];
            to = static_cast<T>(static_cast<double>(to) + sum);
        }
}

/// Normalisation over `together` samples at a time (all of them and those of the other ranks: batch_norm; one:
/// instance_norm). With x' = (x - mean) * r, r = 1 / sqrt(variance + epsilon), y = weight * x' + bias and N values:
/// dbias = sum dy, dweight = sum dy x', dx = weight * r * (dy - (sum dy + x' * sum dy x') / N). With running statistics
/// mean and r do not depend on x: dx = weight * r * dy. Gradients of parameters are of this rank's samples.
template <typename T>
Status norm_backward(double epsilon, std::int64_t together, NormStatistics statistics, const Operands<T>& in,
                     const Shape& out, const Gradients<T>& gradients, Communicator& ranks, int threads) {
    const T* x = in.inputs[0];
    const T* dy = gradients.of_output;
    const bool fixed = statistics == NormStatistics::running;
    const std::int64_t channels = out[1];
    const std::int64_t groups = out[0] / together;
    const auto count = static_cast<double>(together * plane_size(out) * ranks.size());
    std::vector<Moments> measured;
    if (!fixed) {
        MFRES_TRY(measured, all_moments(in, out, together, ranks, threads));
    }
    struct Normaliser {
        double mean;
        double r;
    };
    const auto normaliser = [&](std::int64_t group, std::int64_t c) {
        const Moments own = fixed ? running_moments(in, c) : measured[static_cast<std::size_t>(group * channels + c)];
        return Normaliser{own.mean, 1.0 / std::sqrt(own.variance + epsilon)};
    };
    std::vector<double> sums(static_cast<std::size_t>(2 * groups * channels), 0.0); // dweight, dbias of each group
    parallel_ranges(channels, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c)
            for (std::int64_t group = 0; group < groups; ++group) {
                const Normaliser by = normaliser(group, c);
                double* own = sums.data() + 2 * (group * channels + c);
                for_channel(out, c, group * together, (group + 1) * together, [&](std::int64_t i) {
                    own[0] += static_cast<double>(dy[i]) * ((static_cast<double>(x[i]) - by.mean) * by.r);
                    own[1] += static_cast<double>(dy[i]);
                });
            }
    });
    for (std::int64_t k = 0; k < 2; ++k)
        if (T* to = gradients.of_parameters[static_cast<std::size_t>(k)])
            for (std::int64_t c = 0; c < channels; ++c) {
                double sum = 0.0;
                for (std::int64_t group = 0; group < groups; ++group)
                    sum += sums[static_cast<std::size_t>(2 * (group * channels + c) + k)];
                to[c] = static_cast<T>(static_cast<double>(to[c]) + sum);
            }
    if (!fixed)
        MFRES_CHECK(ranks.all_reduce_sum(sums));
    T* dx = gradients.of_inputs[0];
    if (dx == nullptr)
        return {};
    parallel_ranges(channels, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c)
            for (std::int64_t group = 0; group < groups; ++group) {
                const Normaliser by = normaliser(group, c);
                const double* own = sums.data() + 2 * (group * channels + c);
                const double scale = static_cast<double>(in.parameters[0][c]) * by.r;
                for_channel(out, c, group * together, (group + 1) * together, [&](std::int64_t i) {
                    const double normal = (static_cast<double>(x[i]) - by.mean) * by.r;
                    const double share = fixed ? 0.0 : (own[1] + normal * own[0]) / count;
                    dx[i] = static_cast<T>(static_cast<double>(dx[i]) + scale * (static_cast<double>(dy[i]) - share));
                });
            }
    });
    return {};
}

/// Adds to dx, plane by plane, what `spread(plane, dy of the plane, sums of the plane)` puts into `sums`.
template <typename T, typename Spread>
void spread_planes(const Shape& from, const Shape& out, const T* dy, T* dx, int threads, const Spread& spread) {
    if (dx == nullptr)
        return;
    const std::int64_t size = plane_size(from);
    for_planes(out, threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<double> sums(static_cast<std::size_t>(size));
        for (std::int64_t plane = begin; plane < end; ++plane) {
            std::fill(sums.begin(), sums.end(), 0.0);
            spread(plane, dy + plane * plane_size(out), sums.data());
            T* to = dx + plane * size;
            for (std::int64_t i = 0; i < size; ++i)
                to[i] = static_cast<T>(static_cast<double>(to[i]) + sums[static_cast<std::size_t>(i)]);
        }
    });
}

/// The gradient of a window goes to its maximum: the first one, or the last NaN, as in the forward.
template <typename T>
void max_pool_backward(const MaxPool& op, const Operands<T>& in, const Shape& out, const Gradients<T>& gradients,
                       int threads) {
    const Shape& from = in.shapes[0];
    const auto winner = [&](const T* source, std::int64_t x, std::int64_t y, std::int64_t z) {
        std::int64_t best = (x * op.stride[0] * from[3] + y * op.stride[1]) * from[4] + z * op.stride[2];
        T most = -std::numeric_limits<T>::infinity();
        for (std::int64_t a = x * op.stride[0]; a < x * op.stride[0] + op.kernel[0]; ++a)
            for (std::int64_t b = y * op.stride[1]; b < y * op.stride[1] + op.kernel[1]; ++b)
                for (std::int64_t c = z * op.stride[2]; c < z * op.stride[2] + op.kernel[2]; ++c) {
                    const std::int64_t i = (a * from[3] + b) * from[4] + c;
                    if (std::isnan(source[i]) || source[i] > most) {
                        most = source[i];
                        best = i;
                    }
                }
        return best;
    };
    spread_planes(from, out, gradients.of_output, gradients.of_inputs[0], threads,
                  [&](std::int64_t plane, const T* dy, double* sums) {
                      const T* source = in.inputs[0] + plane * plane_size(from);
                      for (std::int64_t x = 0; x < out[2]; ++x)
                          for (std::int64_t y = 0; y < out[3]; ++y)
                              for (std::int64_t z = 0; z < out[4]; ++z)
                                  sums[winner(source, x, y, z)] += static_cast<double>(*dy++);
                  });
}

/// Every voxel of a window gets an equal share.
template <typename T>
void adaptive_avg_pool_backward(const Operands<T>& in, const Shape& out, const Gradients<T>& gradients, int threads) {
    const Shape& from = in.shapes[0];
    const auto share = [&](std::int64_t x, std::int64_t y, std::int64_t z, double slope, double* sums) {
        const auto [ax, bx] = adaptive_window(from, out, 0, x);
        const auto [ay, by] = adaptive_window(from, out, 1, y);
        const auto [az, bz] = adaptive_window(from, out, 2, z);
        const double part = slope / static_cast<double>((bx - ax) * (by - ay) * (bz - az));
        for (std::int64_t a = ax; a < bx; ++a)
            for (std::int64_t b = ay; b < by; ++b)
                for (std::int64_t c = az; c < bz; ++c)
                    sums[(a * from[3] + b) * from[4] + c] += part;
    };
    spread_planes(from, out, gradients.of_output, gradients.of_inputs[0], threads,
                  [&](std::int64_t, const T* dy, double* sums) {
                      for (std::int64_t x = 0; x < out[2]; ++x)
                          for (std::int64_t y = 0; y < out[3]; ++y)
                              for (std::int64_t z = 0; z < out[4]; ++z)
                                  share(x, y, z, static_cast<double>(*dy++), sums);
                  });
}

/// The transpose of the interpolation: every voxel gets the weights with which it was read.
template <typename T>
void upsample_backward(const Upsample& op, const Operands<T>& in, const Shape& out, const Gradients<T>& gradients,
                       int threads) {
    const Shape& from = in.shapes[0];
    const auto taps = neighbours(op, from, out);
    spread_planes(from, out, gradients.of_output, gradients.of_inputs[0], threads,
                  [&](std::int64_t, const T* dy, double* sums) {
                      for (const Neighbours& tx : taps[0])
                          for (const Neighbours& ty : taps[1])
                              for (const Neighbours& tz : taps[2]) {
                                  const auto slope = static_cast<double>(*dy++);
                                  for (const auto& [a, wx] :
                                       {std::pair{tx.low, 1 - tx.fraction}, std::pair{tx.high, tx.fraction}})
                                      for (const auto& [b, wy] :
                                           {std::pair{ty.low, 1 - ty.fraction}, std::pair{ty.high, ty.fraction}}) {
                                          double* line = sums + (a * from[3] + b) * from[4];
                                          line[tz.low] += slope * wx * wy * (1 - tz.fraction);
                                          line[tz.high] += slope * wx * wy * tz.fraction;
                                      }
                              }
                  });
}

/// dx_c = y_c * (dy_c - sum over channels k of y_k dy_k)
template <typename T>
void softmax_backward(const Shape& out, const Gradients<T>& gradients, int threads) {
    T* dx = gradients.of_inputs[0];
    if (dx == nullptr)
        return;
    const T* y = gradients.output;
    const T* dy = gradients.of_output;
    const std::int64_t size = plane_size(out);
    parallel_ranges(out[0] * size, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t voxel = begin; voxel < end; ++voxel) {
            const std::int64_t base = voxel / size * out[1] * size + voxel % size;
            const auto slope = [&](std::int64_t i) { return static_cast<double>(dy[i]); };
            double mean = 0.0;
            for (std::int64_t i = base; i < base + out[1] * size; i += size)
                mean += static_cast<double>(y[i]) * slope(i);
            for (std::int64_t i = base; i < base + out[1] * size; i += size)
                dx[i] = static_cast<T>(static_cast<double>(dx[i]) + static_cast<double>(y[i]) * (slope(i) - mean));
        }
    });
}

/// Each input gets its channels of dy.
template <typename T>
void concat_backward(const Operands<T>& in, const Shape& out, const Gradients<T>& gradients) {
    const std::int64_t size = plane_size(out);
    const T* dy = gradients.of_output;
    for (std::int64_t n = 0; n < out[0]; ++n)
        for (std::size_t k = 0; k < in.inputs.size(); ++k) {
            const std::int64_t count = in.shapes[k][1] * size;
            if (T* dx = gradients.of_inputs[k])
                for (std::int64_t i = 0; i < count; ++i)
                    dx[n * count + i] += dy[i];
            dy += count;
        }
}

template <typename T>
void slice_backward(const Slice& op, const Operands<T>& in, const Shape& out, const Gradients<T>& gradients) {
    T* dx = gradients.of_inputs[0];
    if (dx == nullptr)
        return;
    const std::int64_t size = plane_size(out);
    const T* dy = gradients.of_output;
    for (std::int64_t n = 0; n < out[0]; ++n) {
        T* to = dx + (n * in.shapes[0][1] + op.begin) * size;
        for (std::int64_t i = 0; i < out[1] * size; ++i)
            to[i] += *dy++;
    }
}

template <typename T>
void scaled_add_backward(const Operands<T>& in, const Shape& out, const Gradients<T>& gradients, int threads) {
    const auto dy = [&](std::int64_t i) { return static_cast<double>(gradients.of_output[i]); };
    for (std::size_t k = 0; k < in.inputs.size(); ++k) {
        const auto weight = static_cast<double>(in.parameters[k][0]);
        accumulate(out, gradients.of_inputs[k], threads, [&](std::int64_t i) { return weight * dy(i); });
        if (T* to = gradients.of_parameters[k])
            *to = static_cast<T>(static_cast<double>(*to) + sum_over(out, threads, [&](std::int64_t i) {
                                     return dy(i) * static_cast<double>(in.inputs[k][i]);
                                 }));
    }
}

/// Adds the gradients of one node's inputs and parameters. No gradient may overlap another array, except that a node
/// which reads a value twice has the same gradient twice. `statistics` are those of the forward. Errors: those of
/// Communicator.
template <typename T>
Status backward(const Node& node, const Operands<T>& in, const Gradients<T>& gradients, NormStatistics statistics,
                int threads, Communicator& ranks = single_rank()) {
    const Shape& out = node.shape;
    const auto dy = [&](std::int64_t i) { return static_cast<double>(gradients.of_output[i]); };
    switch (node.kind()) {
    case OpKind::input: break;
    case OpKind::conv_transpose:
    case OpKind::group_norm:
    case OpKind::prelu:
    case OpKind::elu:
    case OpKind::sigmoid:
    case OpKind::multiply:
        return Error{ErrorCode::operation_unsupported, text("node ", node.name, " has no gradient"), node.name};
    case OpKind::conv: conv_backward(node.as<Conv>(), in, out, gradients, threads); break;
    case OpKind::batch_norm:
        return norm_backward(node.as<BatchNorm>().epsilon, out[0], statistics, in, out, gradients, ranks, threads);
    case OpKind::instance_norm:
        return norm_backward(node.as<InstanceNorm>().epsilon, 1, NormStatistics::batch, in, out, gradients,
                             single_rank(), threads);
    case OpKind::relu:
        accumulate(out, gradients.of_inputs[0], threads,
                   [&](std::int64_t i) { return !(in.inputs[0][i] <= T{0}) ? dy(i) : 0.0; });
        break;
    case OpKind::leaky_relu: {
        const double slope = node.as<LeakyRelu>().slope;
        accumulate(out, gradients.of_inputs[0], threads,
                   [&](std::int64_t i) { return in.inputs[0][i] > T{0} ? dy(i) : slope * dy(i); });
        break;
    }
    case OpKind::add:
        for (T* dx : gradients.of_inputs)
            accumulate(out, dx, threads, dy);
        break;
    case OpKind::scaled_add: scaled_add_backward(in, out, gradients, threads); break;
    case OpKind::concat: concat_backward(in, out, gradients); break;
    case OpKind::slice: slice_backward(node.as<Slice>(), in, out, gradients); break;
    case OpKind::max_pool: max_pool_backward(node.as<MaxPool>(), in, out, gradients, threads); break;
    case OpKind::adaptive_avg_pool: adaptive_avg_pool_backward(in, out, gradients, threads); break;
    case OpKind::upsample: upsample_backward(node.as<Upsample>(), in, out, gradients, threads); break;
    case OpKind::softmax: softmax_backward(out, gradients, threads); break;
    }
    return {};
}

/// Calls body(probabilities by channel, first logit of the voxel, its truth) for every voxel of one slab (n, x).
template <typename T, typename Body>
void for_slab(const Shape& shape, const T* logits, std::span<const std::uint8_t> classes, Outputs outputs,
              std::int64_t slab, const Body& body) {
    const std::int64_t size = plane_size(shape);
    const std::int64_t rows = shape[3] * shape[4];
    const std::int64_t first = slab / shape[2] * shape[1] * size + slab % shape[2] * rows;
    std::vector<double> p(static_cast<std::size_t>(shape[1]));
    for (std::int64_t i = 0; i < rows; ++i) {
        const T* voxel = logits + first + i;
        if (outputs == Outputs::regions) {
            for (std::size_t r = 0; r < p.size(); ++r)
                p[r] = 1.0 / (1.0 + std::exp(-static_cast<double>(voxel[static_cast<std::int64_t>(r) * size])));
            body(p, first + i, classes[static_cast<std::size_t>(slab * rows + i)]);
            continue;
        }
        double most = -std::numeric_limits<double>::infinity();
        for (std::int64_t c = 0; c < shape[1]; ++c)
            most = std::max(most, static_cast<double>(voxel[c * size]));
        double sum = 0.0;
        for (std::size_t c = 0; c < p.size(); ++c)
            sum += p[c] = std::exp(static_cast<double>(voxel[static_cast<std::int64_t>(c) * size]) - most);
        for (double& value : p)
            value /= sum;
        body(p, first + i, classes[static_cast<std::size_t>(slab * rows + i)]);
    }
}

/// Whether a voxel of class `truth` belongs to what channel c stands for: g of ClassSums.
inline bool is_true(Outputs outputs, std::size_t c, std::uint8_t truth) {
    return outputs == Outputs::regions ? in_region(static_cast<std::int64_t>(c), truth) : c == truth;
}

/// The sums that a loss is made of, of probabilities against classes, [group][class]: one group, or one per sample.
/// Slab by slab, so that the order of additions does not depend on the threads.
template <typename T>
std::vector<ClassSums> class_sums(const Shape& shape, const T* logits, std::span<const std::uint8_t> classes,
                                  Outputs outputs, std::size_t groups, int threads) {
    const auto channels = static_cast<std::size_t>(shape[1]);
    const std::int64_t slabs = shape[0] * shape[2];
    std::vector<ClassSums> parts(static_cast<std::size_t>(slabs) * channels);
    parallel_ranges(slabs, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t slab = begin; slab < end; ++slab) {
            ClassSums* sums = parts.data() + static_cast<std::size_t>(slab) * channels;
            for_slab(shape, logits, classes, outputs, slab,
                     [&](const std::vector<double>& p, std::int64_t, std::uint8_t truth) {
                         for (std::size_t c = 0; c < channels; ++c) {
                             sums[c].probability += p[c];
                             sums[c].probability_squared += p[c] * p[c];
                             if (is_true(outputs, c, truth)) {
                                 sums[c].probability_truth += p[c];
                                 sums[c].truth += 1.0;
                             }
                         }
                     });
        }
    });
    std::vector<ClassSums> total(groups * channels);
    const std::size_t of_group = parts.size() / groups;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        ClassSums& sums = total[i / of_group * channels + i % channels];
        sums.probability_truth += parts[i].probability_truth;
        sums.probability += parts[i].probability;
        sums.probability_squared += parts[i].probability_squared;
        sums.truth += parts[i].truth;
    }
    return total;
}

/// The pointwise part of a loss at one voxel: f, and df/dz_c = coefficient * (p_c - g_c).
struct PointwiseValue {
    double value = 0.0;
    double coefficient = 0.0;
};

/// With q = 1 - p of the true class and ce = -log p: f = q^gamma ce, coefficient = q^gamma (1 + gamma p ce / q), where
/// ce / q tends to 1 as q vanishes. `voxel`: its first logit, the others `size` apart. No logarithm of 0 is taken.
template <typename T>
PointwiseValue pointwise_value(const T* voxel, std::int64_t size, std::int64_t channels, std::uint8_t truth,
                               double gamma) {
    double most = -std::numeric_limits<double>::infinity();
    for (std::int64_t c = 0; c < channels; ++c)
        most = std::max(most, static_cast<double>(voxel[c * size]));
    double others = 0.0;
    for (std::int64_t c = 0; c < channels; ++c)
        others += c == truth ? 0.0 : std::exp(static_cast<double>(voxel[c * size]) - most);
    const double own = static_cast<double>(voxel[truth * size]);
    const double all = others + std::exp(own - most);
    const double q = others / all;
    const double cross_entropy = q < 0.5 ? -std::log1p(-q) : most - own + std::log(all);
    const double factor = std::pow(q, gamma);
    return {factor * cross_entropy, factor * (1.0 + gamma * (1.0 - q) * (q > 0.0 ? cross_entropy / q : 1.0))};
}

/// The sigmoid of a logit is the softmax of 0 and the logit, so a region is a loss of its own with two classes.
template <typename T>
std::array<T, 2> two_logits(T logit) {
    return {T{0}, logit};
}

/// f of PointwiseLoss with regions: the mean of what each contributes.
template <typename T>
double pointwise_of_regions(const T* voxel, std::int64_t size, std::uint8_t truth, double gamma) {
    double sum = 0.0;
    for (std::int64_t r = 0; r < region_count; ++r)
        sum += pointwise_value(two_logits(voxel[r * size]).data(), 1, 2, in_region(r, truth) ? 1 : 0, gamma).value;
    return sum / static_cast<double>(region_count);
}

/// What a value counts by.
inline double counted(const PointwiseRule& rule, double value) {
    return value < rule.threshold ? 0.0 : value == rule.threshold ? rule.at_threshold : 1.0;
}

/// Values of the pointwise part by voxel [batch][x][y][z].
template <typename T>
std::vector<double> pointwise_values(const Shape& shape, const T* logits, std::span<const std::uint8_t> classes,
                                     Outputs outputs, double gamma, int threads) {
    std::vector<double> values(classes.size());
    const std::int64_t size = plane_size(shape);
    parallel_ranges(static_cast<std::int64_t>(values.size()), threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const T* voxel = logits + i / size * shape[1] * size + i % size;
            const auto at = static_cast<std::size_t>(i);
            values[at] = outputs == Outputs::regions ? pointwise_of_regions(voxel, size, classes[at], gamma)
                                                     : pointwise_value(voxel, size, shape[1], classes[at], gamma).value;
        }
    });
    return values;
}

/// Adds the gradient of distillation at one voxel, weight / temperature (q_c - t_c) with q = softmax(z / temperature)
/// and t the targets, and returns the cross-entropy of q against t. Pointers are to the first of the voxel's logits,
/// targets and gradients, `size` apart.
template <typename T>
double distil(const T* voxel, const T* targets, std::int64_t size, std::int64_t channels, const DistillationRule& rule,
              T* gradient) {
    const auto scaled = [&](std::int64_t c) { return static_cast<double>(voxel[c * size]) / rule.temperature; };
    double most = -std::numeric_limits<double>::infinity();
    for (std::int64_t c = 0; c < channels; ++c)
        most = std::max(most, scaled(c));
    double sum = 0.0;
    double targets_sum = 0.0;
    for (std::int64_t c = 0; c < channels; ++c) {
        sum += std::exp(scaled(c) - most);
        targets_sum += static_cast<double>(targets[c * size]);
    }
    double cross_entropy = 0.0;
    for (std::int64_t c = 0; c < channels; ++c) {
        const auto target = static_cast<double>(targets[c * size]);
        const double q = std::exp(scaled(c) - most) / sum;
        cross_entropy += target * (most + std::log(sum) - scaled(c));
        gradient[c * size] += static_cast<T>(rule.weight / rule.temperature * (targets_sum * q - target));
    }
    return cross_entropy;
}

/// The gradient at one voxel of a loss of regions, dL/dz_r = p_r (1 - p_r) s_r + coefficient_r (p_r - g_r) and that of
/// distillation; adds to the sums that its value takes. Pointers are to the first of the voxel's logits, targets and
/// gradients, `size` apart.
template <typename T>
void region_gradient(const T* voxel, std::span<const double> p, std::int64_t size, std::uint8_t truth,
                     const ClassSlope* slopes, const LossTerms& terms, const T* targets, T* gradient, VoxelSums& sums) {
    const PointwiseRule& rule = terms.rule();
    constexpr double share = 1.0 / static_cast<double>(region_count);
    double counts = 0.0;
    if (terms.has_pointwise()) {
        const double value = pointwise_of_regions(voxel, size, truth, rule.gamma);
        counts = counted(rule, value);
        sums.pointwise += counts * value;
    }
    for (std::size_t r = 0; r < p.size(); ++r) {
        const std::int64_t at = static_cast<std::int64_t>(r) * size;
        const bool inside = is_true(Outputs::regions, r, truth);
        const std::array<T, 2> logits = two_logits(voxel[at]);
        const double slope = (inside ? slopes[r].truth : 0.0) + slopes[r].constant + slopes[r].probability * p[r];
        double own = p[r] * (1.0 - p[r]) * slope;
        if (terms.has_pointwise())
            own += share * rule.weight * counts *
                   pointwise_value(logits.data(), 1, 2, inside ? 1 : 0, rule.gamma).coefficient *
                   (p[r] - (inside ? 1.0 : 0.0));
        gradient[at] = static_cast<T>(own);
        if (!terms.has_distillation())
            continue;
        DistillationRule soft = terms.distillation();
        soft.weight *= share;
        const std::array<T, 2> both{T{1} - targets[at], targets[at]};
        std::array<T, 2> of_both{T{0}, gradient[at]};
        sums.distillation += share * distil(logits.data(), both.data(), 1, 2, soft, of_both.data());
        gradient[at] = of_both[1];
    }
}

/// The gradient of a loss whose terms are known, and the sums that its value takes:
/// dL/dz_c = p_c (s_c - sum over k of p_k s_k) + coefficient (p_c - g_c) with s_k = dL/dp_k, and that of distillation.
/// For regions see region_gradient().
template <typename T>
VoxelSums loss_gradient(const Shape& shape, const T* logits, std::span<const std::uint8_t> classes,
                        const LossTerms& terms, const T* targets, T* gradient, int threads) {
    const std::int64_t size = plane_size(shape);
    const auto channels = static_cast<std::size_t>(shape[1]);
    const PointwiseRule& rule = terms.rule();
    std::vector<VoxelSums> sums(static_cast<std::size_t>(shape[0] * shape[2]));
    parallel_ranges(shape[0] * shape[2], threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<double> slopes(channels);
        for (std::int64_t slab = begin; slab < end; ++slab) {
            const std::int64_t group = terms.groups() == 1 ? 0 : slab / shape[2];
            const ClassSlope* of_class = terms.slopes().data() + static_cast<std::size_t>(group) * channels;
            for_slab(shape, logits, classes, terms.outputs(), slab,
                     [&](const std::vector<double>& p, std::int64_t first, std::uint8_t truth) {
                         if (terms.outputs() == Outputs::regions) {
                             region_gradient(logits + first, p, size, truth, of_class, terms,
                                             terms.has_distillation() ? targets + first : nullptr, gradient + first,
                                             sums[static_cast<std::size_t>(slab)]);
                             return;
                         }
                         double mean = 0.0;
                         for (std::size_t c = 0; c < channels; ++c) {
                             const ClassSlope& slope = of_class[c];
                             slopes[c] = (c == truth ? slope.truth : 0.0) + slope.constant + slope.probability * p[c];
                             mean += p[c] * slopes[c];
                         }
                         PointwiseValue own;
                         if (terms.has_pointwise()) {
                             own = pointwise_value(logits + first, size, shape[1], truth, rule.gamma);
                             const double counts = counted(rule, own.value);
                             sums[static_cast<std::size_t>(slab)].pointwise += counts * own.value;
                             own.coefficient *= rule.weight * counts;
                         }
                         for (std::size_t c = 0; c < channels; ++c)
                             gradient[first + static_cast<std::int64_t>(c) * size] = static_cast<T>(
                                 p[c] * (slopes[c] - mean) + own.coefficient * (p[c] - (c == truth ? 1.0 : 0.0)));
                         if (terms.has_distillation())
                             sums[static_cast<std::size_t>(slab)].distillation +=
                                 distil(logits + first, targets + first, size, shape[1], terms.distillation(),
                                        gradient + first);
                     });
        }
    });
    VoxelSums total;
    for (const VoxelSums& slab : sums)
        total += slab;
    return total;
}

/// The loss of logits [batch, channel, x, y, z] against `classes` [batch][x][y][z], and its gradient by the
/// logits. Errors: those of check_classes and of Communicator. The batch is that of all ranks. `targets`:
/// of distillation, like the logits; null without it.
template <typename T>
Result<double> loss_and_gradient(const Shape& shape, const T* logits, std::span<const std::uint8_t> classes,
                                 const Loss& loss, T* gradient, int threads, Communicator& ranks = single_rank(),
                                 const T* targets = nullptr) {
    MFRES_CHECK(check_classes(classes, shape, loss.outputs));
    LossTerms terms(loss, shape, ranks);
    if (terms.has_overlap())
        MFRES_CHECK(terms.take_sums(class_sums(shape, logits, classes, loss.outputs, terms.groups(), threads)));
    if (terms.chooses()) {
        const std::vector<double> values =
            pointwise_values(shape, logits, classes, loss.outputs, terms.rule().gamma, threads);
        MFRES_CHECK(terms.choose<double>([&](std::uint64_t prefix, int shift, std::span<double> counts) {
            for (const double value : values)
                if (const std::uint64_t key = ordered_bits(value); has_prefix(key, prefix, shift))
                    counts[digit_of(key, shift)] += 1.0;
            return Status();
        }));
    }
    return terms.value(loss_gradient(shape, logits, classes, terms, targets, gradient, threads));
}

} // namespace mfres::reference
