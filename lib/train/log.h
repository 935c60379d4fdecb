// SPDX-License-Identifier: MIT
// The log of a run: events for its observer, rows of metrics.csv, tables and curve in its folder, the report.
#pragma once

#include "train/run.h"

#include <chrono>
#include <string>
#include <vector>

namespace mfres {

/// One training step, measured.
struct StepRecord {
    double loss = 0.0;
    double gradient_norm = 0.0; ///< 0 if it was skipped
    double learning_rate = 0.0;
    double seconds = 0.0;
    double waited = 0.0; ///< seconds of these spent waiting for the batch
};

class TrainLog {
  public:
    /// The run has to outlive the log and stay where it is.
    explicit TrainLog(Run& run) : run_(&run) {}

    /// Who gets events from now on; null or empty = no one. It has to outlive its use.
    void set_observer(const TrainObserver& observer) { observer_ = &observer; }
    /// The time of training is counted from here on, and an earlier request to stop is forgotten.
    void begin_session();

    // ---- events ----

    /// An event that states the step, and the time per step and left, as estimated from this session.
    TrainEvent event(TrainEvent::Kind kind) const;
    /// False once the observer has asked to stop.
    bool tell(const TrainEvent& event);
    /// The same for `caching` and `validating`.
    bool tell(TrainEvent::Kind kind, std::size_t done, std::size_t total);
    void warn(std::string sentence);
    void note(std::string sentence);
    bool stop_asked() const { return stop_asked_; }

    // ---- rows ----

    /// Adds a step to the row that is open. Precondition: run.now.step counts it.
    void add_step(const StepRecord& step);
    /// To be called after a validation: the time of training includes it.
    void update_seconds();
    /// Appends the open row to run.now.rows. Precondition: it has a step.
    void close_row();

    // ---- files ----

    /// metrics.csv, and validation.csv where there was a validation. Errors: file_write.
    Status write_tables();
    /// The same, if the tables are older than five seconds.
    Status refresh_tables();
    /// The curve as SVG and as PNG. `network` is its title. Errors: file_write.
    Status write_curve(const std::string& network) const;

    /// What the run and this log know; network, model and how it was computed are the caller's.
    TrainReport report() const;

  private:
    using Clock = std::chrono::steady_clock;

    Run* run_;
    const TrainObserver* observer_ = nullptr;
    bool stop_asked_ = false;
    std::vector<std::string> warnings_;
    std::int64_t first_step_ = 0; ///< of this session
    double seconds_before_ = 0.0; ///< of earlier sessions
    double step_seconds_ = 0.0;   ///< in training steps of this session
    Clock::time_point session_start_;
    Clock::time_point last_tables_;
};

} // namespace mfres
