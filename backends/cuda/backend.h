// SPDX-License-Identifier: MIT
// The backend over any engine: that of a GPU, or the host in the tests.
#pragma once

#include "backends/backend.h"
#include "backends/cuda/engine.h"

#include <functional>
#include <string>

namespace mfres::cuda {

/// Makes an engine of a device, or says why there is none (backend_unavailable, backend_failed, invalid_argument).
using EngineFactory = std::function<Result<std::unique_ptr<Engine>>(int device)>;

class CudaBackend final : public Backend {
  public:
    CudaBackend(std::string name, std::string description, EngineFactory factory, std::function<Status()> available,
                std::function<int()> devices)
        : name_(std::move(name)), description_(std::move(description)), factory_(std::move(factory)),
          available_(std::move(available)), devices_(std::move(devices)) {}

    std::string_view name() const override { return name_; }
    std::string description() const override { return description_; }
    Status available() const override { return available_(); }
    int devices() const override { return devices_(); }
    std::vector<Unsupported> unsupported(const Graph& graph, const CompileOptions& options) const override {
        return options.precision == Precision::int8 ? unsupported_precision(graph, options.precision)
                                                    : inference_only_ops(graph, "has no kernel for GPUs yet");
    }
    bool trains() const override { return true; }
    std::vector<Unsupported> unsupported_training(const Graph& graph, const TrainingOptions& options) const override;

  protected:
    Result<std::unique_ptr<Executable>> make_executable(const Graph& graph, const Weights& weights,
                                                        const CompileOptions& options) const override;
    Result<std::unique_ptr<TrainingExecutable>> make_training(const Graph& graph, const Weights& weights,
                                                              const TrainingOptions& options) const override;

  private:
    std::string name_, description_;
    EngineFactory factory_;
    std::function<Status()> available_;
    std::function<int()> devices_;
};

} // namespace mfres::cuda
