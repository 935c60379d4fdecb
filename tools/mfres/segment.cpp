// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "option_groups.h"
#include "run_and_print.h"

#include "core/file.h"
#include "core/format.h"
#include "core/try.h"

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
    "  mfres segment --model m.safetensors --t1 a.nii --t1ce b.nii --t2 c.nii --flair d.nii --out labels.nii.gz\n"
    "  mfres segment --model m.safetensors --data MICCAI_BraTS_2019_Data_Validation --out results/\n"
    "  mfres segment --model m.safetensors --case DIR --out l.nii.gz --backend reference --json --quiet\n";

Options make_options() {
    Options options("segment [--model FILE] (--case DIR | --t1 F --t1ce F --t2 F --flair F | --data DIR) --out FILE",
                    about, examples);
    // clang-format off
    options.add()
        ("case", po::value<std::string>(), "folder of one case, files named as BraTS names them")
        ("t1", po::value<std::string>(), "T1-weighted volume (.nii, .nii.gz, .hdr/.img)")
        ("t1ce", po::value<std::string>(), "T1-weighted with contrast agent")
        ("t2", po::value<std::string>(), "T2-weighted")
        ("flair", po::value<std::string>(), "T2 FLAIR")
        ("data", po::value<std::string>(), "folder of many cases; --out is then a folder")
        ("out,o", po::value<std::string>()->required(), "label map to write (.nii or .nii.gz)")
        ("preview", po::value<std::string>(), "picture to write (.png); with --data: one per case into this folder")
        ("report", po::value<std::string>(), "JSON report to write; with --data: one per case into this folder")
        ("probabilities", po::value<std::string>(), "probability of each class to write (.nii or .nii.gz, axes x, y, z, class); with --data: one per case into this folder")
        ("probabilities-type", po::value<std::string>()->default_value("float32"), "float32 (rounded to float16), or uint8 in steps of 1/255")
        ("preview-uncertainty", "draw where tumour is as likely as not, and where the network is unsure");
    // clang-format on
    add_label_options(options, "default: the model's");
    add_segmenter_options(options);
    add_case_options(options);
    add_small_part_options(options);
    add_output_options(options);
    return options;
}

struct Outputs {
    std::filesystem::path labels, preview, report, probabilities;
};

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

/// Two files of one name, or an output that is an input, show before the model is read.
Status check_apart(const Outputs& outputs, const CaseFiles& files) {
    const std::array<OutputFile, 4> all = {{{"label map", outputs.labels},
                                            {"probabilities", outputs.probabilities},
                                            {"picture", outputs.preview},
                                            {"report", outputs.report}}};
    return check_outputs_apart(all, files.modalities);
}

/// The last of a case's files. Where it fails the others are there, which the message says.
Status write_report(const Outputs& outputs, const SegmentReport& report, bool force) {
    const auto status = write_file_atomically(outputs.report, to_json(report) + "\n", force);
    if (status)
        return {};
    std::string written;
    for (const auto& path : {outputs.labels, outputs.probabilities, outputs.preview})
        if (!path.empty())
            written += text(written.empty() ? "" : ", ", path.string());
    return Error{status.error().code,
                 text("the report was not written, all else was (", written, "): ", status.error().message),
                 status.error().where};
}

Result<SegmentReport> segment_one(Segmenter& segmenter, const CaseFiles& files, const Outputs& outputs,
                                  const Options& options, ProgressDisplay& display) {
    const bool force = options.has("force");
    MFRES_CHECK(check_output(outputs.report, force));
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
    if (!outputs.report.empty())
        MFRES_CHECK(write_report(outputs, result.report, force));
    return std::move(result.report);
}

/// The files of one case of a data set.
Outputs outputs_of(const CaseFiles& files, const Options& options) {
    const auto in_folder = [&](const char* option, const char* ending) {
        return options.has(option) ? options.get<std::string>(option) / std::filesystem::path(files.id + ending)
                                   : std::filesystem::path();
    };
    return {in_folder("out", ".nii.gz"), in_folder("preview", ".png"), in_folder("report", ".json"),
            in_folder("probabilities", ".nii.gz")};
}

/// What became of the cases of a data set: rejections are told as they come, and the exit code is that of the first.
class Outcomes {
  public:
    explicit Outcomes(bool json) : json_(json) {}

    void reject(const std::string& id, const Error& error) {
        ++failures_;
        const int code = fail({error.code, id + ": " + error.message, error.where});
        if (first_failure_ == exit_ok)
            first_failure_ = code;
        all_.push_back({{"case", id}, {"error", name(error.code)}, {"message", error.message}});
    }

    void accept(const SegmentReport& report) {
        all_.push_back(Json::parse(to_json(report, false)));
        if (!json_)
            std::printf("%-28s %7.1f ml WT %7.1f ml TC %7.1f ml ET   %6.2f s\n",
                        escape_controls(report.case_id).c_str(), report.regions[0].millilitres,
                        report.regions[1].millilitres, report.regions[2].millilitres, report.total_milliseconds / 1000);
    }

    int finish(std::size_t cases, const std::filesystem::path& out) const {
        if (json_)
            std::cout << all_.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
        else
            std::printf("%zu of %zu cases segmented into %s\n", all_.size() - failures_, cases,
                        escape_controls(out.string()).c_str());
        return first_failure_;
    }

  private:
    bool json_;
    int first_failure_ = exit_ok;
    std::size_t failures_ = 0;
    Json all_ = Json::array();
};

/// The cases of --data, with outputs that are apart from each other and from what is read.
Result<FoundCases> cases_to_segment(const Options& options) {
    MFRES_TRY(FoundCases found, search_cases(options.get<std::string>("data"), true));
    for (const CaseFiles& files : found.cases)
        MFRES_CHECK(check_apart(outputs_of(files, options), files));
    return found;
}

/// All cases of a folder: every one is tried.
int segment_data(Segmenter& segmenter, const FoundCases& found, const Options& options) {
    std::error_code problem;
    for (const char* option : {"out", "preview", "report", "probabilities"})
        if (options.has(option))
            std::filesystem::create_directories(options.get<std::string>(option), problem);

    ProgressDisplay display(options.has("quiet"));
    Outcomes outcomes(options.has("json"));
    for (const RejectedFolder& folder : found.rejected)
        outcomes.reject(folder.id, folder.error);
    if (!options.has("quiet"))
        for (const RejectedFolder& folder : found.skipped)
            std::cerr << "mfres: left out: " << escape_controls(folder.error.message) << '\n';
    for (std::size_t i = 0; i < found.cases.size(); ++i) {
        const CaseFiles& files = found.cases[i];
        display.set_label(text("[", i + 1, "/", found.cases.size(), "] ", escape_controls(files.id)));
        const auto report = segment_one(segmenter, files, outputs_of(files, options), options, display);
        display.clear();
        if (report)
            outcomes.accept(*report);
        else
            outcomes.reject(files.id, report.error());
        if (!report && report.error().code == ErrorCode::interrupted)
            break;
    }
    return outcomes.finish(found.cases.size() + found.rejected.size(), options.get<std::string>("out"));
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
    const bool json = options.has("json");

    const auto setup = segmenter_options(options);
    if (!setup)
        return fail(setup.error(), json);
    if (const auto labels = label_choice(options); !labels)
        return fail(labels.error(), json);
    watch_signals();
    const auto found = options.has("data") ? cases_to_segment(options) : Result<FoundCases>(FoundCases());
    if (!found)
        return fail(found.error(), json);
    const Outputs outputs{options.get<std::string>("out"), options.get_or_default<std::string>("preview"),
                          options.get_or_default<std::string>("report"),
                          options.get_or_default<std::string>("probabilities")};
    const auto files = options.has("data") ? Result<CaseFiles>(CaseFiles()) : named_case(options);
    if (!files)
        return fail(files.error(), json);
    if (const auto apart = check_apart(outputs, *files); !apart && !options.has("data"))
        return fail(apart.error(), json);
    const auto model = model_path(options);
    if (!model)
        return fail(model.error(), json);
    auto segmenter = Segmenter::open(*model, *setup);
    if (!segmenter)
        return fail(segmenter.error(), json);
    if (options.has("data"))
        return segment_data(*segmenter, *found, options);
    const auto report = with_progress(
        options, [&](ProgressDisplay& display) { return segment_one(*segmenter, *files, outputs, options, display); });
    return print_report(options, report, [](const SegmentReport& of) { return to_text(of); });
}

} // namespace mfres::cli
