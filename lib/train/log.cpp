// SPDX-License-Identifier: MIT
#include "train/log.h"

#include "core/file.h"
#include "core/format.h"
#include "core/json_value.h"
#include "report/plot.h"
#include "train/history.h"

#include <algorithm>
#include <array>
#include <utility>

namespace mfres {

namespace {

template <typename Time>
double seconds_since(Time start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::int64_t voxels_per_step(const Sampling& sampling) {
    return sampling.batch * sampling.crop[0] * sampling.crop[1] * sampling.crop[2];
}

} // namespace

void TrainLog::begin_session() {
    stop_asked_ = false;
    first_step_ = run_->now.step;
    seconds_before_ = run_->now.seconds;
    step_seconds_ = 0.0;
    session_start_ = last_tables_ = Clock::now();
}

TrainEvent TrainLog::event(TrainEvent::Kind kind) const {
    const Checkpoint& now = run_->now;
    TrainEvent event;
    event.kind = kind;
    event.step = now.step;
    event.steps = run_->steps;
    event.epoch = now.epoch;
    if (const std::int64_t done = now.step - first_step_; done > 0) {
        const std::int64_t left = run_->steps - now.step;
        event.seconds_per_step = step_seconds_ / static_cast<double>(done);
        event.seconds_left = event.seconds_per_step * static_cast<double>(left);
        if (const std::int64_t every = now.recipe.validate_every; !now.validations.empty() && every > 0)
            event.seconds_left += now.validations.back().seconds * static_cast<double>(left / every);
    }
    return event;
}

bool TrainLog::tell(const TrainEvent& event) {
    if (observer_ && *observer_ && !(*observer_)(event))
        stop_asked_ = true;
    return !stop_asked_;
}

bool TrainLog::tell(TrainEvent::Kind kind, std::size_t done, std::size_t total) {
    TrainEvent progress = event(kind);
    progress.done = done;
    progress.total = total;
    return tell(progress);
}

void TrainLog::warn(std::string sentence) {
    warnings_.push_back(sentence);
    TrainEvent warning = event(TrainEvent::Kind::warning);
    warning.message = std::move(sentence);
    tell(warning);
}

void TrainLog::note(std::string sentence) {
    TrainEvent note = event(TrainEvent::Kind::note);
    note.message = std::move(sentence);
    tell(note);
}

void TrainLog::add_step(const StepRecord& step) {
    OpenRow& row = run_->now.open_row;
    row.steps += 1;
    row.loss += step.loss;
    row.gradient_norm += step.gradient_norm;
    row.learning_rate = step.learning_rate;
    row.waited += step.waited;
    row.seconds += step.seconds;
    step_seconds_ += step.seconds;
    update_seconds();
}

void TrainLog::update_seconds() {
    run_->now.seconds = seconds_before_ + seconds_since(session_start_);
}

void TrainLog::close_row() {
    Checkpoint& now = run_->now;
    const OpenRow& open = now.open_row;
    const auto count = static_cast<double>(open.steps);
    TrainRow row;
    row.step = now.step;
    row.loss = open.loss / count;
    row.learning_rate = open.learning_rate;
    row.gradient_norm = open.gradient_norm / static_cast<double>(std::max<std::int64_t>(1, open.steps - open.skipped));
    row.skipped = open.skipped;
    row.seconds = now.seconds;
    const double seconds = std::max(open.seconds, 1e-9);
    row.voxels_per_second = count * static_cast<double>(voxels_per_step(now.recipe.sampling)) / seconds;
    row.wait_share = std::min(1.0, open.waited / seconds);
    now.rows.push_back(row);
    now.open_row = {};
}

Status TrainLog::write_tables() {
    const Checkpoint& now = run_->now;
    last_tables_ = Clock::now();
    MFRES_CHECK(write_file_atomically(run_->folder / "metrics.csv", metrics_csv(now.rows)));
    if (!now.validations.empty())
        MFRES_CHECK(write_file_atomically(run_->folder / "validation.csv", validation_csv(now.validations)));
    return {};
}

Status TrainLog::refresh_tables() {
    constexpr double most_seconds = 5.0;
    return seconds_since(last_tables_) > most_seconds ? write_tables() : Status();
}

Status TrainLog::write_curve(const std::string& network) const {
    const Checkpoint& now = run_->now;
    CurveOptions curve;
    curve.title = text(network, ", ", now.recipe.loss, ", step ", now.step, " of ", run_->steps);
    curve.steps = run_->steps;
    if (now.best) {
        const Validation& best = now.validations[*now.best];
        curve.best_step = best.step;
        std::array<char, 48> words{};
        print_classic(words.data(), words.size(), ", best mean Dice %.3f", best.score());
        curve.title += words.data();
    }
    return write_drawing(draw_curve(now.rows, curve), run_->folder / "curve", 1.5);
}

TrainReport TrainLog::report() const {
    const Checkpoint& now = run_->now;
    TrainReport result;
    result.run = run_->folder.path().string();
    result.ranks = now.ranks;
    result.recipe = to_json(now.recipe).dump();
    result.fold = now.data.fold;
    result.cases = run_->data->entries().size();
    result.validation_cases = run_->validation ? run_->validation->entries().size() : 0;
    result.first_step = first_step_;
    result.step = now.step;
    result.steps = run_->steps;
    result.skipped = now.skipped;
    result.seconds = now.seconds;
    result.rows = now.rows;
    if (now.best)
        result.best = now.validations[*now.best];
    if (!now.validations.empty())
        result.latest = now.validations.back();
    result.warnings = warnings_;
    return result;
}

std::string to_json(const TrainReport& report) {
    const auto validation_json = [](const std::optional<Validation>& validation) {
        if (!validation)
            return Json();
        Json cases = Json::object();
        for (const ValidationCase& entry : validation->cases)
            cases[entry.id] = {{"wt", entry.dice[0]}, {"tc", entry.dice[1]}, {"et", entry.dice[2]}};
        Json sites = Json::object();
        for (const SiteDice& of : by_site(*validation))
            sites[of.site] = {
                {"cases", of.cases}, {"wt", of.mean[0]}, {"tc", of.mean[1]}, {"et", of.mean[2]}, {"mean", of.score()}};
        return Json{{"step", validation->step},  {"wt", validation->mean[0]},     {"tc", validation->mean[1]},
                    {"et", validation->mean[2]}, {"mean", validation->score()},   {"cases", std::move(cases)},
                    {"sites", std::move(sites)}, {"seconds", validation->seconds}};
    };
    Json recipe = Json::parse(report.recipe, nullptr, false);
    const Json object = {{"run", report.run},
                         {"network", report.network},
                         {"backend", {{"name", report.used.backend}, {"engine", report.used.engine}}},
                         {"threads", report.used.threads},
                         {"ranks", report.ranks},
                         {"recipe", recipe.is_discarded() ? Json() : std::move(recipe)},
                         {"fold", report.fold.empty() ? Json() : Json(report.fold)},
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
                         {"final_loss", report.rows.empty() ? Json() : Json(report.rows.back().loss)},
                         {"best", validation_json(report.best)},
                         {"latest", validation_json(report.latest)},
                         {"model", report.model.empty() ? Json() : Json(report.model)},
                         {"warnings", report.warnings}};
    return object.dump(2, ' ', false, Json::error_handler_t::replace);
}

} // namespace mfres
