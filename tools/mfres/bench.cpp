// SPDX-License-Identifier: MIT
#include "option_groups.h"
#include "run_and_print.h"

#include "core/try.h"

#include <mfres/benchmark.h>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Times a model's network on random input: median, minimum and maximum of several runs, memory, and the lower bound\n"
    "that follows from the machine's peak rates. --profile lists every op with its bytes and multiply-adds.\n"
    "Times depend on the load of the machine: compare ratios of alternating runs, not times of different days.";

constexpr const char* examples = "Examples:\n"
                                 "  mfres bench\n"
                                 "  mfres bench --model m.safetensors --size 128,128,128 --threads 2 --runs 10\n"
                                 "  mfres bench --precision bf16\n"
                                 "  mfres bench --backend reference --size 32 --runs 3\n"
                                 "  mfres bench --profile --json\n";

Options make_options() {
    Options options("bench [--model FILE] [--size X,Y,Z]", about, examples);
    add_model_option(options);
    // clang-format off
    options.add()
        ("size", po::value<std::string>()->default_value("128"), "input voxels: 128 or 240,240,160")
        ("runs", po::value<int>()->default_value(10), "timed runs")
        ("warm-up", po::value<int>()->default_value(1), "runs before them that are not timed")
        ("seed", po::value<std::uint64_t>()->default_value(1), "of the input")
        ("profile", "time every op")
        ("no-probe", "do not measure the machine's peak rates")
        ("save-input", po::value<std::string>(), "write the input to this .npy file")
        ("save-output", po::value<std::string>(), "write the logits to this .npy file");
    // clang-format on
    add_inference_options(options);
    add_report_options(options);
    return options;
}

Result<BenchmarkReport> measure(const Options& options, ProgressDisplay& display) {
    BenchmarkOptions chosen;
    MFRES_TRY(chosen.size, parse_size(options.get<std::string>("size")));
    MFRES_TRY(chosen.compute, compute_options(options));
    chosen.runs = options.get<int>("runs");
    chosen.warm_up_runs = options.get<int>("warm-up");
    chosen.seed = options.get<std::uint64_t>("seed");
    chosen.profile = options.has("profile");
    chosen.probe = !options.has("no-probe");
    chosen.input = options.get_or_default<std::string>("save-input");
    chosen.output = options.get_or_default<std::string>("save-output");
    MFRES_CHECK(check_ending("save-input", chosen.input, {".npy"}));
    MFRES_CHECK(check_ending("save-output", chosen.output, {".npy"}));
    MFRES_TRY(const auto model, model_path(options));
    return benchmark(model, chosen, display.progress());
}

} // namespace

int bench(const std::vector<std::string>& arguments) {
    Options options = make_options();
    if (const auto done = options.parse(arguments))
        return *done;
    const auto report = with_progress(options, [&](ProgressDisplay& display) { return measure(options, display); });
    return print_report(options, report, [](const BenchmarkReport& of) { return to_text(of); });
}

} // namespace mfres::cli
