// SPDX-License-Identifier: MIT
// The comparisons of the MF-RES2Net paper on other cases. Every row of its Table 1 (losses) or Table 2 (networks) is
// trained with the same recipe and budget, evaluated on held-out cases, and printed beside the
// published figures. An experiment may be stopped and resumed at any time.
//
//   auto report = mfres::run_experiment({.data = "BraTS2019/Training", .out = "table1"});
//   std::cout << mfres::to_markdown(*report);
//
// Files of an experiment: experiment.json (plan and data), train.mfcache, held-out.mfcache, table.md, table.json, and
// for every run a folder of <mfres/trainer.h> with train.json, cases.csv and summary.json. Table 2 also measures time
// and memory of one inference of each network (bench.json) and plots Dice over time: tradeoff.svg and tradeoff.png.
#pragma once

#include <mfres/complexity.h>
#include <mfres/metrics.h>
#include <mfres/network.h>
#include <mfres/plausibility.h>
#include <mfres/status.h>
#include <mfres/trainer.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// A table of the paper.
enum class ExperimentTable : std::uint8_t {
    table1, ///< MF-RES2Net trained with several losses
    table2, ///< several networks trained with the same recipe
};

inline constexpr std::array<ExperimentTable, 2> experiment_tables = {ExperimentTable::table1, ExperimentTable::table2};

/// "table1", "table2"
std::string_view to_string(ExperimentTable table) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
Result<ExperimentTable> parse_experiment_table(std::string_view text);

struct ExperimentOptions {
    ExperimentTable table = ExperimentTable::table1;
    DataSources data; ///< folders of segmented cases, e.g. BraTS 2019 with its HGG and LGG, and training caches
    /// The cases to evaluate; empty = every fifth patient of `data` is held out, see `ExperimentPlan::split`.
    DataSources validation;
    std::string fold;                   ///< "2/5": the part of `data` to hold out, as TrainerOptions::fold
    std::filesystem::path same_patient; ///< as TrainerOptions::same_patient
    std::filesystem::path out;          ///< the experiment's folder
    /// Names or JSON variants; empty = those of the paper. Table 1 takes exactly one.
    std::vector<std::string> networks;
    std::vector<std::string> losses; ///< table 1 only; empty = the paper's three
    /// JSON object of the recipe keys that differ from the paper's, without those that the experiment sets: network,
    /// seed, init_seed, and for table 1 loss.
    std::string recipe = "{}";
    std::uint64_t seed = 1; ///< of batches and initial weights; repeats use the following seeds
    int seeds = 1;          ///< repeats of every row
    ComputeOptions compute; ///< as in TrainerOptions; evaluations compute in f32
    int loader_threads = 1; ///< as in TrainerOptions
    /// Memory limit in bytes of one training, and of the network in an evaluation; 0 = the memory available when it
    /// starts. A run that needs more is skipped, and the table states it.
    std::int64_t max_memory = 0;
    std::string label_scheme{}; ///< of the segmentations: as `wanted` of choose_labels, for each folder
    AcceptedChecks accept{};    ///< checks that do not reject a case
    /// JSON object whose keys table.json has besides its own; table.md ends with its "program" and "date". Empty = neither
    /// is written.
    std::string provenance{};
};

/// A set of cases.
struct ExperimentCases {
    std::vector<std::string> ids;
    std::string fingerprint; ///< of their cache
};

/// A row of the table.
struct ExperimentRow {
    std::string name;    ///< label of the row and prefix of its runs' folders
    std::string network; ///< canonical JSON
    std::string loss;
};

/// The plan of an experiment. Equal plans give equal tables.
struct ExperimentPlan {
    ExperimentTable table = ExperimentTable::table1;
    std::vector<ExperimentRow> rows;
    std::string recipe; ///< canonical JSON of the keys that all runs have in common
    std::vector<std::uint64_t> seeds;
    std::string backend; ///< as requested, e.g. "auto"
    std::string split;   ///< how the held-out cases were chosen, as text
    ExperimentCases train;
    ExperimentCases held_out;
};

enum class RunState : std::uint8_t {
    waiting,  ///< not started
    begun,    ///< partly trained
    trained,  ///< not evaluated yet
    finished, ///< evaluated
    skipped,  ///< does not fit into memory, or the backend does not support its training
    failed,   ///< training diverged
};

/// "waiting", "begun", ...
std::string_view name(RunState state) noexcept;

/// Time and memory of one inference of a trained network on 4 x 128^3 voxels, on the machine that measured it.
struct PassCost {
    double milliseconds = 0.0; ///< median of a few runs; depends on the load of the machine
    double peak_mib = 0.0;     ///< weights, activations and workspace of the backend
    RunInfo used;
};

/// One training of one row.
struct ExperimentRun {
    std::string folder;  ///< in the experiment's folder: the name of the row, with -seedN if there are repeats
    std::size_t row = 0; ///< index into the plan's rows
    std::uint64_t seed = 1;
    RunState state = RunState::waiting;
    std::string reason;    ///< why it was skipped or failed
    std::int64_t step = 0; ///< steps trained
    // Of a trained run:
    double seconds = 0.0; ///< of training
    std::int64_t peak_bytes = 0;
    RunInfo used;
    std::optional<MetricsSummary> measured; ///< of a finished run
    std::optional<PassCost> cost;           ///< table 2 only; nullopt if the inference does not fit into memory
};

struct ExperimentReport {
    ExperimentPlan plan;
    std::vector<ExperimentRun> runs; ///< in execution order: every row with the first seed, then with the second, ...
    bool stopped = false;            ///< the observer asked to stop
    std::vector<std::string> warnings;
    std::vector<std::string> notes{}; ///< what the labels are read as, and on what evidence
    std::string provenance{};         ///< as in ExperimentOptions
};

/// A progress event. Members that do not belong to `kind` have their default values.
struct ExperimentEvent {
    enum class Kind : std::uint8_t {
        caching,    ///< `done` of `total` cases have been packed
        begin,      ///< a run starts or resumes
        training,   ///< see `training`
        evaluating, ///< `share` of a run's evaluation is done
        end,        ///< a run has ended, now or before; see `state` and `message`
    };
    Kind kind = Kind::begin;
    std::string run;
    std::size_t index = 0; ///< of the run, from 0
    std::size_t runs = 0;
    std::size_t done = 0;
    std::size_t total = 0;
    double share = 0.0;
    RunState state = RunState::waiting;
    std::string message;
    const TrainEvent* training = nullptr;
};

/// Called in the calling thread. Return false to stop: the training is saved, and run_experiment returns.
using ExperimentObserver = std::function<bool(const ExperimentEvent&)>;

/// Runs the experiment, or resumes the one in `options.out`: finished runs are kept, others continue from their
/// checkpoints. Networks, recipe, patch, cases (packing checks every one) and folder are checked before the first step.
/// The held-out cases have no influence on the training: each run keeps the weights of its last step. table.md and
/// table.json are written after each run.
/// Errors: invalid_argument (options; a patient or case in both sets; rows with equal names; the fold or the list of patients),
/// recipe_invalid (also a patch size that a network does not accept), network_unknown, json_invalid, variant_invalid, graph_invalid, backend_unknown,
/// backend_unavailable, those of CaseSet::find and of packing cases, dataset_empty (too few patients to hold one out),
/// file_exists (the folder is not empty and not an experiment), checkpoint_mismatch (it holds another experiment; the
/// message names the difference), interrupted (while packing), and those of Trainer and evaluate_model except
/// memory_limit, operation_unsupported, training_diverged and logits_not_finite, which end one run only.
Result<ExperimentReport> run_experiment(const ExperimentOptions& options, const ExperimentObserver& observer = {});

/// State of the experiment in a folder. Writes nothing.
/// Errors: file_not_found (no experiment), file_read, json_invalid (files not written by this library),
/// table_invalid, checkpoint_damaged.
Result<ExperimentReport> experiment_status(const std::filesystem::path& out);

/// A row's finished runs: statistics over the seeds of their means over the held-out cases.
Statistics over_seeds(const ExperimentReport& report, std::size_t row, TumourRegion region, Metric metric);

/// The lowest time of a row's runs; nullopt if none was measured.
std::optional<PassCost> cost_of(const ExperimentReport& report, std::size_t row);

/// The table with a caption that states data, cases, budget, seeds and backend. Published figures are separate columns.
std::string to_markdown(const ExperimentReport& report);

/// The table and all runs as a JSON object.
std::string to_json(const ExperimentReport& report);

} // namespace mfres
