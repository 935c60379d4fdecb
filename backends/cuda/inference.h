// Inference: batch normalisation folded, steps fused, every step one convolution of the engine or kernels of our own,
// all activations and scratch memory in one block planned beforehand; after the first run the whole is replayed from a
// recording.
#pragma once

#include "backends/backend.h"
#include "backends/cuda/engine.h"

namespace mfres::cuda {

/// See Backend::compile. Errors: those of check_weights, memory_limit, backend_failed.
Result<std::unique_ptr<Executable>> compile_inference(std::unique_ptr<Engine> engine, const Graph& graph,
                                                      const Weights& weights, const CompileOptions& options);

ElementType element_type(Precision precision);

} // namespace mfres::cuda
