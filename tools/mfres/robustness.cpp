// SPDX-License-Identifier: MIT
#include "option_groups.h"
#include "run_and_print.h"

#include "core/file.h"
#include "core/try.h"
#include "paper/robustness.h"

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
    // clang-format off
    options.add()
        ("data", po::value<std::string>()->required(), "folder of cases, or a training cache")
        ("out,o", po::value<std::string>(), "also write the table to this file (.md)")
        ("seed", po::value<std::uint64_t>()->default_value(1), "of noise, bias fields and factors");
    // clang-format on
    add_label_options(options, "auto");
    add_segmenter_options(options);
    add_case_options(options);
    add_small_part_options(options);
    add_output_options(options);
    return options;
}

Result<RobustnessReport> measure(const Options& options, ProgressDisplay& display) {
    MFRES_TRY(const SegmenterOptions setup, segmenter_options(options));
    RobustnessOptions request;
    request.seed = options.get<std::uint64_t>("seed");
    MFRES_CHECK(read_case_options(options, request.affine, request.resample));
    MFRES_TRY(request.label_scheme, label_choice(options));
    read_small_part_options(options, request);
    request.threads = setup.compute.threads;
    MFRES_TRY(const auto cases, CaseSet::find(options.get<std::string>("data")));
    MFRES_TRY(const auto model, model_path(options));
    MFRES_TRY(Segmenter segmenter, Segmenter::open(model, setup));
    return measure_robustness(segmenter, cases, request, display.progress());
}

/// The report, after its table was written to the file of --out.
Result<RobustnessReport> written_report(const Options& options, ProgressDisplay& display) {
    const std::filesystem::path out = options.get_or_default<std::string>("out");
    MFRES_CHECK(check_ending("out", out, {".md"}));
    const bool force = options.has("force");
    MFRES_CHECK(check_output(out, force));
    MFRES_TRY(RobustnessReport report, measure(options, display));
    if (!out.empty())
        MFRES_CHECK(write_file_atomically(out, to_markdown(report), force));
    return report;
}

} // namespace

int robustness(const std::vector<std::string>& arguments) {
    Options options = make_options();
    if (const auto done = options.parse(arguments))
        return *done;
    const auto report =
        with_progress(options, [&](ProgressDisplay& display) { return written_report(options, display); });
    return print_report(options, report, [](const RobustnessReport& of) { return to_markdown(of); });
}

} // namespace mfres::cli
