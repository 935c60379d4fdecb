// SPDX-License-Identifier: MIT
// Convolutions by tiles of a few voxels that follow each other in memory, whichever lines they lie in, and of a few
// vectors of output channels (tile_kernels.h). Weights are packed once, [block of output channels][kernel offset]
// [input channel][channel of the block]. Threads share out ranges of tiles. Within a range, strips of tiles go through
// all blocks of output channels, so that weights of a block and inputs of a strip stay in the cache.
#pragma once

#include "backends/kernels/convolution.h"
#include "backends/kernels/tile_kernels.h"

#include <vector>

namespace mfres::kernels {

std::unique_ptr<InferenceOp> make_tile_convolution(const ConvolutionSpec& spec);

/// Vectors of output channels that a kernel computes together.
struct VectorBlock {
    const TileKernel* kernel = nullptr;
    std::int64_t begin = 0, vectors = 0;
};

/// `vectors` vectors of output channels, divided into blocks as evenly as possible for those of `kernels` that load least
/// for each voxel. All of them have the same number of voxels.
std::vector<VectorBlock> divide_into_blocks(const TileKernels& kernels, std::int64_t vectors);

/// Vectors that are multiplied for each output voxel.
double tile_products(const ConvolutionSpec& spec);

} // namespace mfres::kernels
