// SPDX-License-Identifier: MIT
// Convolutions by rows, z-lines of one channel each (line_kernels.h): vectors are filled whatever the number of channels
// of a group. Input planes of constant x are brought into rows once, in a buffer of as many planes as the kernel spans.
// Threads share out planes of the output.
#pragma once

#include "backends/kernels/convolution.h"

namespace mfres::kernels {

/// Precondition: can_convolve_rows.
std::unique_ptr<InferenceOp> make_row_convolution(const ConvolutionSpec& spec);

/// Whether the convolution has no stride along z.
bool can_convolve_rows(const ConvolutionSpec& spec);

/// Vectors that are multiplied for each output voxel.
double row_products(const ConvolutionSpec& spec);

} // namespace mfres::kernels
