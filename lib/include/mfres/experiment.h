// The comparisons of the MF-RES2Net paper, repeated on cases of one's own: every row of its Table 1 (losses) or Table 2
// (networks) is trained with the same recipe and budget, evaluated on held-out cases from their files, and printed
// beside what was published. It may be stopped and begun again at any time.
//
//   auto report = mfres::run_experiment({.data = "BraTS2019/Training", .out = "table1"});
//   std::cout << mfres::to_markdown(*report);
//
// Files of an experiment: experiment.json (what was asked for, and of which data), train.mfcache, held-out.mfcache,
// table.md, table.json, and for every run a folder of <mfres/trainer.h> with train.json, cases.csv and summary.json.
// Table 2 also measures what a pass of each network costs (bench.json) and draws Dice over it: tradeoff.svg, and
// tradeoff.png where pictures can be drawn.
#pragma once

#include <mfres/complexity.h>
#include <mfres/metrics.h>
#include <mfres/network.h>
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

/// Which of the paper's tables.
enum class ExperimentTable : std::uint8_t {
    table1, ///< MF-RES2Net trained with several losses
    table2, ///< several networks trained alike
};

/// "table1", "table2"
std::string_view name(ExperimentTable table) noexcept;

/// The table of that name. Errors: invalid_argument.
Result<ExperimentTable> experiment_table(std::string_view table_name);

struct ExperimentOptions {
    ExperimentTable table = ExperimentTable::table1;
    std::filesystem::path data; ///< folder of segmented cases, e.g. BraTS 2019 with its HGG and LGG
    /// Folder of the cases to evaluate; empty = every fifth patient of `data` is held out, see `ExperimentPlan::split`.
    std::filesystem::path validation;
    std::string fold;                   ///< "2/5": the part of `data` to hold out, as TrainerOptions::fold
    std::filesystem::path same_patient; ///< as TrainerOptions::same_patient
    std::filesystem::path out;          ///< the experiment's folder
    /// Names or JSON variants; empty = those of the paper. Table 1 takes exactly one.
    std::vector<std::string> networks;
    std::vector<std::string> losses; ///< table 1 only; empty = the paper's three
    /// JSON object of the recipe's keys that differ from the paper's. Without what the experiment itself decides:
    /// network, seed, init_seed, and for table 1 loss.
    std::string recipe = "{}";
    std::uint64_t seed = 1; ///< of batches and initial weights; repeats take the seeds that follow
    int seeds = 1;          ///< repeats of every row
    std::string backend = "auto";
    int threads = 0;        ///< 0 = all processors this process may use
    int loader_threads = 1; ///< as in TrainerOptions
    /// Bytes that one training, and the network of one evaluation, may hold; 0 = what the system has left when it
    /// begins. A run that needs more is skipped, and the table says so.
    std::int64_t max_memory = 0;
};

/// A set of cases.
struct ExperimentCases {
    std::vector<std::string> ids;
    std::string fingerprint; ///< of the cache made of them
};

/// A row of the table.
struct ExperimentRow {
    std::string name;    ///< what the row shows, and how its runs' folders begin
    std::string network; ///< canonical JSON
    std::string loss;
};

/// What is done: equal plans give equal tables.
struct ExperimentPlan {
    ExperimentTable table = ExperimentTable::table1;
    std::vector<ExperimentRow> rows;
    std::string recipe; ///< canonical JSON of what all runs share
    std::vector<std::uint64_t> seeds;
    std::string backend; ///< as asked for, e.g. "auto"
    std::string split;   ///< how the held-out cases were chosen, in words
    ExperimentCases train;
    ExperimentCases held_out;
};

enum class RunState : std::uint8_t {
    waiting,  ///< not begun
    begun,    ///< trained in part
    trained,  ///< not evaluated yet
    finished, ///< evaluated
    skipped,  ///< does not fit into memory, or the backend cannot train it
    failed,   ///< training diverged
};

/// "waiting", "begun", ...
std::string_view name(RunState state) noexcept;

/// What one pass of a trained network over 4 x 128^3 voxels costs where it was measured.
struct PassCost {
    double milliseconds = 0.0; ///< median of a few runs; a busy machine makes it longer
    double peak_mib = 0.0;     ///< weights, activations and scratch memory that the backend holds
    std::string engine;        ///< e.g. "oneDNN 2.6.3"
    int threads = 0;
};

/// One training of one row.
struct ExperimentRun {
    std::string folder;  ///< in the experiment's folder: the row's name, with -seedN where there are repeats
    std::size_t row = 0; ///< index into the plan's rows
    std::uint64_t seed = 1;
    RunState state = RunState::waiting;
    std::string reason;    ///< why it was skipped or failed
    std::int64_t step = 0; ///< steps trained
    // Of a trained run:
    double seconds = 0.0; ///< of training
    std::int64_t peak_bytes = 0;
    std::string backend_engine; ///< e.g. "oneDNN 2.6.3"
    int threads = 0;
    std::optional<MetricsSummary> measured; ///< of a finished run
    std::optional<PassCost> cost;           ///< of one of table 2; nothing where a pass does not fit into memory
};

struct ExperimentReport {
    ExperimentPlan plan;
    std::vector<ExperimentRun> runs; ///< in the order in which they are done: every row with the first seed, ...
    bool stopped = false;            ///< the observer asked to stop
    std::vector<std::string> warnings;
};

/// Something that happened; what does not belong to `kind` is left at its default.
struct ExperimentEvent {
    enum class Kind : std::uint8_t {
        caching,    ///< `done` of `total` cases are in a cache
        begin,      ///< a run begins, or goes on
        training,   ///< `training` tells what
        evaluating, ///< `share` of a run's evaluation is done
        end,        ///< of a run, or it had ended before; `state` and `message` tell how
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

/// Called in the calling thread. Return false to stop: what is trained is saved, and run_experiment returns.
using ExperimentObserver = std::function<bool(const ExperimentEvent&)>;

/// Runs the experiment, or goes on with the one in `options.out`: finished runs are kept, unfinished ones go on from
/// their checkpoints. Everything that can be rejected is rejected before the first step: networks, recipe and patch,
/// the cases (packing checks every one), and a folder that holds another experiment. The held-out cases decide nothing
/// while training: each run's weights are those of its last step. table.md and table.json are written after each run.
/// Errors: invalid_argument (options; a patient on both sides; rows of one name; the fold or the list of patients), recipe_invalid (also a patch that a
/// network cannot take), network_unknown, json_invalid, variant_invalid, graph_invalid, backend_unknown,
/// backend_unavailable, those of find_cases and of packing cases, dataset_empty (too few patients to hold any out),
/// file_exists (the folder is not empty and no experiment), checkpoint_mismatch (it holds another experiment; the
/// message names the difference), interrupted (while packing), and those of Trainer and evaluate_model but for
/// memory_limit, operation_unsupported, training_diverged and logits_not_finite, which end one run only.
Result<ExperimentReport> run_experiment(const ExperimentOptions& options, const ExperimentObserver& observer = {});

/// What the experiment in a folder has come to; reads only.
/// Errors: file_not_found (no experiment there), file_read, json_invalid (files that this library did not write),
/// table_invalid, checkpoint_damaged.
Result<ExperimentReport> experiment_status(const std::filesystem::path& out);

/// A row's finished runs: statistics over the seeds of their means over the held-out cases.
Statistics over_seeds(const ExperimentReport& report, std::size_t row, TumourRegion region, Metric metric);

/// A row's passes: the fastest one measured, nothing where there is none.
std::optional<PassCost> cost_of(const ExperimentReport& report, std::size_t row);

/// The table under a caption that tells data, cases, budget, seeds and backend; published figures and ours apart.
std::string to_markdown(const ExperimentReport& report);

/// The same and everything per run as a JSON object.
std::string to_json(const ExperimentReport& report);

} // namespace mfres
