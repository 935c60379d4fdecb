// SPDX-License-Identifier: MIT
// Convolutions in training: forward, gradient of the source and gradient of the weights through oneDNN. In bf16 each of
// the three takes a bf16 kernel where oneDNN has a compiled one, whose sums are f32, and else an f32 kernel with widened
// copies of the values: generic loops and gemm gain nothing from bf16. Narrow channels are no exception: on AVX512-BF16
// kernels for 2, 4 and 8 channels take 0.4 to 0.7 of the f32 ones' time, since memory bounds them. Parameters and their
// gradients are f32 outside the kernels.
#pragma once

#include "backends/onednn/training_ops.h"

namespace mfres::onednn {

/// Precondition: the node is a convolution.
std::unique_ptr<TrainingOp> make_convolution(const TrainingContext& context, NodeId id);

} // namespace mfres::onednn
