// SPDX-License-Identifier: MIT
// The ops of an inference on oneDNN: its convolutions, and those of backends/kernels for everything else.
#pragma once

#include "backends/kernels/host_ops.h"
#include "backends/onednn/kernels.h"
#include "backends/onednn/low_precision.h"

#include <memory>

namespace mfres::onednn {

/// What all ops of one compilation share. Weights may go once all ops are made.
struct OpContext : HostOpContext {
    dnnl::engine engine;
    LowPrecisionPlan low_precision;
};

/// The op of a convolution with what is fused into it; those of other nodes are in backends/kernels/host_ops.h. Throws
/// dnnl::error and std::bad_alloc.
std::unique_ptr<InferenceOp> make_conv(const OpContext& context, const FusedOp& op, bool residual_in_output);

} // namespace mfres::onednn
