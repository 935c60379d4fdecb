// SPDX-License-Identifier: MIT
// Training with this backend: the graph as given, batch statistics, oneDNN's three convolutions and loops of our own.
// In bf16 every value and every gradient of one is stored as bf16 between steps (see training_fusion.h: BatchNorm, sum
// and activation are one step), rounded to nearest once by the step that computes it; sums, statistics, the loss,
// parameters, their gradients and moments are f32 or better. Pointwise convolutions of an upsampled value run before the
// upsampling, on fewer voxels (see commute.h); in f32 they do not, which keeps the bits of earlier versions.
#pragma once

#include "backends/training.h"

namespace mfres::onednn {

/// What of the options this backend does not train with on this processor, as Backend::unsupported.
std::vector<Unsupported> unsupported_in_training(const Graph& graph, const TrainingOptions& options);

/// See Backend::compile_training. Precondition: nothing is unsupported. Errors: those of check_weights, memory_limit, backend_failed.
Result<std::unique_ptr<TrainingExecutable>> compile_training(const Graph& graph, const Weights& weights,
                                                             const TrainingOptions& options);

} // namespace mfres::onednn
