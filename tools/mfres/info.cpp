// SPDX-License-Identifier: MIT
#include "cache_text.h"
#include "core/json_value.h"
#include "option_groups.h"
#include "run_and_print.h"

#include "backends/backend.h"
#include "core/thread_pool.h"
#include "core/try.h"
#include "graph/rewrite.h"
#include "inference/precision.h"
#include "model/describe.h"
#include "model/model.h"

#include <mfres/predictor.h>

#include <algorithm>
#include <cstdio>

#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Shows the content of a model file, or of any safetensors file: network, metadata and tensors. Verifies the recorded\n"
    "SHA-256 of the weights. Of a training cache it lists the cases, and checks every block. A name that no file has is that\n"
    "of weights that come with mfres, here as everywhere a model is named; mfres complexity NAME describes a network.";

constexpr const char* examples =
    "Examples:\n  mfres info mf-res2net\n  mfres info m.safetensors\n  mfres info m.safetensors --json\n"
    "  mfres info train.mfcache\n"
    "  mfres info m.safetensors --plan --size 144,176,144 --threads 2\n";

/// How a model runs: ops before and after rewriting, those that a backend runs, and memory.
struct Plan {
    std::string backend;
    std::vector<std::pair<std::string, std::array<std::int64_t, 2>>> operations; ///< counts before and after rewriting
    std::vector<Chosen> ops;
    std::int64_t weights = 0, activations = 0, peak = 0; ///< bytes
};

void count(const Graph& graph, std::size_t when, Plan& plan) {
    for (NodeId id = 0; id < graph.size(); ++id) {
        const std::string kind(name(graph.node(id).kind()));
        auto entry = std::find_if(plan.operations.begin(), plan.operations.end(),
                                  [&](const auto& operation) { return operation.first == kind; });
        if (entry == plan.operations.end())
            entry = plan.operations.insert(entry, {kind, {}});
        ++entry->second[when];
    }
}

Result<Plan> plan_of(const std::filesystem::path& file, const Options& options) {
    MFRES_TRY(const Model model, load_model(file));
    MFRES_TRY(const auto size, parse_size(options.get<std::string>("size")));
    MFRES_TRY(const ComputeOptions compute, compute_options(options));
    MFRES_TRY(const Graph graph, build_network(model.variant, size));
    MFRES_TRY(auto chosen, choose_backend(model, compute));
    const Backend* const backend = chosen.backend;
    CompileOptions& compile = chosen.options;
    MFRES_TRY(compile.pool, ThreadPool::create(compute));
    MFRES_TRY(const auto executable, backend->compile(graph, model.weights, compile));
    Plan plan;
    plan.backend = backend->description();
    count(graph, 0, plan);
    count(inference_form(graph), 1, plan);
    plan.ops = executable->chosen();
    for (const auto& [key, tensor] : model.weights)
        plan.weights += tensor.elements() * static_cast<std::int64_t>(sizeof(float));
    plan.activations = backend->planned_activations(graph);
    plan.peak = executable->peak_bytes();
    return plan;
}

/// Multiply-adds of each implementation, the most first. Ops without any are left out.
std::vector<std::pair<std::string, std::int64_t>> by_implementation(const std::vector<Chosen>& ops) {
    std::vector<std::pair<std::string, std::int64_t>> sums;
    for (const Chosen& op : ops) {
        if (op.cost.macs == 0)
            continue;
        auto entry =
            std::find_if(sums.begin(), sums.end(), [&](const auto& sum) { return sum.first == op.implementation; });
        if (entry == sums.end())
            entry = sums.insert(entry, {op.implementation, 0});
        entry->second += op.cost.macs;
    }
    std::stable_sort(sums.begin(), sums.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    return sums;
}

std::string plan_json(const Plan& plan) {
    OrderedJson json = {{"engine", plan.backend},
                        {"weight_bytes", plan.weights},
                        {"activation_bytes", plan.activations},
                        {"peak_bytes", plan.peak}};
    for (const auto& [kind, counts] : plan.operations)
        json["operations"][kind] = {{"built", counts[0]}, {"run", counts[1]}};
    json["macs_by_implementation"] = OrderedJson::object();
    for (const auto& [implementation, macs] : by_implementation(plan.ops))
        json["macs_by_implementation"][implementation] = macs;
    json["ops"] = OrderedJson::array();
    for (const Chosen& op : plan.ops)
        json["ops"].push_back({{"node", op.node},
                               {"operation", op.operation},
                               {"implementation", op.implementation},
                               {"bytes", op.cost.bytes},
                               {"macs", op.cost.macs}});
    return json.dump(2) + "\n";
}

std::string plan_text(const Plan& plan) {
    constexpr double mib = 1024.0 * 1024.0;
    std::array<char, 512> line{};
    std::string lines = "\noperations     built    run\n";
    const auto append = [&](const char* pattern, auto... values) {
        std::snprintf(line.data(), line.size(), pattern, values...);
        lines += line.data();
    };
    for (const auto& [kind, counts] : plan.operations)
        append("  %-18s %5lld  %5lld\n", kind.c_str(), static_cast<long long>(counts[0]),
               static_cast<long long>(counts[1]));
    append("\n%zu ops by %s\n        MB      MMAC  op\n", plan.ops.size(), plan.backend.c_str());
    for (const Chosen& op : plan.ops)
        append("  %8.2f  %8.1f  %s (%s, %s)\n", static_cast<double>(op.cost.bytes) / 1e6,
               static_cast<double>(op.cost.macs) / 1e6, op.node.c_str(), op.operation.c_str(),
               op.implementation.c_str());
    const auto sums = by_implementation(plan.ops);
    std::int64_t macs = 0;
    for (const auto& sum : sums)
        macs += sum.second;
    if (macs > 0)
        lines += "\nmultiply-adds by implementation\n      MMAC   share\n";
    for (const auto& [implementation, sum] : sums)
        append("  %8.1f  %5.1f %%  %s\n", static_cast<double>(sum) / 1e6,
               100.0 * static_cast<double>(sum) / static_cast<double>(macs), implementation.c_str());
    append("\nmemory: %.1f MiB of weights in the file; %.1f MiB peak of activations;\n"
           "%.1f MiB with the backend's weights and workspace\n",
           static_cast<double>(plan.weights) / mib, static_cast<double>(plan.activations) / mib,
           static_cast<double>(plan.peak) / mib);
    return lines;
}

int show_cache(const std::filesystem::path& file, const Options& options) {
    const auto cache = with_progress(options, [&](ProgressDisplay& display) { return checked_cache(file, display); });
    if (!cache)
        return fail(cache.error(), options.has("json"));
    print_cache(file, **cache, options.has("json"));
    return exit_ok;
}

} // namespace

int info(const std::vector<std::string>& arguments) {
    Options options("info MODEL|FILE [--plan]", about, examples);
    // clang-format off
    options.add()
        ("file", po::value<std::string>()->required(), "the file, or the name of weights that come with mfres (also without --file)")
        ("plan", "show how a model runs: rewritten ops, the ops of the backend, memory")
        ("size", po::value<std::string>()->default_value("128"), "of --plan: input voxels, 128 or 240,240,160");
    // clang-format on
    add_inference_options(options); // of --plan
    add_report_options(options);
    options.positional("file");
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    const auto found = find_model(options.get<std::string>("file"));
    if (!found)
        return fail(found.error(), json);
    const std::filesystem::path& file = *found;
    if (options.has("plan")) {
        const auto plan = plan_of(file, options);
        if (!plan)
            return fail(plan.error(), json);
        std::cout << (json ? plan_json(*plan) : plan_text(*plan).substr(1));
        return exit_ok;
    }
    if (is_cache(file))
        return show_cache(file, options);
    const auto description = describe(file);
    if (!description)
        return fail(description.error(), json);
    std::cout << (json ? info_json(*description) : info_text(*description));
    return description->rejection ? fail(*description->rejection) : exit_ok;
}

} // namespace mfres::cli
