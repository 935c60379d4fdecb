// SPDX-License-Identifier: MIT
// Training with this backend: the three convolutions of the engine, and kernels of our own for other ops.
#pragma once

#include "backends/cuda/engine.h"
#include "backends/training.h"

namespace mfres::cuda {

/// See Backend::compile_training. Errors: memory_limit, backend_failed. May throw EngineError and std::bad_alloc.
Result<std::unique_ptr<TrainingExecutable>> compile_training(std::unique_ptr<Engine> engine, const Graph& graph,
                                                             const Weights& weights, const TrainingOptions& options);

} // namespace mfres::cuda
