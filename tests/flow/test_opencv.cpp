// SPDX-License-Identifier: MIT
// The OpenCV backend on whole networks and on a real case.
#include "backends/training.h"
#include "networks/registry.h"
#include "support/network_runs.h"
#include "support/paths.h"

#include <mfres/case.h>
#include <mfres/segmenter.h>

#include <cstdio>

using namespace mfres;

namespace {

const Backend* opencv() {
    const auto found = find_backend("opencv");
    if (found)
        return *found;
    std::printf("SKIPPED: %s\n", found.error().message.c_str());
    return nullptr;
}

double network_milliseconds(const SegmentReport& report) {
    for (const auto& stage : report.stages)
        if (stage.name == "network")
            return stage.milliseconds;
    return 0.0;
}

} // namespace

// Against the reference, and by the largest difference as onednn and native are: in no-new-net, whose instance norms
// magnify what rounds, two fast backends can differ from each other by more than each from the truth.
TEST_CASE("the OpenCV backend computes every registered network as the reference does") {
    const Backend* backend = opencv();
    if (backend == nullptr)
        return;
    for (const std::string& name : network_names()) {
        INFO(name);
        const auto variant = parse_variant(name);
        REQUIRE_OK(variant);
        const std::int64_t edge = 16 / variant->multiple() * variant->multiple() + (16 % variant->multiple() ? 16 : 0);
        const auto graph = build_network(*variant, {edge, 2 * edge, edge});
        REQUIRE_OK(graph);
        const Weights weights = test::random_weights(*graph, 5);
        const Tensor input = test::random_tensor(graph->node(0).shape, 6);
        const auto got = test::run(*backend, *graph, weights, input, {.threads = 1});
        REQUIRE_OK(got);
        CHECK(test::relative_difference(*got, test::run_reference(*graph, weights, input)) <= 1e-4);
    }
}

TEST_CASE("the OpenCV backend rejects what it cannot run and names it") {
    const Backend* backend = opencv();
    if (backend == nullptr)
        return;
    GraphBuilder builder;
    builder.output(builder.relu("r", builder.input({1, 1, 2, 2, 2})));
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    REQUIRE_CODE(backend->compile(*graph, {}, {.precision = Precision::bf16}), operation_unsupported);
    REQUIRE_CODE(backend->compile_training(*graph, {}, {}), operation_unsupported);
    Weights extra;
    extra.emplace("r.weight", Tensor(Shape{1}, 1.0F));
    REQUIRE_CODE(backend->compile(*graph, extra, {}), model_tensor_extra);

    GraphBuilder large;
    large.output(large.relu("r", large.input({1, 4, 1024, 1024, 1024})));
    const auto too_large = large.finish();
    REQUIRE_OK(too_large);
    const auto rejected = backend->compile(*too_large, {}, {});
    REQUIRE_CODE(rejected, operation_unsupported);
    CHECK(rejected.error().message.find("32 bits") != std::string::npos);
}

TEST_CASE("OpenCV labels a real case as the fastest backend does, and its time is printed") {
    const auto shared = test::shared_data("data/real/val");
    if (!shared || opencv() == nullptr)
        return;
    const auto cases = find_cases(*shared);
    REQUIRE_OK(cases);
    REQUIRE_FALSE(cases->empty());
    const std::filesystem::path model = std::filesystem::path(MFRES_SOURCE_DIR) / "models" / "mf-res2net.safetensors";
    std::vector<Segmentation> results;
    for (const std::string backend : {"auto", "opencv"}) {
        auto segmenter = Segmenter::open(model, {.compute = {.backend = backend}});
        REQUIRE_OK(segmenter);
        auto result = segmenter->segment(cases->front(), {});
        REQUIRE_OK(result);
        results.push_back(std::move(result).value());
    }
    const auto& expected = results[0].labels.labels;
    const auto& got = results[1].labels.labels;
    REQUIRE(got.size() == expected.size());
    std::size_t different = 0;
    for (std::size_t i = 0; i < got.size(); ++i)
        different += got[i] != expected[i] ? 1 : 0;
    const double first = network_milliseconds(results[0].report);
    const double second = network_milliseconds(results[1].report);
    std::printf("%s: %s %.0f ms, opencv %.0f ms (%.2f times), %zu of %zu labels differ\n", cases->front().id.c_str(),
                results[0].report.used.backend.c_str(), first, second, second / first, different, got.size());
    CHECK(static_cast<double>(different) <= 1e-4 * static_cast<double>(got.size()));
    std::printf("opencv peak: planned %lld MiB, measured %lld MiB\n",
                static_cast<long long>(results[1].report.planned_peak_bytes >> 20),
                static_cast<long long>(results[1].report.measured_peak_bytes >> 20));
}
