// SPDX-License-Identifier: MIT
// Forward of every operation as plain loops: the truth that every other backend is tested against. Arrays are dense,
// [batch, channel, x, y, z] with z contiguous, stored as T (float to run, double where tests need more digits); every
// sum is accumulated in double. Threads split independent outputs only, so results do not depend on their number.
#pragma once

#include "core/parallel.h"
#include "graph/graph.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace mfres::reference {

/// What an operation reads: input arrays with their shapes, and its parameters in the order of Node::parameters.
template <typename T>
struct Operands {
    std::vector<const T*> inputs;
    std::vector<Shape> shapes;
    std::vector<const T*> parameters;
};

/// Applies `body(first, last)` to the planes [n * channels + c] of a tensor, split over threads.
template <typename Body>
void for_planes(const Shape& shape, int threads, const Body& body) {
    parallel_ranges(shape[0] * shape[1], threads, body);
}

inline std::int64_t plane_size(const Shape& shape) {
    return shape[2] * shape[3] * shape[4];
}

/// The outputs [first, end) along one axis whose tap `k` lies inside the input, at position output * stride + shift.
struct TapRange {
    std::int64_t first, end, shift;
};

inline TapRange tap_range(const Conv& op, std::size_t axis, std::int64_t k, std::int64_t from, std::int64_t to) {
    const std::int64_t stride = op.stride[axis];
    const std::int64_t shift = k * op.dilation[axis] - op.padding[axis];
    return {shift >= 0 ? 0 : (-shift + stride - 1) / stride,
            from - shift <= 0 ? 0 : std::min(to, (from - shift + stride - 1) / stride), shift};
}

/// y[n, o, p] = bias[o] + sum over the group's channels i and taps t of weight[o, i, t] * x[n, i, p * stride + t *
/// dilation - padding]. Works on whole rows along z, one tap after the other.
template <typename T>
void conv(const Conv& op, const Operands<T>& in, const Shape& out, T* y, int threads) {
    const T* x = in.inputs[0];
    const Shape& from = in.shapes[0];
    const T* weight = in.parameters[0];
    const T* bias = op.bias ? in.parameters[1] : nullptr;
    const std::int64_t in_per_group = from[1] / op.groups;
    const std::int64_t out_per_group = out[1] / op.groups;
    const std::int64_t taps = op.kernel[0] * op.kernel[1] * op.kernel[2];

    const auto row = [&](std::int64_t index, std::vector<double>& sums) {
        const std::int64_t iy = index % out[3];
        const std::int64_t ix = index / out[3] % out[2];
        const std::int64_t o = index / out[3] / out[2] % out[1];
        const std::int64_t n = index / out[3] / out[2] / out[1];
        std::fill(sums.begin(), sums.end(), bias ? static_cast<double>(bias[o]) : 0.0);
        for (std::int64_t i = 0; i < in_per_group; ++i) {
            const std::int64_t channel = o / out_per_group * in_per_group + i;
            const T* plane = x + (n * from[1] + channel) * plane_size(from);
            const T* w = weight + (o * in_per_group + i) * taps;
            for (std::int64_t kx = 0; kx < op.kernel[0]; ++kx) {
                const std::int64_t px = ix * op.stride[0] + kx * op.dilation[0] - op.padding[0];
                if (px < 0 || px >= from[2])
                    continue;
                for (std::int64_t ky = 0; ky < op.kernel[1]; ++ky) {
                    const std::int64_t py = iy * op.stride[1] + ky * op.dilation[1] - op.padding[1];
                    if (py < 0 || py >= from[3])
                        continue;
                    const T* line = plane + (px * from[3] + py) * from[4];
                    for (std::int64_t kz = 0; kz < op.kernel[2]; ++kz) {
                        const double tap = w[(kx * op.kernel[1] + ky) * op.kernel[2] + kz];
                        const TapRange range = tap_range(op, 2, kz, from[4], out[4]);
                        for (std::int64_t z = range.first; z < range.end; ++z)
                            sums[static_cast<std::size_t>(z)] +=
                                tap * static_cast<double>(line[z * op.stride[2] + range.shift]);
                    }
                }
            }
        }
        T* to = y + index * out[4];
        for (std::int64_t z = 0; z < out[4]; ++z)
            to[z] = static_cast<T>(sums[static_cast<std::size_t>(z)]);
    };
    parallel_ranges(out[0] * out[1] * out[2] * out[3], threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<double> sums(static_cast<std::size_t>(out[4]));
        for (std::int64_t index = begin; index < end; ++index)
            row(index, sums);
    });
}

/// Every output voxel gathers the input voxels that the transposed convolution spreads to it.
template <typename T>
void conv_transpose(const ConvTranspose& op, const Operands<T>& in, const Shape& out, T* y, int threads) {
    const Shape& from = in.shapes[0];
    const std::int64_t in_per_group = from[1] / op.groups;
    const std::int64_t out_per_group = out[1] / op.groups;
    const T* bias = op.bias ? in.parameters[1] : nullptr;
    /// The input position that tap `k` spreads to output position `i`, or -1.
    const auto source = [&](std::size_t axis, std::int64_t i, std::int64_t k) -> std::int64_t {
        const std::int64_t spread = i + op.padding[axis] - k;
        if (spread < 0 || spread % op.stride[axis] != 0 || spread / op.stride[axis] >= from[static_cast<int>(axis) + 2])
            return -1;
        return spread / op.stride[axis];
    };
    parallel_ranges(out.elements(), threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t index = begin; index < end; ++index) {
            const std::int64_t o = index / plane_size(out) % out[1];
            const std::int64_t n = index / plane_size(out) / out[1];
            const std::int64_t group = o / out_per_group;
            double sum = bias ? static_cast<double>(bias[o]) : 0.0;
            for (std::int64_t kx = 0; kx < op.kernel[0]; ++kx)
                for (std::int64_t ky = 0; ky < op.kernel[1]; ++ky)
                    for (std::int64_t kz = 0; kz < op.kernel[2]; ++kz) {
                        const std::int64_t sx = source(0, index / out[4] / out[3] % out[2], kx);
                        const std::int64_t sy = source(1, index / out[4] % out[3], ky);
                        const std::int64_t sz = source(2, index % out[4], kz);
                        if (sx < 0 || sy < 0 || sz < 0)
                            continue;
                        const std::int64_t tap = (kx * op.kernel[1] + ky) * op.kernel[2] + kz;
                        const std::int64_t taps = op.kernel[0] * op.kernel[1] * op.kernel[2];
                        for (std::int64_t i = group * in_per_group; i < (group + 1) * in_per_group; ++i)
                            sum += static_cast<double>(
                                       in.parameters[0][(i * out_per_group + o % out_per_group) * taps + tap]) *
                                   static_cast<double>(in.inputs[0][(n * from[1] + i) * plane_size(from) +
                                                                    (sx * from[3] + sy) * from[4] + sz]);
                    }
            y[index] = static_cast<T>(sum);
        }
    });
}

/// y = x * scale + shift with one pair per plane.
template <typename T, typename ScaleShift>
void scale_shift(const Shape& shape, const T* x, T* y, int threads, const ScaleShift& pair_of) {
    const std::int64_t size = plane_size(shape);
    for_planes(shape, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t plane = begin; plane < end; ++plane) {
            const auto [scale, shift] = pair_of(plane);
            for (std::int64_t i = plane * size; i < (plane + 1) * size; ++i)
                y[i] = static_cast<T>(static_cast<double>(x[i]) * scale + shift);
        }
    });
}

template <typename T>
void batch_norm(const BatchNorm& op, const Operands<T>& in, const Shape& out, T* y, int threads) {
    scale_shift(out, in.inputs[0], y, threads, [&](std::int64_t plane) {
        const std::int64_t c = plane % out[1];
        const double scale =
            static_cast<double>(in.parameters[0][c]) / std::sqrt(static_cast<double>(in.parameters[3][c]) + op.epsilon);
        return std::pair{scale, static_cast<double>(in.parameters[1][c]) - in.parameters[2][c] * scale};
    });
}

/// Of groups of `channels` consecutive channels: 1 for an InstanceNorm.
template <typename T>
void group_norm(double epsilon, std::int64_t channels, const Operands<T>& in, const Shape& out, T* y, int threads) {
    const std::int64_t size = channels * plane_size(out);
    const T* x = in.inputs[0];
    scale_shift(out, x, y, threads, [&](std::int64_t plane) {
        const std::int64_t c = plane % out[1];
        const std::int64_t group = plane / channels;
        double sum = 0.0;
        for (std::int64_t i = group * size; i < (group + 1) * size; ++i)
            sum += x[i];
        const double mean = sum / static_cast<double>(size);
        double squares = 0.0;
        for (std::int64_t i = group * size; i < (group + 1) * size; ++i)
            squares += (x[i] - mean) * (x[i] - mean);
        const double scale = in.parameters[0][c] / std::sqrt(squares / static_cast<double>(size) + epsilon);
        return std::pair{scale, in.parameters[1][c] - mean * scale};
    });
}

/// Where the second operand of a Multiply has what belongs to element `i` of the first.
inline std::int64_t broadcast_index(const Shape& shape, const Shape& second, std::int64_t i) {
    std::int64_t position = 0;
    std::int64_t stride = 1;
    for (int axis = 4; axis >= 0; --axis) {
        if (second[axis] != 1)
            position += i % shape[axis] * stride;
        stride *= second[axis];
        i /= shape[axis];
    }
    return position;
}

/// y[i] = f(i), i over all elements.
template <typename T, typename Function>
void pointwise(const Shape& shape, T* y, int threads, const Function& f) {
    parallel_ranges(shape.elements(), threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            y[i] = static_cast<T>(f(i));
    });
}

template <typename T>
void concat(const Operands<T>& in, const Shape& out, T* y) {
    const std::int64_t size = plane_size(out);
    for (std::int64_t n = 0; n < out[0]; ++n)
        for (std::size_t k = 0; k < in.inputs.size(); ++k) {
            const std::int64_t count = in.shapes[k][1] * size;
            y = std::copy_n(in.inputs[k] + n * count, count, y);
        }
}

template <typename T>
void slice(const Slice& op, const Operands<T>& in, const Shape& out, T* y) {
    const std::int64_t size = plane_size(out);
    for (std::int64_t n = 0; n < out[0]; ++n)
        y = std::copy_n(in.inputs[0] + (n * in.shapes[0][1] + op.begin) * size, out[1] * size, y);
}

/// For every output voxel the reduction `finish(fold over the window)`; window(axis, i) gives [begin, end).
template <typename T, typename Window, typename Reduce>
void windows(const Operands<T>& in, const Shape& out, T* y, int threads, const Window& window, const Reduce& reduce) {
    const Shape& from = in.shapes[0];
    for_planes(out, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t plane = begin; plane < end; ++plane) {
            const T* source = in.inputs[0] + plane * plane_size(from);
            T* to = y + plane * plane_size(out);
            for (std::int64_t x = 0; x < out[2]; ++x)
                for (std::int64_t yy = 0; yy < out[3]; ++yy)
                    for (std::int64_t z = 0; z < out[4]; ++z)
                        *to++ = reduce(source, window(0, x), window(1, yy), window(2, z));
        }
    });
}

template <typename T>
void max_pool(const MaxPool& op, const Operands<T>& in, const Shape& out, T* y, int threads) {
    const Shape& from = in.shapes[0];
    const auto window = [&](std::size_t axis, std::int64_t i) {
        return std::pair{i * op.stride[axis], i * op.stride[axis] + op.kernel[axis]};
    };
    windows(in, out, y, threads, window, [&](const T* source, const auto& wx, const auto& wy, const auto& wz) {
        T most = -std::numeric_limits<T>::infinity();
        for (std::int64_t a = wx.first; a < wx.second; ++a)
            for (std::int64_t b = wy.first; b < wy.second; ++b)
                for (std::int64_t c = wz.first; c < wz.second; ++c)
                    // A NaN in the window survives, instead of being compared away.
                    if (const T value = source[(a * from[3] + b) * from[4] + c]; std::isnan(value) || value > most)
                        most = value;
        return most;
    });
}

/// [begin, end) of the inputs that output i of a spatial axis averages.
inline std::pair<std::int64_t, std::int64_t> adaptive_window(const Shape& from, const Shape& out, std::size_t axis,
                                                             std::int64_t i) {
    const std::int64_t source = from[static_cast<int>(axis) + 2];
    const std::int64_t target = out[static_cast<int>(axis) + 2];
    return {i * source / target, ((i + 1) * source + target - 1) / target};
}

template <typename T>
void adaptive_avg_pool(const Operands<T>& in, const Shape& out, T* y, int threads) {
    const Shape& from = in.shapes[0];
    const auto window = [&](std::size_t axis, std::int64_t i) { return adaptive_window(from, out, axis, i); };
    windows(in, out, y, threads, window, [&](const T* source, const auto& wx, const auto& wy, const auto& wz) {
        double sum = 0.0;
        for (std::int64_t a = wx.first; a < wx.second; ++a)
            for (std::int64_t b = wy.first; b < wy.second; ++b)
                for (std::int64_t c = wz.first; c < wz.second; ++c)
                    sum += source[(a * from[3] + b) * from[4] + c];
        const std::int64_t count = (wx.second - wx.first) * (wy.second - wy.first) * (wz.second - wz.first);
        return static_cast<T>(sum / static_cast<double>(count));
    });
}

/// The two source positions of a target position along one axis and the weight of the second.
struct Neighbours {
    std::int64_t low, high;
    double fraction;
};

/// Half-pixel centres, align_corners = false, as PyTorch defines it.
inline Neighbours trilinear_neighbours(std::int64_t i, std::int64_t from, std::int64_t to) {
    const double position =
        std::max(0.0, (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5);
    const std::int64_t low = std::min(static_cast<std::int64_t>(position), from - 1);
    return {low, std::min(low + 1, from - 1), position - static_cast<double>(low)};
}

/// For each axis, the neighbours of each target position.
inline std::array<std::vector<Neighbours>, 3> neighbours(const Upsample& op, const Shape& from, const Shape& out) {
    std::array<std::vector<Neighbours>, 3> taps;
    for (int axis = 0; axis < 3; ++axis)
        for (std::int64_t i = 0; i < out[axis + 2]; ++i) {
            const std::int64_t nearest = i * from[axis + 2] / out[axis + 2];
            taps[static_cast<std::size_t>(axis)].push_back(
                op.mode == Interpolation::nearest ? Neighbours{nearest, nearest, 0.0}
                                                  : trilinear_neighbours(i, from[axis + 2], out[axis + 2]));
        }
    return taps;
}

template <typename T>
void upsample(const Upsample& op, const Operands<T>& in, const Shape& out, T* y, int threads) {
    const Shape& from = in.shapes[0];
    const auto taps = neighbours(op, from, out);
    for_planes(out, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t plane = begin; plane < end; ++plane) {
            const T* source = in.inputs[0] + plane * plane_size(from);
            T* to = y + plane * plane_size(out);
            const auto at = [&](std::int64_t a, std::int64_t b, std::int64_t c) {
                return static_cast<double>(source[(a * from[3] + b) * from[4] + c]);
            };
            for (const Neighbours& tx : taps[0])
                for (const Neighbours& ty : taps[1])
                    for (const Neighbours& tz : taps[2]) {
                        const auto along_z = [&](std::int64_t a, std::int64_t b) {
                            return at(a, b, tz.low) * (1 - tz.fraction) + at(a, b, tz.high) * tz.fraction;
                        };
                        const auto along_yz = [&](std::int64_t a) {
                            return along_z(a, ty.low) * (1 - ty.fraction) + along_z(a, ty.high) * ty.fraction;
                        };
                        *to++ = static_cast<T>(along_yz(tx.low) * (1 - tx.fraction) + along_yz(tx.high) * tx.fraction);
                    }
        }
    });
}

template <typename T>
void softmax(const Operands<T>& in, const Shape& out, T* y, int threads) {
    const T* x = in.inputs[0];
    const std::int64_t size = plane_size(out);
    parallel_ranges(out[0] * size, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t voxel = begin; voxel < end; ++voxel) {
            const std::int64_t base = voxel / size * out[1] * size + voxel % size;
            double most = -std::numeric_limits<double>::infinity();
            for (std::int64_t c = 0; c < out[1]; ++c)
                most = std::max(most, static_cast<double>(x[base + c * size]));
            double sum = 0.0;
            for (std::int64_t c = 0; c < out[1]; ++c)
                sum += std::exp(x[base + c * size] - most);
            for (std::int64_t c = 0; c < out[1]; ++c)
                y[base + c * size] = static_cast<T>(std::exp(x[base + c * size] - most) / sum);
        }
    });
}

/// Computes one node. `y` must not overlap an input.
template <typename T>
void forward(const Node& node, const Operands<T>& in, T* y, int threads) {
    const Shape& out = node.shape;
    const auto x = [&](std::size_t k, std::int64_t i) { return static_cast<double>(in.inputs[k][i]); };
    switch (node.kind()) {
    case OpKind::input: return;
    case OpKind::conv: return conv(node.as<Conv>(), in, out, y, threads);
    case OpKind::batch_norm: return batch_norm(node.as<BatchNorm>(), in, out, y, threads);
    case OpKind::conv_transpose: return conv_transpose(node.as<ConvTranspose>(), in, out, y, threads);
    case OpKind::instance_norm: return group_norm(node.as<InstanceNorm>().epsilon, 1, in, out, y, threads);
    case OpKind::group_norm: {
        const auto& norm = node.as<GroupNorm>();
        return group_norm(norm.epsilon, out[1] / norm.groups, in, out, y, threads);
    }
    case OpKind::prelu:
        return pointwise(out, y, threads, [&](std::int64_t i) {
            const auto slope = static_cast<double>(in.parameters[0][i / plane_size(out) % out[1]]);
            return x(0, i) > 0.0 ? x(0, i) : slope * x(0, i);
        });
    case OpKind::elu: {
        const double alpha = node.as<Elu>().alpha;
        return pointwise(out, y, threads,
                         [&](std::int64_t i) { return x(0, i) > 0.0 ? x(0, i) : alpha * std::expm1(x(0, i)); });
    }
    case OpKind::sigmoid:
        return pointwise(out, y, threads, [&](std::int64_t i) { return 1.0 / (1.0 + std::exp(-x(0, i))); });
    case OpKind::multiply:
        return pointwise(out, y, threads,
                         [&](std::int64_t i) { return x(0, i) * x(1, broadcast_index(out, in.shapes[1], i)); });
    case OpKind::relu:
        // !(x <= 0) rather than x > 0: a NaN has to reach the output, where it is rejected.
        return pointwise(out, y, threads, [&](std::int64_t i) { return !(x(0, i) <= 0.0) ? x(0, i) : 0.0; });
    case OpKind::leaky_relu: {
        const double slope = node.as<LeakyRelu>().slope;
        return pointwise(out, y, threads, [&](std::int64_t i) { return x(0, i) > 0.0 ? x(0, i) : slope * x(0, i); });
    }
    case OpKind::add:
        return pointwise(out, y, threads, [&](std::int64_t i) {
            double sum = 0.0;
            for (std::size_t k = 0; k < in.inputs.size(); ++k)
                sum += x(k, i);
            return sum;
        });
    case OpKind::scaled_add:
        return pointwise(out, y, threads, [&](std::int64_t i) {
            double sum = 0.0;
            for (std::size_t k = 0; k < in.inputs.size(); ++k)
                sum += static_cast<double>(in.parameters[k][0]) * x(k, i);
            return sum;
        });
    case OpKind::concat: return concat(in, out, y);
    case OpKind::slice: return slice(node.as<Slice>(), in, out, y);
    case OpKind::max_pool: return max_pool(node.as<MaxPool>(), in, out, y, threads);
    case OpKind::adaptive_avg_pool: return adaptive_avg_pool(in, out, y, threads);
    case OpKind::upsample: return upsample(node.as<Upsample>(), in, out, y, threads);
    case OpKind::softmax: return softmax(in, out, y, threads);
    }
}

} // namespace mfres::reference
