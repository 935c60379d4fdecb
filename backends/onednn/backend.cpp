// SPDX-License-Identifier: MIT
// The oneDNN backend: convolutions of oneDNN, loops of our own for other ops, and fusion groups, on channels-last arrays.
#include "backends/backend.h"

#include "backends/kernels/fusion_group.h"
#include "backends/onednn/inference.h"
#include "backends/onednn/kernels.h"
#include "backends/onednn/low_precision.h"
#include "backends/onednn/training.h"
#include "backends/planned/executor.h"
#include "core/try.h"

#include <dnnl.hpp>

namespace mfres::onednn {

namespace {

class OneDnnBackend final : public Backend {
  public:
    std::string_view name() const override { return "onednn"; }

    std::string description() const override {
        const dnnl_version_t* version = dnnl_version();
        return text("oneDNN ", version->major, ".", version->minor, ".", version->patch);
    }

    std::vector<Unsupported> unsupported(const Graph& graph, const CompileOptions& options) const override {
        std::vector<Unsupported> rejected = unsupported_relaxations(graph, options.allow_tf32, options.deterministic);
        if (options.precision == Precision::fp16)
            append(rejected, unsupported_precision(graph, options.precision));
        else if (const auto missing = missing_instructions(options.precision))
            rejected.push_back({graph.node(graph.input()).name, *missing});
        else
            append(rejected, unsupported_without_ranges(graph, options));
        return rejected;
    }

#ifdef MFRES_WITH_TRAINING
    bool trains() const override {
        return true;
    }
    std::vector<Unsupported> unsupported_training(const Graph& graph, const TrainingOptions& options) const override {
        return unsupported_in_training(graph, options);
    }
#endif

    std::int64_t planned_activations(const Graph& graph) const override {
        const FusionModel model;
        return planned_activation_bytes(graph, usable_model(&model));
    }

  protected:
    Result<std::unique_ptr<Executable>> make_executable(const Graph& graph, const Weights& weights,
                                                        const CompileOptions& options) const override {
        MFRES_TRY(Network form, inference_form(graph, weights));
        auto pool = options.pool;
        if (!pool) {
            MFRES_TRY(pool, ThreadPool::create({.threads = options.threads}));
        }
        const FusionModel model;
        return compile_inference(std::move(form), std::move(pool), &model, options);
    }

#ifdef MFRES_WITH_TRAINING
    Result<std::unique_ptr<TrainingExecutable>> make_training(const Graph& graph, const Weights& weights,
                                                              const TrainingOptions& options) const override {
        obey_max_cpu_isa();
        return onednn::compile_training(graph, weights, options);
    }
#endif
};

} // namespace

const Backend& backend() {
    static const OneDnnBackend instance;
    return instance;
}

} // namespace mfres::onednn
