// SPDX-License-Identifier: MIT
// The stages of one case: their times, and progress for the caller.
#pragma once

#include "core/try.h"

#include <mfres/predictor.h>

#include <atomic>
#include <chrono>
#include <string>
#include <utility>

namespace mfres {

/// Times the stages of one case into its report and passes progress on to the caller.
class StageClock {
  public:
    /// `cancelled` may be null.
    StageClock(PredictionReport& report, const Progress& progress, const std::atomic<bool>* cancelled = nullptr)
        : report_(report), progress_(progress), cancelled_(cancelled) {}

    /// Ends the stage before and starts `name`; interrupted if the caller wants to stop.
    Status start(std::string name) {
        stop();
        stage_ = std::move(name);
        start_ = Clock::now();
        return show(0.0);
    }

    Status show(double done) const {
        if ((cancelled_ && *cancelled_) || (progress_ && !progress_(stage_, done)))
            return Error{ErrorCode::interrupted, text("stopped on request during stage '", stage_, "'"), stage_};
        return {};
    }

    /// The flag that cancels, or null.
    const std::atomic<bool>* cancelled() const { return cancelled_; }

    void stop() {
        if (stage_.empty())
            return;
        const std::chrono::duration<double, std::milli> elapsed = Clock::now() - start_;
        report_.stages.push_back({stage_, elapsed.count()});
        report_.total_milliseconds += elapsed.count();
        stage_.clear();
    }

  private:
    using Clock = std::chrono::steady_clock;
    PredictionReport& report_;
    const Progress& progress_;
    const std::atomic<bool>* cancelled_;
    std::string stage_;
    Clock::time_point start_;
};

} // namespace mfres
