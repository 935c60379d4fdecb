// SPDX-License-Identifier: MIT
// `mfres segment --data`: names of outputs, the table and the summary of a folder, and what is there already.
#include "option_groups.h"
#include "segment.h"

#include "core/csv.h"
#include "core/file.h"
#include "core/format.h"
#include "core/json.h"
#include "core/names.h"
#include "core/try.h"
#include "imaging/labels.h"
#include "imaging/nifti/nifti.h"
#include "inference/predictor.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <map>
#include <set>

namespace mfres::cli {

namespace {

namespace fs = std::filesystem;

constexpr auto layout_names = enum_names<FolderLayout>({{FolderLayout::flat, "flat"}, {FolderLayout::bids, "bids"}});

// ---- names of outputs -----------------------------------------------------------------------------------------------

/// The entities of BIDS that name a patient and, where there are several, a session; "sub-X" and "ses-Y" or "".
struct BidsName {
    std::string subject, session;

    fs::path folder() const { return fs::path(subject) / session / "anat"; }
    std::string stem() const { return subject + (session.empty() ? "" : "_" + session) + "_desc-tumour_dseg"; }
};

/// Labels of BIDS are letters and digits.
std::string bids_label(std::string_view words) {
    std::string label;
    for (const char c : words)
        if (std::isalnum(static_cast<unsigned char>(c)) != 0)
            label += c;
    return label.empty() ? "case" : label;
}

BidsName bids_name(const std::string& id) {
    const std::size_t session = id.find("_ses-");
    const std::string subject = id.substr(0, session);
    return {"sub-" + bids_label(subject.starts_with("sub-") ? std::string_view(subject).substr(4) : subject),
            session == std::string::npos ? "" : "ses-" + bids_label(std::string_view(id).substr(session + 5))};
}

FolderLayout layout_of(const Options& options) {
    return parse_folder_layout(options.get<std::string>("layout")).ok()
               ? *parse_folder_layout(options.get<std::string>("layout"))
               : FolderLayout::flat;
}

/// The files of one case of a data set.
SegmentOutputs outputs_of(const CaseFiles& files, const Options& options) {
    const auto in_folder = [&](const char* option, const char* ending) {
        return options.has(option) ? options.get<std::string>(option) / fs::path(files.id + ending) : fs::path();
    };
    SegmentOutputs outputs{in_folder("out", ".nii.gz"), in_folder("preview", ".png"), in_folder("report", ".json"),
                           in_folder("probabilities", ".nii.gz"), in_folder("html", ".html")};
    if (layout_of(options) == FolderLayout::bids) {
        const BidsName name = bids_name(files.id);
        const fs::path stem = options.get<std::string>("out") / name.folder() / name.stem();
        outputs.labels = stem.string() + ".nii.gz";
        outputs.report = stem.string() + ".json";
    }
    return outputs;
}

fs::path volumes_file(const Options& options) {
    return fs::path(options.get<std::string>("out")) / "volumes.csv";
}

fs::path summary_file(const Options& options) {
    return fs::path(options.get<std::string>("out")) / "summary.json";
}

/// Whether two cases, or a case and the folder's own files, would be written to one file.
Status check_all_apart(const FoundCases& found, const Options& options) {
    std::map<fs::path, std::string> owners{{volumes_file(options), "the table of volumes"},
                                           {summary_file(options), "the summary"}};
    for (const CaseFiles& files : found.cases) {
        const SegmentOutputs outputs = outputs_of(files, options);
        MFRES_CHECK(check_apart(outputs, files));
        for (const fs::path& path :
             {outputs.labels, outputs.preview, outputs.report, outputs.probabilities, outputs.html}) {
            if (path.empty())
                continue;
            const auto [owner, is_new] = owners.emplace(path.lexically_normal(), files.id);
            if (!is_new)
                return Error{ErrorCode::invalid_argument,
                             text(path.string(), " would be written for ", owner->second, " and for ", files.id,
                                  "; name another folder, or use --layout flat"),
                             path.string()};
        }
    }
    return {};
}

Status write_all(const std::vector<std::pair<fs::path, std::string>>& files, bool overwrite) {
    for (const auto& [path, content] : files)
        MFRES_CHECK(write_file_atomically(path, content, overwrite));
    return {};
}

/// What a folder of BIDS derivatives has besides the cases: who made it, and what the labels mean.
Status write_bids_files(const Options& options, const LabelCoding& labels) {
    const fs::path out = options.get<std::string>("out");
    const OrderedJson description = {
        {"Name", "Brain tumour segmentation"},
        {"BIDSVersion", "1.9.0"},
        {"DatasetType", "derivative"},
        {"GeneratedBy", OrderedJson::array({{{"Name", "mfres"},
                                             {"Version", version()},
                                             {"Description", "Research use only: not a medical device."}}})}};
    std::string table = "index\tname\tabbreviation\tcolor\n";
    constexpr std::array<std::string_view, tumour_classes> abbreviations = {"bg", "ncr", "ed", "et"};
    for (int c = 0; c < tumour_classes; ++c)
        if (const auto label = labels.label_of(c)) {
            const ClassAppearance& look = appearance(c);
            std::array<char, 16> colour{};
            std::snprintf(colour.data(), colour.size(), "#%02X%02X%02X", look.rgb[0], look.rgb[1], look.rgb[2]);
            table += text(static_cast<int>(*label), "\t", look.name, "\t", abbreviations[static_cast<std::size_t>(c)],
                          "\t", look.drawn ? colour.data() : "#000000", "\n");
        }
    return write_all(
        {{out / "dataset_description.json", description.dump(2) + "\n"}, {out / "desc-tumour_dseg.tsv", table}}, true);
}

Status make_folders(const FoundCases& found, const Options& options) {
    std::set<fs::path> folders;
    for (const char* option : {"out", "preview", "report", "probabilities", "html"})
        if (options.has(option))
            folders.insert(options.get<std::string>(option));
    for (const CaseFiles& files : found.cases)
        folders.insert(outputs_of(files, options).labels.parent_path());
    for (const fs::path& folder : folders) {
        std::error_code problem;
        fs::create_directories(folder, problem);
        if (problem)
            return Error{ErrorCode::file_write,
                         text("cannot make the folder ", folder.string(), ": ", problem.message()), folder.string()};
    }
    return {};
}

// ---- what is there already ------------------------------------------------------------------------------------------

/// The cases of a summary.json of before that were segmented; empty where there is none that can be read.
std::map<std::string, OrderedJson> earlier_cases(const fs::path& summary) {
    std::map<std::string, OrderedJson> cases;
    const auto bytes = read_file(summary, record_limits.bytes);
    if (!bytes)
        return cases;
    const std::string_view content(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    if (!parse_json(content, "summary", record_limits))
        return cases;
    const auto parsed = OrderedJson::parse(content, nullptr, false);
    if (!parsed.is_object() || !parsed.contains("cases") || !parsed["cases"].is_array())
        return cases;
    for (const OrderedJson& one : parsed["cases"])
        if (one.is_object() && one.value("status", "") != "rejected" && one.contains("case") && one["case"].is_string())
            cases[one["case"].get<std::string>()] = one;
    return cases;
}

/// A volume to a millionth of a millilitre, without the digits of rounding errors.
double rounded(double millilitres) {
    return std::round(1e6 * millilitres) / 1e6;
}

OrderedJson parts_json(const std::vector<PredictionReport::Part>& parts) {
    OrderedJson all = OrderedJson::object();
    for (const auto& part : parts)
        all[part.name] = rounded(part.millilitres);
    return all;
}

/// The volumes of a label map that is there, where no summary tells of it. Errors: those of read_nifti_labels;
/// label_outside_scheme.
Result<OrderedJson> measured_case(const std::string& id, const fs::path& labels, const LabelCoding& coding) {
    MFRES_TRY(NiftiLabels read, read_nifti_labels(labels));
    MFRES_CHECK(labels_to_classes(read.map, coding, labels.string()));
    MFRES_TRY(const TumourVolumes volumes, tumour_volumes(read.map, RegionDefinition::brats, labels.string()));
    OrderedJson row = {{"case", id}, {"status", "existing"}, {"output", labels.string()}};
    for (int c = 1; c < tumour_classes; ++c)
        row["classes_ml"][std::string(appearance(c).name)] =
            rounded(volumes.classes[static_cast<std::size_t>(c)].millilitres);
    for (const TumourRegion region : tumour_regions)
        row["regions_ml"][std::string(name(region))] =
            rounded(volumes.regions[static_cast<std::size_t>(region)].millilitres);
    row["warnings"] = OrderedJson::array();
    return row;
}

// ---- the rows -------------------------------------------------------------------------------------------------------

OrderedJson row_of(const SegmentReport& report) {
    return {{"case", report.case_id},
            {"status", "segmented"},
            {"output", report.output},
            {"classes_ml", parts_json(report.classes)},
            {"regions_ml", parts_json(report.regions)},
            {"seconds", report.total_milliseconds / 1000.0},
            {"warnings", report.warnings}};
}

/// Where the volumes of volumes.csv are in a row, in the order of its columns.
constexpr std::array<std::pair<const char*, const char*>, 5> volume_columns = {{{"classes_ml", "necrotic core"},
                                                                                {"classes_ml", "oedema"},
                                                                                {"classes_ml", "enhancing tumour"},
                                                                                {"regions_ml", "WT"},
                                                                                {"regions_ml", "TC"}}};

std::string volumes_csv(const OrderedJson& rows) {
    std::string csv = "case,status,necrotic_core_ml,oedema_ml,enhancing_tumour_ml,whole_tumour_ml,tumour_core_ml,"
                      "seconds,warnings,error,message\n";
    for (const OrderedJson& row : rows) {
        csv += csv_cell(row["case"].get<std::string>()) + "," + row["status"].get<std::string>();
        for (const auto& [group, key] : volume_columns)
            csv += "," + (row.contains(group) && row[group].contains(key) ? row[group][key].dump() : "");
        csv += "," + (row.contains("seconds") ? row["seconds"].dump() : "");
        std::string warnings;
        if (row.contains("warnings"))
            for (const OrderedJson& warning : row["warnings"])
                warnings += (warnings.empty() ? "" : "; ") + warning.get<std::string>();
        csv +=
            "," + csv_cell(warnings) + "," + row.value("error", "") + "," + csv_cell(row.value("message", "")) + "\n";
    }
    return csv;
}

/// What became of the cases of a data set: rejections are told as they come, and the exit code is that of the first.
class Outcomes {
  public:
    Outcomes(const Options& options, Segmenter& segmenter)
        : options_(options), json_(options.has("json")), model_(segmenter.predictor().inside()),
          start_(std::chrono::steady_clock::now()) {}

    void reject(const std::string& id, const Error& error) {
        ++rejected_;
        const int code = fail({error.code, id + ": " + error.message, error.where});
        if (exit_ == exit_ok || code == exit_interrupted)
            exit_ = code;
        all_.push_back({{"case", id}, {"error", name(error.code)}, {"message", error.message}});
        rows_.push_back(
            {{"case", id}, {"status", "rejected"}, {"error", name(error.code)}, {"message", error.message}});
    }

    void accept(const SegmentReport& report) {
        ++segmented_;
        all_.push_back(OrderedJson::parse(to_json(report, options_.has("verbose"))));
        rows_.push_back(row_of(report));
        if (!json_)
            std::printf("%-28s %7.1f ml WT %7.1f ml TC %7.1f ml ET   %6.2f s\n",
                        escape_controls(report.case_id).c_str(), report.regions[0].millilitres,
                        report.regions[1].millilitres, report.regions[2].millilitres, report.total_milliseconds / 1000);
        std::fflush(stdout);
    }

    void keep(OrderedJson row) {
        ++existing_;
        row["status"] = "existing";
        all_.push_back({{"case", row["case"]}, {"existing", true}, {"output", row["output"]}});
        rows_.push_back(std::move(row));
    }

    /// volumes.csv and summary.json, of the cases so far.
    Status write() const {
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
        OrderedJson summary = provenance(options_);
        summary["network"] = model_.model().variant.name();
        summary["model"] = {{"file", model_.name()}, {"weights_sha256", model_.model().metadata.weights_sha256}};
        summary["segmented"] = segmented_;
        summary["existing"] = existing_;
        summary["rejected"] = rejected_;
        summary["seconds"] = seconds.count();
        summary["exit_code"] = exit_;
        summary["cases"] = rows_;
        summary["notice"] = "Research use only: not a medical device.";
        return write_all(
            {{volumes_file(options_), volumes_csv(rows_)},
             {summary_file(options_), summary.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n"}},
            true);
    }

    int finish(std::size_t cases) const {
        if (json_)
            std::cout << all_.dump(2, ' ', false, OrderedJson::error_handler_t::replace) << '\n';
        else
            std::printf("%zu of %zu cases segmented into %s%s\n", segmented_, cases,
                        escape_controls(options_.get<std::string>("out")).c_str(),
                        existing_ > 0
                            ? text(", ", existing_, existing_ == 1 ? " was" : " were", " there already").c_str()
                            : "");
        return exit_;
    }

  private:
    const Options& options_;
    bool json_;
    CasePredictor& model_;
    std::chrono::steady_clock::time_point start_;
    int exit_ = exit_ok;
    std::size_t segmented_ = 0, existing_ = 0, rejected_ = 0;
    OrderedJson all_ = OrderedJson::array();
    OrderedJson rows_ = OrderedJson::array();
};

/// Puts the cases whose label maps are there into `outcomes`; returns the others.
std::vector<CaseFiles> without_existing(const FoundCases& found, const Options& options, const LabelCoding& coding,
                                        Outcomes& outcomes) {
    std::vector<CaseFiles> to_do;
    const auto earlier =
        options.has("skip-existing") ? earlier_cases(summary_file(options)) : std::map<std::string, OrderedJson>();
    for (const CaseFiles& files : found.cases) {
        const fs::path labels = outputs_of(files, options).labels;
        std::error_code ignored;
        if (!options.has("skip-existing") || !fs::exists(labels, ignored)) {
            to_do.push_back(files);
            continue;
        }
        if (const auto known = earlier.find(files.id); known != earlier.end()) {
            outcomes.keep(known->second);
            continue;
        }
        auto row = measured_case(files.id, labels, coding);
        if (row)
            outcomes.keep(std::move(row).value());
        else
            outcomes.reject(files.id,
                            {row.error().code,
                             text("the label map that is there cannot be used; remove it, so that the case is "
                                  "segmented again: ",
                                  row.error().message),
                             row.error().where});
    }
    return to_do;
}

Result<LabelCoding> coding_of(Segmenter& segmenter, const Options& options) {
    MFRES_TRY(const std::string wanted, label_choice(options));
    return segmenter.predictor().inside().scheme(wanted);
}

Result<int> segment_cases(Segmenter& segmenter, const FoundCases& found, const Options& options) {
    MFRES_TRY(const LabelCoding coding, coding_of(segmenter, options));
    MFRES_CHECK(make_folders(found, options));
    MFRES_CHECK(write_label_table(segmenter, options));
    if (layout_of(options) == FolderLayout::bids)
        MFRES_CHECK(write_bids_files(options, coding));
    ProgressDisplay display(options.has("quiet"));
    Outcomes outcomes(options, segmenter);
    for (const RejectedFolder& folder : found.rejected)
        outcomes.reject(folder.id, folder.error);
    if (!options.has("quiet"))
        for (const RejectedFolder& folder : found.skipped)
            std::cerr << "mfres: left out: " << escape_controls(folder.error.message) << '\n';
    const std::vector<CaseFiles> to_do = without_existing(found, options, coding, outcomes);
    MFRES_CHECK(outcomes.write());
    for (std::size_t i = 0; i < to_do.size(); ++i) {
        const CaseFiles& files = to_do[i];
        display.start_part(i, to_do.size(), files.id);
        const auto report = segment_one(segmenter, files, outputs_of(files, options), options, display);
        display.clear();
        if (report)
            outcomes.accept(*report);
        else
            outcomes.reject(files.id, report.error());
        MFRES_CHECK(outcomes.write());
        if (!report && report.error().code == ErrorCode::interrupted)
            break;
    }
    return outcomes.finish(found.cases.size() + found.rejected.size());
}

} // namespace

std::string_view to_string(FolderLayout layout) noexcept {
    return layout_names.of(layout);
}

Result<FolderLayout> parse_folder_layout(std::string_view text) {
    return layout_names.parse("layout of the output folder", text);
}

Result<FoundCases> cases_to_segment(const Options& options) {
    MFRES_CHECK(parse_folder_layout(options.get<std::string>("layout")));
    MFRES_CHECK(check_folder("out", options.get<std::string>("out"), {".nii", ".nii.gz"}));
    MFRES_CHECK(check_folder("preview", options.get_or_default<std::string>("preview"), {".png"}));
    MFRES_CHECK(check_folder("report", options.get_or_default<std::string>("report"), {".json"}));
    MFRES_CHECK(
        check_folder("probabilities", options.get_or_default<std::string>("probabilities"), {".nii", ".nii.gz"}));
    MFRES_CHECK(check_folder("html", options.get_or_default<std::string>("html"), {".html", ".htm"}));
    MFRES_TRY(FoundCases found, search_cases(options.get<std::string>("data"), true));
    MFRES_CHECK(check_all_apart(found, options));
    for (const fs::path& file : {volumes_file(options), summary_file(options)}) {
        std::error_code ignored;
        if (!options.has("force") && !options.has("skip-existing") && fs::exists(file, ignored))
            return Error{ErrorCode::file_exists,
                         text(file.string(),
                              " exists: cases were segmented into this folder before. --skip-existing goes "
                              "on with those that are not there yet, --force segments all again"),
                         file.string()};
    }
    return found;
}

int segment_folder(Segmenter& segmenter, const FoundCases& found, const Options& options) {
    const auto code = segment_cases(segmenter, found, options);
    return code ? *code : fail(code.error(), options.has("json"));
}

} // namespace mfres::cli
