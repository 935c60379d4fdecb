// SPDX-License-Identifier: MIT
#include "backends/kernels/norm.h"

#include "backends/kernels/elementwise.h"

#include <cmath>

namespace mfres::kernels {

namespace {

/// Sums of x - first and of its square per channel, by plane of constant x: [plane][2][channel].
void plane_sums(const Domain& domain, const float* x, double* sums) {
    const std::int64_t channels = domain.channels();
    const std::int64_t voxels = domain.shape[3] * domain.shape[4];
    parallel_for(domain.shape[0] * domain.shape[2], domain.useful_threads(),
                 [&](std::int64_t begin, std::int64_t end, int) {
                     for (std::int64_t plane = begin; plane < end; ++plane) {
                         // Relative to the first voxel of the sample: a large common offset cancels before it is
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

std::int64_t instance_norm_workspace(const Shape& shape) {
    return shape[0] * shape[2] * 2 * shape[1] * static_cast<std::int64_t>(sizeof(double)) +
           2 * shape[1] * static_cast<std::int64_t>(sizeof(float));
}

void instance_norm(const Domain& domain, const Activation& activation, double epsilon, const float* weight,
                   const float* bias, const float* x, std::byte* workspace, float* y) {
    const std::int64_t channels = domain.channels();
    const std::int64_t planes = domain.shape[2];
    const Domain sample{{1, channels, planes, domain.shape[3], domain.shape[4]}, domain.threads};
    const double count = static_cast<double>(sample.voxels());
    auto* sums = reinterpret_cast<double*>(workspace);
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

} // namespace mfres::kernels
