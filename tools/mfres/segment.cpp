// SPDX-License-Identifier: MIT
#include "segment.h"

#include "option_groups.h"
#include "run_and_print.h"

#include "core/file.h"
#include "core/try.h"
#include "imaging/label_table.h"
#include "inference/predictor.h"
#include "model/describe.h"

#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Segments brain tumours: necrotic core, oedema and enhancing tumour, from the four MRI contrasts of one patient,\n"
    "co-registered and skull-stripped, about 1 mm voxels. The label map has the grid and orientation of the input.\n"
    "Anything doubtful about the images is rejected with a reason and nothing is written.\n"
    "Research use only: not a medical device.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres segment --case BraTS19_CBICA_AAB_1 --out labels.nii.gz --preview labels.png\n"
    "  mfres segment --case BraTS19_CBICA_AAB_1 --out labels.nii.gz --html labels.html\n"
    "  mfres segment --model m.safetensors --t1 a.nii --t1ce b.nii --t2 c.nii --flair d.nii --out labels.nii.gz\n"
    "  mfres segment --model m.safetensors --data MICCAI_BraTS_2019_Data_Validation --out results/\n"
    "  mfres segment --data FOLDER_OF_CASES --out results/ --skip-existing\n"
    "  mfres segment --data BIDS_FOLDER --out derivatives/mfres --layout bids\n"
    "  mfres segment --model m.safetensors --case DIR --out l.nii.gz --backend reference --json --quiet\n\n"
    "With --data every case is tried. One that is rejected has a row with its code in volumes.csv and summary.json, and the\n"
    "exit code is that of the first rejection: 0 means that all cases were segmented.\n";

Options make_options() {
    Options options("segment [--model FILE] (--case DIR | --t1 F --t1ce F --t2 F --flair F | --data DIR) --out FILE",
                    about, examples);
    const std::string layouts = "with --data, of the folder --out: " + names_of(folder_layouts) +
                                " (derivatives: sub-X/anat/sub-X_desc-tumour_dseg.nii.gz)";
    // clang-format off
    options.add()
        ("case", po::value<std::string>(), "folder of one case, files named as BraTS names them")
        ("t1", po::value<std::string>(), "T1-weighted volume (.nii, .nii.gz, .hdr/.img)")
        ("t1ce", po::value<std::string>(), "T1-weighted with contrast agent")
        ("t2", po::value<std::string>(), "T2-weighted")
        ("flair", po::value<std::string>(), "T2 FLAIR")
        ("data", po::value<std::string>(), "folder of many cases; --out is then a folder, which also gets volumes.csv and summary.json")
        ("out,o", po::value<std::string>()->required(), "label map to write (.nii or .nii.gz)")
        ("preview", po::value<std::string>(), "picture to write (.png); with --data: one per case into this folder")
        ("report", po::value<std::string>(), "JSON report to write; with --data: one per case into this folder")
        ("html", po::value<std::string>(), "page to write (.html) that shows the case in a browser: slices to scroll, labels on and off, volumes, warnings; with --data: one per case into this folder")
        ("probabilities", po::value<std::string>(), "probability of each class to write (.nii or .nii.gz, axes x, y, z, class); with --data: one per case into this folder")
        ("probabilities-type", po::value<std::string>()->default_value("float32"), "float32 (rounded to float16), or uint8 in steps of 1/255")
        ("label-table", po::value<std::string>(), "names and colours of the labels to write, for ITK-SNAP (.txt or .label) or 3D Slicer (.ctbl)")
        ("skip-existing", "with --data: leave out cases whose label map is there, e.g. of a run that was interrupted")
        ("layout", po::value<std::string>()->default_value("flat"), layouts.c_str())
        ("verbose", "also tell which implementation the backend chose for each op")
        ("preview-uncertainty", "draw where tumour is as likely as not, and where the network is unsure");
    // clang-format on
    add_label_options(options, "the model's");
    add_segmenter_options(options);
    add_case_options(options);
    add_small_part_options(options);
    add_config_option(options);
    add_output_options(options);
    return options;
}

Result<CaseFiles> named_case(const Options& options) {
    if (options.has("case"))
        return find_case(options.get<std::string>("case"), true);
    CaseFiles files;
    for (const Modality modality : modalities) {
        const std::string option(name(modality));
        auto& file = files.modalities[static_cast<std::size_t>(modality)];
        file = options.get_or_default<std::string>(option.c_str());
        if (files.id.empty() && !file.empty())
            files.id = file.parent_path().filename().string();
        if (files.id.empty())
            files.id = file.filename().string();
    }
    return files;
}

} // namespace

Status check_apart(const SegmentOutputs& outputs, const CaseFiles& files) {
    const std::array<OutputFile, 5> all = {{{"label map", outputs.labels},
                                            {"probabilities", outputs.probabilities},
                                            {"picture", outputs.preview},
                                            {"page", outputs.html},
                                            {"report", outputs.report}}};
    return check_outputs_apart(all, files.modalities);
}

namespace {

/// An error of a file that is written after the label map: the message says what there is.
Status with_written(Status status, std::string_view what, const SegmentOutputs& outputs) {
    if (status)
        return {};
    std::string written;
    for (const auto& path : {outputs.labels, outputs.probabilities, outputs.preview})
        if (!path.empty())
            written += text(written.empty() ? "" : ", ", path.string());
    return Error{status.error().code,
                 text("the ", what, " was not written, all else was (", written, "): ", status.error().message),
                 status.error().where};
}

} // namespace

std::string report_text(const SegmentReport& report, const Options& options) {
    return with_provenance(options, to_json(report, options.has("verbose")));
}

Status write_label_table(Segmenter& segmenter, const Options& options) {
    if (!options.has("label-table"))
        return {};
    MFRES_TRY(const std::string wanted, label_choice(options));
    MFRES_TRY(const LabelCoding coding, segmenter.predictor().inside().scheme(wanted));
    const std::filesystem::path path = options.get<std::string>("label-table");
    const bool slicer = check_ending("label-table", path, {".ctbl"}).ok();
    return write_file_atomically(path, slicer ? slicer_colours(coding) : itk_snap_labels(coding),
                                 options.has("force") || options.has("skip-existing"));
}

Result<SegmentReport> segment_one(Segmenter& segmenter, const CaseFiles& files, const SegmentOutputs& outputs,
                                  const Options& options, ProgressDisplay& display) {
    const bool force = options.has("force");
    MFRES_CHECK(check_output(outputs.report, force));
    MFRES_CHECK(check_output(outputs.html, force));
    SegmentOptions request;
    MFRES_CHECK(read_case_options(options, request.affine, request.resample));
    MFRES_TRY(request.label_scheme, label_choice(options));
    read_small_part_options(options, request);
    request.output = outputs.labels;
    request.return_labels = false;
    request.preview = outputs.preview;
    request.overwrite = force;
    request.probabilities = outputs.probabilities;
    MFRES_TRY(request.probability_format, parse_probability_format(options.get<std::string>("probabilities-type")));
    request.preview_uncertainty = options.has("preview-uncertainty");
    MFRES_TRY(Segmentation result, segmenter.segment(files, request, display.progress()));
    display.clear();
    if (has_random_weights(segmenter.predictor().inside().model().metadata))
        result.report.warnings.emplace_back(
            "the weights are random, as mfres init makes them: the labels mean nothing");
    if (!outputs.html.empty())
        MFRES_CHECK(with_written(write_case_page(segmenter, files, outputs, result.report, options), "page", outputs));
    if (!outputs.report.empty())
        MFRES_CHECK(
            with_written(write_file_atomically(outputs.report, report_text(result.report, options) + "\n", force),
                         "report", outputs));
    return std::move(result.report);
}

namespace {

Result<Segmenter> open_model(const Options& options, const SegmenterOptions& setup) {
    MFRES_TRY(const auto model, model_path(options));
    return Segmenter::open(model, setup);
}

/// What the backend chose, an op a line.
std::string choices_text(const SegmentReport& report) {
    std::string lines = "\nchosen by the backend\n";
    for (const auto& choice : report.chosen)
        lines += text("  ", choice.node, "  ", choice.operation, "  ", choice.implementation, "\n");
    return lines;
}

} // namespace

namespace {

int segment_data(const Options& options, const SegmenterOptions& setup) {
    const bool json = options.has("json");
    watch_signals();
    const auto found = cases_to_segment(options);
    if (!found)
        return fail(found.error(), json);
    auto segmenter = open_model(options, setup);
    if (!segmenter)
        return fail(segmenter.error(), json);
    return segment_folder(*segmenter, *found, options);
}

/// Rejects before the work what the files' names tell.
Status check_names(const SegmentOutputs& outputs) {
    MFRES_CHECK(check_ending("preview", outputs.preview, {".png"}));
    MFRES_CHECK(check_ending("report", outputs.report, {".json"}));
    return check_ending("html", outputs.html, {".html", ".htm"});
}

int segment_case(const Options& options, const SegmenterOptions& setup) {
    const bool json = options.has("json");
    watch_signals();
    const auto path = [&](const char* option) { return options.get_or_default<std::string>(option); };
    const SegmentOutputs outputs{path("out"), path("preview"), path("report"), path("probabilities"), path("html")};
    if (const auto named = check_names(outputs); !named)
        return fail(named.error(), json);
    const auto files = named_case(options);
    if (!files)
        return fail(files.error(), json);
    if (const auto apart = check_apart(outputs, *files); !apart)
        return fail(apart.error(), json);
    auto segmenter = open_model(options, setup);
    if (!segmenter)
        return fail(segmenter.error(), json);
    const auto report = with_progress(
        options, [&](ProgressDisplay& display) { return segment_one(*segmenter, *files, outputs, options, display); });
    if (!report)
        return fail(report.error(), json);
    if (const auto written = write_label_table(*segmenter, options); !written)
        return fail(written.error(), json);
    std::cout << (json ? report_text(*report, options) + "\n" : to_text(*report));
    if (!json && options.has("verbose"))
        std::cout << choices_text(*report);
    return exit_ok;
}

} // namespace

int segment(const std::vector<std::string>& arguments) {
    Options options = make_options();
    if (const auto done = options.parse(arguments))
        return *done;
    const int sources = options.has("case") + options.has("data") +
                        (options.has("t1") || options.has("t1ce") || options.has("t2") || options.has("flair"));
    if (sources != 1)
        return usage_error("name the images in one way: --case DIR, --data DIR, or --t1, --t1ce, --t2 and --flair");
    if (options.has("preview-uncertainty") && !options.has("preview"))
        return usage_error("--preview-uncertainty changes the picture that --preview writes");
    for (const char* option : {"skip-existing", "layout"})
        if (options.given(option) && !options.has("data"))
            return usage_error(text("--", option, " is for a folder of cases (--data)"));
    if (options.has("skip-existing") && options.has("force"))
        return usage_error("--skip-existing leaves out what --force would overwrite; name one of them");
    const bool json = options.has("json");

    if (const auto named = check_ending("label-table", options.get_or_default<std::string>("label-table"),
                                        {".txt", ".label", ".ctbl"});
        !named)
        return fail(named.error(), json);
    if (const auto there = check_output(options.get_or_default<std::string>("label-table"),
                                        options.has("force") || options.has("skip-existing"));
        !there)
        return fail(there.error(), json);
    const auto setup = segmenter_options(options);
    if (!setup)
        return fail(setup.error(), json);
    if (const auto labels = label_choice(options); !labels)
        return fail(labels.error(), json);
    if (options.has("data"))
        return segment_data(options, *setup);
    return segment_case(options, *setup);
}

} // namespace mfres::cli
