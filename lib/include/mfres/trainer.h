// SPDX-License-Identifier: MIT
// Training of a network from segmented cases. A run has a folder of its own: recipe, checkpoints, measurements,
// their curve and the finished model. It can be stopped and resumed at any step, bit for bit.
//
//   auto trainer = mfres::Trainer::open({.data = "BraTS2019/Training", .run = "runs/first"});
//   auto report = trainer->run([](const mfres::TrainEvent& event) { return true; });
//
// Files of a run: recipe.json, metrics.csv, validation.csv, curve.svg (and curve.png where pictures can be drawn),
// last.ckpt, previous.ckpt, best.ckpt, model.safetensors; train.mfcache and val.mfcache where it was given folders.
#pragma once

#include <mfres/case.h>
#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mfres {

class Communicator;

/// The processes that a launcher (mpirun, srun, torchrun and its like) started together with this one, joined through
/// MPI, or through sockets where MASTER_ADDR and MASTER_PORT say that the first one listens; each of them calls this
/// once. Without a launcher a process is alone. For TrainerOptions::ranks.
/// Errors: invalid_argument (the launcher's variables contradict each other), backend_unavailable (several processes,
/// this build has no MPI, and no rendezvous is given), backend_failed (MPI fails, or finds another number of
/// processes than the launcher; or not all of them connect).
Result<std::shared_ptr<Communicator>> join_ranks();

/// One key of a training recipe's JSON.
struct RecipeField {
    std::string key;
    std::string allowed;  ///< "a number from 0 to 1"
    std::string standard; ///< the value used when the key is absent, as JSON
    std::string help;
};

/// Every key that a recipe may have.
std::vector<RecipeField> recipe_fields();

struct TrainerOptions {
    /// What is trained on. Cases of several sources are taken in the order of their ids, whatever that of the sources;
    /// a case that occurs in two of them is rejected. Cases of folders are packed into a cache in the run's folder,
    /// caches are read in place. On resume empty = what the run recorded; anything else must be the same cases.
    DataSources data;
    DataSources validation; ///< likewise, evaluated while training; empty = none, or the fold
    /// "2/5": of the patients in `data`, part 2 of 5 is validated on and the others are trained on. Parts are made by
    /// the SHA-256 of the ids, so that five runs of 1/5 to 5/5 validate every patient once. Empty = no fold.
    std::string fold;
    /// Text file with a line per patient that has several scans: their case ids, spaces or commas between, # before a
    /// comment. Time points of BraTS 2023 and later, and the names of BraTS 2017 to 2019, need no such line.
    std::filesystem::path same_patient;
    /// CSV table (case,site) of the sites that validations are divided by; else what site_of (metrics.h) says.
    std::filesystem::path sites;
    std::filesystem::path run; ///< the run's folder
    /// A model file whose weights training starts from, with new moments of Adam and its step counted from 1; its
    /// network is the recipe's unless that names another, which is rejected. Empty = new weights. Not with `resume`.
    std::filesystem::path init;
    /// Model files whose mean probabilities the network is trained to predict (distillation); see the recipe's
    /// distill_weight. The recipe records their SHA-256, and a run is resumed with the same ones alone. Each rank reads
    /// them; what they hold is not part of memory_cap.
    std::vector<std::filesystem::path> teachers = {};
    /// JSON object of the recipe's keys that differ from the default, or on resume from what is recorded. On resume
    /// only steps, epochs and validate_every may differ.
    std::string recipe = "{}";
    std::string backend = "auto"; ///< "auto" = the first of available_backends()
    int threads = 0;              ///< 0 = all processors this process may use
    int loader_threads = 1;       ///< that make batches; 0 = made between the steps
    bool resume = false;          ///< continue from the last checkpoint of the run
    /// Stop, as if the observer had asked for it, once so many steps are trained (and validated, where that is due):
    /// the schedule stays that of the recipe. 0 = at its end.
    std::int64_t stop_at = 0;
    std::int64_t checkpoint_steps = 0; ///< steps between checkpoints, 0 = by time only
    double checkpoint_minutes = 10.0;  ///< minutes between checkpoints, 0 = by steps only
    std::int64_t row_steps = 10;       ///< steps that one row of metrics.csv sums up
    /// Bytes that the compiled training (TrainReport::peak_bytes: of the GPU where one trains) may hold, 0 = no limit.
    /// What does not fit is computed a second time in the backward pass, which changes no bit of the result;
    /// memory_limit (names the least that would do) where that is not enough.
    std::int64_t memory_cap = 0;
    /// Processes (ranks) that train one network together, each on its equal part of every batch: the result is that of
    /// one process up to rounding. All of them open and run a Trainer with the same options. The first one alone writes
    /// to the run's folder and validates; observers of the others see `step` and `warning` only, and any of them stops
    /// all. An error on one is an error of all. Null = this process alone.
    std::shared_ptr<Communicator> ranks;
    /// Which GPU of the backend, counted from 0. Unset: the launcher's number of this process among those of its
    /// computer, modulo the number of GPUs that it sees.
    std::optional<int> device;
};

/// Dice of the nested regions whole tumour, tumour core, enhancing tumour (BraTS definition), 0..1.
using RegionDice = std::array<double, 3>;

/// A validation of the whole set, or of one case.
struct ValidationCase {
    std::string id;
    RegionDice dice{};
    std::string site{};
};
struct Validation {
    std::int64_t step = 0; ///< steps trained when it was done
    RegionDice mean{};
    std::vector<ValidationCase> cases;
    double seconds = 0.0;

    double score() const { return (mean[0] + mean[1] + mean[2]) / 3.0; }
};

/// The cases of one site in a validation.
struct SiteDice {
    std::string site;
    std::size_t cases = 0;
    RegionDice mean{};

    double score() const { return (mean[0] + mean[1] + mean[2]) / 3.0; }
};

/// The means of every site, in the order of their names.
std::vector<SiteDice> by_site(const Validation& validation);

/// What metrics.csv has a row of: the steps since the row before.
struct TrainRow {
    std::int64_t step = 0;      ///< steps trained so far
    double loss = 0.0;          ///< mean
    double learning_rate = 0.0; ///< of the last step
    double gradient_norm = 0.0; ///< mean, before clipping, over the steps that were not skipped; 0 if all were
    double seconds = 0.0;       ///< of training and validation since the run began, over all its sessions
    double voxels_per_second = 0.0;
    double wait_share = 0.0; ///< of the training time spent waiting for batches
    std::optional<RegionDice> dice;
    std::int64_t skipped = 0; ///< steps whose gradients overflowed in fp16: they changed no weight
};

/// Something that happened while training; what does not belong to `kind` is left at its default.
struct TrainEvent {
    enum class Kind : std::uint8_t {
        caching,    ///< `done` of `total` cases are in the cache
        step,       ///< a step is done
        row,        ///< and so is a row
        validating, ///< `done` of `total` cases are evaluated
        validated,  ///< `validation` is complete
        saved,      ///< a checkpoint was written
        warning,    ///< `message` is for the user
    };
    Kind kind = Kind::step;
    std::int64_t step = 0;         ///< steps trained so far
    std::int64_t steps = 0;        ///< in all
    double epoch = 0.0;            ///< passes over the cases so far
    double loss = 0.0;             ///< of this step
    double seconds_per_step = 0.0; ///< mean over this session
    double seconds_left = 0.0;     ///< estimate for the training that remains
    std::size_t done = 0;
    std::size_t total = 0;
    const TrainRow* row = nullptr;
    const Validation* validation = nullptr;
    bool best = false; ///< of `validated`: better than all before
    std::string message;
};

/// Called in the thread that trains. Return false to stop: the state is saved and run() returns.
using TrainObserver = std::function<bool(const TrainEvent&)>;

/// What became of a run.
struct TrainReport {
    std::string run;
    std::string network;
    std::string backend;        ///< e.g. "onednn"
    std::string backend_engine; ///< e.g. "oneDNN 2.6.3"
    int threads = 0;            ///< of each process
    int ranks = 1;              ///< processes that trained together
    std::string recipe;         ///< canonical JSON
    std::string fold;           ///< "2/5", or empty
    std::size_t cases = 0;
    std::size_t validation_cases = 0;
    std::int64_t first_step = 0;       ///< steps trained before this session
    std::int64_t step = 0;             ///< steps trained now
    std::int64_t steps = 0;            ///< in all
    std::int64_t skipped = 0;          ///< of the steps trained, those that overflowed in fp16 and changed nothing
    bool stopped = false;              ///< before its end, as the observer or `stop_at` asked
    double seconds = 0.0;              ///< since the run began, over all its sessions
    std::int64_t peak_bytes = 0;       ///< of the training executable
    std::int64_t recomputed_steps = 0; ///< operations that the backward pass does a second time to hold no more
    std::int64_t recomputed_macs = 0;  ///< multiply-accumulates of these
    std::vector<TrainRow> rows;
    std::optional<Validation> best;
    std::optional<Validation> latest;
    std::string model; ///< the exported file, empty if the training is not complete
    std::vector<std::string> warnings;
};

/// The report as a JSON object.
std::string to_json(const TrainReport& report);

/// One run. One thread at a time may use a Trainer.
class Trainer {
  public:
    /// Checks everything that can be checked before the first step, locks the run's folder, makes the caches
    /// and compiles. The observer sees `caching` and `warning`.
    /// Errors: invalid_argument, recipe_invalid, those of load_model for `init` and `teachers`, file_exists (the folder
    /// is not empty and `resume` is off), file_not_found (nothing to resume there), file_write (another process trains
    /// there), checkpoint_damaged, checkpoint_mismatch (another recipe, or other data: the message has both
    /// fingerprints), invalid_argument (a case that occurs twice; a patient that is trained on and validated on; the
    /// fold or the list of patients), dataset_empty (too few patients for the fold), table_invalid (the sites), those
    /// of write_cache and Cache::open, backend_unknown, backend_unavailable, operation_unsupported, memory_limit,
    /// interrupted; with several ranks recipe_invalid for a batch that has no equal parts, and the error of any other
    /// rank.
    static Result<Trainer> open(const TrainerOptions& options, const TrainObserver& observer = {});

    Trainer(Trainer&&) noexcept;
    Trainer& operator=(Trainer&&) noexcept;
    ~Trainer();

    /// Trains to the end or until the observer stops it; a complete training ends with the export of the best model.
    /// Errors: training_diverged (names the step; checkpoints are left as they were), file_read, cache_damaged,
    /// file_write, memory_limit, backend_failed; with several ranks the error of any other rank.
    Result<TrainReport> run(const TrainObserver& observer = {});

  private:
    struct State;
    explicit Trainer(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// The GPUs that words name: "all", a number ("2": the first two), or a list ("0,2"; "2," is one alone).
/// Errors: invalid_argument (no such words, a GPU twice), those of the backend's name, backend_unavailable (it has not
/// so many GPUs).
Result<std::vector<int>> find_devices(std::string_view backend, std::string_view words);

/// Trains on several GPUs of this computer: a Trainer for each, as ranks in threads of their own that divide every
/// batch, the first one in this thread. `observer` is told what the first one does. Options are those of one rank, but
/// that threads = 0 shares the processors out. With one GPU it is a Trainer opened and run. Errors: those of
/// Trainer::open and Trainer::run, invalid_argument (no GPU, or ranks in the options).
Result<TrainReport> train_on_devices(const TrainerOptions& options, const std::vector<int>& devices,
                                     const TrainObserver& observer = {});

/// What an exported model came from.
struct ExportedModel {
    std::string network;
    std::int64_t step = 0;
    bool averaged = false; ///< the weights are the moving average
    std::optional<RegionDice> dice;
    std::vector<std::string> warnings;
};

/// Writes the weights of a checkpoint file as a model; those of the moving average where there is one. Weights of
/// convolutions are stored as `storage`: "f32", or "f16" or "bf16" in half the size.
/// Errors: file_not_found, checkpoint_damaged, invalid_argument (another storage), those of save_model.
Result<ExportedModel> export_checkpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& model,
                                        bool overwrite, std::string_view storage = "f32");

/// What an averaged model was made of.
struct AveragedModel {
    std::string network;
    std::size_t models = 0;
};

/// Writes a model whose parameters, statistics of BatchNorm included, are the means of those of model files and of
/// checkpoints (.ckpt; what an export of each would hold). `storage` as of export_checkpoint.
/// Errors: invalid_argument (fewer than two sources; another network, input or label scheme than the first one's;
/// another storage), those of load_model, file_not_found, checkpoint_damaged, those of save_model.
Result<AveragedModel> average_models(const std::vector<std::filesystem::path>& sources,
                                     const std::filesystem::path& model, bool overwrite,
                                     std::string_view storage = "f32");

} // namespace mfres
