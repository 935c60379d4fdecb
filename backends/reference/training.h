// SPDX-License-Identifier: MIT
// Training on the reference backend: every node as written, one after the other, forward and back.
#pragma once

#include "backends/training.h"

#include <memory>

namespace mfres::reference {

/// Errors: those of check_weights; those of check_training_outputs; invalid_argument for a momentum
/// outside 0..1; memory_limit.
Result<std::unique_ptr<TrainingExecutable>> make_training(const Graph& graph, const Weights& weights,
                                                          const TrainingOptions& options);

} // namespace mfres::reference
