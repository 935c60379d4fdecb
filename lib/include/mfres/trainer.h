// SPDX-License-Identifier: MIT
// Training of a network from segmented cases. A run has a folder of its own: recipe, checkpoints, measurements,
// their curve and the finished model. It can be stopped and resumed at any step, bit for bit.
//
//   auto trainer = mfres::Trainer::open({.data = "BraTS2019/Training", .run = "runs/first"});
//   auto report = trainer->run([](const mfres::TrainEvent& event) { return true; });
//
// Files of a run: recipe.json, metrics.csv, validation.csv, curve.svg, curve.png,
// last.ckpt, previous.ckpt, best.ckpt, model.safetensors; train.mfcache and val.mfcache where it was given folders.
#pragma once

#include <mfres/case.h>
#include <mfres/compute.h>
#include <mfres/export.h>
#include <mfres/normalisation.h>
#include <mfres/plausibility.h>
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
MFRES_EXPORT Result<std::shared_ptr<Communicator>> join_ranks();

/// One key of a training recipe's JSON.
struct RecipeField {
    std::string key;
    std::string allowed;  ///< "a number from 0 to 1"
    std::string standard; ///< the value used when the key is absent, as JSON
    std::string help;
};

/// Every key that a recipe may have.
MFRES_EXPORT std::vector<RecipeField> recipe_fields();

struct TrainerOptions {
    /// Training cases. Those of all sources are sorted by id; an id that occurs in two sources is rejected. Cases of
    /// folders are packed into a training cache in the run's folder; caches are read in place. On resume, empty = the
    /// cases that the run recorded; otherwise it must give the same cases.
    DataSources data;
    DataSources validation; ///< likewise, validated on during training; empty = none, or the fold
    /// "2/5": fold 2 of a 5-fold cross-validation. The patients of `data` that are in the fold are validated on, the
    /// others are trained on. Folds are made from the SHA-256 of the patients' ids. Empty = no fold.
    std::string fold;
    /// Text file with a line per patient with several scans: case ids, separated by spaces or commas; # begins a
    /// comment. Not needed for time points of BraTS 2023 and later, nor for the releases of BraTS 2017 to 2019.
    std::filesystem::path same_patient;
    /// CSV table (case,site) of the sites that validations are divided by; else what site_of (metrics.h) says.
    std::filesystem::path sites;
    std::filesystem::path run; ///< the run's folder
    /// Initial weights, for fine-tuning: a model file, or the name of weights that come with mfres. Adam's moments and step count start at 0. The network is that of
    /// the model; a recipe that names another one is rejected. Empty = random weights. Not with `resume`.
    std::filesystem::path init;
    /// Models, named likewise, whose mean probabilities the network is trained to predict (distillation); see the recipe's
    /// distill_weight. The recipe records their SHA-256; on resume they must be the same. Each rank loads them; their
    /// memory does not count for max_memory.
    std::vector<std::filesystem::path> teachers = {};
    /// JSON object of the recipe's keys that differ from the default, or on resume from what is recorded. On resume
    /// only steps, epochs and validate_every may differ.
    std::string recipe = "{}";
    /// Of each process. precision, tf32 and deterministic, where they differ from their defaults, replace the recipe's
    /// keys precision, allow_tf32 and deterministic. cpus, wait_policy and parallel_for are rejected (invalid_argument),
    /// because in training the backend has its own threads.
    ComputeOptions compute;
    int loader_threads = 1; ///< threads that prepare batches; 0 = prepared between the steps
    bool resume = false;    ///< continue from the last checkpoint of the run
    /// Stop after this step as if the observer had returned false; a validation that is due is done before. The
    /// learning rate schedule is still that of the whole recipe. 0 = train to its end.
    std::int64_t stop_at = 0;
    std::int64_t checkpoint_steps = 0; ///< steps between checkpoints, 0 = by time only
    double checkpoint_minutes = 10.0;  ///< minutes between checkpoints, 0 = by steps only
    std::int64_t log_steps = 10;       ///< steps that one row of metrics.csv sums up
    /// Limit of the peak memory of the compiled training in bytes (of the GPU if one trains; TrainReport::peak_bytes),
    /// 0 = no limit. Activations that do not fit are recomputed in the backward pass (rematerialisation), with bitwise
    /// identical results. If that is not enough: memory_limit, which names the smallest limit that is.
    std::int64_t max_memory = 0;
    /// Data-parallel training: each rank trains on an equal part of every batch. The result is that of one rank up to
    /// rounding. All ranks open and run a Trainer with the same options. Only the root rank writes to the run's folder
    /// and validates; observers of the others get `step` and `warning` only. Any observer stops all ranks, and an error
    /// on one rank is an error on all. Null = one rank.
    std::shared_ptr<Communicator> ranks;
    /// Of the segmentations in folders: as `wanted` of choose_labels, for each folder.
    std::string label_scheme{};
    AcceptedChecks accept{}; ///< checks that do not reject a case of a folder
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
MFRES_EXPORT std::vector<SiteDice> by_site(const Validation& validation);

/// A row of metrics.csv: it summarises the steps since the row before.
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

/// An event of a training. Members that do not belong to `kind` have their default value.
struct TrainEvent {
    enum class Kind : std::uint8_t {
        caching,    ///< `done` of `total` cases are in the cache
        step,       ///< a step is done
        row,        ///< and so is a row
        validating, ///< `done` of `total` cases are evaluated
        validated,  ///< `validation` is complete
        saved,      ///< a checkpoint was written
        warning,    ///< `message` is for the user
        note,       ///< `message` says what the labels of a folder are read as
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

/// The result of a run, or of a session of it.
struct TrainReport {
    std::string run;
    std::string network;
    RunInfo used;
    int ranks = 1;      ///< processes that trained together
    std::string recipe; ///< canonical JSON
    std::string fold;   ///< "2/5", or empty
    std::size_t cases = 0;
    std::size_t validation_cases = 0;
    std::int64_t first_step = 0;       ///< steps trained before this session
    std::int64_t step = 0;             ///< steps trained now
    std::int64_t steps = 0;            ///< in all
    std::int64_t skipped = 0;          ///< of the steps trained, those that overflowed in fp16 and changed nothing
    bool stopped = false;              ///< before its end, as the observer or `stop_at` asked
    double seconds = 0.0;              ///< since the run began, over all its sessions
    std::int64_t peak_bytes = 0;       ///< of the training executable
    std::int64_t recomputed_steps = 0; ///< ops that each backward pass recomputes, see max_memory
    std::int64_t recomputed_macs = 0;  ///< multiply-accumulates of these
    std::vector<TrainRow> rows;
    std::optional<Validation> best;
    std::optional<Validation> latest;
    std::string model; ///< the exported file, empty if the training is not complete
    std::vector<std::string> warnings;
};

/// The report as a JSON object.
MFRES_EXPORT std::string to_json(const TrainReport& report);

/// One run. One thread at a time may use a Trainer.
class MFRES_EXPORT Trainer {
  public:
    /// Checks everything that can be checked before the first step, locks the run's folder, makes the caches
    /// and compiles. The observer sees `caching` and `warning`.
    /// Errors: invalid_argument, recipe_invalid, those of find_model and load_model for `init` and `teachers`, file_exists (the folder
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

/// The GPUs that an option names: "all", a number ("2": the first two), or a list ("0,2"; "2," is one alone). Backend
/// "auto" is that of GPUs here. Errors: invalid_argument (no such words, a GPU twice), those of the backend's name,
/// backend_unavailable (there is no GPU, or not so many).
MFRES_EXPORT Result<std::vector<int>> find_devices(std::string_view backend, std::string_view words);

/// Trains on several GPUs of this computer: a Trainer for each, as ranks in threads of their own that divide every
/// batch, the root rank in this thread. `observer` is that of the root rank. Options are those of one rank, except that
/// compute.threads = 0 divides the processors among them. With one GPU it is a Trainer opened and run. Errors: those of
/// Trainer::open and Trainer::run, invalid_argument (no GPU, or ranks in the options).
MFRES_EXPORT Result<TrainReport> train_on_devices(const TrainerOptions& options, const std::vector<int>& devices,
                                                  const TrainObserver& observer = {});

/// The checkpoint that an exported model was made from.
struct ExportedModel {
    std::string network;
    std::int64_t step = 0;
    bool averaged = false; ///< the weights are the moving average
    std::optional<RegionDice> dice;
    std::vector<std::string> warnings;
};

/// How a model file stores the weights of convolutions.
enum class WeightDtype : std::uint8_t {
    f32,
    f16,  ///< in half the size
    bf16, ///< in half the size
    int8, ///< in a quarter of it; for a calibrated model
};
inline constexpr std::array<WeightDtype, 4> weight_dtypes = {WeightDtype::f32, WeightDtype::f16, WeightDtype::bf16,
                                                             WeightDtype::int8};

/// "f32", "f16", "bf16", "int8"
MFRES_EXPORT std::string_view to_string(WeightDtype dtype) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<WeightDtype> parse_weight_dtype(std::string_view text);

/// Writes the weights of a checkpoint file as a model; those of the moving average where there is one.
/// Errors: file_not_found, checkpoint_damaged, invalid_argument (int8: a checkpoint is not calibrated), those of
/// save_model.
MFRES_EXPORT Result<ExportedModel> export_checkpoint(const std::filesystem::path& checkpoint,
                                                     const std::filesystem::path& model, bool overwrite,
                                                     WeightDtype dtype = WeightDtype::f32);

/// What an averaged model was made of.
struct AveragedModel {
    std::string network;
    std::size_t models = 0;
};

/// Writes a model whose parameters, statistics of BatchNorm included, are the means of those of model files, of
/// weights that come with mfres, and of checkpoints (.ckpt; what an export of each would hold). `dtype` as of export_checkpoint.
/// Errors: invalid_argument (fewer than two sources; another network, input or label scheme than the first one's;
/// int8), those of load_model, file_not_found, checkpoint_damaged, those of save_model.
MFRES_EXPORT Result<AveragedModel> average_models(const std::vector<std::filesystem::path>& sources,
                                                  const std::filesystem::path& model, bool overwrite,
                                                  WeightDtype dtype = WeightDtype::f32);

/// A recipe with all its keys, and some of them as values.
struct RecipeDescription {
    std::string json; ///< canonical: every key, sorted
    std::string loss;
    std::array<std::int64_t, 3> crop{};
    std::int64_t batch = 0;
    std::int64_t total_steps = 0; ///< of a training on so many cases
    Normalisation normalisation = Normalisation::zscore_brain; ///< of the z-scores that it trains on
};

/// Checks a recipe, a JSON object of the keys that differ from the default. Errors: recipe_invalid.
MFRES_EXPORT Result<RecipeDescription> describe_recipe(std::string_view json, std::size_t cases = 1);

/// The JSON of a recipe with precision, tf32 and deterministic of the options in place of its own keys, where they are
/// not left at their defaults. Text that is no JSON object is returned as it is, for describe_recipe to reject.
MFRES_EXPORT std::string recipe_with(const std::string& recipe, const ComputeOptions& compute);

/// How far the training in a run's folder has come.
struct RunProgress {
    std::int64_t step = 0; ///< steps trained at the last checkpoint
    double seconds = 0.0;  ///< of training until then, over all its sessions
};

/// Reads the last checkpoint of a run's folder; nullopt if there is none, even where the folder does not exist.
/// Errors: checkpoint_damaged, file_read.
MFRES_EXPORT Result<std::optional<RunProgress>> run_progress(const std::filesystem::path& run);

} // namespace mfres
