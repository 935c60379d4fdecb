// Training with this backend: the graph as given, batch statistics, oneDNN's three convolutions and loops of our own.
#pragma once

#include "backends/training.h"

namespace mfres::onednn {

/// See Backend::compile_training. Errors: those of check_weights, memory_limit, backend_failed.
Result<std::unique_ptr<TrainingExecutable>> compile_training(const Graph& graph, const Weights& weights,
                                                             const TrainingOptions& options);

} // namespace mfres::onednn
