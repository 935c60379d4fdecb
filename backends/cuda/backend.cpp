// SPDX-License-Identifier: MIT
#include "backends/cuda/backend.h"

#include "backends/cuda/inference.h"
#include "backends/cuda/training.h"
#include "core/try.h"

#include <new>

namespace mfres::cuda {

namespace {

/// Runs `body`, which makes something, and turns what it throws into an error.
template <typename Made, typename Body>
Result<std::unique_ptr<Made>> made(const Body& body) {
    try {
        return body();
    } catch (const EngineError& error) {
        return Error{error.code(), text("the cuda backend failed: ", error.what()), {}};
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, "no host memory was left for the cuda backend", {}};
    }
}

} // namespace

std::vector<Unsupported> CudaBackend::unsupported_training(const Graph& graph, const TrainingOptions& options) const {
    return unsupported(graph, arithmetic_of(options));
}

Result<std::unique_ptr<Executable>> CudaBackend::make_executable(const Graph& graph, const Weights& weights,
                                                                 const CompileOptions& options) const {
    return made<Executable>([&]() -> Result<std::unique_ptr<Executable>> {
        MFRES_TRY(auto engine, factory_(options.device));
        return compile_inference(std::move(engine), graph, weights, options);
    });
}

Result<std::unique_ptr<TrainingExecutable>> CudaBackend::make_training(const Graph& graph, const Weights& weights,
                                                                       const TrainingOptions& options) const {
    return made<TrainingExecutable>([&]() -> Result<std::unique_ptr<TrainingExecutable>> {
        MFRES_TRY(auto engine, factory_(options.device));
        return cuda::compile_training(std::move(engine), graph, weights, options);
    });
}

} // namespace mfres::cuda
