// SPDX-License-Identifier: MIT
// Training with this backend: batch statistics, oneDNN's three convolutions, and loops of our own for other ops.
// In bf16 every value and gradient is stored as bf16 between fused ops (training_fusion.h: BatchNorm, sum and activation
// are one op). It is rounded to nearest once, by the op that computes it. Sums, statistics, the loss, parameters, their
// gradients and moments are f32 or better. Pointwise convolutions of an upsampled value run before the upsampling, on
// fewer voxels (graph/commute.h). In f32 they do not, so that the bits of earlier versions are kept.
#pragma once

#include "backends/training.h"

namespace mfres::onednn {

/// What of the options this backend does not train with on this processor, as Backend::unsupported.
std::vector<Unsupported> unsupported_in_training(const Graph& graph, const TrainingOptions& options);

/// See Backend::compile_training. Precondition: nothing is unsupported. Errors: memory_limit, backend_failed.
Result<std::unique_ptr<TrainingExecutable>> compile_training(const Graph& graph, const Weights& weights,
                                                             const TrainingOptions& options);

} // namespace mfres::onednn
