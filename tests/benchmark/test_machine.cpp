// SPDX-License-Identifier: MIT
// Machines: what the probe measures, files of it, and predictions from made-up rates that can be computed by hand.
#include "core/file.h"
#include "support/catch.h"
#include "support/paths.h"

#include <mfres/machine.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

using namespace mfres;
using nlohmann::json;

namespace {

/// 100 x 10^9 multiply-adds and 10 GB per second, 10 microseconds an op.
Machine made_up() {
    Machine machine;
    machine.name = "made up";
    machine.source = "test";
    machine.measured = true;
    machine.cores = 4;
    machine.peaks = {{Precision::f32, 1, 100.0}, {Precision::f32, 2, 150.0}, {Precision::int8, 1, 400.0}};
    machine.copies = {{1, 1 << 20, 40.0}, {1, 1 << 30, 10.0}};
    machine.overheads = {{1, 10.0}};
    return machine;
}

/// A report of one layer that multiplies.
ComplexityReport one_layer(std::int64_t macs, std::int64_t bytes, const std::string& operation = "Conv 3x3x3") {
    ComplexityReport report;
    LayerComplexity layer;
    layer.name = "layer";
    layer.operation = operation;
    layer.output = {1, 8, 10, 10, 10};
    layer.counts.macs = macs;
    layer.counts.bytes_read = bytes / 2;
    layer.counts.bytes_written = bytes - bytes / 2;
    report.layers = {layer};
    return report;
}

PredictedTime time_of(const ComplexityReport& report, const Machine& machine, Precision precision, int threads = 1) {
    auto time = predict_time(report, machine, precision, threads);
    REQUIRE_OK(time);
    return std::move(time).value();
}

} // namespace

TEST_CASE("without timed ops a prediction is the roofline and the overhead of every op") {
    const Machine machine = made_up();
    // 10^9 multiply-adds at 100 a nanosecond: 10 ms; 10 MB at 10 GB/s: 1 ms
    const PredictedTime compute = time_of(one_layer(1'000'000'000, 10'000'000), machine, Precision::f32);
    CHECK(compute.roofline_ms == Approx(10.0));
    CHECK(compute.total_ms == Approx(10.01));
    CHECK(compute.ops[0].bound == OpBound::compute);
    CHECK(compute.ops[0].extents.op_class == OpClass::cubic);
    const PredictedTime memory = time_of(one_layer(1'000'000, 10'000'000), machine, Precision::f32);
    CHECK(memory.roofline_ms == Approx(1.0));
    CHECK(memory.ops[0].bound == OpBound::memory);
    const PredictedTime cached = time_of(one_layer(1000, 1'000'000), machine, Precision::f32); // 40 GB/s
    CHECK(cached.roofline_ms == Approx(0.025));
    const PredictedTime small = time_of(one_layer(1000, 1000), machine, Precision::f32);
    CHECK(small.ops[0].bound == OpBound::overhead);
    // Integers of 8 bits: four times the rate, a quarter of the bytes.
    CHECK(time_of(one_layer(1'000'000'000, 10'000'000), machine, Precision::int8).roofline_ms == Approx(2.5));
    CHECK(time_of(one_layer(1'000'000, 400'000'000), machine, Precision::int8).roofline_ms == Approx(10.0));
    // Two threads have a rate of their own; four have none, and are twice as fast as two.
    CHECK(time_of(one_layer(1'000'000'000, 10), machine, Precision::f32, 2).roofline_ms == Approx(1000.0 / 150.0));
    CHECK(time_of(one_layer(1'000'000'000, 10), machine, Precision::f32, 4).roofline_ms == Approx(1000.0 / 300.0));
    CHECK(time_of(one_layer(1'000'000'000, 10), machine, Precision::f32, 64).roofline_ms == Approx(1000.0 / 300.0));
    REQUIRE_CODE(predict_time(one_layer(1, 1), machine, Precision::bf16, 1), invalid_argument);
    REQUIRE_CODE(predict_time(one_layer(1, 1), machine, Precision::f32, 0), invalid_argument);
    CHECK(time_of(one_layer(0, 0, "Reshape"), machine, Precision::f32).total_ms == 0.0);
}

TEST_CASE("a timed op has its own time, and one between two has a time between theirs") {
    Machine machine = made_up();
    // 8 channels on 1000 voxels; 100 and 400 multiply-adds an element
    machine.ops = {{Precision::f32, 1, {OpClass::cubic, 800'000, 1000, 8, 1000}, 1.01},
                   {Precision::f32, 1, {OpClass::cubic, 3'200'000, 1000, 8, 1000}, 2.01},
                   {Precision::f32, 1, {OpClass::elementwise, 0, 1 << 20, 8, 1000}, 0.51}};
    CHECK(time_of(one_layer(800'000, 1000), machine, Precision::f32).total_ms == Approx(1.01).epsilon(0.01));
    CHECK(time_of(one_layer(3'200'000, 1000), machine, Precision::f32).total_ms == Approx(2.01).epsilon(0.01));
    const double between = time_of(one_layer(1'600'000, 1000), machine, Precision::f32).total_ms;
    CHECK(between == Approx(std::sqrt(2.0) + 0.01).epsilon(0.01));
    CHECK(time_of(one_layer(0, 1 << 20, "Add"), machine, Precision::f32).total_ms == Approx(0.51).epsilon(0.01));
    // A class without samples has the roofline.
    CHECK(time_of(one_layer(1'000'000'000, 10, "Conv 1x1x1"), machine, Precision::f32).total_ms == Approx(10.01));
}

TEST_CASE("a prediction of a registered network covers its inference form") {
    const Machine machine = made_up();
    const auto time = predict_time("mf-res2net", {64, 64, 64}, 1, machine, Precision::f32, 1);
    REQUIRE_OK(time);
    double sum = 0.0;
    std::int64_t macs = 0;
    for (const PredictedOp& op : time->ops) {
        sum += op.ms;
        macs += op.extents.macs;
        CHECK(op.roofline_ms <= op.ms);
    }
    CHECK(time->total_ms == Approx(sum));
    const auto report = complexity("mf-res2net", {64, 64, 64});
    REQUIRE_OK(report);
    CHECK(macs < report->total.macs); // pointwise convolutions run before the upsampling
    CHECK(macs > report->total.macs / 2);
    const json parsed = json::parse(render(*report, {*time}, ReportFormat::json, true));
    CHECK(parsed.at("predictions").at(0).at("ms").get<double>() == Approx(time->total_ms));
    CHECK(parsed.at("predictions").at(0).at("ops").size() == time->ops.size());
    const std::string text = render(*report, {*time}, ReportFormat::text, true);
    CHECK(text.find("made up") != std::string::npos);
    CHECK(text.find("fusion_group") != std::string::npos);
    const std::string svg = roofline_svg(machine, *time);
    CHECK(svg.find("<svg") != std::string::npos);
    CHECK(svg.find("peak 200.0") != std::string::npos);
    REQUIRE_CODE(predict_time("mf-res2net", {60, 64, 64}, 1, machine, Precision::f32, 1), graph_invalid);
}

TEST_CASE("machines by their data sheets name them and give the roofline alone") {
    for (const Machine& machine : known_machines()) {
        INFO(machine.name);
        CHECK_FALSE(machine.measured);
        CHECK(machine.source.starts_with("data sheet: "));
        CHECK(machine.ops.empty());
        const auto found = find_machine(machine.name);
        REQUIRE_OK(found);
        const auto time = predict_time("mf-res2net", {128, 128, 128}, 1, *found, Precision::f32, 1);
        REQUIRE_OK(time);
        CHECK(time->total_ms == Approx(time->roofline_ms));
        CHECK_FALSE(time->measured);
    }
    REQUIRE_CODE(find_machine("no-such-machine"), file_not_found);
}

TEST_CASE("a machine in a file comes back, and a broken one is rejected") {
    const test::TemporaryFolder folder;
    const std::string path = (folder / "machine.json").string();
    Machine machine = made_up();
    machine.ops = {{Precision::int8, 2, {OpClass::fusion_group, 7, 8, 9, 10}, 0.125}};
    REQUIRE_OK(write_file_atomically(path, to_json(machine)));
    const auto back = find_machine(path);
    REQUIRE_OK(back);
    CHECK(to_json(*back) == to_json(machine));
    const auto rejects = [&](const std::function<void(json&)>& change) {
        json changed = json::parse(to_json(machine));
        change(changed);
        REQUIRE_OK(write_file_atomically(path, changed.dump(), true));
        const auto result = find_machine(path);
        REQUIRE_CODE(result, invalid_argument);
        CHECK(result.error().message.find("mfres probe") != std::string::npos);
    };
    rejects([](json& all) { all["mfres_machine"] = 2; });
    rejects([](json& all) { all.erase("peaks"); });
    rejects([](json& all) { all["peaks"][0]["precision"] = "f31"; });
    rejects([](json& all) { all["peaks"][0]["threads"] = 0; });
    rejects([](json& all) { all["copies"][0]["bytes"] = -1; });
    rejects([](json& all) { all["ops"][0]["class"] = "round"; });
    rejects([](json& all) { all["ops"][0]["ms"] = "fast"; });
    rejects([](json& all) { all = json::array(); });
}

TEST_CASE("the probe times the ops of its networks as the backend runs them") {
    ProbeOptions options;
    options.backend = "onednn";
    options.threads = {1};
    options.precisions = {Precision::f32};
    options.runs = 1;
    const auto machine = probe(options);
    if (!machine && machine.error().code == ErrorCode::backend_unavailable) {
        std::printf("SKIPPED: %s\n", machine.error().message.c_str());
        return;
    }
    REQUIRE_OK(machine);
    CHECK(machine->measured);
    CHECK(machine->backend == "onednn");
    REQUIRE(machine->peaks.size() == 1);
    CHECK(machine->peaks[0].gmacs > 0.0);
    CHECK(machine->copies.size() > 3);
    CHECK(machine->ops.size() > 100);
    for (const OpSample& sample : machine->ops)
        CHECK(sample.ms > 0.0);
    REQUIRE_CODE(probe({.runs = 0}), invalid_argument);
    REQUIRE_CODE(probe({.threads = {0}}), invalid_argument);
    REQUIRE_CODE(probe({.backend = "none"}), backend_unknown);
    REQUIRE_CODE(probe(options, [](std::string_view, double) { return false; }), interrupted);
}
