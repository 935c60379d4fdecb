// SPDX-License-Identifier: MIT
// Convolutions by tiles of a few voxels that follow each other in memory, whichever lines they lie in, and of a few
// vectors of output channels (tile_kernels.h). Weights are packed once, [block of output channels][kernel offset]
// [input channel][channel of the block]. Threads share out ranges of tiles. Within a range, strips of tiles go through
// all blocks of output channels, so that weights of a block and inputs of a strip stay in the cache.
#pragma once

#include "backends/kernels/convolution.h"

namespace mfres::kernels {

std::unique_ptr<InferenceOp> make_tile_convolution(const ConvolutionSpec& spec);

/// Vectors that are multiplied for each output voxel.
double tile_products(const ConvolutionSpec& spec);

} // namespace mfres::kernels
