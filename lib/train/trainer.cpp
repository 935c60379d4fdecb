// SPDX-License-Identifier: MIT
// One training run, top to bottom: claim the folder, open the data, compile, then step by step until the end.
#include <mfres/trainer.h>

#include "backends/distributed/communicator.h"
#include "backends/training.h"
#include "core/file.h"
#include "core/format.h"
#include "core/guard.h"
#include "core/memory_usage.h"
#include "core/parallel.h"
#include "core/try.h"
#include "model/model.h"
#include "model/sha256.h"
#include "networks/deep_supervision.h"
#include "report/plot.h"
#include "train/average.h"
#include "train/checkpoint_model.h"
#include "train/feed.h"
#include "train/history.h"
#include "train/loss.h"
#include "train/recipe.h"
#include "train/run_data.h"
#include "train/run_folder.h"
#include "train/teachers.h"
#include "train/validation.h"
#include "train/weight_dtype.h"

#include <chrono>
#include <cmath>
#include <new>
#include <utility>

namespace mfres {

using nlohmann::json;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

Status check_options(const TrainerOptions& options) {
    const auto invalid = [](std::string_view option, double value, std::string_view allowed) {
        return Error{ErrorCode::invalid_argument, text(option, " is ", value, ", allowed is ", allowed),
                     std::string(option)};
    };
    const ComputeOptions& compute = options.compute;
    if (compute.threads < 0 || compute.threads > 4096)
        return invalid("threads", compute.threads, "0 to 4096");
    if (!compute.cpus.empty() || compute.wait_policy != WaitPolicy::automatic || compute.parallel_for)
        return Error{ErrorCode::invalid_argument,
                     "threads of a training are the backend's: cpus, wait_policy and parallel_for are not for it; "
                     "taskset pins the whole process",
                     "cpus"};
    if (options.loader_threads < 0 || options.loader_threads > 256)
        return invalid("loader_threads", options.loader_threads, "0 to 256");
    if (options.checkpoint_steps < 0)
        return invalid("checkpoint_steps", static_cast<double>(options.checkpoint_steps), "0 or more");
    if (!(options.checkpoint_minutes >= 0))
        return invalid("checkpoint_minutes", options.checkpoint_minutes, "0 or more");
    if (options.stop_at < 0)
        return invalid("stop_at", static_cast<double>(options.stop_at), "0 or more");
    if (options.log_steps < 1)
        return invalid("log_steps", static_cast<double>(options.log_steps), "1 or more");
    if (options.max_memory < 0)
        return invalid("max_memory", static_cast<double>(options.max_memory), "0 or more");
    if (options.run.empty())
        return Error{ErrorCode::invalid_argument, "a training run needs a folder of its own", "run"};
    if (!options.init.empty() && options.resume)
        return Error{ErrorCode::invalid_argument, "a run that is resumed has its weights; init is for a new one",
                     "init"};
    if (options.data.empty() && !options.resume)
        return Error{ErrorCode::invalid_argument, "training needs cases: a training cache or a folder of them", "data"};
    return {};
}

/// `outputs`: of the graph that is trained.
Result<Loss> loss_of(const Recipe& recipe, std::size_t outputs) {
    LossOptions options;
    MFRES_TRY(options.kind, parse_loss_kind(recipe.loss));
    MFRES_TRY(options.absent, parse_absent(recipe.absent));
    options.alpha = recipe.tversky_alpha;
    options.beta = recipe.tversky_beta;
    options.background = recipe.loss_background;
    options.batch = recipe.batch_dice;
    options.overlap_weight = recipe.overlap_weight;
    options.ce_weight = recipe.ce_weight;
    options.focal_gamma = recipe.focal_gamma;
    options.top_share = recipe.topk_percent / 100.0;
    MFRES_TRY(Loss loss, make_loss(options));
    if (!recipe.teachers_sha256.empty()) {
        loss.distillation = {recipe.distill_weight * loss.pointwise.weight, recipe.distill_temperature};
        loss.pointwise.weight *= 1.0 - recipe.distill_weight;
    }
    if (outputs > 1)
        loss.output_weights = output_weights(outputs);
    return loss;
}

Error mismatch(const std::filesystem::path& run, const std::string& difference) {
    return {ErrorCode::checkpoint_mismatch,
            text("the run in ", run.string(), " cannot be resumed like this: ", difference), run.string()};
}

Communicator& ranks_of(const TrainerOptions& options) {
    return options.ranks ? *options.ranks : single_rank();
}

Status check_split(const Recipe& recipe, const Communicator& ranks) {
    if (recipe.sampling.batch % ranks.size() == 0)
        return {};
    return Error{ErrorCode::recipe_invalid,
                 text("recipe key batch: ", recipe.sampling.batch, " samples cannot be split evenly over ",
                      ranks.size(), " processes; allowed are multiples of ", ranks.size()),
                 "batch"};
}

/// "onednn with 2 threads on each of 4 ranks"
std::string machine_words(const std::string& backend, int threads, int ranks) {
    return text(backend, " with ", threads, " threads", ranks > 1 ? text(" on each of ", ranks, " ranks") : "");
}

/// Shown in place of an empty fingerprint.
std::string fingerprint_words(const std::string& fingerprint) {
    return fingerprint.empty() ? "none" : fingerprint.substr(0, 16) + "...";
}

Result<ExportedModel> export_model(const Checkpoint& checkpoint, const std::filesystem::path& path, bool overwrite,
                                   Dtype dtype = Dtype::f32) {
    MFRES_TRY(CheckpointModel exported, exported_model(checkpoint));
    MFRES_CHECK(save_model(path, exported.model, dtype, overwrite));
    return std::move(exported.facts);
}

/// Notes the teachers in the recipe of a new run. Errors: those of teachers_sha256; recipe_invalid (the recipe names
/// others, or cannot have any).
Status name_teachers(const TrainerOptions& options, Recipe& recipe) {
    MFRES_TRY(const Normalisation normalisation, parse_normalisation(recipe.normalisation));
    MFRES_TRY(const std::string given, teachers_sha256(options.teachers, normalisation));
    if (!recipe.teachers_sha256.empty() && recipe.teachers_sha256 != given)
        return Error{ErrorCode::recipe_invalid,
                     text("the recipe's teachers are ", recipe.teachers_sha256, ", and those given are ",
                          given.empty() ? "none" : given, "; name the model files that hold them"),
                     "teachers_sha256"};
    recipe.teachers_sha256 = given;
    const auto checked = parse_recipe("{}", recipe);
    return checked ? Status() : Status(checked.error());
}

/// What a new run starts from.
struct Start {
    Recipe recipe;
    Weights weights; ///< empty = drawn from the recipe's seed
};

Result<Start> start_of(const TrainerOptions& options) {
    const auto rejected = [](std::string sentence, const char* key) {
        return Error{ErrorCode::recipe_invalid, std::move(sentence), key};
    };
    Start start;
    if (options.init.empty()) {
        MFRES_TRY(start.recipe, parse_recipe(options.recipe));
        MFRES_CHECK(name_teachers(options, start.recipe));
        if (!start.recipe.init_sha256.empty())
            return rejected(text("the recipe starts from the weights ", start.recipe.init_sha256,
                                 "; the model file that holds them has to be named as well"),
                            "init_sha256");
        return start;
    }
    MFRES_TRY(Model model, load_model(options.init));
    const ModelMetadata standard;
    if (model.metadata.modalities != standard.modalities)
        return Error{ErrorCode::invalid_argument,
                     text(options.init.string(), " takes other input than training gives: t1, t1ce, t2 and flair"),
                     "init"};
    Recipe base;
    base.normalisation = to_string(model.metadata.normalisation); // unless the recipe says another, to be learnt
    base.network = model.variant.json();
    MFRES_TRY(start.recipe, parse_recipe(options.recipe, base));
    if (start.recipe.network != base.network)
        return rejected(text("the recipe's network is ", start.recipe.network, ", but ", options.init.string(),
                             " holds ", base.network),
                        "network");
    const std::string& hash = model.metadata.weights_sha256;
    if (!start.recipe.init_sha256.empty() && start.recipe.init_sha256 != hash)
        return rejected(text("the recipe starts from the weights ", start.recipe.init_sha256, ", but ",
                             options.init.string(), " holds ", hash),
                        "init_sha256");
    start.recipe.init_sha256 = hash;
    MFRES_CHECK(name_teachers(options, start.recipe));
    start.weights = std::move(model.weights);
    return start;
}

} // namespace

struct Trainer::State {
    State(const TrainerOptions& chosen, RunFolder claimed, Start start)
        : options(chosen), folder(std::move(claimed)), initial(std::move(start.weights)) {
        now.recipe = std::move(start.recipe);
    }

    TrainerOptions options;
    RunFolder folder;
    Variant variant;
    const Backend* backend = nullptr;
    std::shared_ptr<const Cache> data;
    std::shared_ptr<const Cache> validation;
    std::unique_ptr<TrainingExecutable> executable;
    Teachers teachers;
    Loss loss;
    Weights initial; ///< to start from; empty once compiled, and where they are new
    Checkpoint now;  ///< as it would be saved, but for `state`, which the executable holds
    std::int64_t steps = 0;
    std::vector<std::string> warnings;

    // This session.
    std::int64_t first_step = 0;
    Clock::time_point session_start;
    double seconds_before = 0.0; ///< of earlier sessions
    double step_seconds = 0.0;   ///< in training steps of this session
    Clock::time_point last_save;
    Clock::time_point last_tables;
    bool stop = false;

    const Recipe& recipe() const { return now.recipe; }
    Communicator& ranks() const { return ranks_of(options); }
    bool is_root() const { return ranks().is_root(); }
    /// Precondition: there is a backend.
    int device() const {
        return options.compute.device.value_or(ranks().local_rank() % std::max(1, backend->devices()));
    }
    std::int64_t own_batch() const { return recipe().sampling.batch / ranks().size(); }
    std::int64_t voxels_per_step() const {
        const Sampling& sampling = recipe().sampling;
        return sampling.batch * sampling.crop[0] * sampling.crop[1] * sampling.crop[2];
    }

    TrainEvent event(TrainEvent::Kind kind) const {
        TrainEvent event;
        event.kind = kind;
        event.step = now.step;
        event.steps = steps;
        event.epoch = now.epoch;
        if (const std::int64_t done = now.step - first_step; done > 0) {
            event.seconds_per_step = step_seconds / static_cast<double>(done);
            event.seconds_left = event.seconds_per_step * static_cast<double>(steps - now.step);
            if (!now.validations.empty() && recipe().validate_every > 0)
                event.seconds_left +=
                    now.validations.back().seconds * static_cast<double>((steps - now.step) / recipe().validate_every);
        }
        return event;
    }

    /// False once the observer has asked to stop.
    bool tell(const TrainObserver& observer, const TrainEvent& event) {
        if (observer && !observer(event))
            stop = true;
        return !stop;
    }

    void warn(const TrainObserver& observer, std::string sentence) {
        warnings.push_back(sentence);
        TrainEvent warning = event(TrainEvent::Kind::warning);
        warning.message = std::move(sentence);
        tell(observer, warning);
    }

    // ---- opening ----

    /// Caches without a record of their normalisation may have been made of clipped intensities: a warning.
    Status check_normalisation(const Cache& cache, Normalisation wanted, const std::string& source,
                               const TrainObserver& observer) {
        std::size_t others = 0;
        for (const CacheEntry& entry : cache.entries())
            others += entry.normalisation != wanted ? 1 : 0;
        if (others == 0)
            return {};
        if (wanted == Normalisation::zscore_brain)
            return Error{ErrorCode::cache_invalid,
                         text(source, " holds ", others, " cases normalised by ",
                              to_string(Normalisation::zscore_brain_clipped), ", the recipe asks for ",
                              to_string(wanted)),
                         source};
        warn(observer, text(source, " does not say how ", others, " of its cases were normalised; they are taken as ",
                            to_string(wanted), ", which they are if their intensities were clipped before"));
        return {};
    }

    Status open_data(DataUse use, const TrainObserver& observer) {
        MFRES_TRY(const Normalisation wanted, parse_normalisation(recipe().normalisation));
        MFRES_TRY(OpenedData opened, open_run_data(options, folder.path(), use, now.data, wanted,
                                                   [&](std::size_t done, std::size_t total) {
                                                       TrainEvent caching = event(TrainEvent::Kind::caching);
                                                       caching.done = done;
                                                       caching.total = total;
                                                       return tell(observer, caching);
                                                   }));
        data = std::move(opened.train);
        validation = std::move(opened.validation);
        if (use != DataUse::join)
            now.data = std::move(opened.record);
        for (std::string& sentence : opened.label_notes)
            if (is_root()) {
                TrainEvent note = event(TrainEvent::Kind::note);
                note.message = std::move(sentence);
                tell(observer, note);
            }
        if (!opened.warning.empty())
            warn(observer, std::move(opened.warning));
        MFRES_CHECK(check_normalisation(*data, wanted, source_words(options.data), observer));
        if (validation)
            MFRES_CHECK(check_normalisation(*validation, wanted, source_words(options.validation), observer));
        return {};
    }

    /// The recorded run, if the recipe, the data and the length asked for fit it.
    Status take_up(const TrainObserver& observer) {
        MFRES_TRY(auto found, folder.checkpoints().load());
        if (!found.warning.empty())
            warn(observer, found.warning);
        const Recipe recorded = found.checkpoint.recipe;
        MFRES_TRY(const Recipe wanted, parse_recipe(options.recipe, recorded));
        std::string differences;
        for (const std::string& difference : recipe_differences(wanted, recorded))
            differences += (differences.empty() ? "" : "; ") + difference;
        if (!differences.empty())
            return mismatch(folder.path(), "its recipe would change (" + differences + ")");
        now = std::move(found.checkpoint);
        now.recipe = wanted;
        return {};
    }

    /// What the root does before the others know what they train.
    Status prepare(const TrainObserver& observer) {
        if (options.resume)
            MFRES_CHECK(take_up(observer));
        MFRES_CHECK(check_split(recipe(), ranks()));
        MFRES_CHECK(open_data(options.resume ? DataUse::resume : DataUse::begin, observer));
        return check_data(options.resume);
    }

    Status draw_initial() {
        MFRES_TRY(const Variant drawn, parse_variant(recipe().network));
        MFRES_TRY(Model fresh, init_model(drawn, recipe().init_seed));
        initial = std::move(fresh.weights);
        return {};
    }

    /// Recipe, step and weights of the root to the other ranks, as a checkpoint; a new run's has no moments.
    Status share_start() {
        if (ranks().alone())
            return {};
        std::vector<std::byte> bytes;
        if (is_root()) {
            Checkpoint start = now;
            if (start.state.weights.empty()) {
                if (initial.empty())
                    MFRES_CHECK(draw_initial());
                start.state.weights = initial;
            }
            MFRES_TRY(bytes, encode_checkpoint(start));
        }
        std::uint64_t size = bytes.size();
        MFRES_CHECK(ranks().broadcast(std::as_writable_bytes(std::span(&size, 1)), 0));
        bytes.resize(static_cast<std::size_t>(size));
        MFRES_CHECK(ranks().broadcast(bytes, 0));
        if (is_root())
            return {};
        MFRES_TRY(now, decode_checkpoint(bytes, "what rank 0 sent"));
        if (now.state.first_moment.empty()) {
            initial = std::move(now.state.weights);
            now.state = {};
        }
        return {};
    }

    /// The cases of the root, on a rank that leaves making a cache to it.
    Status join_data() {
        MFRES_CHECK(open_data(DataUse::join, {}));
        if (data->fingerprint() != now.data_fingerprint)
            return Error{ErrorCode::checkpoint_mismatch,
                         text(source_words(options.data), " is data ", fingerprint_words(data->fingerprint()),
                              " here, and rank 0 trains on ", fingerprint_words(now.data_fingerprint)),
                         "data"};
        steps = total_steps(recipe(), data->entries().size());
        return {};
    }

    Status check_data(bool resumed) {
        const std::string trained = data->fingerprint();
        const std::string validated = validation ? validation->fingerprint() : "";
        if (resumed && trained != now.data_fingerprint)
            return mismatch(folder.path(),
                            text("it was trained on data ", fingerprint_words(now.data_fingerprint), ", not on ",
                                 fingerprint_words(trained), ", which is ", source_words(options.data)));
        if (resumed && validated != now.validation_fingerprint)
            return mismatch(folder.path(),
                            text("it was validated on data ", fingerprint_words(now.validation_fingerprint),
                                 ", not on ", fingerprint_words(validated), ", which is ",
                                 source_words(options.validation)));
        now.data_fingerprint = trained;
        now.validation_fingerprint = validated;
        steps = total_steps(recipe(), data->entries().size());
        if (steps < now.step)
            return mismatch(folder.path(),
                            text("it has trained ", now.step, " steps already, more than the ", steps, " asked for"));
        return {};
    }

    /// The executable of the backend asked for; "auto" moves on to the next one where the best does not train.
    Status compile_for_training(const Graph& graph, const Weights& weights, TrainingOptions training,
                                const TrainObserver& observer) {
        for (const Backend* candidate : backends()) {
            if (options.compute.backend == "auto") {
                if (!candidate->available())
                    continue;
                backend = candidate;
            }
            training.device = device();
            auto compiled = backend->compile_training(graph, weights, training);
            if (compiled) {
                executable = std::move(compiled).value();
                return {};
            }
            const bool another = options.compute.backend == "auto" && candidate != backends().back();
            if (!another || compiled.error().code != ErrorCode::operation_unsupported)
                return std::move(compiled).error();
            warn(observer, text("the next backend trains: ", compiled.error().message));
        }
        return Error{ErrorCode::backend_unavailable, "this build has no backend", "backend"};
    }

    /// Precondition: there is a backend.
    Status open_teachers() {
        const bool mirrors = recipe().distill_mirror;
        const MirrorAxes mirror{mirrors, mirrors, mirrors};
        MFRES_TRY(teachers, Teachers::open(options.teachers, *backend,
                                           {recipe().sampling.crop, own_batch(), now.threads, device(), mirror}));
        if (teachers.sha256() == recipe().teachers_sha256)
            return {};
        return mismatch(folder.path(), text("its teachers are ", fingerprint_words(recipe().teachers_sha256),
                                            ", and those given are ", fingerprint_words(teachers.sha256())));
    }

    Status compile(const TrainObserver& observer) {
        MFRES_TRY(variant, parse_variant(recipe().network));
        MFRES_TRY(const Graph graph, recipe().deep_supervision
                                         ? build_with_heads(variant, recipe().sampling.crop, own_batch())
                                         : build_network(variant, recipe().sampling.crop, own_batch()));
        if (initial.empty())
            MFRES_CHECK(draw_initial());
        if (recipe().deep_supervision)
            initial.merge(init_weights(graph, recipe().init_seed)); // what it lacks: the heads
        TrainingOptions training;
        training.threads = now.threads;
        MFRES_TRY(training.precision, parse_precision(recipe().precision));
        training.allow_tf32 = recipe().allow_tf32;
        training.deterministic = recipe().deterministic;
        training.amsgrad = recipe().amsgrad;
        training.batch_norm_momentum = recipe().batch_norm_momentum;
        training.memory_cap = options.max_memory;
        if (!made_on_host(recipe().sampling)) // else an engine gets no crops
            for (const CacheEntry& entry : data->entries())
                training.largest_case = std::max(training.largest_case, entry.size[0] * entry.size[1] * entry.size[2]);
        training.ranks = &ranks();
        MFRES_CHECK(compile_for_training(graph, initial, training, observer));
        MFRES_CHECK(open_teachers());
        MFRES_TRY(loss, loss_of(recipe(), executable->outputs()));
        if (!now.state.weights.empty())
            MFRES_CHECK(executable->set_state(now.state));
        else if (recipe().ema > 0)
            now.average = std::move(initial);
        if (!is_root())
            now.average.clear(); // the root's business
        initial.clear();
        now.state = {};
        release_unused_memory();
        return {};
    }

    Status open(const TrainObserver& observer) {
        MFRES_TRY(backend, find_backend(options.compute.backend));
        if (is_root())
            MFRES_CHECK(prepare(observer));
        MFRES_CHECK(share_start());
        if (!is_root())
            MFRES_CHECK(join_data());
        const std::string before = machine_words(now.backend, now.threads, now.ranks);
        now.threads = resolve_threads(options.compute.threads);
        now.ranks = ranks().size();
        MFRES_CHECK(compile(observer));
        MFRES_CHECK(ranks().barrier()); // nothing is written before all ranks are ready
        if (!is_root())
            return {};
        now.backend = backend->name();
        if (const std::string here = machine_words(now.backend, now.threads, now.ranks);
            options.resume && before != here)
            warn(observer, text("the run was trained on ", before, " and goes on on ", here,
                                ": it will not be the same bit for bit as without a break"));
        if (!options.resume)
            MFRES_CHECK(save());
        return write_file_atomically(folder / "recipe.json", to_json(recipe()).dump(2) + "\n");
    }

    // ---- saving ----

    Status write_tables() {
        last_tables = Clock::now();
        MFRES_CHECK(write_file_atomically(folder / "metrics.csv", metrics_csv(now.rows)));
        if (!now.validations.empty())
            MFRES_CHECK(write_file_atomically(folder / "validation.csv", validation_csv(now.validations)));
        return {};
    }

    /// The curve as SVG, and as PNG where this build can write one.
    Status write_curve() const {
        CurveOptions curve;
        curve.title = text(variant.name(), ", ", recipe().loss, ", step ", now.step, " of ", steps);
        curve.steps = steps;
        if (now.best) {
            const Validation& best = now.validations[*now.best];
            curve.best_step = best.step;
            std::array<char, 48> words{};
            print_classic(words.data(), words.size(), ", best mean Dice %.3f", best.score());
            curve.title += words.data();
        }
        return write_drawing(draw_curve(now.rows, curve), folder / "curve", 1.5);
    }

    /// The newest checkpoint, and with `best` also best.ckpt.
    Status save(bool best = false) {
        now.state = executable->state();
        Status status = best ? write_checkpoint(folder / "best.ckpt", now) : Status();
        if (status)
            status = folder.checkpoints().save(now);
        now.state = {}; // the executable has it
        MFRES_CHECK(std::move(status));
        last_save = Clock::now();
        MFRES_CHECK(write_tables());
        return write_curve();
    }

    bool save_is_due() const {
        if (options.checkpoint_steps > 0 && now.step % options.checkpoint_steps == 0)
            return true;
        return options.checkpoint_minutes > 0 && seconds_since(last_save) >= 60.0 * options.checkpoint_minutes;
    }

    // ---- training ----

    Error diverged(const std::string& problem) const {
        return {ErrorCode::training_diverged,
                text("training diverged at step ", now.step + 1, ": ", problem,
                     "; the checkpoints are left as they were (a lower learning_rate, a warm-up or clip_norm help)"),
                folder.path().string()};
    }

    /// Of a step that the executable left out because its gradients overflowed: expected now and then, above all in the
    /// beginning, until the loss scale fits. Each halves the scale, so that many in a row are no longer the scale's
    /// fault.
    Status note_skipped(const TrainObserver& observer) {
        constexpr std::int64_t most_in_row = 20;
        ++now.skipped;
        ++now.skipped_in_row;
        ++now.open_row.skipped;
        if (now.skipped_in_row > most_in_row)
            return diverged(
                text("the gradients of ", now.skipped_in_row, " steps in a row overflowed in ", recipe().precision));
        if (!skipping_told)
            warn(observer, text("the gradients of step ", now.step + 1, " overflowed in ", recipe().precision,
                                ": the step is skipped and the loss scale halved, as is usual in the beginning; ",
                                "metrics.csv counts such steps in its column skipped"));
        skipping_told = true;
        return {};
    }
    bool skipping_told = false; ///< in this session

    Status ask_teachers(const BatchFeed& feed) {
        if (teachers.empty())
            return {};
        MFRES_TRY(const StridedView<float> targets, executable->targets());
        return teachers.predict(view(feed.images()), recipe().distill_temperature, targets);
    }

    /// Forward, loss, backward and update on one batch.
    Status train_step(BatchFeed& feed, const TrainObserver& observer) {
        const auto start = Clock::now();
        const double waited_before = feed.waited_seconds();
        MFRES_CHECK(feed.next());
        MFRES_CHECK(executable->forward(norm_statistics(recipe(), now.step, steps)));
        feed.prepare();
        const double waited = feed.waited_seconds() - waited_before;
        MFRES_CHECK(ask_teachers(feed));
        MFRES_TRY(const double value, feed.loss(loss));
        if (!std::isfinite(value))
            return diverged(text("the loss is ", value));
        MFRES_CHECK(executable->backward());
        OptimiserStep optimiser = optimiser_step(recipe(), now.step, steps);
        optimiser.step -= now.skipped; // Adam counts what it was given
        const auto norm = executable->update(optimiser);
        if (!norm)
            return norm.error().code == ErrorCode::training_diverged ? diverged(norm.error().message) : norm.error();
        const bool skipped = std::isinf(*norm);
        if (skipped)
            MFRES_CHECK(note_skipped(observer));
        else
            now.skipped_in_row = 0;
        if (!skipped && !now.average.empty())
            update_average(now.average, executable->weights(), recipe().ema, now.step);

        ++now.step;
        now.epoch =
            static_cast<double>(now.step * recipe().sampling.batch) / static_cast<double>(data->entries().size());
        now.open_row.steps += 1;
        now.open_row.loss += value;
        now.open_row.gradient_norm += skipped ? 0.0 : *norm;
        now.open_row.learning_rate = optimiser.learning_rate;
        now.open_row.waited += waited;
        now.open_row.seconds += seconds_since(start);
        step_seconds += seconds_since(start);
        now.seconds = seconds_before + seconds_since(session_start);
        last_loss = value;
        return {};
    }
    double last_loss = 0.0;

    bool validation_is_due() const {
        if (!validation || now.step == 0)
            return false;
        if (!now.validations.empty() && now.validations.back().step == now.step)
            return false;
        return now.step == steps || (recipe().validate_every > 0 && now.step % recipe().validate_every == 0);
    }

    /// Evaluates the whole validation set. Stopped on request it leaves nothing, and is done again on resume.
    Status run_validation(const TrainObserver& observer) {
        const Weights weights = without_heads(now.average.empty() ? executable->weights() : now.average);
        auto result = validate(*validation, variant, weights, *backend, {now.threads, device()},
                               [&](std::size_t done, std::size_t total) {
                                   TrainEvent validating = event(TrainEvent::Kind::validating);
                                   validating.done = done;
                                   validating.total = total;
                                   return tell(observer, validating);
                               });
        if (!result && result.error().code == ErrorCode::interrupted)
            return {};
        if (!result && result.error().code == ErrorCode::logits_not_finite)
            return diverged("in the validation " + result.error().message);
        if (!result)
            return std::move(result).error();
        result->step = now.step;
        for (ValidationCase& entry : result->cases)
            entry.site = site_of(entry.id, now.data.sites);
        now.validations.push_back(std::move(result).value());
        now.seconds = seconds_before + seconds_since(session_start);
        return {};
    }

    void close_row() {
        const OpenRow& open = now.open_row;
        const auto count = static_cast<double>(open.steps);
        TrainRow row;
        row.step = now.step;
        row.loss = open.loss / count;
        row.learning_rate = open.learning_rate;
        row.gradient_norm =
            open.gradient_norm / static_cast<double>(std::max<std::int64_t>(1, open.steps - open.skipped));
        row.skipped = open.skipped;
        row.seconds = now.seconds;
        row.voxels_per_second = count * static_cast<double>(voxels_per_step()) / std::max(open.seconds, 1e-9);
        row.wait_share = std::min(1.0, open.waited / std::max(open.seconds, 1e-9));
        now.rows.push_back(row);
        now.open_row = {};
    }

    /// What is due after a step: validation, a row, a checkpoint.
    Status finish_step(const TrainObserver& observer) {
        if (!is_root()) {
            now.open_row = {};
            return {};
        }
        const bool validating = validation_is_due();
        if (validating)
            MFRES_CHECK(run_validation(observer));
        const bool validated = validating && !now.validations.empty() && now.validations.back().step == now.step;
        if (validating && !validated) // stopped
            return {};
        if (now.open_row.steps > 0 && (validated || now.step == steps || now.step % options.log_steps == 0)) {
            close_row();
            row_closed = true;
        }
        bool best = false;
        if (validated) {
            const Validation& latest = now.validations.back();
            if (!now.rows.empty() && now.rows.back().step == now.step)
                now.rows.back().dice = latest.mean;
            best = !now.best || latest.score() > now.validations[*now.best].score();
            if (best)
                now.best = now.validations.size() - 1;
        }
        if (row_closed) {
            row_closed = false;
            TrainEvent row = event(TrainEvent::Kind::row);
            row.row = &now.rows.back();
            row.loss = now.rows.back().loss;
            tell(observer, row);
        }
        if (validated) {
            TrainEvent done = event(TrainEvent::Kind::validated);
            done.validation = &now.validations.back();
            done.best = best;
            tell(observer, done);
        }
        if (validated || now.step == steps || save_is_due()) {
            MFRES_CHECK(save(best));
            tell(observer, event(TrainEvent::Kind::saved));
        } else if (seconds_since(last_tables) > 5.0) {
            MFRES_CHECK(write_tables());
        }
        return {};
    }
    bool row_closed = false;

    /// One rank that was asked to stop stops all, after the same step.
    Status agree_to_stop() {
        double asked = stop ? 1.0 : 0.0;
        MFRES_CHECK(ranks().all_reduce_sum(std::span(&asked, 1)));
        stop = asked > 0.0;
        return {};
    }

    /// All ranks have done the same arithmetic on the same numbers; a machine that rounds otherwise shows here.
    Status check_equal_parameters() const {
        if (ranks().alone())
            return {};
        const std::string own = weights_sha256(executable->weights());
        std::string theirs = own;
        MFRES_CHECK(ranks().broadcast(std::as_writable_bytes(std::span(theirs.data(), theirs.size())), 0));
        if (own == theirs)
            return {};
        return Error{ErrorCode::backend_failed,
                     text("after step ", now.step, " the parameters are not those of rank 0; ",
                          "processes that train together need processors of the same kind"),
                     folder.path().string()};
    }

    Status train(const TrainObserver& observer) {
        MFRES_TRY(BatchFeed feed, BatchFeed::start(*executable, {data,
                                                                 recipe().sampling,
                                                                 recipe().seed,
                                                                 now.step,
                                                                 steps,
                                                                 options.loader_threads,
                                                                 {ranks().rank(), ranks().size()},
                                                                 !teachers.empty()}));
        MFRES_CHECK(finish_step(observer)); // a validation that the session before had no time for
        MFRES_CHECK(agree_to_stop());
        const std::int64_t last = options.stop_at > 0 ? std::min(options.stop_at, steps) : steps;
        while (now.step < last && !stop) {
            MFRES_CHECK(train_step(feed, observer));
            TrainEvent done = event(TrainEvent::Kind::step);
            done.loss = last_loss;
            tell(observer, done);
            MFRES_CHECK(finish_step(observer));
            MFRES_CHECK(agree_to_stop());
            constexpr std::int64_t steps_between_checks = 100;
            if (now.step % steps_between_checks == 0)
                MFRES_CHECK(check_equal_parameters());
        }
        return check_equal_parameters();
    }

    /// The best checkpoint, or the last one where nothing was validated or best.ckpt is not what it should be.
    Result<ExportedModel> export_best() {
        std::string problem;
        if (now.best) {
            auto best = read_checkpoint(folder / "best.ckpt");
            if (best && best->step == now.validations[*now.best].step)
                return export_model(*best, folder / "model.safetensors", true);
            problem = best ? text("best.ckpt is of step ", best->step) : best.error().message;
        }
        MFRES_TRY(const Checkpoint last, read_checkpoint(folder.checkpoints().last()));
        MFRES_TRY(ExportedModel exported, export_model(last, folder / "model.safetensors", true));
        if (!problem.empty())
            exported.warnings.push_back("the model was made from the last checkpoint, not the best: " + problem);
        return exported;
    }

    TrainReport report() const {
        TrainReport result;
        result.run = folder.path().string();
        result.network = variant.name();
        result.used = {.backend = std::string(backend->name()),
                       .engine = backend->description(),
                       .device = device(),
                       .precision = parse_precision(recipe().precision).value(), // as parse_recipe has checked
                       .tf32 = recipe().allow_tf32,
                       .deterministic = recipe().deterministic,
                       .threads = now.threads};
        result.ranks = now.ranks;
        result.recipe = to_json(recipe()).dump();
        result.fold = now.data.fold;
        result.cases = data->entries().size();
        result.validation_cases = validation ? validation->entries().size() : 0;
        result.first_step = first_step;
        result.step = now.step;
        result.steps = steps;
        result.skipped = now.skipped;
        result.seconds = now.seconds;
        result.peak_bytes = executable->peak_bytes();
        result.recomputed_steps = executable->recomputation().steps;
        result.recomputed_macs = executable->recomputation().macs;
        result.rows = now.rows;
        if (now.best)
            result.best = now.validations[*now.best];
        if (!now.validations.empty())
            result.latest = now.validations.back();
        result.warnings = warnings;
        return result;
    }

    Result<TrainReport> run(const TrainObserver& observer) {
        stop = false;
        first_step = now.step;
        step_seconds = 0.0;
        seconds_before = now.seconds;
        session_start = last_save = last_tables = Clock::now();
        MFRES_CHECK(train(observer));
        bool complete = now.step == steps && !validation_is_due();
        if (!complete && is_root())
            MFRES_CHECK(save());
        TrainReport result = report();
        if (complete && is_root()) {
            MFRES_TRY(const ExportedModel exported, export_best());
            result.model = (folder / "model.safetensors").string();
            result.warnings.insert(result.warnings.end(), exported.warnings.begin(), exported.warnings.end());
        }
        MFRES_CHECK(ranks().broadcast(std::as_writable_bytes(std::span(&complete, 1)), 0));
        result.stopped = !complete;
        return result;
    }
};

namespace {

/// guarded() of core, which also tells the other ranks of an error.
template <typename Work>
auto guarded(const std::filesystem::path& where, Communicator& ranks, const Work& work) -> decltype(work()) {
    auto result = guarded(where, work);
    if (!result)
        ranks.fail(result.error());
    return result;
}

} // namespace

Trainer::Trainer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Trainer::Trainer(Trainer&&) noexcept = default;
Trainer& Trainer::operator=(Trainer&&) noexcept = default;
Trainer::~Trainer() = default;

Result<std::shared_ptr<Communicator>> join_ranks() {
    return guarded("ranks", [] { return open_ranks(); });
}

Result<Trainer> Trainer::open(const TrainerOptions& chosen, const TrainObserver& observer) {
    Communicator& ranks = ranks_of(chosen);
    return guarded(chosen.run, ranks, [&]() -> Result<Trainer> {
        TrainerOptions options = chosen;
        options.recipe = recipe_with(chosen.recipe, chosen.compute);
        MFRES_CHECK(check_options(options));
        Start start;
        RunFolder folder = RunFolder::of_another(options.run);
        if (ranks.is_root()) {
            if (!options.resume) { // before a folder is made for nothing
                MFRES_TRY(start, start_of(options));
                MFRES_CHECK(check_split(start.recipe, ranks));
            }
            MFRES_TRY(folder,
                      options.resume ? RunFolder::claim_existing(options.run) : RunFolder::claim_new(options.run));
        }
        auto state = std::make_unique<State>(options, std::move(folder), std::move(start));
        if (const Status opened = state->open(observer); !opened) {
            ranks.fail(opened.error()); // before the executable goes, which else may wait for the others
            return opened.error();
        }
        return Trainer(std::move(state));
    });
}

Result<TrainReport> Trainer::run(const TrainObserver& observer) {
    return guarded(state_->folder.path(), state_->ranks(), [&] { return state_->run(observer); });
}

Result<ExportedModel> export_checkpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& model,
                                        bool overwrite, WeightDtype dtype) {
    return guarded(checkpoint, [&]() -> Result<ExportedModel> {
        MFRES_TRY(const Checkpoint loaded, read_checkpoint(checkpoint));
        return export_model(loaded, model, overwrite, file_dtype(dtype));
    });
}

std::string to_json(const TrainReport& report) {
    const auto validation_json = [](const std::optional<Validation>& validation) {
        if (!validation)
            return json();
        json cases = json::object();
        for (const ValidationCase& entry : validation->cases)
            cases[entry.id] = {{"wt", entry.dice[0]}, {"tc", entry.dice[1]}, {"et", entry.dice[2]}};
        json sites = json::object();
        for (const SiteDice& of : by_site(*validation))
            sites[of.site] = {
                {"cases", of.cases}, {"wt", of.mean[0]}, {"tc", of.mean[1]}, {"et", of.mean[2]}, {"mean", of.score()}};
        return json{{"step", validation->step},  {"wt", validation->mean[0]},     {"tc", validation->mean[1]},
                    {"et", validation->mean[2]}, {"mean", validation->score()},   {"cases", std::move(cases)},
                    {"sites", std::move(sites)}, {"seconds", validation->seconds}};
    };
    json recipe = json::parse(report.recipe, nullptr, false);
    const json object = {{"run", report.run},
                         {"network", report.network},
                         {"backend", {{"name", report.used.backend}, {"engine", report.used.engine}}},
                         {"threads", report.used.threads},
                         {"ranks", report.ranks},
                         {"recipe", recipe.is_discarded() ? json() : std::move(recipe)},
                         {"fold", report.fold.empty() ? json() : json(report.fold)},
                         {"cases", report.cases},
                         {"validation_cases", report.validation_cases},
                         {"first_step", report.first_step},
                         {"step", report.step},
                         {"steps", report.steps},
                         {"skipped", report.skipped},
                         {"stopped", report.stopped},
                         {"seconds", report.seconds},
                         {"peak_bytes", report.peak_bytes},
                         {"recomputed_steps", report.recomputed_steps},
                         {"recomputed_macs", report.recomputed_macs},
                         {"final_loss", report.rows.empty() ? json() : json(report.rows.back().loss)},
                         {"best", validation_json(report.best)},
                         {"latest", validation_json(report.latest)},
                         {"model", report.model.empty() ? json() : json(report.model)},
                         {"warnings", report.warnings}};
    return object.dump(2, ' ', false, json::error_handler_t::replace);
}

} // namespace mfres
