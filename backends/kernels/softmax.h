// SPDX-License-Identifier: MIT
// Softmax.
#pragma once

#include "backends/kernels/loops.h"

namespace mfres::kernels {

/// Softmax over the channels of every voxel; y may be x.
void softmax(const Domain& domain, const float* x, float* y);

} // namespace mfres::kernels
