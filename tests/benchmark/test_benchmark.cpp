// SPDX-License-Identifier: MIT
// Benchmarks: the numbers of a report fit together, its files are what it says, and what makes no sense is rejected.
#include "backends/backend.h"
#include "benchmark/npy.h"
#include "graph/complexity.h"
#include "model/model.h"
#include "support/network_runs.h"
#include "support/program.h"
#include "support/python.h"
#include "support/run_graph.h"

#include <mfres/benchmark.h>

#include <nlohmann/json.hpp>

#include <algorithm>

using namespace mfres;
using test::TemporaryFolder;

namespace {

constexpr const char* small = R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})";

std::filesystem::path small_model(const TemporaryFolder& folder) {
    const auto variant = parse_variant(small);
    REQUIRE_OK(variant);
    const auto model = init_model(*variant, 3);
    REQUIRE_OK(model);
    REQUIRE_OK(save_model(folder / "m.safetensors", *model));
    return folder / "m.safetensors";
}

} // namespace

TEST_CASE("a benchmark's numbers fit together on every backend") {
    const TemporaryFolder folder;
    const auto path = small_model(folder);
    for (const Backend* backend : test::usable_backends()) {
        INFO(backend->name());
        BenchmarkOptions options;
        options.size = {16, 32, 16};
        options.compute.backend = backend->name();
        options.compute.threads = 1;
        options.runs = 3;
        options.warm_up_runs = 2;
        options.profile = true;
        int told = 0;
        const auto report = benchmark(path, options, [&](std::string_view, double done) {
            CHECK(done >= 0.0);
            CHECK(done < 1.0);
            ++told;
            return true;
        });
        REQUIRE_OK(report);
        CHECK(told == 5);
        CHECK(report->network == "mf-res2net");
        CHECK(report->used.backend == backend->name());
        CHECK(report->shape == std::array<std::int64_t, 5>{1, 4, 16, 32, 16});
        REQUIRE(report->times_ms.size() == 3);
        std::vector<double> times = report->times_ms;
        std::sort(times.begin(), times.end());
        CHECK(report->min_ms == times[0]);
        CHECK(report->median_ms == times[1]);
        CHECK(report->max_ms == times[2]);
        CHECK(report->min_ms > 0.0);
        CHECK(report->planned_peak_mib > 0.0);
        CHECK(report->peak_rss_mib > report->planned_peak_mib);
        CHECK(report->machine.gflops > 0.1);
        CHECK(report->machine.gigabytes_per_second > 0.05);
        CHECK(report->arithmetic_floor_ms ==
              Approx(2.0 * static_cast<double>(report->macs) / report->machine.gflops / 1e6));
        // The steps are those of one pass: no more time than the longest run, and all multiply-adds.
        double sum = 0.0;
        std::int64_t macs = 0;
        for (const BenchmarkOp& op : report->ops) {
            CHECK(op.bytes > 0);
            CHECK(op.floor_ms > 0.0);
            sum += op.median_ms;
            macs += op.macs;
        }
        if (backend->name() == "opencv") { // which runs all in one call
            CHECK(report->ops.empty());
        } else {
            CHECK(sum > 0.0);
            CHECK(sum <= report->max_ms * 1.5);
            CHECK(macs == report->macs);
        }
        const auto variant = parse_variant(small);
        const auto graph = build_network(*variant, options.size);
        const auto counts = count_operations(backend->name() == "reference" ? *graph : inference_form(*graph));
        REQUIRE_OK(counts);
        CHECK(report->macs == counts->total.macs);
    }
}

TEST_CASE("a network that the paper's Table 2 cannot count is timed on every backend") {
    const TemporaryFolder folder;
    const auto variant = parse_variant("3d-espnet"); // adaptive pooling
    REQUIRE_OK(variant);
    const auto model = init_model(*variant, 3);
    REQUIRE_OK(model);
    REQUIRE_OK(save_model(folder / "m.safetensors", *model));
    std::int64_t macs = 0;
    for (const Backend* backend : test::usable_backends()) {
        INFO(backend->name());
        BenchmarkOptions options;
        options.size = {16, 16, 16};
        options.compute.backend = backend->name();
        options.compute.threads = 1;
        options.runs = 1;
        options.warm_up_runs = 0;
        options.probe = false;
        const auto report = benchmark(folder / "m.safetensors", options);
        REQUIRE_OK(report);
        CHECK(report->macs > 0);
        if (backend->name() != "reference") { // the others run the same rewritten graph
            CHECK((macs == 0 || report->macs == macs));
            macs = report->macs;
        }
    }
}

TEST_CASE("the input and the logits of a benchmark are NumPy files that other runtimes can use") {
    const TemporaryFolder folder;
    BenchmarkOptions options;
    options.size = {16, 16, 32};
    options.compute.threads = 1;
    options.runs = 1;
    options.probe = false;
    options.input = folder / "x.npy";
    options.output = folder / "y.npy";
    const auto path = small_model(folder);
    const auto report = benchmark(path, options);
    REQUIRE_OK(report);
    CHECK(report->machine.gflops == 0.0);
    CHECK(report->ops.empty());

    // 64-byte header blocks, then the values in C order.
    const auto values_of = [](const std::filesystem::path& file, const Shape& shape) {
        const std::string bytes = test::file_text(file);
        const auto count = static_cast<std::size_t>(shape.elements());
        REQUIRE(bytes.size() > count * sizeof(float));
        CHECK((bytes.size() - count * sizeof(float)) % 64 == 0);
        Tensor tensor(shape);
        std::memcpy(tensor.data(), bytes.data() + bytes.size() - count * sizeof(float), count * sizeof(float));
        return tensor;
    };
    const auto model = load_model(path);
    REQUIRE_OK(model);
    const auto graph = build_network(model->variant, options.size);
    REQUIRE_OK(graph);
    const Tensor input = values_of(folder / "x.npy", graph->node(0).shape);
    const Tensor logits = values_of(folder / "y.npy", graph->node(graph->outputs()[0]).shape);
    CHECK(test::largest(input) > 3.0);
    const Tensor expected = test::run_reference(*graph, model->weights, input);
    CHECK(test::largest_difference(logits, expected) <= 1e-4 * std::max(1.0, test::largest(expected)));

    const auto python = test::python_with("numpy");
    if (!python)
        return;
    const std::string script = "import numpy, sys; x = numpy.load(sys.argv[1]); "
                               "sys.exit(0 if x.shape == (1, 4, 16, 16, 32) and x.dtype == numpy.float32 and "
                               "abs(float(x[0, 3, 5, 6, 7]) - float(sys.argv[2])) < 1e-6 else 1)";
    const float value = input[((3 * 16 + 5) * 16 + 6) * 32 + 7];
    const std::string command =
        *python + " -c '" + script + "' '" + (folder / "x.npy").string() + "' " + std::to_string(value);
    CHECK(std::system(command.c_str()) == 0);
}

TEST_CASE("a benchmark that makes no sense is rejected, and one can be stopped") {
    const TemporaryFolder folder;
    const auto path = small_model(folder);
    const auto with = [&](const auto& change) {
        BenchmarkOptions options;
        options.size = {16, 16, 16};
        options.compute.threads = 1;
        options.runs = 1;
        options.probe = false;
        change(options);
        return benchmark(path, options);
    };
    REQUIRE_OK(with([](BenchmarkOptions&) {}));
    REQUIRE_CODE(with([](BenchmarkOptions& o) { o.runs = 0; }), invalid_argument);
    REQUIRE_CODE(with([](BenchmarkOptions& o) { o.warm_up_runs = -1; }), invalid_argument);
    REQUIRE_CODE(with([](BenchmarkOptions& o) { o.compute.threads = -1; }), invalid_argument);
    REQUIRE_CODE(with([](BenchmarkOptions& o) {
                     o.compute.backend = "reference";
                     o.compute.precision = Precision::fp16;
                 }),
                 operation_unsupported);
    REQUIRE_CODE(with([](BenchmarkOptions& o) { o.compute.backend = "abacus"; }), backend_unknown);
    REQUIRE_CODE(with([](BenchmarkOptions& o) { o.size = {16, 16, 17}; }), invalid_argument);
    REQUIRE_CODE(benchmark(folder / "absent.safetensors", {}), file_not_found);
    BenchmarkOptions options;
    options.size = {16, 16, 16};
    options.probe = false;
    REQUIRE_CODE(benchmark(path, options, [](std::string_view, double) { return false; }), interrupted);
}

TEST_CASE("mfres bench prints a report for people and one for programs") {
    const TemporaryFolder folder;
    const std::string path = small_model(folder);
    const std::vector<std::string> command{"bench",     "--model", path,     "--size", "16,16,16",
                                           "--threads", "1",       "--runs", "2"};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), command.begin(), command.end());
        return test::run_program(more);
    };
    const auto machine = with({"--json", "--profile", "--quiet"});
    INFO(machine.err);
    REQUIRE(machine.exit_code == 0);
    const auto json = nlohmann::json::parse(machine.out);
    for (const char* key : {"median_ms", "min_ms", "max_ms", "peak_rss_mib", "planned_peak_mib", "compile_ms"})
        CHECK(json[key].get<double>() > 0.0);
    CHECK(json["runs"] == 2);
    CHECK(json["times_ms"].size() == 2);
    CHECK(json["ops"].size() > 15);
    CHECK(json["machine"]["gflops"].get<double>() > 0.0);
    const auto people = with({"--no-probe", "--quiet"});
    CHECK(people.exit_code == 0);
    CHECK(people.out.find("median") != std::string::npos);
    CHECK(people.out.find("floor") == std::string::npos);
    CHECK(people.err.empty());
    CHECK(with({"--formt", "xml"}).exit_code == 2);
    CHECK(with({"--runs", "0"}).exit_code == 2);
    CHECK(with({"--backend", "abacus"}).exit_code == 5);
    CHECK(test::run_program({"bench", "--model", folder / "absent.safetensors"}).exit_code == 6);
}
