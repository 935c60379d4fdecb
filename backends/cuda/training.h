// SPDX-License-Identifier: MIT
// Training with this backend: the graph as given, three convolutions of the engine, kernels of our own for the rest.
#pragma once

#include "backends/cuda/engine.h"
#include "backends/training.h"

namespace mfres::cuda {

/// See Backend::compile_training. Errors: those of check_weights, graph_invalid (more than one output),
/// invalid_argument (momentum), memory_limit, backend_failed.
Result<std::unique_ptr<TrainingExecutable>> compile_training(std::unique_ptr<Engine> engine, const Graph& graph,
                                                             const Weights& weights, const TrainingOptions& options);

} // namespace mfres::cuda
