// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "option_groups.h"

#include "core/format.h"
#include "core/try.h"
#include "imaging/case.h"
#include "imaging/labels.h"
#include "imaging/plausibility.h"

#include <algorithm>
#include <iostream>
#include <set>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Reads one case or every case of a data set and verifies everything that another command would reject: files,\n"
    "headers, checksums, geometry, voxels, brain, and the labels if there are any, whose scheme is that of the whole data\n"
    "set. Every case has a line. Runs no network and writes nothing.";

constexpr const char* examples = "Examples:\n"
                                 "  mfres check BraTS19_CBICA_AAB_1\n"
                                 "  mfres check MICCAI_BraTS_2019_Data_Training --json\n"
                                 "  mfres check BraTS-GLI-2024 --labels brats2024\n";

struct Finding {
    std::string id;
    std::vector<std::string> warnings;
    std::array<std::int64_t, 3> grid{}, box{};
    std::string labels;       ///< e.g. "0 1 2 4", empty without segmentation
    std::string label_scheme; ///< empty where it is unclear, and without segmentation
};

/// What is true of the labels, whose scheme may be unclear.
Status check_labels(const CaseFiles& files, const Case& loaded, Finding& finding) {
    MFRES_TRY(LabelMap labels, load_segmentation(files, loaded));
    const std::set<int> values(labels.labels.begin(), labels.labels.end());
    for (const int value : values)
        finding.labels += (finding.labels.empty() ? "" : " ") + std::to_string(value);
    finding.label_scheme = files.label_scheme;
    if (files.label_scheme.empty())
        return {};
    MFRES_TRY(const LabelCoding coding, LabelCoding::parse(files.label_scheme));
    if (const std::int64_t voxels = count_set_aside(labels, coding); voxels > 0)
        finding.warnings.push_back(
            text(voxels, " voxels are labelled as something that counts as background (", coding.legend(), ')'));
    return labels_to_classes(labels, coding, files.segmentation->string());
}

Result<Finding> check_case(const CaseFiles& files, const CaseOptions& case_options) {
    MFRES_TRY(Case loaded, load_case(files, case_options));
    PreprocessOptions preprocess;
    preprocess.threads = case_options.threads;
    preprocess.present = loaded.present;
    MFRES_TRY(const Preprocessing preprocessing, preprocess_case(loaded, preprocess));
    Finding finding{files.id, loaded.warnings, loaded.original_grid.size, {}, {}, {}};
    for (std::size_t axis = 0; axis < 3; ++axis)
        finding.box[axis] = preprocessing.box_end[axis] - preprocessing.box_begin[axis];
    if (files.segmentation)
        MFRES_CHECK(check_labels(files, loaded, finding));
    if (loaded.present == all_modalities)
        return finding;
    const auto there = std::find_if(files.modalities.begin(), files.modalities.end(),
                                    [](const std::filesystem::path& path) { return !path.empty(); });
    MFRES_CHECK(find_case(there->parent_path())); // says what is missing
    return finding;
}

std::string sizes(const std::array<std::int64_t, 3>& size) {
    return text(size[0], "x", size[1], "x", size[2]);
}

/// The findings of a data set, printed as they come, or all together as JSON.
class Findings {
  public:
    explicit Findings(bool json) : json_(json) {}

    void accept(const Finding& finding) {
        ++accepted_;
        all_.push_back({{"case", finding.id},
                        {"accepted", true},
                        {"grid", finding.grid},
                        {"brain_box", finding.box},
                        {"labels", finding.labels},
                        {"label_scheme", finding.label_scheme},
                        {"warnings", finding.warnings}});
        if (json_)
            return;
        std::printf("ok       %-26s grid %s, brain %s%s%s\n", escape_controls(finding.id).c_str(),
                    sizes(finding.grid).c_str(), sizes(finding.box).c_str(), finding.labels.empty() ? "" : ", labels ",
                    finding.labels.c_str());
        for (const std::string& warning : finding.warnings)
            std::printf("         warning: %s\n", escape_controls(warning).c_str());
    }

    void reject(const std::string& id, const Error& error) {
        ++rejected_;
        tell(id, error);
    }

    /// What concerns the data set and none of its cases.
    void reject_set(const Error& error) {
        set_rejected_ = true;
        tell("(all)", error);
    }

    void skip(const RejectedFolder& folder) {
        all_.push_back({{"folder", folder.id}, {"skipped", true}, {"message", folder.error.message}});
        if (!json_)
            std::printf("skipped  %-26s %s\n", escape_controls(folder.id).c_str(),
                        escape_controls(folder.error.message).c_str());
    }

    int finish(const std::string& labels) const {
        if (json_)
            std::cout << all_.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
        else
            std::printf("%s%s%zu of %zu cases accepted\n", escape_controls(labels).c_str(), labels.empty() ? "" : "\n",
                        accepted_, accepted_ + rejected_);
        return rejected_ == 0 && !set_rejected_ ? exit_ok : exit_rejected;
    }

  private:
    void tell(const std::string& id, const Error& error) {
        all_.push_back({{"case", id}, {"accepted", false}, {"code", name(error.code)}, {"message", error.message}});
        if (!json_)
            std::printf("REJECTED %-26s [%s] %s\n", escape_controls(id).c_str(), std::string(name(error.code)).c_str(),
                        escape_controls(error.message).c_str());
    }

    bool json_;
    bool set_rejected_ = false;
    std::size_t accepted_ = 0;
    std::size_t rejected_ = 0;
    Json all_ = Json::array();
};

} // namespace

int check(const std::vector<std::string>& arguments) {
    Options options("check DIR", about, examples);
    // clang-format off
    options.add()
        ("data", po::value<std::string>()->required(), "a case, or a folder of cases (also without --data)");
    // clang-format on
    add_label_options(options, "auto");
    add_case_options(options);
    add_accept_option(options);
    add_threads_option(options);
    add_report_options(options);
    options.positional("data");
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    const auto scheme = label_choice(options);
    if (!scheme)
        return fail(scheme.error(), json);
    CaseOptions case_options;
    if (const auto read = read_case_options(options, case_options.use, case_options.resample); !read)
        return fail(read.error(), json);
    const auto accepted = accepted_checks(options);
    if (!accepted)
        return fail(accepted.error(), json);
    case_options.accept = *accepted;
    case_options.threads = options.get<int>("threads");
    case_options.allow_absent = true; // an absent contrast is told after everything else
    const std::string data = options.get<std::string>("data");
    auto found = search_cases(data, true);
    if (!found)
        return fail(found.error(), json);

    watch_signals();
    Findings findings(json);
    std::string labels;
    if (auto chosen = choose_labels(found->cases, *scheme, data, case_options.use, case_options.threads))
        labels = std::move(chosen).value();
    else
        findings.reject_set(chosen.error());
    ProgressDisplay display(options.has("quiet"));
    for (std::size_t i = 0; i < found->cases.size(); ++i) {
        const CaseFiles& files = found->cases[i];
        if (!display.update("checking", static_cast<double>(i) / static_cast<double>(found->cases.size()))) {
            display.clear();
            return fail({ErrorCode::interrupted, text("stopped before ", files.id), files.id}, json);
        }
        const auto finding = check_case(files, case_options);
        display.clear();
        if (finding)
            findings.accept(*finding);
        else
            findings.reject(files.id, finding.error());
    }
    for (const RejectedFolder& folder : found->rejected)
        findings.reject(folder.id, folder.error);
    for (const RejectedFolder& folder : found->skipped)
        findings.skip(folder);
    return findings.finish(labels);
}

} // namespace mfres::cli
