// SPDX-License-Identifier: MIT
#include "option_groups.h"

#include "core/try.h"
#include "imaging/case.h"
#include "imaging/labels.h"
#include "imaging/plausibility.h"

#include <nlohmann/json.hpp>

#include <iostream>
#include <set>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Reads one case or every case of a data set and verifies everything that segment would reject: files, headers,\n"
    "checksums, geometry, voxels, brain, and the labels if there are any. Runs no network and writes nothing.";

constexpr const char* examples = "Examples:\n"
                                 "  mfres check BraTS19_CBICA_AAB_1\n"
                                 "  mfres check MICCAI_BraTS_2019_Data_Training --json\n";

struct Finding {
    std::string id;
    std::vector<std::string> warnings;
    std::array<std::int64_t, 3> grid{}, box{};
    std::string labels; ///< e.g. "0 1 2 4", empty without segmentation
};

Result<Finding> check_case(const CaseFiles& files, const CaseOptions& case_options, LabelScheme scheme) {
    MFRES_TRY(Case loaded, load_case(files, case_options));
    MFRES_TRY(const Preprocessing preprocessing, preprocess_case(loaded, {.threads = case_options.threads}));
    Finding finding{files.id, loaded.warnings, loaded.original_grid.size, {}, {}};
    for (std::size_t axis = 0; axis < 3; ++axis)
        finding.box[axis] = preprocessing.box_end[axis] - preprocessing.box_begin[axis];
    if (files.segmentation) {
        MFRES_TRY(LabelMap labels, load_segmentation(files, loaded));
        const std::set<int> values(labels.labels.begin(), labels.labels.end());
        for (const int value : values)
            finding.labels += (finding.labels.empty() ? "" : " ") + std::to_string(value);
        MFRES_CHECK(labels_to_classes(labels, scheme, files.segmentation->string()));
    }
    return finding;
}

std::string sizes(const std::array<std::int64_t, 3>& size) {
    return text(size[0], "x", size[1], "x", size[2]);
}

} // namespace

int check(const std::vector<std::string>& arguments) {
    Options options("check DIR", about, examples);
    // clang-format off
    options.add()
        ("data", po::value<std::string>()->required(), "a case, or a folder of cases (also without --data)")
        ("labels", po::value<std::string>()->default_value("brats"), "label scheme: brats (0 1 2 4) or brats2023 (0 1 2 3)");
    // clang-format on
    add_case_options(options);
    add_accept_option(options);
    add_threads_option(options);
    add_report_options(options);
    options.positional("data");
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    const auto scheme = label_scheme(options.get<std::string>("labels"));
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
    const auto cases = find_cases(options.get<std::string>("data"));
    if (!cases)
        return fail(cases.error(), json);

    watch_signals();
    ProgressDisplay display(options.has("quiet"));
    nlohmann::json all = nlohmann::json::array();
    std::size_t rejected = 0;
    for (std::size_t i = 0; i < cases->size(); ++i) {
        const CaseFiles& files = (*cases)[i];
        if (!display.update("checking", static_cast<double>(i) / static_cast<double>(cases->size()))) {
            display.clear();
            return fail({ErrorCode::interrupted, text("stopped before ", files.id), files.id}, json);
        }
        const auto finding = check_case(files, case_options, *scheme);
        display.clear();
        if (!finding) {
            ++rejected;
            all.push_back({{"case", files.id},
                           {"accepted", false},
                           {"code", name(finding.error().code)},
                           {"message", finding.error().message}});
            if (!json)
                std::printf("REJECTED %-26s [%s] %s\n", files.id.c_str(),
                            std::string(name(finding.error().code)).c_str(), finding.error().message.c_str());
            continue;
        }
        all.push_back({{"case", files.id},
                       {"accepted", true},
                       {"grid", finding->grid},
                       {"brain_box", finding->box},
                       {"labels", finding->labels},
                       {"warnings", finding->warnings}});
        if (!json) {
            std::printf("ok       %-26s grid %s, brain %s%s%s\n", files.id.c_str(), sizes(finding->grid).c_str(),
                        sizes(finding->box).c_str(), finding->labels.empty() ? "" : ", labels ",
                        finding->labels.c_str());
            for (const auto& warning : finding->warnings)
                std::printf("         warning: %s\n", warning.c_str());
        }
    }
    if (json)
        std::cout << all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    else
        std::printf("%zu of %zu cases accepted\n", cases->size() - rejected, cases->size());
    return rejected == 0 ? exit_ok : exit_rejected;
}

} // namespace mfres::cli
