// SPDX-License-Identifier: MIT
// The launches of one inference and of one step of training on an engine with a log.
#pragma once

#include "backends/backend.h"
#include "backends/cuda/engine.h"
#include "backends/cuda/launch_log.h"
#include "backends/training.h"

#include <memory>
#include <vector>

namespace mfres::cuda {

struct PlannedStep {
    std::vector<Launch> launches;
    std::int64_t peak_bytes = 0; ///< of device memory
};

/// Compiles and runs once. `log` is that of the engine. Errors: those of Backend::compile and Executable::run.
Result<PlannedStep> plan_inference(std::unique_ptr<Engine> engine, LaunchLog& log, const Graph& graph,
                                   const Weights& weights, const CompileOptions& options);

/// Compiles and trains two steps on a batch that is on the host, with the default optimiser, and logs the second:
/// forward, loss, backward and update. The first packs all weights, which the optimiser does from then on. Errors: those of Backend::compile_training and of the calls.
Result<PlannedStep> plan_training(std::unique_ptr<Engine> engine, LaunchLog& log, const Graph& graph,
                                  const Weights& weights, const Loss& loss, const TrainingOptions& options);

} // namespace mfres::cuda
