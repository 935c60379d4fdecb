// SPDX-License-Identifier: MIT
// Pooling, upsampling and softmax in training.
#pragma once

#include "backends/onednn/training_ops.h"

namespace mfres::onednn {

/// Precondition: the node is a max_pool, adaptive_avg_pool, upsample or softmax.
std::unique_ptr<TrainingOp> make_resampling(const TrainingContext& context, NodeId id);

} // namespace mfres::onednn
