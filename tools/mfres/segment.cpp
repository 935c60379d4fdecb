// SPDX-License-Identifier: MIT
#include "option_groups.h"

#include "core/file.h"
#include "core/try.h"

#include <nlohmann/json.hpp>

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
        ("preview-uncertainty", "draw where tumour is as likely as not, and where the network is unsure")
        ("labels", po::value<std::string>(), "label scheme: brats (0 1 2 4) or brats2023 (0 1 2 3)");
    // clang-format on
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

Result<SegmentReport> segment_one(Segmenter& segmenter, const CaseFiles& files, const Outputs& outputs,
                                  const Options& options, ProgressDisplay& display) {
    const bool force = options.has("force");
    MFRES_CHECK(check_output(outputs.report, force));
    SegmentOptions request;
    MFRES_CHECK(read_case_options(options, request.affine, request.resample));
    request.label_scheme = options.get_or_default<std::string>("labels");
    read_small_part_options(options, request);
    request.output = outputs.labels;
    request.preview = outputs.preview;
    request.overwrite = force;
    request.probabilities = outputs.probabilities;
    MFRES_TRY(request.probability_format, parse_probability_format(options.get<std::string>("probabilities-type")));
    request.preview_uncertainty = options.has("preview-uncertainty");
    MFRES_TRY(Segmentation result, segmenter.segment(files, request, display.progress()));
    display.clear();
    if (!outputs.report.empty())
        MFRES_CHECK(write_file_atomically(outputs.report, to_json(result.report) + "\n", force));
    return std::move(result.report);
}

/// All cases of a folder: every one is tried, rejections are listed at the end, the exit code is that of the first.
int segment_data(Segmenter& segmenter, const Options& options) {
    const std::filesystem::path out = options.get<std::string>("out");
    const auto cases = find_cases(options.get<std::string>("data"), true);
    if (!cases)
        return fail(cases.error(), options.has("json"));
    std::error_code problem;
    for (const char* option : {"out", "preview", "report", "probabilities"})
        if (options.has(option))
            std::filesystem::create_directories(options.get<std::string>(option), problem);

    ProgressDisplay display(options.has("quiet"));
    nlohmann::json all = nlohmann::json::array();
    int first_failure = exit_ok;
    std::size_t failures = 0;
    for (std::size_t i = 0; i < cases->size(); ++i) {
        const CaseFiles& files = (*cases)[i];
        display.set_label(text("[", i + 1, "/", cases->size(), "] ", files.id));
        const auto in_folder = [&](const char* option, const char* ending) {
            return options.has(option) ? options.get<std::string>(option) / std::filesystem::path(files.id + ending)
                                       : std::filesystem::path();
        };
        const Outputs outputs{out / (files.id + ".nii.gz"), in_folder("preview", ".png"), in_folder("report", ".json"),
                              in_folder("probabilities", ".nii.gz")};
        auto report = segment_one(segmenter, files, outputs, options, display);
        display.clear();
        if (!report) {
            ++failures;
            const int code =
                fail({report.error().code, files.id + ": " + report.error().message, report.error().where});
            if (first_failure == exit_ok)
                first_failure = code;
            all.push_back(
                {{"case", files.id}, {"error", name(report.error().code)}, {"message", report.error().message}});
            if (report.error().code == ErrorCode::interrupted)
                break;
            continue;
        }
        all.push_back(nlohmann::json::parse(to_json(*report, false)));
        if (!options.has("json"))
            std::printf("%-28s %7.1f ml WT %7.1f ml TC %7.1f ml ET   %6.2f s\n", files.id.c_str(),
                        report->regions[0].millilitres, report->regions[1].millilitres, report->regions[2].millilitres,
                        report->total_milliseconds / 1000);
    }
    if (options.has("json"))
        std::cout << all.dump(2) << '\n';
    else
        std::printf("%zu of %zu cases segmented into %s\n", all.size() - failures, cases->size(), out.c_str());
    return first_failure;
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
    watch_signals();
    const auto model = model_path(options);
    if (!model)
        return fail(model.error(), json);
    auto segmenter = Segmenter::open(*model, *setup);
    if (!segmenter)
        return fail(segmenter.error(), json);
    if (options.has("data"))
        return segment_data(*segmenter, options);

    const auto files = named_case(options);
    if (!files)
        return fail(files.error(), json);
    ProgressDisplay display(options.has("quiet"));
    const Outputs outputs{options.get<std::string>("out"), options.get_or_default<std::string>("preview"),
                          options.get_or_default<std::string>("report"),
                          options.get_or_default<std::string>("probabilities")};
    const auto report = segment_one(*segmenter, *files, outputs, options, display);
    display.clear();
    if (!report)
        return fail(report.error(), json);
    std::cout << (json ? to_json(*report) + "\n" : to_text(*report));
    return exit_ok;
}

} // namespace mfres::cli
