// SPDX-License-Identifier: MIT
// Training on the reference backend: every node is computed as it is in the graph, one at a time.
#pragma once

#include "backends/training.h"

#include <memory>

namespace mfres::reference {

/// See Backend::compile_training. Errors: memory_limit.
Result<std::unique_ptr<TrainingExecutable>> make_training(const Graph& graph, const Weights& weights,
                                                          const TrainingOptions& options);

} // namespace mfres::reference
