#include "backends/onednn/loops.h"

#include "backends/onednn/threads.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

// The iterations of the loop that follows are independent (an output that lies on an input is read and written at the
// same index). Compilers cannot see that, and vectorise at -O2 only what they are told to.
#define MFRES_SIMD _Pragma("omp simd")

namespace mfres::onednn {

namespace {

/// Calls body(f) with f(x) the activation, so that the kind is decided outside the loops.
/// Comparisons are written so that NaN stays NaN.
template <typename Body>
void with_activation(const Activation& activation, const Body& body) {
    const float slope = activation.slope;
    switch (activation.kind) {
    case Activation::Kind::none: return body([](float x) { return x; });
    case Activation::Kind::relu: return body([](float x) { return x <= 0.0F ? 0.0F : x; });
    case Activation::Kind::leaky_relu: return body([slope](float x) { return x > 0.0F ? x : slope * x; });
    }
}

/// Calls body(n) with the number of channels as a constant where it is a usual small one: a loop of known length over
/// two or four floats is one instruction, of unknown length a call or a dozen branches.
template <typename Body>
void with_count(std::int64_t count, const Body& body) {
    switch (count) {
    case 1: return body(std::integral_constant<std::int64_t, 1>{});
    case 2: return body(std::integral_constant<std::int64_t, 2>{});
    case 4: return body(std::integral_constant<std::int64_t, 4>{});
    case 8: return body(std::integral_constant<std::int64_t, 8>{});
    case 16: return body(std::integral_constant<std::int64_t, 16>{});
    case 32: return body(std::integral_constant<std::int64_t, 32>{});
    }
    return body(count);
}

/// body(begin, end) over the domain's floats.
template <typename Body>
void for_values(const Domain& domain, const Body& body) {
    parallel_for(domain.shape.elements(), domain.useful_threads(),
                 [&](std::int64_t begin, std::int64_t end, int) { body(begin, end); });
}

} // namespace

void copy_values(const Domain& domain, const float* x, float* y) {
    for_values(domain, [&](std::int64_t begin, std::int64_t end) { std::copy(x + begin, x + end, y + begin); });
}

void pad_z(const Domain& domain, const float* x, std::int64_t margin, float* y) {
    const std::int64_t line = domain.shape[4] * domain.channels();
    const std::int64_t zeros = margin * domain.channels();
    const std::int64_t lines = domain.shape[0] * domain.shape[2] * domain.shape[3];
    parallel_for(lines, domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
            float* to = std::fill_n(y + i * (line + 2 * zeros), zeros, 0.0F);
            std::fill_n(std::copy_n(x + i * line, line, to), zeros, 0.0F);
        }
    });
}

void activate(const Domain& domain, const Activation& activation, const float* x, float* y) {
    with_activation(activation, [&](const auto& f) {
        for_values(domain, [&](std::int64_t begin, std::int64_t end) {
            MFRES_SIMD
            for (std::int64_t i = begin; i < end; ++i)
                y[i] = f(x[i]);
        });
    });
}

void weighted_sum(const Domain& domain, const Activation& activation, const std::vector<const float*>& inputs,
                  const std::vector<float>& weights, float* y) {
    constexpr std::int64_t block = 4096; // floats: what one pass over an input leaves in L1 for the next
    const auto weight = [&](std::size_t k) { return weights.empty() ? 1.0F : weights[k]; };
    with_activation(activation, [&](const auto& f) {
        for_values(domain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t from = begin; from < end; from += block) {
                const std::int64_t to = std::min(end, from + block);
                const std::size_t last = inputs.size() - 1;
                const float* first = inputs[0];
                float scale = weight(0); // of what is summed so far
                for (std::size_t k = 1; k < last; ++k) {
                    const float* next = inputs[k];
                    const float w = weight(k);
                    MFRES_SIMD
                    for (std::int64_t i = from; i < to; ++i)
                        y[i] = scale * first[i] + w * next[i];
                    first = y;
                    scale = 1.0F;
                }
                const float* next = inputs[last];
                const float w = weight(last);
                MFRES_SIMD
                for (std::int64_t i = from; i < to; ++i)
                    y[i] = f(scale * first[i] + w * next[i]);
            }
        });
    });
}

void scale_shift(const Domain& domain, const Activation& activation, const float* x, const float* scale,
                 const float* shift, float* y) {
    const std::int64_t channels = domain.channels();
    with_activation(activation, [&](const auto& f) {
        with_count(channels, [&](const auto count) {
            parallel_for(domain.voxels(), domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
                for (std::int64_t voxel = begin; voxel < end; ++voxel) {
                    const float* from = x + voxel * count;
                    float* to = y + voxel * count;
                    MFRES_SIMD
                    for (std::int64_t c = 0; c < count; ++c)
                        to[c] = f(from[c] * scale[c] + shift[c]);
                }
            });
        });
    });
}

namespace {

/// Sums of x - first and of its square per channel, by plane of constant x: [plane][2][channel].
void plane_sums(const Domain& domain, const float* x, double* sums) {
    const std::int64_t channels = domain.channels();
    const std::int64_t voxels = domain.shape[3] * domain.shape[4];
    parallel_for(domain.shape[0] * domain.shape[2], domain.useful_threads(),
                 [&](std::int64_t begin, std::int64_t end, int) {
                     for (std::int64_t plane = begin; plane < end; ++plane) {
                         // Relative to the sample's first voxel, so that a large common offset cancels before it is
                         // squared.
                         const float* first = x + plane / domain.shape[2] * domain.shape[2] * voxels * channels;
                         const float* from = x + plane * voxels * channels;
                         double* sum = sums + plane * 2 * channels;
                         double* squares = sum + channels;
                         std::fill_n(sum, 2 * channels, 0.0);
                         for (std::int64_t voxel = 0; voxel < voxels; ++voxel, from += channels)
                             MFRES_SIMD
                         for (std::int64_t c = 0; c < channels; ++c) {
                             const double value = double{from[c]} - double{first[c]};
                             sum[c] += value;
                             squares[c] += value * value;
                         }
                     }
                 });
}

} // namespace

std::int64_t instance_norm_scratch(const Shape& shape) {
    return shape[0] * shape[2] * 2 * shape[1] * static_cast<std::int64_t>(sizeof(double)) +
           2 * shape[1] * static_cast<std::int64_t>(sizeof(float));
}

void instance_norm(const Domain& domain, const Activation& activation, double epsilon, const float* weight,
                   const float* bias, const float* x, std::byte* scratch, float* y) {
    const std::int64_t channels = domain.channels();
    const std::int64_t planes = domain.shape[2];
    const Domain sample{{1, channels, planes, domain.shape[3], domain.shape[4]}, domain.threads};
    const double count = static_cast<double>(sample.voxels());
    auto* sums = reinterpret_cast<double*>(scratch);
    auto* scale = reinterpret_cast<float*>(sums + domain.shape[0] * planes * 2 * channels);
    float* shift = scale + channels;
    plane_sums(domain, x, sums);
    for (std::int64_t n = 0; n < domain.shape[0]; ++n) {
        const std::int64_t offset = n * sample.shape.elements();
        const double* own = sums + n * planes * 2 * channels;
        for (std::int64_t c = 0; c < channels; ++c) {
            double sum = 0.0;
            double squares = 0.0;
            for (std::int64_t plane = 0; plane < planes; ++plane) {
                sum += own[plane * 2 * channels + c];
                squares += own[(plane * 2 + 1) * channels + c];
            }
            const double mean = sum / count;
            // max would turn NaN into 0
            const double variance = squares / count - mean * mean < 0.0 ? 0.0 : squares / count - mean * mean;
            const double factor = double{weight[c]} / std::sqrt(variance + epsilon);
            scale[c] = static_cast<float>(factor);
            shift[c] = static_cast<float>(double{bias[c]} - (mean + double{x[offset + c]}) * factor);
        }
        scale_shift(sample, activation, x + offset, scale, shift, y + offset);
    }
}

void copy_channels(const Domain& domain, const std::vector<ChannelRead>& reads, float* y) {
    constexpr std::int64_t block = 128; // voxels: their output lines are written while they are in L1
    const std::int64_t channels = domain.channels();
    parallel_for(domain.voxels(), domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t first = begin; first < end; first += block) {
            const std::int64_t voxels = std::min(end, first + block) - first;
            float* to = y + first * channels;
            for (const ChannelRead& read : reads) {
                with_count(read.count, [&](const auto count) {
                    const float* from = read.x + first * read.x_channels + read.from;
                    for (std::int64_t voxel = 0; voxel < voxels; ++voxel)
                        std::memcpy(to + voxel * channels, from + voxel * read.x_channels,
                                    static_cast<std::size_t>(count) * sizeof(float));
                });
                to += read.count;
            }
        }
    });
}

void add_channels(const Domain& domain, const Activation& activation, const std::vector<ChannelRead>& reads, float* y) {
    const std::int64_t channels = domain.channels();
    const auto add = [&](const ChannelRead& sum, const ChannelRead& next, std::int64_t begin, std::int64_t end,
                         const auto count, const auto& f) {
        for (std::int64_t voxel = begin; voxel < end; ++voxel) {
            const float* a = sum.x + voxel * sum.x_channels + sum.from;
            const float* b = next.x + voxel * next.x_channels + next.from;
            float* to = y + voxel * count;
            MFRES_SIMD
            for (std::int64_t c = 0; c < count; ++c)
                to[c] = f(a[c] + b[c]);
        }
    };
    with_activation(activation, [&](const auto& f) {
        with_count(channels, [&](const auto count) {
            parallel_for(domain.voxels(), domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
                ChannelRead sum = reads[0];
                for (std::size_t k = 1; k + 1 < reads.size(); ++k) {
                    add(sum, reads[k], begin, end, count, [](float x) { return x; });
                    sum = {y, channels, 0, channels};
                }
                add(sum, reads.back(), begin, end, count, f);
            });
        });
    });
}

namespace {

/// For each output voxel calls reduce(window, to), where window(body) calls body(pointer to the channels) for every
/// input voxel in it; `range(axis, i)` gives the window [begin, end) of output i along an axis.
template <typename Range, typename Reduce>
void for_windows(const Domain& domain, const Shape& in, const float* x, float* y, const Range& range,
                 const Reduce& reduce) {
    const std::int64_t channels = domain.channels();
    const Shape& out = domain.shape;
    parallel_for(out[0] * out[2] * out[3], domain.threads, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t line = begin; line < end; ++line) {
            const auto [y0, y1] = range(1, line % out[3]);
            const auto [x0, x1] = range(0, line / out[3] % out[2]);
            const float* sample = x + line / out[3] / out[2] * in[2] * in[3] * in[4] * channels;
            for (std::int64_t z = 0; z < out[4]; ++z) {
                const auto [z0, z1] = range(2, z);
                const auto window = [&, x0 = x0, x1 = x1, y0 = y0, y1 = y1, z0 = z0, z1 = z1](const auto& body) {
                    for (std::int64_t a = x0; a < x1; ++a)
                        for (std::int64_t b = y0; b < y1; ++b)
                            for (std::int64_t c = z0; c < z1; ++c)
                                body(sample + ((a * in[3] + b) * in[4] + c) * channels);
                };
                reduce(window, (x1 - x0) * (y1 - y0) * (z1 - z0), y + (line * out[4] + z) * channels);
            }
        }
    });
}

} // namespace

void max_pool(const Domain& domain, const MaxPool& op, const Shape& in, const float* x, float* y) {
    const std::int64_t channels = domain.channels();
    const auto range = [&](std::size_t axis, std::int64_t i) {
        return std::pair{i * op.stride[axis], i * op.stride[axis] + op.kernel[axis]};
    };
    for_windows(domain, in, x, y, range, [&](const auto& window, std::int64_t, float* to) {
        std::fill_n(to, channels, -std::numeric_limits<float>::infinity());
        window([&](const float* from) {
            MFRES_SIMD
            for (std::int64_t c = 0; c < channels; ++c)
                to[c] = from[c] > to[c] || std::isnan(from[c]) ? from[c] : to[c];
        });
    });
}

void adaptive_avg_pool(const Domain& domain, const Shape& in, const float* x, float* y) {
    constexpr std::int64_t block = 32; // channels summed at once
    const std::int64_t channels = domain.channels();
    const auto range = [&](std::size_t axis, std::int64_t i) {
        const std::int64_t from = in[static_cast<int>(axis) + 2];
        const std::int64_t to = domain.shape[static_cast<int>(axis) + 2];
        return std::pair{i * from / to, ((i + 1) * from + to - 1) / to};
    };
    for_windows(domain, in, x, y, range, [&](const auto& window, std::int64_t voxels, float* to) {
        for (std::int64_t first = 0; first < channels; first += block) {
            const std::int64_t count = std::min(block, channels - first);
            std::array<double, block> sums{};
            window([&](const float* from) {
                MFRES_SIMD
                for (std::int64_t c = 0; c < count; ++c)
                    sums[static_cast<std::size_t>(c)] += double{from[first + c]};
            });
            for (std::int64_t c = 0; c < count; ++c)
                to[first + c] = static_cast<float>(sums[static_cast<std::size_t>(c)] / static_cast<double>(voxels));
        }
    });
}

Neighbours neighbours(Interpolation mode, std::int64_t i, std::int64_t from, std::int64_t to) {
    if (mode == Interpolation::nearest)
        return {i * from / to, i * from / to, 1.0F, 0.0F};
    const double position =
        std::max(0.0, (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5);
    const std::int64_t low = std::min(static_cast<std::int64_t>(position), from - 1);
    const double fraction = position - static_cast<double>(low);
    return {low, std::min(low + 1, from - 1), static_cast<float>(1.0 - fraction), static_cast<float>(fraction)};
}

namespace {

std::int64_t bytes_of(const Shape& in) {
    return (in[4] * in[1] * static_cast<std::int64_t>(sizeof(float)) + 63) / 64 * 64;
}

/// blend = the four source lines around an output line, weighted.
void blend_lines(const std::array<const float*, 4>& lines, const std::array<float, 4>& weights, std::int64_t count,
                 float* blend) {
    MFRES_SIMD
    for (std::int64_t i = 0; i < count; ++i)
        blend[i] =
            weights[0] * lines[0][i] + weights[1] * lines[1][i] + weights[2] * lines[2][i] + weights[3] * lines[3][i];
}

} // namespace

std::int64_t upsample_scratch(const Domain& domain, const Shape& in) {
    return domain.threads * bytes_of(in) + domain.shape[4] * static_cast<std::int64_t>(sizeof(Neighbours));
}

void upsample(const Domain& domain, Interpolation mode, const Activation& activation, const Shape& in, const float* x,
              const float* residual, std::byte* scratch, float* y) {
    const Shape& out = domain.shape;
    const std::int64_t line = in[4] * in[1];
    auto* along_z = reinterpret_cast<Neighbours*>(scratch + domain.threads * bytes_of(in));
    for (std::int64_t z = 0; z < out[4]; ++z)
        along_z[z] = neighbours(mode, z, in[4], out[4]);

    const auto output_line = [&](std::int64_t index, float* blend, const auto count, const auto& f) {
        const Neighbours ty = neighbours(mode, index % out[3], in[3], out[3]);
        const Neighbours tx = neighbours(mode, index / out[3] % out[2], in[2], out[2]);
        const float* sample = x + index / out[3] / out[2] * in[2] * in[3] * line;
        const auto at = [&](std::int64_t a, std::int64_t b) { return sample + (a * in[3] + b) * line; };
        blend_lines({at(tx.low, ty.low), at(tx.low, ty.high), at(tx.high, ty.low), at(tx.high, ty.high)},
                    {tx.low_weight * ty.low_weight, tx.low_weight * ty.high_weight, tx.high_weight * ty.low_weight,
                     tx.high_weight * ty.high_weight},
                    line, blend);
        const std::int64_t first = index * out[4] * count;
        for (std::int64_t z = 0; z < out[4]; ++z) {
            const Neighbours tz = along_z[z];
            const float* low = blend + tz.low * count;
            const float* high = blend + tz.high * count;
            float* to = y + first + z * count;
            if (residual) {
                const float* plus = residual + first + z * count;
                MFRES_SIMD
                for (std::int64_t c = 0; c < count; ++c)
                    to[c] = f(tz.low_weight * low[c] + tz.high_weight * high[c] + plus[c]);
            } else {
                MFRES_SIMD
                for (std::int64_t c = 0; c < count; ++c)
                    to[c] = f(tz.low_weight * low[c] + tz.high_weight * high[c]);
            }
        }
    };
    with_activation(activation, [&](const auto& f) {
        with_count(in[1], [&](const auto count) {
            parallel_for(out[0] * out[2] * out[3], domain.useful_threads(),
                         [&](std::int64_t begin, std::int64_t end, int thread) {
                             auto* blend = reinterpret_cast<float*>(scratch + thread * bytes_of(in));
                             for (std::int64_t index = begin; index < end; ++index)
                                 output_line(index, blend, count, f);
                         });
        });
    });
}

void softmax(const Domain& domain, const float* x, float* y) {
    const std::int64_t channels = domain.channels();
    parallel_for(domain.voxels(), domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t voxel = begin; voxel < end; ++voxel) {
            const float* from = x + voxel * channels;
            float* to = y + voxel * channels;
            const float most = *std::max_element(from, from + channels);
            float sum = 0.0F;
            for (std::int64_t c = 0; c < channels; ++c) {
                to[c] = std::exp(from[c] - most);
                sum += to[c];
            }
            for (std::int64_t c = 0; c < channels; ++c)
                to[c] /= sum;
        }
    });
}

} // namespace mfres::onednn
