// SPDX-License-Identifier: MIT
#include "cli.h"

#include <mfres/benchmark.h>

#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Times a model's network on random input: median, minimum and maximum of several runs, memory, and the lower bound\n"
    "that follows from the machine's peak rates. --profile lists every op with its bytes and multiply-adds.\n"
    "Times depend on the load of the machine: compare ratios of alternating runs, not times of different days.";

constexpr const char* examples = "Examples:\n"
                                 "  mfres bench\n"
                                 "  mfres bench --model m.safetensors --shape 128,128,128 --threads 2 --runs 10\n"
                                 "  mfres bench --precision bf16\n"
                                 "  mfres bench --backend reference --shape 32 --runs 3\n"
                                 "  mfres bench --profile --format json\n";

} // namespace

int bench(const std::vector<std::string>& arguments) {
    Options options("bench [--model FILE] [--shape X,Y,Z]", about, examples);
    // clang-format off
    options.add()
        ("model,m", po::value<std::string>(), "model file, or a name of weights that come with mfres (mf-res2net-half); default: mf-res2net")
        ("shape", po::value<std::string>()->default_value("128"), "input voxels: 128 or 240,240,160")
        ("backend", po::value<std::string>()->default_value("auto"), "auto, or one that 'mfres help' lists")
        ("threads", po::value<int>()->default_value(0), "0 = all processors")
        ("runs", po::value<int>()->default_value(10), "timed runs")
        ("warm-up", po::value<int>()->default_value(1), "runs before them that are not timed")
        ("seed", po::value<std::uint64_t>()->default_value(1), "of the input")
        ("profile", "time every op")
        ("waiting", po::value<std::string>()->default_value("auto"), "of threads: auto, passive or active")
        ("processors", po::value<std::string>(), "to pin threads to, e.g. 0,2")
        ("no-probe", "do not measure the machine's peak rates")
        ("save-input", po::value<std::string>(), "write the input to this .npy file")
        ("save-output", po::value<std::string>(), "write the logits to this .npy file")
        ("format,f", po::value<std::string>()->default_value("text"), "text or json")
        ("quiet,q", "no progress");
    // clang-format on
    add_arithmetic_options(options);
    if (const auto done = options.parse(arguments))
        return *done;
    const std::string& format = options.get<std::string>("format");
    if (format != "text" && format != "json")
        return usage_error("--format '" + format + "' is neither text nor json");
    const bool as_json = format == "json";
    BenchmarkOptions chosen;
    const auto size = parse_size(options.get<std::string>("shape"));
    if (!size)
        return fail(size.error(), as_json);
    chosen.size = *size;
    chosen.backend = options.get<std::string>("backend");
    chosen.threads = options.get<int>("threads");
    read_arithmetic(options, chosen);
    chosen.runs = options.get<int>("runs");
    chosen.warm_up_runs = options.get<int>("warm-up");
    chosen.seed = options.get<std::uint64_t>("seed");
    chosen.profile = options.has("profile");
    chosen.probe = !options.has("no-probe");
    chosen.waiting = options.get<std::string>("waiting");
    const auto processors = processors_of(options);
    if (!processors)
        return fail(processors.error(), as_json);
    chosen.processors = *processors;
    chosen.input = options.get_or_default<std::string>("save-input");
    chosen.output = options.get_or_default<std::string>("save-output");
    const auto model = model_path(options);
    if (!model)
        return fail(model.error(), as_json);

    watch_signals();
    ProgressDisplay display(options.has("quiet"));
    const auto report =
        benchmark(*model, chosen, [&](std::string_view stage, double done) { return display.update(stage, done); });
    display.clear();
    if (!report)
        return fail(report.error(), as_json);
    std::cout << (as_json ? to_json(*report) + "\n" : to_text(*report));
    return exit_ok;
}

} // namespace mfres::cli
