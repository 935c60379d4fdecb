// SPDX-License-Identifier: MIT
// Normalisation that is not folded into a convolution.
#pragma once

#include "backends/kernels/loops.h"

#include <cstddef>
#include <cstdint>

namespace mfres::kernels {

/// Bytes of workspace that instance_norm needs.
std::int64_t instance_norm_workspace(const Shape& shape);

/// y = activation((x - mean) / sqrt(variance + epsilon) * weight + bias), mean and variance of each channel of each
/// sample in double precision; y may be x.
void instance_norm(const Domain& domain, const Activation& activation, double epsilon, const float* weight,
                   const float* bias, const float* x, std::byte* workspace, float* y);

} // namespace mfres::kernels
