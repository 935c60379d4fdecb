// SPDX-License-Identifier: MIT
// One training run: start it (resume.h), compile, train step by step with validations and checkpoints (log.h), export
// the best model (export.h).
#include <mfres/trainer.h>

#include "backends/training.h"
#include "core/file.h"
#include "core/format.h"
#include "core/guard.h"
#include "core/memory_usage.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/try.h"
#include "inference/test_time_augmentation.h"
#include "model/sha256.h"
#include "networks/deep_supervision.h"
#include "train/average.h"
#include "train/export.h"
#include "train/feed.h"
#include "train/log.h"
#include "train/recipe.h"
#include "train/resume.h"
#include "train/teachers.h"
#include "train/validation.h"

#include <chrono>
#include <cmath>
#include <utility>

namespace mfres {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The mirror image that teachers label in a step: of the seed and the step alone, so that a resumed run draws what one
/// that was never stopped does.
MirrorAxes draw_mirror(std::uint64_t seed, std::int64_t step) {
    constexpr MirrorAxes all{true, true, true};
    constexpr std::uint64_t mirror_stream = std::uint64_t{1} << 62U; // apart from the batches, whose streams are steps
    Random random = Random(seed).fork(mirror_stream + static_cast<std::uint64_t>(step));
    return mirror_image(all, random.index(mirror_images(all)));
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

/// "onednn with 2 threads on each of 4 ranks"
std::string machine_words(const std::string& backend, int threads, int ranks) {
    return text(backend, " with ", counted(threads, "thread"), ranks > 1 ? text(" on each of ", ranks, " ranks") : "");
}

} // namespace

struct Trainer::State {
    explicit State(Run started) : run(std::move(started)), log(run) {}

    Run run;
    TrainLog log;
    Variant variant;
    const Backend* backend = nullptr;
    std::unique_ptr<TrainingExecutable> executable;
    Teachers teachers;
    Loss loss;

    // This session.
    Clock::time_point last_save;
    bool stop = false;          ///< agreed by all ranks
    bool skipping_told = false; ///< the user knows that steps may overflow

    Checkpoint& now = run.now;

    const Recipe& recipe() const { return run.recipe(); }
    Communicator& ranks() const { return run.ranks(); }
    /// Precondition: there is a backend.
    int device() const {
        return run.options.compute.device.value_or(ranks().local_rank() % std::max(1, backend->devices()));
    }

    // ---- opening ----

    /// The executable of the backend asked for; "auto" tries the next one where a backend that trains rejects this.
    Status compile_for_training(const Graph& graph, const Weights& weights, TrainingOptions training) {
        const bool automatic = run.options.compute.backend == "auto";
        for (const Backend* candidate : backends()) {
            if (automatic) {
                if (!candidate->trains() || !candidate->available())
                    continue;
                backend = candidate;
            }
            training.device = device();
            auto compiled = backend->compile_training(graph, weights, training);
            if (compiled) {
                executable = std::move(compiled).value();
                for (const std::string& warning : executable->warnings())
                    log.warn(warning);
                return {};
            }
            const bool another = automatic && candidate != backends().back();
            if (!another || compiled.error().code != ErrorCode::operation_unsupported)
                return std::move(compiled).error();
            log.warn(text("the next backend trains: ", compiled.error().message));
        }
        return Error{ErrorCode::backend_unavailable, "this build has no backend", "backend"};
    }

    /// Precondition: there is a backend.
    Status open_teachers() {
        MFRES_TRY(const Variant network, parse_variant(recipe().network));
        MFRES_TRY(teachers,
                  Teachers::open(run.options.teachers, *backend,
                                 {recipe().sampling.crop, run.own_batch(), now.threads, device(), network.outputs()}));
        if (teachers.sha256() == recipe().teachers_sha256)
            return {};
        return resume_mismatch(run, text("its teachers are ", fingerprint_words(recipe().teachers_sha256),
                                         ", and those given are ", fingerprint_words(teachers.sha256())));
    }

    Result<TrainingOptions> training_options() const {
        TrainingOptions training;
        training.threads = now.threads;
        MFRES_TRY(training.precision, parse_precision(recipe().precision));
        training.allow_tf32 = recipe().allow_tf32;
        training.deterministic = recipe().deterministic;
        training.amsgrad = recipe().amsgrad;
        training.batch_norm_momentum = recipe().batch_norm_momentum;
        training.memory_cap = run.options.max_memory;
        if (!made_on_host(recipe().sampling)) // else an engine gets no crops
            for (const CacheEntry& entry : run.data->entries())
                training.largest_case = std::max(training.largest_case, entry.size[0] * entry.size[1] * entry.size[2]);
        training.ranks = &ranks();
        return training;
    }

    Status compile() {
        MFRES_TRY(variant, parse_variant(recipe().network));
        const auto build = recipe().deep_supervision ? build_with_heads : build_network;
        MFRES_TRY(const Graph graph, build(variant, recipe().sampling.crop, run.own_batch()));
        Weights initial = std::exchange(run.initial, {});
        if (initial.empty()) {
            MFRES_TRY(initial, draw_weights(recipe()));
        }
        if (recipe().deep_supervision)
            initial.merge(init_weights(graph, recipe().init_seed)); // what it lacks: the heads
        MFRES_TRY(const TrainingOptions training, training_options());
        MFRES_CHECK(compile_for_training(graph, initial, training));
        MFRES_CHECK(open_teachers());
        MFRES_TRY(loss, loss_of(recipe(), executable->outputs()));
        if (!now.state.weights.empty())
            MFRES_CHECK(executable->set_state(now.state));
        else if (recipe().ema > 0)
            now.average = std::move(initial);
        if (!run.is_root())
            now.average.clear(); // the root rank alone validates and saves
        now.state = {};
        return {};
    }

    Status open(const TrainObserver& observer) {
        log.set_observer(observer);
        MFRES_TRY(backend, find_backend(run.options.compute.backend));
        MFRES_CHECK(start_run(run, log));
        const std::string before = machine_words(now.backend, now.threads, now.ranks);
        now.threads = resolve_threads(run.options.compute.threads);
        now.ranks = ranks().size();
        MFRES_CHECK(compile());
        release_unused_memory();
        MFRES_CHECK(ranks().barrier()); // nothing is written before all ranks are ready
        if (!run.is_root())
            return {};
        now.backend = backend->name();
        const std::string here = machine_words(now.backend, now.threads, now.ranks);
        if (run.options.resume && before != here)
            log.warn(text("the run was trained on ", before, " and resumes on ", here,
                          ": its bits will differ from those of a run without a break"));
        if (!run.options.resume)
            MFRES_CHECK(save());
        return write_file_atomically(run.folder / "recipe.json", to_json(recipe()).dump(2) + "\n");
    }

    // ---- saving ----

    /// The newest checkpoint, and with `best` also best.ckpt; tables and curve.
    Status save(bool best = false) {
        now.state = executable->state();
        Status status = best ? write_checkpoint(run.folder / "best.ckpt", now) : Status();
        if (status)
            status = run.folder.checkpoints().save(now);
        now.state = {}; // the executable has it
        MFRES_CHECK(std::move(status));
        last_save = Clock::now();
        MFRES_CHECK(log.write_tables());
        return log.write_curve(variant.name());
    }

    bool save_is_due() const {
        if (run.options.checkpoint_steps > 0 && now.step % run.options.checkpoint_steps == 0)
            return true;
        const double minutes = run.options.checkpoint_minutes;
        return minutes > 0 && seconds_since(last_save) >= 60.0 * minutes;
    }

    // ---- steps ----

    Error diverged(const std::string& problem) const {
        return {ErrorCode::training_diverged,
                text("training diverged at step ", now.step + 1, ": ", problem,
                     "; the checkpoints are left as they were (a lower learning_rate, a warm-up or clip_norm help)"),
                run.folder.path().string()};
    }

    /// Counts a step that the executable skipped because its gradients overflowed. That is expected now and then, above
    /// all in the beginning, until the loss scale fits. Each halves the scale, so many in a row have another cause.
    Status note_skipped() {
        constexpr std::int64_t most_in_row = 20;
        ++now.skipped;
        ++now.skipped_in_row;
        ++now.open_row.skipped;
        if (now.skipped_in_row > most_in_row)
            return diverged(
                text("the gradients of ", now.skipped_in_row, " steps in a row overflowed in ", recipe().precision));
        if (!skipping_told)
            log.warn(text("the gradients of step ", now.step + 1, " overflowed in ", recipe().precision,
                          ": the step is skipped and the loss scale halved, as is usual in the beginning; ",
                          "metrics.csv counts such steps in its column skipped"));
        skipping_told = true;
        return {};
    }

    /// Targets of the step's images, where there are teachers.
    Status compute_targets(const BatchFeed& feed) {
        if (teachers.empty())
            return {};
        MFRES_TRY(const StridedView<float> targets, executable->targets());
        return teachers.predict(view(feed.images()), recipe().distill_temperature, targets,
                                recipe().distill_mirror ? draw_mirror(recipe().seed, now.step) : MirrorAxes{});
    }

    /// Forward, loss, backward and update on one batch. Returns the loss.
    Result<double> train_step(BatchFeed& feed) {
        const auto start = Clock::now();
        StepRecord record;
        const double waited_before = feed.waited_seconds();
        MFRES_CHECK(feed.next());
        MFRES_CHECK(executable->forward(norm_statistics(recipe(), now.step, run.steps)));
        feed.prepare();
        record.waited = feed.waited_seconds() - waited_before;
        MFRES_CHECK(compute_targets(feed));
        MFRES_TRY(record.loss, feed.loss(loss));
        if (!std::isfinite(record.loss))
            return diverged(text("the loss is ", record.loss));
        MFRES_CHECK(executable->backward());
        OptimiserStep optimiser = optimiser_step(recipe(), now.step, run.steps);
        optimiser.step -= now.skipped; // Adam's count of updates
        record.learning_rate = optimiser.learning_rate;
        const auto norm = executable->update(optimiser);
        if (!norm)
            return norm.error().code == ErrorCode::training_diverged ? diverged(norm.error().message) : norm.error();
        if (std::isinf(*norm)) {
            MFRES_CHECK(note_skipped());
        } else {
            now.skipped_in_row = 0;
            record.gradient_norm = *norm;
            if (!now.average.empty())
                update_average(now.average, executable->weights(), recipe().ema, now.step);
        }
        ++now.step;
        now.epoch =
            static_cast<double>(now.step * recipe().sampling.batch) / static_cast<double>(run.data->entries().size());
        record.seconds = seconds_since(start);
        log.add_step(record);
        return record.loss;
    }

    // ---- validation ----

    bool validation_is_due() const {
        if (!run.validation || now.step == 0)
            return false;
        if (!now.validations.empty() && now.validations.back().step == now.step)
            return false;
        return now.step == run.steps || (recipe().validate_every > 0 && now.step % recipe().validate_every == 0);
    }

    /// Evaluates the whole validation set and appends the result. False if it was stopped on request: then nothing is
    /// kept, and the resumed run repeats it.
    Result<bool> run_validation() {
        const Weights weights = without_heads(now.average.empty() ? executable->weights() : now.average);
        auto result = validate(
            *run.validation, variant, weights, *backend, {now.threads, device()},
            [&](std::size_t done, std::size_t total) { return log.tell(TrainEvent::Kind::validating, done, total); });
        if (!result && result.error().code == ErrorCode::interrupted)
            return false;
        if (!result && result.error().code == ErrorCode::logits_not_finite)
            return diverged("in the validation " + result.error().message);
        if (!result)
            return std::move(result).error();
        result->step = now.step;
        for (ValidationCase& entry : result->cases)
            entry.site = site_of(entry.id, now.data.sites);
        now.validations.push_back(std::move(result).value());
        log.update_seconds();
        return true;
    }

    /// Whether the last validation is the best; then it is recorded as such.
    bool note_best() {
        const Validation& latest = now.validations.back();
        const bool best = !now.best || latest.score() > now.validations[*now.best].score();
        if (best)
            now.best = now.validations.size() - 1;
        return best;
    }

    // ---- the loop ----

    void tell_row() {
        TrainEvent row = log.event(TrainEvent::Kind::row);
        row.row = &now.rows.back();
        row.loss = now.rows.back().loss;
        log.tell(row);
    }

    void tell_validated(bool best) {
        TrainEvent done = log.event(TrainEvent::Kind::validated);
        done.validation = &now.validations.back();
        done.best = best;
        log.tell(done);
    }

    /// What is due after a step: validation, a row, a checkpoint.
    Status finish_step() {
        if (!run.is_root()) {
            now.open_row = {};
            return {};
        }
        const bool validating = validation_is_due();
        if (validating) {
            MFRES_TRY(const bool complete, run_validation());
            if (!complete)
                return {};
        }
        const bool row_is_due = validating || now.step == run.steps || now.step % run.options.log_steps == 0;
        const bool row_closed = now.open_row.steps > 0 && row_is_due;
        if (row_closed)
            log.close_row();
        if (validating && !now.rows.empty() && now.rows.back().step == now.step)
            now.rows.back().dice = now.validations.back().mean;
        const bool best = validating && note_best();
        if (row_closed)
            tell_row();
        if (validating)
            tell_validated(best);
        if (!validating && now.step != run.steps && !save_is_due())
            return log.refresh_tables();
        MFRES_CHECK(save(best));
        log.tell(log.event(TrainEvent::Kind::saved));
        return {};
    }

    /// One rank that was asked to stop stops all, after the same step.
    Status agree_to_stop() {
        double asked = log.stop_asked() ? 1.0 : 0.0;
        MFRES_CHECK(ranks().all_reduce_sum(std::span(&asked, 1)));
        stop = asked > 0.0;
        return {};
    }

    /// All ranks compute the same updates from the same numbers. A processor that rounds differently is detected here.
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
                     run.folder.path().string()};
    }

    Status train() {
        MFRES_TRY(BatchFeed feed, BatchFeed::start(*executable, {run.data,
                                                                 recipe().sampling,
                                                                 recipe().seed,
                                                                 now.step,
                                                                 run.steps,
                                                                 run.options.loader_threads,
                                                                 {ranks().rank(), ranks().size()},
                                                                 !teachers.empty()}));
        MFRES_CHECK(finish_step()); // a validation that the session before was stopped in
        MFRES_CHECK(agree_to_stop());
        const std::int64_t last = run.options.stop_at > 0 ? std::min(run.options.stop_at, run.steps) : run.steps;
        while (now.step < last && !stop) {
            MFRES_TRY(const double step_loss, train_step(feed));
            TrainEvent done = log.event(TrainEvent::Kind::step);
            done.loss = step_loss;
            log.tell(done);
            MFRES_CHECK(finish_step());
            MFRES_CHECK(agree_to_stop());
            constexpr std::int64_t steps_between_checks = 100;
            if (now.step % steps_between_checks == 0)
                MFRES_CHECK(check_equal_parameters());
        }
        return check_equal_parameters();
    }

    TrainReport report() const {
        TrainReport result = log.report();
        result.network = variant.name();
        result.used = {.backend = std::string(backend->name()),
                       .engine = backend->description(),
                       .device = device(),
                       .precision = parse_precision(recipe().precision).value(), // as parse_recipe has checked
                       .tf32 = recipe().allow_tf32,
                       .deterministic = recipe().deterministic,
                       .threads = now.threads};
        result.peak_bytes = executable->peak_bytes();
        result.recomputed_steps = executable->recomputation().steps;
        result.recomputed_macs = executable->recomputation().macs;
        return result;
    }

    Result<TrainReport> train_session(const TrainObserver& observer) {
        log.set_observer(observer);
        log.begin_session();
        last_save = Clock::now();
        MFRES_CHECK(train());
        bool complete = now.step == run.steps && !validation_is_due();
        if (!complete && run.is_root())
            MFRES_CHECK(save());
        if (complete && run.is_root()) {
            MFRES_TRY(const ExportedModel exported, export_best(run));
            for (const std::string& warning : exported.warnings)
                log.warn(warning);
        }
        TrainReport result = report();
        if (complete && run.is_root())
            result.model = (run.folder / "model.safetensors").string();
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

Result<Trainer> Trainer::open(const TrainerOptions& options, const TrainObserver& observer) {
    Communicator& ranks = options.ranks ? *options.ranks : single_rank();
    return guarded(options.run, ranks, [&]() -> Result<Trainer> {
        MFRES_CHECK(check_options(options));
        MFRES_TRY(Run run, claim_run(options));
        auto state = std::make_unique<State>(std::move(run));
        if (const Status opened = state->open(observer); !opened) {
            ranks.fail(opened.error()); // before the executable is destroyed, which may wait for the other ranks
            return opened.error();
        }
        return Trainer(std::move(state));
    });
}

Result<TrainReport> Trainer::run(const TrainObserver& observer) {
    const Run& run = state_->run;
    return guarded(run.folder.path(), run.ranks(), [&] { return state_->train_session(observer); });
}

} // namespace mfres
