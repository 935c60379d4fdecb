// SPDX-License-Identifier: MIT
#include "backends/kernels/softmax.h"

#include <algorithm>
#include <cmath>

namespace mfres::kernels {

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

} // namespace mfres::kernels
