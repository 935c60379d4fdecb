// SPDX-License-Identifier: MIT
// Timing of a network on this machine.
#include <mfres/benchmark.h>

#include "backends/backend.h"
#include "benchmark/npy.h"
#include "core/argmax.h"
#include "core/guard.h"
#include "core/memory_usage.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/thread_pool.h"
#include "core/try.h"
#include "graph/cost.h"
#include "inference/box_predictor.h"
#include "inference/precision.h"
#include "model/find_model.h"
#include "model/model.h"

#include <algorithm>
#include <chrono>
#include <new>

namespace mfres {

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double mib(std::int64_t bytes) {
    return static_cast<double>(bytes) / (1024.0 * 1024.0);
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2.0;
}

Status check_options(const BenchmarkOptions& options) {
    const auto check = [](const char* option, int value, int least, int most) -> Status {
        if (value < least || value > most)
            return Error{ErrorCode::invalid_argument, text(option, " is ", value, ", allowed is ", least, " to ", most),
                         option};
        return {};
    };
    MFRES_CHECK(check("threads", options.compute.threads, 0, 4096));
    MFRES_CHECK(check("runs", options.runs, 1, 100000));
    MFRES_CHECK(check("warm_up_runs", options.warm_up_runs, 0, 1000));
    return {};
}

Tensor random_input(const Shape& shape, std::uint64_t seed) {
    Tensor input(shape);
    fill_normal(input.values(), seed);
    return input;
}

/// Times ops as the intervals between calls of the observer.
class OpTimes {
  public:
    explicit OpTimes(std::size_t ops) : times_(ops) {}

    void start() { last_ = Clock::now(); }
    void note(int done, int total) {
        single_ = total == static_cast<int>(times_.size());
        if (!single_)
            return;
        const auto now = Clock::now();
        times_[static_cast<std::size_t>(done) - 1].push_back(
            std::chrono::duration<double, std::milli>(now - last_).count());
        last_ = now;
    }
    /// Whether the engine reports every op, and does not run the network in one call.
    bool single() const { return single_; }
    double median_ms(std::size_t op) const { return times_[op].empty() ? 0.0 : median(times_[op]); }

  private:
    std::vector<std::vector<double>> times_;
    bool single_ = false;
    Clock::time_point last_;
};

double floor_ms(const OpCost& cost, const MachineProbe& machine) {
    if (machine.gflops <= 0 || machine.gigabytes_per_second <= 0)
        return 0.0;
    return std::max(2.0 * static_cast<double>(cost.macs) / machine.gflops,
                    static_cast<double>(cost.bytes) / machine.gigabytes_per_second) /
           1e6;
}

/// Warm-up and timed runs; fills the times of the report and of its ops.
Status run_all(Executable& executable, const Tensor& input, const BenchmarkOptions& options, const Progress& progress,
               OpTimes& ops, BenchmarkReport& report) {
    const int total = options.warm_up_runs + options.runs;
    for (int run = 0; run < total; ++run) {
        const bool timed = run >= options.warm_up_runs;
        if (progress && !progress(timed ? "run" : "warm-up", static_cast<double>(run) / total))
            return Error{ErrorCode::interrupted, "the benchmark was stopped on request", {}};
        const auto start = Clock::now();
        copy(view(input), executable.input());
        if (timed && options.profile) {
            ops.start();
            MFRES_CHECK(executable.run([&](int done, int of) {
                ops.note(done, of);
                return true;
            }));
        } else {
            MFRES_CHECK(executable.run());
        }
        const double taken = milliseconds_since(start);
        if (run == 0)
            report.first_ms = taken;
        if (timed)
            report.times_ms.push_back(taken);
    }
    return {};
}

void fill_ops(const Executable& executable, const OpTimes& times, const Graph& graph, BenchmarkReport& report) {
    const auto chosen = executable.chosen();
    for (std::size_t i = 0; i < chosen.size(); ++i) {
        report.macs += chosen[i].cost.macs;
        if (times.single())
            report.ops.push_back({chosen[i].node, chosen[i].operation, chosen[i].implementation, times.median_ms(i),
                                  chosen[i].cost.bytes, chosen[i].cost.macs, floor_ms(chosen[i].cost, report.machine)});
    }
    if (report.macs == 0) { // an engine that does not report its ops
        const Graph form = inference_form(graph);
        for (const OpCost& cost : op_costs(form, fuse_ops(form)))
            report.macs += cost.macs;
    }
    if (report.machine.gflops > 0)
        report.arithmetic_floor_ms = 2.0 * static_cast<double>(report.macs) / report.machine.gflops / 1e6;
}

Result<BenchmarkReport> run_benchmark(const std::filesystem::path& path, const BenchmarkOptions& options,
                                      const Progress& progress) {
    MFRES_CHECK(check_options(options));
    MFRES_CHECK(find_backend(options.compute.backend)); // before the model is read
    MFRES_TRY(const Model model, load_named_model(path));
    MFRES_TRY(const Graph graph, build_network(model.variant, options.size));
    ComputeOptions compute = options.compute;
    compute.threads = resolve_threads(compute.threads);
    MFRES_TRY(auto chosen, choose_backend(model, compute));
    const Backend* const backend = chosen.backend;
    CompileOptions& compile = chosen.options;

    BenchmarkReport report;
    report.model_file = path.string();
    report.network = model.variant.name();
    report.weights_sha256 = model.metadata.weights_sha256;
    report.used = run_info(*backend, compile);
    const Shape& shape = graph.node(graph.input()).shape;
    for (int axis = 0; axis < 5; ++axis)
        report.shape[static_cast<std::size_t>(axis)] = shape[axis];
    if (options.probe)
        report.machine = probe_machine(compute.threads);
    release_unused_memory();
    (void)reset_peak_resident();

    const Tensor input = random_input(shape, options.seed);
    const auto start = Clock::now();
    MFRES_TRY(compile.pool, ThreadPool::create(compute));
    BoxPredictor network(model.variant, model.weights, *backend,
                         {.compile = std::move(compile), .threads = compute.threads});
    MFRES_CHECK(network.compile(options.size));
    report.compile_ms = milliseconds_since(start);
    Executable& executable = *network.executable();
    report.planned_peak_mib = mib(executable.peak_bytes());
    OpTimes ops(executable.chosen().size());
    MFRES_CHECK(run_all(executable, input, options, progress, ops, report));
    report.barriers = executable.barriers() / (options.warm_up_runs + options.runs);
    report.peak_rss_mib = mib(peak_resident_bytes());
    report.median_ms = median(report.times_ms);
    const auto [least, most] = std::minmax_element(report.times_ms.begin(), report.times_ms.end());
    report.min_ms = *least;
    report.max_ms = *most;
    fill_ops(executable, ops, graph, report);

    const auto output = executable.output(0);
    std::vector<std::uint8_t> classes(static_cast<std::size_t>(output.shape.elements() / output.shape[1]));
    MFRES_CHECK(argmax(output, classes, compute.threads)); // also checks that all logits are finite
    if (!options.input.empty())
        MFRES_CHECK(write_npy(options.input, view(input)));
    if (!options.output.empty())
        MFRES_CHECK(write_npy(options.output, output));
    return report;
}

} // namespace

Result<BenchmarkReport> benchmark(const std::filesystem::path& model, const BenchmarkOptions& options,
                                  const Progress& progress) {
    return guarded(model, [&] { return run_benchmark(model, options, progress); });
}

Result<std::int64_t> planned_activations(std::string_view network, const std::array<std::int64_t, 3>& size,
                                         std::string_view backend) {
    return guarded("network", [&]() -> Result<std::int64_t> {
        MFRES_TRY(const Variant variant, parse_variant(network));
        MFRES_TRY(const Graph graph, build_network(variant, size));
        MFRES_TRY(const Backend* engine, find_backend(backend));
        return engine->planned_activations(graph);
    });
}

} // namespace mfres
