// SPDX-License-Identifier: MIT
// Training ops that work voxel by voxel: copies, and fused sums y = activation(sum of n_k(x_k)). The forward op of a sum
// has one pass for statistics and one for values. The backward op has one pass for sums and one for gradients.
#pragma once

#include "backends/onednn/training_ops.h"

namespace mfres::onednn {

std::unique_ptr<TrainingOp> make_sum(const TrainingContext& context, const FusedSum& sum);

/// Precondition: the node is a concat or a slice.
std::unique_ptr<TrainingOp> make_copy(const TrainingContext& context, NodeId id);

} // namespace mfres::onednn
