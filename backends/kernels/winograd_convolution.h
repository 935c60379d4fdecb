// SPDX-License-Identifier: MIT
// Convolutions of 3 x 3 voxels in a plane by Winograd's minimal filtering (winograd_kernels.h): a quarter of the
// multiplications of the plain sum, and transforms before and after them that cost as much for each channel. Strips of
// tiles are transformed, multiplied with the transformed weights by the kernels of tile_kernels.h, and transformed back
// while they are in the cache. Threads share out ranges of tiles; sums do not depend on who computes them.
#pragma once

#include "backends/kernels/convolution.h"

namespace mfres::kernels {

/// Whether the kernel has three voxels along two axes and one along the third, without stride, dilation and groups, as
/// much padding as keeps the grid, and whole vectors of channels on both sides.
bool can_convolve_by_winograd(const ConvolutionSpec& spec);

/// Whether it is predicted to be faster than the plain sum by `direct_products` vectors multiplied for each output voxel.
/// No where the transformed weights would take more than 2.5 MiB: they are four times the weights, and pass through the
/// cache for each strip.
bool winograd_is_faster(const ConvolutionSpec& spec, double direct_products);

/// Precondition: can_convolve_by_winograd.
std::unique_ptr<InferenceOp> make_winograd_convolution(const ConvolutionSpec& spec);

} // namespace mfres::kernels
