// SPDX-License-Identifier: MIT
// A convolution by its definition in kernels of our own: what is left where cuDNN has no engine within the rules, and
// what the host runs in its place.
#pragma once

#include "backends/cuda/engine.h"

namespace mfres::cuda {

/// Any convolution. The engine has to outlive it.
std::unique_ptr<Convolution> make_direct_convolution(const Engine& engine, const ConvolutionSpec& spec);

} // namespace mfres::cuda
