// SPDX-License-Identifier: MIT
// The machine probe: rates by dedicated loops, and times of the ops of calibration networks as a backend runs them.
#include "backends/backend.h"
#include "benchmark/op_extents.h"
#include "benchmark/probe_rates.h"
#include "core/guard.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/thread_pool.h"
#include "graph/rewrite.h"
#include "model/model.h"
#include "networks/registry.h"

#include <mfres/machine.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <tuple>
#include <utility>

namespace mfres {

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
}

/// A network whose ops are timed: widths that bracket those of variants, at sizes that bracket caches.
struct Calibration {
    const char* variant;
    std::int64_t edge;
};

// clang-format off
constexpr std::array<Calibration, 8> calibrations = {{
    {"mf-res2net", 128},
    {"mf-res2net", 64},
    {R"({"network": "mf-res2net", "widths": [8, 32, 56, 120], "decoder": [40, 16, 8, 8]})", 128},
    {R"({"network": "mf-res2net", "widths": [8, 32, 56, 120], "decoder": [40, 16, 8, 8]})", 64},
    {R"({"network": "mf-res2net", "widths": [24, 96, 168, 320], "decoder": [120, 48, 24, 16]})", 96},
    {R"({"network": "mf-res2net", "widths": [16, 48, 96, 176], "decoder": [64, 24, 16, 8], "splits": 2})", 96},
    {R"({"network": "no-new-net", "widths": [8, 16, 32, 64]})", 64},
    {"dmfnet", 32},
}};
// clang-format on

constexpr std::array<std::int64_t, 6> working_sets = {std::int64_t{32} << 10U, std::int64_t{512} << 10U,
                                                      std::int64_t{4} << 20U,  std::int64_t{16} << 20U,
                                                      std::int64_t{64} << 20U, std::int64_t{192} << 20U};

class Probe {
  public:
    Probe(const ProbeOptions& options, const Progress& progress) : options_(options), progress_(progress) {}

    Result<Machine> run() {
        if (options_.runs < 1 || options_.runs > 1000)
            return Error{ErrorCode::invalid_argument, text("runs is ", options_.runs, ", allowed is 1 to 1000"),
                         "runs"};
        const std::vector<Precision> wanted = options_.precisions.empty()
                                                  ? std::vector{Precision::f32, Precision::bf16, Precision::int8}
                                                  : options_.precisions;
        const auto precisions = [&](const Backend& backend) {
            return std::count_if(wanted.begin(), wanted.end(),
                                 [&](Precision precision) { return runs(backend, precision); });
        };
        std::ptrdiff_t most = 0;
        for (const Backend* const backend : backends())
            if (backend != backends().back() && backend->available())
                most = std::max(most, precisions(*backend));
        MFRES_TRY(backend_,
                  find_backend(options_.backend, [&](const Backend& backend) { return precisions(backend) == most; }));
        MFRES_TRY(const std::vector<int> threads, thread_counts());
        machine_.name = options_.name;
        machine_.measured = true;
        machine_.backend = backend_->name();
        machine_.engine = backend_->description();
        machine_.cores = resolve_threads(0);
        machine_.source = "measured by mfres probe";
        total_ = threads.size() * wanted.size() * calibrations.size();
        for (const int count : threads) {
            measure_rates(count);
            for (const Precision precision : wanted)
                MFRES_CHECK(measure_precision(precision, count));
            add_overhead(count);
        }
        return std::move(machine_);
    }

  private:
    Result<std::vector<int>> thread_counts() const {
        std::vector<int> counts = options_.threads;
        if (counts.empty())
            counts = {1, resolve_threads(0)};
        std::sort(counts.begin(), counts.end());
        counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
        if (counts.front() < 1 || counts.back() > CompileOptions::max_threads)
            return Error{ErrorCode::invalid_argument,
                         text("threads are ", counts.front(), " to ", counts.back(), ", allowed is 1 to ",
                              CompileOptions::max_threads),
                         "threads"};
        return counts;
    }

    void measure_rates(int threads) {
        for (const std::int64_t bytes : working_sets)
            machine_.copies.push_back({threads, bytes, probe_copy(bytes, threads)});
    }

    /// A precision that nobody asked for is left out where the backend does not have it.
    Status measure_precision(Precision precision, int threads) {
        for (const Calibration& calibration : calibrations) {
            if (progress_ && !progress_("probe", static_cast<double>(done_++) / static_cast<double>(total_)))
                return Error{ErrorCode::interrupted, "the probe was stopped on request", {}};
            const Status timed = time_network(calibration, precision, threads);
            const bool missing = !timed && timed.error().code == ErrorCode::operation_unsupported;
            if (missing && options_.precisions.empty())
                return {};
            MFRES_CHECK(timed);
        }
        machine_.peaks.push_back({precision, threads, probe_gmacs(precision, threads)});
        keep_samples(precision, threads);
        return {};
    }

    Status time_network(const Calibration& calibration, Precision precision, int threads) {
        MFRES_TRY(const Variant variant, parse_variant(calibration.variant));
        MFRES_TRY(const Graph graph, build_network(variant, {calibration.edge, calibration.edge, calibration.edge}));
        MFRES_TRY(const Model model, init_model(variant, 1));
        const Graph form = inference_form(graph);
        CompileOptions compile;
        compile.threads = threads;
        compile.precision = precision;
        if (precision == Precision::int8)
            compile.ranges = made_up_ranges(form);
        MFRES_TRY(compile.pool, ThreadPool::create({.threads = threads}));
        MFRES_TRY(const auto executable, backend_->compile(graph, model.weights, compile));
        const auto chosen = executable->chosen();
        const auto ops = extents_of_ops(form);
        Tensor input(graph.node(graph.input()).shape);
        fill_normal(input.values(), 1);
        std::vector<std::vector<double>> times(chosen.size());
        std::vector<double> copies;
        std::vector<double> totals;
        for (int run = 0; run <= options_.runs; ++run) {
            const auto start = Clock::now();
            auto last = start;
            copy(view(std::as_const(input)), executable->input());
            last = Clock::now();
            if (run > 0)
                copies.push_back(milliseconds(start, last));
            MFRES_CHECK(executable->run([&](int done, int total) {
                const auto at = Clock::now();
                if (run > 0 && total == static_cast<int>(times.size()))
                    times[static_cast<std::size_t>(done) - 1].push_back(milliseconds(last, at));
                last = at;
                return true;
            }));
            if (run > 0)
                totals.push_back(milliseconds(start, Clock::now()));
        }
        if (std::none_of(times.begin(), times.end(), [](const auto& op) { return op.empty(); }))
            factors_.push_back(run_factor(totals, copies, times));
        const std::int64_t bytes = input.elements() * 4;
        collect({OpClass::elementwise, 0, 2 * bytes, 1, 1}, copies);
        std::map<std::string, const OpExtents*, std::less<>> by_name;
        for (const NamedExtents& op : ops)
            by_name.emplace(op.name, &op.extents);
        for (std::size_t i = 0; i < chosen.size(); ++i)
            if (const auto found = by_name.find(chosen[i].node); found != by_name.end() && !times[i].empty())
                collect(*found->second, times[i]);
        return {};
    }

    /// For each node whether its value is never negative: a ReLU, and what only moves or adds such values.
    static std::vector<bool> never_negative(const Graph& graph) {
        std::vector<bool> positive;
        for (const Node& node : graph.nodes()) {
            const OpKind kind = node.kind();
            const bool passes = kind == OpKind::add || kind == OpKind::concat || kind == OpKind::slice ||
                                kind == OpKind::upsample || kind == OpKind::max_pool;
            positive.push_back(kind == OpKind::relu ||
                               (passes && std::all_of(node.inputs.begin(), node.inputs.end(), [&](NodeId input) {
                                    return positive[static_cast<std::size_t>(input)];
                                })));
        }
        return positive;
    }

    static bool runs(const Backend& backend, Precision precision) {
        const auto variant = parse_variant(calibrations.front().variant);
        const auto graph = variant ? parameter_graph(*variant) : Result<Graph>(variant.error());
        if (!graph)
            return false;
        CompileOptions options;
        options.precision = precision;
        if (precision == Precision::int8)
            options.ranges = made_up_ranges(inference_form(*graph));
        return backend.unsupported(*graph, options).empty();
    }

    /// Ranges for all convolutions but the first and the last one, as mfres convert leaves them in f32.
    static ActivationRanges made_up_ranges(const Graph& form) {
        const std::vector<bool> positive = never_negative(form);
        std::vector<const Node*> convolutions;
        for (const Node& node : form.nodes())
            if (node.kind() == OpKind::conv)
                convolutions.push_back(&node);
        ActivationRanges ranges;
        for (std::size_t i = 1; i + 1 < convolutions.size(); ++i) {
            const bool zero = positive[static_cast<std::size_t>(convolutions[i]->inputs[0])];
            ranges[convolutions[i]->name] = {zero ? 0.0F : -4.0F, 4.0F};
        }
        return ranges;
    }

    static double median(std::vector<double> values) {
        const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
        std::nth_element(values.begin(), middle, values.end());
        return *middle;
    }

    static double run_factor(const std::vector<double>& totals, const std::vector<double>& copies,
                             const std::vector<std::vector<double>>& times) {
        double ops = median(copies);
        for (const std::vector<double>& op : times)
            ops += median(op);
        return ops > 0.0 ? median(totals) / ops : 1.0;
    }

    /// Ops of equal extents are one sample: the median of all their times.
    void collect(const OpExtents& extents, const std::vector<double>& times) {
        auto& all =
            times_[{static_cast<int>(extents.op_class), extents.macs, extents.bytes, extents.channels, extents.voxels}];
        all.insert(all.end(), times.begin(), times.end());
    }

    void keep_samples(Precision precision, int threads) {
        for (const auto& [key, times] : times_) {
            const auto& [op_class, macs, bytes, channels, voxels] = key;
            machine_.ops.push_back(
                {precision, threads, {static_cast<OpClass>(op_class), macs, bytes, channels, voxels}, median(times)});
        }
        times_.clear();
        if (!factors_.empty())
            machine_.run_factors.push_back({precision, threads, median(factors_)});
        factors_.clear();
    }

    /// Half of the shortest time of any op with this number of threads.
    void add_overhead(int threads) {
        double least = 1e9;
        for (const OpSample& sample : machine_.ops)
            if (sample.threads == threads)
                least = std::min(least, sample.ms);
        if (least < 1e9)
            machine_.overheads.push_back({threads, least / 2 * 1e3});
    }

    const ProbeOptions& options_;
    const Progress& progress_;
    const Backend* backend_ = nullptr;
    Machine machine_;
    std::map<std::tuple<int, std::int64_t, std::int64_t, std::int64_t, std::int64_t>, std::vector<double>> times_;
    std::vector<double> factors_; ///< one per calibration network
    std::size_t done_ = 0;
    std::size_t total_ = 1;
};

} // namespace

Result<Machine> probe(const ProbeOptions& options, const Progress& progress) {
    return guarded("probe", [&] { return Probe(options, progress).run(); });
}

} // namespace mfres
