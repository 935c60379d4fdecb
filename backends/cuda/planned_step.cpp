// SPDX-License-Identifier: MIT
#include "backends/cuda/planned_step.h"

#include "backends/cuda/inference.h"
#include "backends/cuda/training.h"
#include "core/try.h"

#include <utility>

namespace mfres::cuda {

Result<PlannedStep> plan_inference(std::unique_ptr<Engine> engine, LaunchLog& log, const Graph& graph,
                                   const Weights& weights, const CompileOptions& options) {
    MFRES_TRY(const auto made, compile_inference(std::move(engine), graph, weights, options));
    log.clear();
    MFRES_CHECK(made->run([](int, int) { return true; })); // one node after the other, so that each is named
    return PlannedStep{log.launches(), made->peak_bytes()};
}

Result<PlannedStep> plan_training(std::unique_ptr<Engine> engine, LaunchLog& log, const Graph& graph,
                                  const Weights& weights, const Loss& loss, const TrainingOptions& options) {
    MFRES_TRY(const auto made, compile_training(std::move(engine), graph, weights, options));
    const Shape& out = graph.node(graph.outputs()[0]).shape;
    const std::vector<std::uint8_t> classes(static_cast<std::size_t>(out.elements() / out[1]), 0);
    for (const std::int64_t step : {1, 2}) {
        log.clear();
        MFRES_CHECK(made->forward());
        MFRES_CHECK(made->loss(classes, loss));
        MFRES_CHECK(made->backward());
        MFRES_CHECK(made->update({.step = step}));
    }
    return PlannedStep{log.launches(), made->peak_bytes()};
}

} // namespace mfres::cuda
