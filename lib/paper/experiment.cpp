// SPDX-License-Identifier: MIT
// The control flow of an experiment: plan, split of the cases, start or resume, then one run after the other.
#include "paper/experiment.h"

#include "core/file.h"
#include "core/guard.h"
#include "core/memory_usage.h"
#include "core/try.h"
#include "paper/files.h"
#include "paper/plan.h"
#include "paper/run_files.h"
#include "paper/tradeoff.h"

#include <mfres/benchmark.h>
#include <mfres/dataset.h>
#include <mfres/evaluate.h>
#include <mfres/segmenter.h>

#include <map>
#include <new>
#include <optional>
#include <tuple>

namespace mfres {

namespace {

namespace fs = std::filesystem;
/// Input size for the cost of a network: the paper's patch.
constexpr std::array<std::int64_t, 3> cost_size{128, 128, 128};
constexpr int cost_runs = 3;

fs::path record_file(const fs::path& out) {
    return out / "experiment.json";
}

Result<ExperimentPlan> read_record(const fs::path& out) {
    MFRES_TRY(const Json object, read_json(record_file(out)));
    return parse_plan(object, record_file(out));
}

/// The state of a run after an error that ends this run only; nullopt for errors that end the experiment.
std::optional<RunState> state_after(ErrorCode code) {
    if (code == ErrorCode::memory_limit || code == ErrorCode::operation_unsupported)
        return RunState::skipped;
    if (code == ErrorCode::training_diverged || code == ErrorCode::logits_not_finite)
        return RunState::failed;
    return std::nullopt;
}

/// Creates the folder of a new experiment. A folder with nothing but caches of an experiment that did not start is
/// accepted.
Status claim_folder(const fs::path& out) {
    std::error_code problem;
    fs::create_directories(out, problem);
    if (problem)
        return Error{ErrorCode::file_write, text("cannot make folder ", out.string(), ": ", problem.message()),
                     out.string()};
    MFRES_TRY(const auto entries, list_folder(out));
    for (const FolderEntry& entry : entries) {
        const std::string name = entry.path.filename().string();
        bool own = false;
        for (const std::string file : {"train.mfcache", "held-out.mfcache", "experiment.json"})
            own = own || name == file ||
                  name.starts_with("." + file + "."); // the second: temporary file of an interrupted write
        if (!own)
            return Error{ErrorCode::file_exists,
                         text("the folder ", out.string(), " is not empty (it holds ", name,
                              ") and no experiment; a new one needs a folder of its own"),
                         out.string()};
    }
    return {};
}

class Experiment {
  public:
    Experiment(const ExperimentOptions& options, const ExperimentObserver& observer, ExperimentPlan plan,
               DataSplit split)
        : options_(options), observer_(observer), split_(std::move(split)) {
        report_.warnings = split_.warnings;
        report_.notes = split_.label_notes;
        report_.provenance = options.provenance;
        plan.split = split_.rule;
        for (const auto& [set, cases] : {std::pair{&plan.train, &split_.train}, {&plan.held_out, &split_.held_out}})
            for (std::size_t i = 0; i < cases->size(); ++i)
                set->ids.push_back(cases->id(i));
        report_.plan = std::move(plan);
    }

    /// Starts the experiment, or resumes it if the folder holds the same one; creates the caches.
    Status prepare() {
        const bool begun = is_there(record_file(options_.out));
        if (!begun)
            MFRES_CHECK(claim_folder(options_.out));
        ExperimentPlan recorded;
        if (begun) {
            MFRES_TRY(recorded, read_record(options_.out));
            plan().train.fingerprint = recorded.train.fingerprint;
            plan().held_out.fingerprint = recorded.held_out.fingerprint;
            MFRES_CHECK(check_same(recorded)); // reject a different experiment before cases are packed
        }
        MFRES_TRY(plan().train.fingerprint, cache(train_cache(), split_.train, begun));
        MFRES_TRY(plan().held_out.fingerprint, cache(options_.out / "held-out.mfcache", split_.held_out, begun));
        if (begun)
            return check_same(recorded);
        return write_file_atomically(record_file(options_.out), plan_json(plan()).dump(2) + "\n");
    }

    Result<ExperimentReport> run() {
        report_.runs = runs_of(plan());
        for (ExperimentRun& run : report_.runs)
            MFRES_CHECK(read_run(options_.out, run));
        MFRES_CHECK(write_tables());
        for (index_ = 0; index_ < report_.runs.size() && !report_.stopped; ++index_) {
            const Status status = conduct(report_.runs[index_]);
            MFRES_CHECK(write_tables());
            MFRES_CHECK(status);
        }
        return std::move(report_);
    }

  private:
    ExperimentPlan& plan() { return report_.plan; }
    fs::path train_cache() const { return options_.out / "train.mfcache"; }

    bool tell(const ExperimentEvent& event) {
        if (observer_ && !observer_(event))
            report_.stopped = true;
        return !report_.stopped;
    }

    ExperimentEvent event(ExperimentEvent::Kind kind, const ExperimentRun& run, double share = 0.0) const {
        ExperimentEvent event;
        event.share = share;
        event.kind = kind;
        event.run = run.folder;
        event.index = index_;
        event.runs = report_.runs.size();
        event.state = run.state;
        event.message = run.reason;
        return event;
    }

    Status check_same(const ExperimentPlan& recorded) {
        std::string differences;
        for (const std::string& difference : plan_differences(plan(), recorded))
            differences += (differences.empty() ? "" : "; ") + difference;
        if (differences.empty())
            return {};
        return Error{ErrorCode::checkpoint_mismatch,
                     text("the folder ", options_.out.string(), " holds another experiment: ", differences,
                          "; use another folder for a different experiment"),
                     options_.out.string()};
    }

    /// Packs the cases, or keeps the cache of an experiment that has started; returns the fingerprint.
    Result<std::string> cache(const fs::path& path, const CaseSet& cases, bool keep) {
        if (keep && is_there(path))
            return cache_fingerprint(path);
        const auto progress = [&](std::size_t done, std::size_t total) {
            ExperimentEvent caching;
            caching.kind = ExperimentEvent::Kind::caching;
            caching.done = done;
            caching.total = total;
            return tell(caching);
        };
        MFRES_TRY(const RecipeDescription recipe, recipe_of(plan(), runs_of(plan()).front())); // the same in all runs
        return pack_cases(path, cases,
                          {.threads = options_.compute.threads,
                           .overwrite = true,
                           .accept = options_.accept,
                           .normalisation = recipe.normalisation},
                          progress);
    }

    /// Where everything runs. Numerics of the trainings are in their recipes.
    ComputeOptions place() {
        return {.backend = plan().backend, .device = options_.compute.device, .threads = options_.compute.threads};
    }

    std::int64_t memory_limit() const { return options_.max_memory > 0 ? options_.max_memory : available_memory(); }

    /// Completes a run unless it has finished. Returns only errors that end the whole experiment.
    Status conduct(ExperimentRun& run) {
        if (run.state != RunState::finished && tell(event(ExperimentEvent::Kind::begin, run))) {
            Status status = run.state == RunState::trained ? Status() : train(run);
            if (status && run.state == RunState::trained)
                status = evaluate(run);
            if (!status)
                MFRES_CHECK(note(run, status.error()));
        }
        if (run.state == RunState::finished && !report_.stopped)
            MFRES_CHECK(measure_cost(run));
        tell(event(ExperimentEvent::Kind::end, run));
        return {};
    }

    /// Trains to the end or until the observer stops it.
    Status train(ExperimentRun& run) {
        MFRES_TRY(const RecipeDescription recipe, recipe_of(plan(), run));
        const RunFiles files{options_.out / run.folder};
        MFRES_TRY(const auto progress, run_progress(files.folder));
        TrainerOptions training;
        training.data = train_cache();
        training.run = files.folder;
        training.recipe = recipe.json;
        training.compute = place();
        training.loader_threads = options_.loader_threads;
        training.resume = progress.has_value();
        training.max_memory = memory_limit();
        const auto observe = [&](const TrainEvent& trained) {
            ExperimentEvent happened = event(ExperimentEvent::Kind::training, run);
            happened.training = &trained;
            return tell(happened);
        };
        MFRES_TRY(Trainer trainer, Trainer::open(training, observe));
        MFRES_TRY(const TrainReport trained, trainer.run(observe));
        for (const std::string& warning : trained.warnings)
            report_.warnings.push_back(run.folder + ": " + warning);
        if (!trained.stopped)
            MFRES_CHECK(write_training(files, trained));
        return read_run(options_.out, run);
    }

    /// Evaluates the model on the files of the held-out cases.
    Status evaluate(ExperimentRun& run) {
        const RunFiles files{options_.out / run.folder};
        MFRES_TRY(Segmenter segmenter,
                  Segmenter::open(files.model(),
                                  {.compute = place(), .max_memory = memory_limit(), .accept = options_.accept}));
        const auto progress = [&](std::string_view, double done) {
            return tell(event(ExperimentEvent::Kind::evaluating, run, done));
        };
        MFRES_TRY(const MetricsTable measured,
                  evaluate_model(segmenter, split_.held_out, {.threads = options_.compute.threads}, progress));
        MFRES_CHECK(write_measurements(files, measured));
        return read_run(options_.out, run);
    }

    /// Times one inference of a network of table 2. A network that does not fit into memory has no cost.
    Status measure_cost(ExperimentRun& run) {
        const RunFiles files{options_.out / run.folder};
        if (plan().table != ExperimentTable::table2 || run.cost)
            return {};
        MFRES_TRY(const std::int64_t planned,
                  planned_activations(plan().rows[run.row].network, cost_size, plan().backend));
        if (planned > memory_limit())
            return {};
        BenchmarkOptions timing;
        timing.size = cost_size;
        timing.compute = place();
        timing.runs = cost_runs;
        timing.probe = false;
        const auto measured = benchmark(files.model(), timing, [&](std::string_view, double) {
            return tell(event(ExperimentEvent::Kind::evaluating, run, 1.0));
        });
        if (!measured)
            return note_cost(measured.error());
        MFRES_CHECK(write_file_atomically(files.cost(), to_json(*measured) + "\n"));
        return read_run(options_.out, run);
    }

    /// Ignores errors of a network that cannot be timed.
    Status note_cost(const Error& error) {
        if (error.code == ErrorCode::interrupted)
            report_.stopped = true;
        else if (!state_after(error.code))
            return error;
        return {};
    }

    /// Records an error that ends one run only.
    Status note(ExperimentRun& run, const Error& error) {
        if (error.code == ErrorCode::interrupted) {
            report_.stopped = true;
            return read_run(options_.out, run);
        }
        const auto state = state_after(error.code);
        if (!state)
            return error;
        run.state = *state;
        run.reason = error.message;
        return {};
    }

    Status write_tables() {
        MFRES_CHECK(write_file_atomically(options_.out / "table.md", to_markdown(report_)));
        if (plan().table == ExperimentTable::table2)
            MFRES_CHECK(write_drawing(draw_tradeoff(report_), options_.out / "tradeoff", 1.5));
        return write_file_atomically(options_.out / "table.json", to_json(report_) + "\n");
    }

    const ExperimentOptions& options_;
    const ExperimentObserver& observer_;
    DataSplit split_;
    ExperimentReport report_;
    std::size_t index_ = 0; ///< of the current run
};

/// Why runs were skipped or failed, by folder. This is recorded in the table of the experiment only.
Result<std::map<std::string, std::pair<RunState, std::string>>> read_reasons(const fs::path& out) {
    std::map<std::string, std::pair<RunState, std::string>> reasons;
    if (!is_there(out / "table.json"))
        return reasons;
    MFRES_TRY(const Json table, read_json(out / "table.json"));
    try {
        for (const Json& run : table.at("runs"))
            for (const RunState state : {RunState::skipped, RunState::failed})
                if (run.at("state") == name(state))
                    reasons[run.at("run").get<std::string>()] = {state, run.at("reason").get<std::string>()};
    } catch (const Json::exception& problem) {
        const std::string path = (out / "table.json").string();
        return Error{ErrorCode::json_invalid, text(path, " is not a table of an experiment: ", problem.what()), path};
    }
    return reasons;
}

Result<ExperimentReport> read_status(const fs::path& out) {
    if (!is_there(record_file(out)))
        return Error{ErrorCode::file_not_found,
                     text("there is no experiment in ", out.string(), ": it does not hold experiment.json"),
                     out.string()};
    ExperimentReport report;
    MFRES_TRY(report.plan, read_record(out));
    MFRES_TRY(const auto reasons, read_reasons(out));
    report.runs = runs_of(report.plan);
    for (ExperimentRun& run : report.runs) {
        MFRES_CHECK(read_run(out, run));
        if (const auto known = reasons.find(run.folder); known != reasons.end() && run.state != RunState::finished)
            std::tie(run.state, run.reason) = known->second;
    }
    return report;
}

} // namespace

Result<ExperimentReport> run_experiment(const ExperimentOptions& options, const ExperimentObserver& observer) {
    return guarded(options.out, [&]() -> Result<ExperimentReport> {
        MFRES_TRY(ExperimentPlan plan, make_plan(options));
        MFRES_TRY(DataSplit split, split_cases({options.data, options.validation, options.fold, options.same_patient,
                                                options.label_scheme}));
        Experiment experiment(options, observer, std::move(plan), std::move(split));
        MFRES_CHECK(experiment.prepare());
        return experiment.run();
    });
}

Result<ExperimentReport> experiment_status(const std::filesystem::path& out) {
    return guarded(out, [&] { return read_status(out); });
}

} // namespace mfres
