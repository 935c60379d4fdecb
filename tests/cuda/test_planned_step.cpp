// SPDX-License-Identifier: MIT
// What a step launches and moves on a GPU, counted without one.
#include "backends/cuda/planned_step.h"
#include "backends/cuda/planning_engine.h"
#include "core/try.h"
#include "gpu/network.h"
#include "gpu/roofline.h"
#include "support/catch.h"
#include "support/run_graph.h"

#include <string>

using namespace mfres;

namespace {

Result<cuda::PlannedStep> step_of(std::unique_ptr<cuda::Engine> engine, cuda::LaunchLog& log, const Graph& graph,
                                  bool training, Precision precision) {
    const Weights weights = test::random_weights(graph, 1);
    if (training) {
        TrainingOptions options;
        options.precision = precision;
        return cuda::plan_training(std::move(engine), log, graph, weights, options);
    }
    CompileOptions options;
    options.precision = precision;
    return cuda::plan_inference(std::move(engine), log, graph, weights, options);
}

std::string described(const cuda::Launch& launch) {
    return text(launch.node, ": ", launch.kernel, ", ", launch.bytes, " bytes, ", launch.macs, " multiply-adds");
}

Machine machine(const std::string& name) {
    auto found = find_machine(name);
    REQUIRE_OK(found);
    return std::move(found).value();
}

} // namespace

TEST_CASE("what is planned without a device is what the executor launches, with the same bytes and multiply-adds") {
    const auto graph = test::GpuNetwork::make({16, 16, 32}, 2);
    REQUIRE_OK(graph);
    for (const bool training : {false, true})
        for (const Precision precision : {Precision::f32, Precision::bf16}) {
            INFO((training ? "training " : "inference ") << to_string(precision));
            cuda::LaunchLog of_plan(false);
            cuda::LaunchLog of_run(true);
            const auto planned = step_of(cuda::make_planning_engine(of_plan), of_plan, *graph, training, precision);
            const auto run = step_of(cuda::make_logged_host_engine(of_run), of_run, *graph, training, precision);
            REQUIRE_OK(planned);
            REQUIRE_OK(run);
            REQUIRE(planned->launches.size() == run->launches.size());
            for (std::size_t i = 0; i < run->launches.size(); ++i)
                REQUIRE(described(planned->launches[i]) == described(run->launches[i]));
        }
}

TEST_CASE("the roofline of a step is the sum over its levels and over its kernels") {
    const auto graph = test::GpuNetwork::make({32, 32, 32}, 2);
    REQUIRE_OK(graph);
    const auto planned = cuda::planned_roofline(*graph, true, machine("rtx-4090"), Precision::bf16);
    REQUIRE_OK(planned);
    CHECK(planned->levels.size() == 6); // 32, 16, 8, 4 and 2, and what is of no node
    for (const auto* rows : {&planned->levels, &planned->kernels}) {
        cuda::RooflineRow sum;
        for (const cuda::RooflineRow& row : *rows) {
            sum.launches += row.launches;
            sum.bytes += row.bytes;
            sum.macs += row.macs;
            sum.roofline_ms += row.roofline_ms;
        }
        CHECK(sum.launches == planned->total.launches);
        CHECK(sum.bytes == planned->total.bytes);
        CHECK(sum.macs == planned->total.macs);
        CHECK(sum.roofline_ms == Approx(planned->total.roofline_ms));
    }
    CHECK(planned->total.roofline_ms >= static_cast<double>(planned->total.bytes) / 1008e6 * 0.999);
    CHECK(to_text(*planned).find("16x16x16") != std::string::npos);
    CHECK(to_json(*planned).find("\"launches\": ") != std::string::npos);
    REQUIRE_CODE(cuda::planned_roofline(*graph, true, machine("rtx-2080-ti"), Precision::bf16), invalid_argument);
}
