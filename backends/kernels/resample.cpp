// SPDX-License-Identifier: MIT
#include "backends/kernels/resample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace mfres::kernels {

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
            const auto y_window = range(1, line % out[3]);
            const auto x_window = range(0, line / out[3] % out[2]);
            const float* sample = x + line / out[3] / out[2] * in[2] * in[3] * in[4] * channels;
            for (std::int64_t z = 0; z < out[4]; ++z) {
                const auto z_window = range(2, z);
                const auto window = [&](const auto& body) {
                    for (std::int64_t a = x_window.first; a < x_window.second; ++a)
                        for (std::int64_t b = y_window.first; b < y_window.second; ++b)
                            for (std::int64_t c = z_window.first; c < z_window.second; ++c)
                                body(sample + ((a * in[3] + b) * in[4] + c) * channels);
                };
                const std::int64_t voxels = (x_window.second - x_window.first) * (y_window.second - y_window.first) *
                                            (z_window.second - z_window.first);
                reduce(window, voxels, y + (line * out[4] + z) * channels);
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

std::int64_t upsample_workspace(const Domain& domain, const Shape& in) {
    return domain.threads * bytes_of(in) + domain.shape[4] * static_cast<std::int64_t>(sizeof(Neighbours));
}

void upsample(const Domain& domain, Interpolation mode, const Activation& activation, const Shape& in, const float* x,
              const float* residual, std::byte* workspace, float* y) {
    const Shape& out = domain.shape;
    const std::int64_t line = in[4] * in[1];
    auto* along_z = reinterpret_cast<Neighbours*>(workspace + domain.threads * bytes_of(in));
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
                             auto* blend = reinterpret_cast<float*>(workspace + thread * bytes_of(in));
                             for (std::int64_t index = begin; index < end; ++index)
                                 output_line(index, blend, count, f);
                         });
        });
    });
}

} // namespace mfres::kernels
