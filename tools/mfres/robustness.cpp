// SPDX-License-Identifier: MIT
#include "cli.h"

#include "core/file.h"
#include "core/try.h"

#include <mfres/robustness.h>

#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Labels every case again after changes that say nothing about the patient (moved, cropped, mirrored, other\n"
    "intensities, a bias field, noise) and tells how much the labels change, beside the reference where there is one.\n"
    "The disturbed cases lie in a folder of their own in the system's temporary one and are removed at the end.\n"
    "Research use only: not a medical device.";

constexpr const char* examples = "Examples:\n"
                                 "  mfres robustness --data FOLDER_OF_CASES\n"
                                 "  mfres robustness --model m.safetensors --data FOLDER_OF_CASES --out robustness.md\n"
                                 "  mfres robustness --data FOLDER_OF_CASES --json --quiet\n";

Options make_options() {
    Options options("robustness [--model FILE] --data FOLDER", about, examples);
    options.add()("data", po::value<std::string>()->required(), "folder of cases, or a training cache")(
        "model,m", po::value<std::string>(),
        "model file, or a name of weights that come with mfres (mf-res2net-half); default: mf-res2net")(
        "out,o", po::value<std::string>(), "also write the table to this file (.md)")(
        "seed", po::value<std::uint64_t>()->default_value(1), "of noise, bias fields and factors")(
        "backend", po::value<std::string>()->default_value("auto"),
        "auto, or one that 'mfres help' lists")("threads", po::value<int>()->default_value(0), "0 = all processors")(
        "use", po::value<std::string>()->default_value("auto"),
        "sform or qform: which to believe when they disagree")("resample", "accept other voxel sizes")(
        "force", "overwrite --out")("json", "print every case as JSON")("quiet,q", "no progress");
    add_mirror_option(options);
    add_least_options(options);
    return options;
}

Result<RobustnessReport> measure(const Options& options, ProgressDisplay& display) {
    MFRES_TRY(const auto cases, CaseSet::find(options.get<std::string>("data")));
    MFRES_TRY(const auto model, model_path(options));
    MFRES_TRY(Segmenter segmenter, Segmenter::open(model, {.backend = options.get<std::string>("backend"),
                                                           .threads = options.get<int>("threads"),
                                                           .mirror = options.get_or_default<std::string>("mirror")}));
    RobustnessOptions request;
    request.seed = options.get<std::uint64_t>("seed");
    request.affine = options.get<std::string>("use");
    request.resample = options.has("resample");
    request.threads = options.get<int>("threads");
    read_least_options(options, request);
    return measure_robustness(segmenter, cases, request,
                              [&](std::string_view stage, double done) { return display.update(stage, done); });
}

} // namespace

int robustness(const std::vector<std::string>& arguments) {
    Options options = make_options();
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    const std::filesystem::path out = options.get_or_default<std::string>("out");
    if (const auto free = check_output(out, options.has("force")); !free)
        return fail(free.error(), json);
    watch_signals();
    ProgressDisplay display(options.has("quiet"));
    const auto report = measure(options, display);
    display.clear();
    if (!report)
        return fail(report.error(), json);
    const std::string table = to_markdown(*report);
    if (!out.empty())
        if (const auto written = write_file_atomically(out, table, options.has("force")); !written)
            return fail(written.error(), json);
    std::cout << (json ? to_json(*report) + "\n" : table);
    return exit_ok;
}

} // namespace mfres::cli
