// SPDX-License-Identifier: MIT
#include "backends/kernels/elementwise.h"

#include <algorithm>
#include <cstring>

namespace mfres::kernels {

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

} // namespace mfres::kernels
