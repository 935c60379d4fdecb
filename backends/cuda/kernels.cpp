// SPDX-License-Identifier: MIT
#include "backends/cuda/kernels.h"

#include <algorithm>

namespace mfres::cuda {

Chunking chunking(std::int64_t samples, std::int64_t voxels, std::int64_t channels) {
    constexpr std::int64_t least_elements = 16384; // 64 for each thread of a block
    constexpr std::int64_t most_chunks = 512;
    const std::int64_t wanted = voxels * channels / least_elements;
    return {samples, voxels, channels, std::clamp<std::int64_t>(wanted, 1, most_chunks)};
}

} // namespace mfres::cuda
