// SPDX-License-Identifier: MIT
#include "option_groups.h"
#include "run_and_print.h"

#include "core/file.h"
#include "core/try.h"
#include "data/sources.h"
#include "metrics/analysis.h"

#include <mfres/evaluate.h>

#include <algorithm>
#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Measures how well labels agree with a reference: Dice, sensitivity, specificity and HD95 (mm) of whole tumour,\n"
    "tumour core and enhancing tumour, per case, over the cases of each site, and over all cases. The labels come from\n"
    "files, or from a model that is run on every case; a table of the challenge server is summarised as it is.\n"
    "Research use only: not a medical device.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres evaluate --pred results/ --ref MICCAI_BraTS_2019_Data_Training\n"
    "  mfres evaluate --model m.safetensors --data FOLDER_OF_CASES --out evaluation/\n"
    "  mfres evaluate --model m-int8.safetensors --data FOLDER_OF_CASES --precision f32,bf16,int8\n"
    "  mfres evaluate --data val.mfcache --drop flair\n"
    "  mfres evaluate --data val.mfcache --drop all\n"
    "  mfres evaluate --pred results/ --ref references/ --regions paper --scheme brats2020 --json\n"
    "  mfres evaluate --table Stats_Validation_final.csv\n"
    "  mfres evaluate --pred results/ --ref references/ --out evaluation/ --html evaluation.html\n"
    "  mfres evaluate --pred results/ --compare other-results/ --ref references/\n"
    "  mfres evaluate --table a/cases.csv --compare b/cases.csv\n";

Options make_options() {
    Options options("evaluate (--pred DIR --ref DIR | [--model FILE] --data DIR | --table FILE)", about, examples);
    // clang-format off
    options.add()
        ("pred", po::value<std::string>(), "folder of label maps: <case>.nii.gz, <case>_*seg*.nii.gz, or BraTS folders")
        ("ref", po::value<std::string>(), "folder of references: BraTS folders, or files named <case>.nii.gz")
        ("data", po::value<std::string>(), "folder of cases that have a segmentation, or a training cache, to run the model on")
        ("drop", po::value<std::vector<std::string>>()->composing(), "with --data: contrasts that the model does not get, e.g. flair or t1,t2 (may be repeated); all: a table of all 15 subsets")
        ("table", po::value<std::string>(), "table of the challenge server, or a cases.csv (.csv)")
        ("regions", po::value<std::string>(), "brats (WT 1 2 4, TC 1 4, ET 4) or paper (WT 1 2, TC 1, ET 4) (default brats)")
        ("scheme", po::value<std::string>(), "for empty regions: server2019 (HD95 blank) or brats2020 (HD95 0 or 373.12866) (default server2019)")
        ("sites", po::value<std::string>(), "table (.csv: case,site) of the sites that the summary is divided by; without it, what ids of BraTS tell, or else the folder's name")
        ("out,o", po::value<std::string>(), "folder for cases.csv, summary.csv, sites.csv, summary.json and table.md")
        ("html", po::value<std::string>(), "page to write (.html) that shows all cases in a browser, the lowest Dice first")
        ("worst", po::value<int>()->default_value(40), "print so many cases, those with the lowest Dice; 0 = none")
        ("compare", po::value<std::string>(), "second folder of label maps, or with --table a second table: paired differences to the first")
        ("pred-labels", po::value<std::string>(), "scheme or mapping of the labels of --pred, if it is another one");
    // clang-format on
    add_label_options(options, "auto");
    add_segmenter_options(options); // several precisions with commas between are compared with f32
    add_case_options(options);
    add_small_part_options(options);
    add_config_option(options);
    add_output_options(options);
    return options;
}

/// The files of --out.
struct Outputs {
    std::filesystem::path cases, summary_csv, sites, summary, table;
};

Outputs outputs_in(const std::filesystem::path& folder) {
    return {folder / "cases.csv", folder / "summary.csv", folder / "sites.csv", folder / "summary.json",
            folder / "table.md"};
}

/// The folder or file that is evaluated, without its path.
std::string source_name_of(const Options& options) {
    for (const char* source : {"table", "data", "pred"})
        if (options.has(source))
            return source_name(options.get<std::string>(source));
    return {};
}

/// Rejects before the work what could only fail at its end.
Status prepare_outputs(const Options& options) {
    const std::filesystem::path page = options.get_or_default<std::string>("html");
    MFRES_CHECK(check_ending("html", page, {".html", ".htm"}));
    MFRES_CHECK(check_output(page, options.has("force")));
    if (!options.has("out"))
        return {};
    const std::filesystem::path folder = options.get<std::string>("out");
    const Outputs outputs = outputs_in(folder);
    std::error_code problem;
    std::filesystem::create_directories(folder, problem);
    if (problem)
        return Error{ErrorCode::file_write, text("cannot make the folder ", folder.string(), ": ", problem.message()),
                     folder.string()};
    MFRES_CHECK(check_folder("out", folder, {".csv", ".json", ".md"}));
    const std::array<OutputFile, 6> files = {{{"table of cases", outputs.cases},
                                              {"table of statistics", outputs.summary_csv},
                                              {"page", page},
                                              {"table of sites", outputs.sites},
                                              {"summary", outputs.summary},
                                              {"table", outputs.table}}};
    const std::array<std::filesystem::path, 3> inputs = {options.get_or_default<std::string>("table"),
                                                         options.get_or_default<std::string>("compare"),
                                                         options.get_or_default<std::string>("sites")};
    MFRES_CHECK(check_outputs_apart(files, inputs));
    for (const auto& path : {outputs.cases, outputs.summary_csv, outputs.sites, outputs.summary, outputs.table})
        MFRES_CHECK(check_output(path, options.has("force")));
    return {};
}

std::span<const std::byte> bytes_of(const std::string& content) {
    return std::as_bytes(std::span(content));
}

/// The statistics, and the cases that --worst asks for; the same is printed and written to table.md.
std::string table_text(const Options& options, const MetricsTable& table) {
    const OrderedJson made = provenance(options);
    return text(to_markdown(table), intervals_sentence(table),
                cases_markdown(table, static_cast<std::size_t>(options.get<int>("worst"))), "\nMade by ",
                made["program"].get<std::string>(), " on ", made["date"].get<std::string>(), ".\n");
}

std::string table_json(const Options& options, const MetricsTable& table) {
    return with_provenance(options, to_json_with_analysis(table));
}

/// The page of --html.
std::string table_page(const Options& options, const MetricsTable& table) {
    const OrderedJson made = provenance(options);
    std::vector<std::pair<std::string, std::string>> facts = {{"program", made["program"].get<std::string>()},
                                                              {"date", made["date"].get<std::string>()}};
    if (table.definition)
        facts.emplace_back("regions", to_string(*table.definition));
    if (table.scheme)
        facts.emplace_back("empty regions", to_string(*table.scheme));
    if (!table.labels.empty())
        facts.emplace_back("labels", table.labels);
    facts.emplace_back("intervals", "95 % bootstrap percentiles of the mean over cases");
    facts.emplace_back("options", made["options"].dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
    return evaluation_page(table, "Evaluation of " + source_name_of(options), facts);
}

/// All files lie complete on the disk before the first is put in place.
Status write_outputs(const Options& options, const MetricsTable& table) {
    const bool force = options.has("force");
    std::vector<std::pair<std::filesystem::path, std::string>> contents;
    if (options.has("html"))
        contents.emplace_back(options.get<std::string>("html"), table_page(options, table));
    if (options.has("out")) {
        const Outputs outputs = outputs_in(options.get<std::string>("out"));
        contents.emplace_back(outputs.cases, cases_csv(table));
        contents.emplace_back(outputs.summary_csv, summary_csv(table));
        contents.emplace_back(outputs.sites, sites_csv(table));
        contents.emplace_back(outputs.summary, table_json(options, table) + "\n");
        contents.emplace_back(outputs.table, table_text(options, table));
    }
    std::vector<PendingFile> pending;
    for (const auto& [path, content] : contents) {
        MFRES_TRY(PendingFile file, PendingFile::write(path, bytes_of(content), force));
        pending.push_back(std::move(file));
    }
    std::vector<PendingFile*> all;
    for (PendingFile& file : pending)
        all.push_back(&file);
    return commit_all(all);
}

/// The words of --drop.
std::vector<std::string> dropped(const Options& options) {
    std::vector<std::string> words;
    for (const std::string& list : options.get_or_default<std::vector<std::string>>("drop"))
        for (const std::string& word : listed(list))
            words.push_back(word);
    return words;
}

bool drops_all(const Options& options) {
    return dropped(options) == std::vector<std::string>{"all"};
}

/// All contrasts but those that --drop names.
Result<ModalitySet> kept_contrasts(const Options& options) {
    ModalitySet kept = all_modalities;
    if (drops_all(options))
        return kept;
    for (const std::string& word : dropped(options)) {
        const auto found = std::find_if(modalities.begin(), modalities.end(),
                                        [&](Modality modality) { return name(modality) == word; });
        if (found == modalities.end())
            return Error{ErrorCode::invalid_argument,
                         text("--drop takes t1, t1ce, t2 and flair, or all by itself, not '", word, "'"), "drop"};
        kept[static_cast<std::size_t>(*found)] = false;
    }
    if (kept == ModalitySet{})
        return Error{ErrorCode::invalid_argument, "--drop leaves no contrast to the model", "drop"};
    return kept;
}

Result<EvaluationOptions> evaluation_options(const Options& options) {
    EvaluationOptions request;
    if (options.has("regions")) {
        MFRES_TRY(request.regions, parse_region_definition(options.get<std::string>("regions")));
    }
    if (options.has("scheme")) {
        MFRES_TRY(request.scheme, parse_empty_scheme(options.get<std::string>("scheme")));
    }
    MFRES_TRY(request.label_scheme, label_choice(options));
    request.prediction_scheme = options.get_or_default<std::string>("pred-labels");
    MFRES_CHECK(read_case_options(options, request.affine, request.resample));
    read_small_part_options(options, request);
    MFRES_TRY(request.contrasts, kept_contrasts(options));
    request.threads = options.get<int>("threads");
    return request;
}

/// A table says nothing about how it was made; what the user says about it is believed.
Result<MetricsTable> table_from_file(const Options& options, const EvaluationOptions& request) {
    MFRES_TRY(MetricsTable table, read_csv(options.get<std::string>("table")));
    if (options.has("regions"))
        table.definition = request.regions;
    if (options.has("scheme"))
        table = with_scheme(std::move(table), request.scheme);
    return table;
}

Result<MetricsTable> table_from_model(const Options& options, const EvaluationOptions& request,
                                      const Progress& progress) {
    MFRES_TRY(const SegmenterOptions setup, segmenter_options(options));
    MFRES_TRY(const auto cases, CaseSet::find(options.get<std::string>("data")));
    MFRES_TRY(const auto model, model_path(options));
    MFRES_TRY(Segmenter segmenter, Segmenter::open(model, setup));
    return evaluate_model(segmenter, cases, request, progress);
}

/// What --sites says; nothing without it.
Result<SiteTable> sites_of(const Options& options) {
    if (!options.has("sites"))
        return SiteTable();
    return read_sites(options.get<std::string>("sites"));
}

/// The name of the folder that the cases are in, for those whose ids tell no site; none for a table.
std::string source_of(const Options& options) {
    for (const char* folder : {"data", "ref"})
        if (options.has(folder))
            return source_name(options.get<std::string>(folder));
    return std::string(unknown_site);
}

Result<MetricsTable> measured_table(const Options& options, const EvaluationOptions& request,
                                    ProgressDisplay& display) {
    if (options.has("table"))
        return table_from_file(options, request);
    if (options.has("data"))
        return table_from_model(options, request, display.progress());
    return evaluate_folders(options.get<std::string>("pred"), options.get<std::string>("ref"), request,
                            display.progress());
}

Result<MetricsTable> make_table(const Options& options, ProgressDisplay& display) {
    MFRES_TRY(const EvaluationOptions request, evaluation_options(options));
    MFRES_TRY(const SiteTable sites, sites_of(options));
    MFRES_CHECK(prepare_outputs(options));
    MFRES_TRY(MetricsTable table, measured_table(options, request, display));
    set_sites(table, sites, source_of(options));
    return table;
}

/// Two predictions, or two tables, of the same cases; no files.
Result<TableComparison> comparison_of(const Options& options, ProgressDisplay& display) {
    MFRES_TRY(const EvaluationOptions request, evaluation_options(options));
    const std::string other = options.get<std::string>("compare");
    const char* const kind = options.has("table") ? "table" : "pred";
    const std::string first_name = options.get<std::string>(kind);
    MFRES_TRY(const MetricsTable first, measured_table(options, request, display));
    if (options.has("table")) {
        MFRES_TRY(const MetricsTable second, read_csv(other));
        return compare_tables(first, first_name, second, other);
    }
    MFRES_TRY(const MetricsTable second,
              evaluate_folders(other, options.get<std::string>("ref"), request, display.progress()));
    return compare_tables(first, first_name, second, other);
}

bool compares_precisions(const Options& options) {
    return options.get<std::string>("precision").find(',') != std::string::npos;
}

/// Several precisions: a row for each, no files.
Result<std::vector<PrecisionEvaluation>> precisions_of_model(const Options& options, ProgressDisplay& display) {
    MFRES_TRY(const EvaluationOptions request, evaluation_options(options));
    MFRES_TRY(const SegmenterOptions setup, segmenter_options(options, true));
    MFRES_TRY(const std::vector<Precision> wanted, precisions_of(options));
    MFRES_TRY(const SiteTable sites, sites_of(options));
    MFRES_TRY(const auto cases, CaseSet::find(options.get<std::string>("data")));
    MFRES_TRY(const auto model, model_path(options));
    MFRES_TRY(auto compared, evaluate_precisions(model, setup, wanted, cases, request, display.progress()));
    for (PrecisionEvaluation& of : compared)
        for (MetricsTable* table : {&of.against_reference, &of.against_f32})
            set_sites(*table, sites, source_of(options));
    return compared;
}

/// Every subset of the contrasts: a row for each, no files.
Result<std::vector<SubsetEvaluation>> subsets_of_model(const Options& options, ProgressDisplay& display) {
    MFRES_TRY(const EvaluationOptions request, evaluation_options(options));
    MFRES_TRY(const SegmenterOptions setup, segmenter_options(options));
    MFRES_TRY(const auto cases, CaseSet::find(options.get<std::string>("data")));
    MFRES_TRY(const auto model, model_path(options));
    MFRES_TRY(Segmenter segmenter, Segmenter::open(model, setup));
    return evaluate_subsets(segmenter, cases, request, display.progress());
}

/// The table, after it was written to the files of --out.
Result<MetricsTable> written_table(const Options& options, ProgressDisplay& display) {
    MFRES_TRY(MetricsTable table, make_table(options, display));
    MFRES_CHECK(write_outputs(options, table));
    return table;
}

/// Exactly one source, named completely.
bool sources_make_sense(const Options& options) {
    const bool files = options.has("pred") && options.has("ref");
    const bool model = options.has("data"); // --model may go with it
    const bool table = options.has("table");
    const int named = options.has("pred") + options.has("ref") + options.has("model") + options.has("data") + table;
    return (table && named == 1) || (files && named == 2) || (model && named == 1 + options.has("model"));
}

} // namespace

int evaluate(const std::vector<std::string>& arguments) {
    Options options = make_options();
    if (const auto done = options.parse(arguments))
        return *done;
    if (!sources_make_sense(options))
        return usage_error(
            "name what to evaluate in one way: --pred and --ref, --data with or without --model, or --table");
    if (compares_precisions(options) && (!options.has("data") || options.has("out")))
        return usage_error("several precisions are compared on --data, and printed (--json), not written with --out");
    if (options.has("drop") && !options.has("data"))
        return usage_error("--drop is for a model that is run on --data");
    if (drops_all(options) && (options.has("out") || compares_precisions(options)))
        return usage_error("the table of --drop all is printed (--json), for one precision and without --out");
    if (options.get<int>("worst") < 0)
        return usage_error("--worst must be 0 or more");
    if (options.has("compare") && (options.has("data") || options.has("out") || options.has("html")))
        return usage_error(
            "--compare is for two folders of label maps (--pred), or two tables (--table), and is printed "
            "(--json), without --out and --html");
    if (options.has("html") && (drops_all(options) || compares_precisions(options)))
        return usage_error("--html shows one evaluation, not a comparison");
    const auto print_result_of = [&](const auto& work) {
        const auto result = with_progress(options, [&](ProgressDisplay& display) { return work(options, display); });
        return print_report(options, result, [](const auto& of) { return to_markdown(of); });
    };
    if (options.has("compare"))
        return print_result_of(comparison_of);
    if (drops_all(options))
        return print_result_of(subsets_of_model);
    if (compares_precisions(options))
        return print_result_of(precisions_of_model);
    const auto table =
        with_progress(options, [&](ProgressDisplay& display) { return written_table(options, display); });
    if (!table)
        return fail(table.error(), options.has("json"));
    std::cout << (options.has("json") ? table_json(options, *table) + "\n" : table_text(options, *table));
    return exit_ok;
}

} // namespace mfres::cli
