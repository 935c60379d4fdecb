// SPDX-License-Identifier: MIT
// Everything in training that works voxel by voxel: y = activation(sum of n_k(x_k)), where n_k normalises (with
// statistics of the batch or of each sample), multiplies with a learnable weight, or leaves its operand alone. One pass
// for the statistics and one for the values; backward one pass for the sums and one for the gradients.
#pragma once

#include "backends/onednn/training_step.h"
#include "backends/planned/training_fusion.h"

namespace mfres::onednn {

std::unique_ptr<TrainingStep> make_sum_step(const TrainingContext& context, const SumStep& step);

/// Concat, or a slice that somebody needs as an array of its own: channels are copied forward; their gradients are read
/// where they lie.
std::unique_ptr<TrainingStep> make_copy_step(const TrainingContext& context, NodeId id);

} // namespace mfres::onednn
