// SPDX-License-Identifier: MIT
// Convolutions of fusion groups with operands in bfloat16, by the dot products of AVX512-BF16.
//
// A row of pairs holds two channels: each of its elements has the size of a float, with the value of the even channel in the
// lower half and that of the odd one in the upper half. A product with a pair of weights adds both to a sum in f32, so a
// convolution reads half the rows and does half the work. Rows of pairs have the margins of rows (line_kernels.h).
//
// What is computed is the convolution in bf16 of the reference backend: operands are rounded to the nearest bf16, halves to
// even, where a convolution reads them; sums, bias, residual and activation are f32.
#pragma once

#include "backends/kernels/line_kernels.h"
#include "core/tensor.h"

#include <cstdint>
#include <vector>

namespace mfres::kernels {

struct PairKernels {
    const char* name; ///< of the instruction set
    /// A RowConvolution whose rows and weights are of pairs: `rows` counts pairs of channels, one shift or three around the
    /// voxel. Weights as from packed_pair_weights.
    void (*convolve)(const RowConvolution&);
    /// pairs[p] = the channels 2 p and 2 p + 1, rounded; `floats` is a multiple of row_multiple.
    void (*pack)(const float* const* rows, std::int64_t pairs, std::int64_t floats, float* const* packed);
};

/// Null where the processor has no AVX512-BF16, or line_kernels() are those of a lesser instruction set than AVX-512.
const PairKernels* pair_kernels();

/// The weights [out][in][x][y][z] of an ungrouped convolution with an even number of input channels:
/// [block of row_block outputs][x][y][pair of inputs][z][output in the block], each element a pair.
std::vector<float> packed_pair_weights(const Tensor& weight);

} // namespace mfres::kernels
