// SPDX-License-Identifier: MIT
#include "option_groups.h"
#include "recipe_text.h"
#include "run_and_print.h"
#include "train_display.h"

#include "core/try.h"
#include "paper/experiment.h"

#include <algorithm>
#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Repeats a comparison of the MF-RES2Net paper on your cases, and prints the results beside the published figures.\n"
    "table1: MF-RES2Net trained with each of the paper's three losses. table2: all networks of the paper's comparison.\n"
    "Every row has the same recipe and budget (by default the paper's), is trained in its own folder below --out, and is\n"
    "evaluated on the held-out cases like `mfres evaluate` does. Without --val every fifth patient is held out, in the\n"
    "order of the SHA-256 of their ids, because BraTS's validation cases have no labels; --fold 2/5 holds out the second\n"
    "of five such parts instead of the first.\n"
    "Ctrl-C saves and stops. The same command resumes: finished runs are kept, others continue from their checkpoints;\n"
    "different options are rejected. Runs that do not fit into memory are skipped, and the table states it.\n"
    "Research use only: not a medical device.";

constexpr const char* examples =
    "Examples:\n"
    "  The paper's tables, from a BraTS 2019 folder with its HGG and LGG:\n"
    "  mfres experiment table1 --data MICCAI_BraTS_2019_Data_Training --out table1\n"
    "  mfres experiment table2 --data MICCAI_BraTS_2019_Data_Training --out table2 --seeds 3\n\n"
    "  A small trial of a few minutes (its Dice has no meaning):\n"
    "  for i in 1 2 3 4 5 6; do mfres phantom --seed $i --size 160,192,144 --out trial/data/case$i; done\n"
    "  mfres experiment table2 --data trial/data --out trial/table2 --steps 20 --patch 32 --batch 2 \\\n"
    "      --networks mf-res2net,dmfnet\n"
    "  mfres experiment --status --out trial/table2\n"
    "  cat trial/table2/table.md\n\n"
    "A recipe file is that of `mfres train` without network and seeds: {\"learning_rate\": 0.002, \"clip_norm\": 5}.\n";

Options make_options() {
    Options options("experiment table1|table2 --data FOLDER|CACHE ... --out FOLDER", about, examples);
    options.positional("table");
    // clang-format off
    options.add()
        ("table", po::value<std::string>(), "table1 (losses) or table2 (networks)")
        ("data", po::value<std::vector<std::string>>()->multitoken(), "folders of segmented cases, which may have HGG and LGG below them, and training caches (.mfcache)")
        ("val", po::value<std::vector<std::string>>()->multitoken(), "likewise: the cases to evaluate (default every fifth patient of --data)")
        ("fold", po::value<std::string>(), "hold out part 2 of 5 of --data (2/5) instead; by patient")
        ("same-patient", po::value<std::string>(), "file with a line per patient: the case ids of its scans")
        ("out,o", po::value<std::string>()->required(), "folder of the experiment")
        ("networks", po::value<std::string>(), "names or JSON files of variants, separated by commas; table1 takes one (default mf-res2net)")
        ("losses", po::value<std::string>(), "table1: names separated by commas; default dice,gdl,weighted-tversky")
        ("recipe", po::value<std::string>(), "JSON file of a recipe; other keys have the paper's values")
        ("steps", po::value<std::int64_t>(), "training steps of every run, instead of 500 epochs")
        ("patch", po::value<std::string>(), "voxels of a training patch: 96 or 96,112,80; default 128")
        ("batch", po::value<std::int64_t>(), "patches per step; default 8")
        ("seed", po::value<std::uint64_t>()->default_value(1), "of weights and batches")
        ("seeds", po::value<int>()->default_value(1), "repeats with the following seeds: mean and spread in the table")
        ("loader-threads", po::value<int>()->default_value(1), "that prepare batches; 0 = between the steps")
        ("status", "show the state of the experiment in --out");
    // clang-format on
    add_label_options(options, "auto");
    add_compute_options(options);
    add_accept_option(options);
    add_max_memory_option(options,
                          "memory limit of one run, e.g. 16G; larger runs are skipped (default the available memory)");
    add_report_options(options);
    return options;
}

// ---- options --------------------------------------------------------------------------------------------------------

Result<std::string> recipe_of(const Options& options) {
    Json changes = Json::object();
    for (const char* key : {"steps", "batch"})
        if (options.has(key))
            changes[key] = options.get<std::int64_t>(key);
    if (options.has("patch")) {
        MFRES_TRY(changes["crop"], parse_size(options.get<std::string>("patch")));
    }
    return recipe_text(options.get_or_default<std::string>("recipe"), changes);
}

Result<ExperimentOptions> experiment_options(const Options& options) {
    ExperimentOptions chosen;
    MFRES_TRY(chosen.table, parse_experiment_table(options.get_or_default<std::string>("table")));
    chosen.data = options.paths("data");
    chosen.validation = options.paths("val");
    MFRES_TRY(chosen.accept, accepted_checks(options));
    chosen.fold = options.get_or_default<std::string>("fold");
    chosen.same_patient = options.get_or_default<std::string>("same-patient");
    chosen.out = options.get<std::string>("out");
    for (const std::string& network : listed(options.get_or_default<std::string>("networks"))) {
        MFRES_TRY(chosen.networks.emplace_back(), network_text(network));
    }
    chosen.losses = listed(options.get_or_default<std::string>("losses"));
    MFRES_TRY(chosen.recipe, recipe_of(options));
    MFRES_TRY(chosen.label_scheme, label_choice(options));
    chosen.seed = options.get<std::uint64_t>("seed");
    chosen.seeds = options.get<int>("seeds");
    MFRES_TRY(chosen.compute, compute_options(options));
    chosen.loader_threads = options.get<int>("loader-threads");
    MFRES_TRY(chosen.max_memory, max_memory_of(options));
    chosen.provenance = provenance(options).dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    return chosen;
}

// ---- output ---------------------------------------------------------------------------------------------

/// "finished  WT 0.701  TC 0.650  ET 0.612  mean 0.654"
std::string state_words(const ExperimentRun& run) {
    std::string words(name(run.state));
    if (run.state == RunState::begun)
        words += text(" (step ", run.step, ")");
    if (run.measured) {
        RegionDice dice{};
        for (const TumourRegion region : tumour_regions)
            dice[static_cast<std::size_t>(region)] = run.measured->at(region, Metric::dice).mean.value_or(0.0);
        words += "  " + dice_words(dice);
    }
    return words + (run.reason.empty() ? "" : ": " + run.reason);
}

void print_runs(const ExperimentReport& report) {
    for (const ExperimentRun& run : report.runs)
        std::cout << "  " << run.folder << "  " << state_words(run) << '\n';
}

/// The display of a training, after a line that names the run.
class ExperimentDisplay {
  public:
    explicit ExperimentDisplay(bool quiet) : training_(quiet), evaluation_(quiet) {}

    bool show(const ExperimentEvent& event) {
        using Kind = ExperimentEvent::Kind;
        const std::string run = text("[", event.index + 1, "/", event.runs, "] ", event.run);
        if (event.kind == Kind::caching)
            training_.bar(event.done, event.total, text("cases into the cache, ", event.done, " of ", event.total));
        if (event.kind == Kind::begin)
            training_.line(run + (event.state == RunState::waiting ? "" : text(" resumes (", name(event.state), ")")));
        if (event.kind == Kind::training)
            return training_.show(*event.training);
        if (event.kind == Kind::evaluating) {
            training_.clear();
            evaluation_.set_label(run);
            return evaluation_.update("evaluate", event.share);
        }
        if (event.kind == Kind::end) {
            const bool lost = event.state == RunState::skipped || event.state == RunState::failed;
            clear();
            training_.line(text(lost ? "mfres: warning: " : "", run, ' ', name(event.state),
                                event.message.empty() ? "" : ": " + event.message),
                           lost);
        }
        return !stop_requested();
    }

    void clear() {
        training_.clear();
        evaluation_.clear();
    }

  private:
    TrainDisplay training_;
    ProgressDisplay evaluation_;
};

int show_status(const Options& options) {
    const std::string out = options.get<std::string>("out");
    const auto report = experiment_status(out);
    if (!report)
        return fail(report.error(), options.has("json"));
    if (options.has("json")) {
        std::cout << with_provenance(options, to_json(*report)) << '\n';
        return exit_ok;
    }
    const auto finished = std::count_if(report->runs.begin(), report->runs.end(),
                                        [](const ExperimentRun& run) { return run.state == RunState::finished; });
    std::cout << out << ": " << to_string(report->plan.table) << ", " << finished << " of " << report->runs.size()
              << " runs finished\n";
    print_runs(*report);
    return exit_ok;
}

/// Prints the report; if stopped, the state of the runs. Returns the exit code.
int finish(const ExperimentReport& report, const Options& options) {
    if (!options.has("json") && !options.has("quiet"))
        for (const std::string& note : report.notes)
            std::cerr << note << '\n';
    if (options.has("json"))
        std::cout << with_provenance(options, to_json(report)) << '\n';
    else if (!report.stopped)
        std::cout << to_markdown(report);
    if (report.stopped) {
        if (!options.has("json")) {
            std::cout << options.get<std::string>("out") << ": stopped and saved; the same command resumes\n";
            print_runs(report);
        }
        return exit_interrupted;
    }
    const bool any = std::any_of(report.runs.begin(), report.runs.end(),
                                 [](const ExperimentRun& run) { return run.state == RunState::finished; });
    return any ? exit_ok : exit_resources;
}

} // namespace

int experiment(const std::vector<std::string>& arguments) {
    Options options = make_options();
    if (const auto done = options.parse(arguments))
        return *done;
    if (options.has("status"))
        return show_status(options);
    if (!options.has("table") || !options.has("data"))
        return usage_error("an experiment is named table1 or table2, and --data names folders or caches of its cases");
    const auto chosen = experiment_options(options);
    if (!chosen)
        return fail(chosen.error(), options.has("json"));

    watch_signals();
    ExperimentDisplay display(options.has("quiet"));
    const auto report = run_experiment(*chosen, [&](const ExperimentEvent& event) { return display.show(event); });
    display.clear();
    if (!report)
        return fail(report.error(), options.has("json"));
    return finish(*report, options);
}

} // namespace mfres::cli
