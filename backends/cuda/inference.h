// SPDX-License-Identifier: MIT
// Inference on a GPU.
#pragma once

#include "backends/backend.h"
#include "backends/cuda/engine.h"

namespace mfres::cuda {

/// See Backend::compile. Errors: memory_limit, backend_failed. Precondition: the weights belong to the graph.
Result<std::unique_ptr<Executable>> compile_inference(std::unique_ptr<Engine> engine, const Graph& graph,
                                                      const Weights& weights, const CompileOptions& options);

/// The element type of a precision that unsupported() accepts: not int8.
ElementType element_type(Precision precision);

} // namespace mfres::cuda
