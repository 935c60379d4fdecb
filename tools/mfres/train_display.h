// SPDX-License-Identifier: MIT
// What a user sees of a training.
#pragma once

#include "cli.h"

#include <mfres/trainer.h>

#include <chrono>
#include <string>

namespace mfres::cli {

/// "WT 0.701  TC 0.650  ET 0.612  mean 0.654"
std::string dice_words(const RegionDice& dice);

/// On stderr, a line per row and validation, and on a terminal a bar under them; nothing but warnings when quiet.
class TrainDisplay {
  public:
    explicit TrainDisplay(bool quiet);
    TrainDisplay(const TrainDisplay&) = delete;
    TrainDisplay& operator=(const TrainDisplay&) = delete;
    ~TrainDisplay() { clear(); }

    /// Fits TrainObserver: false once stop_requested().
    bool show(const TrainEvent& event);
    /// A line of its own.
    void line(const std::string& words, bool even_if_quiet = false);
    void bar(std::size_t done, std::size_t total, const std::string& words);
    /// Removes the bar, so that other output starts on a clean line.
    void clear();

  private:
    using Clock = std::chrono::steady_clock;

    bool quiet_;
    bool terminal_;
    bool drawn_ = false;
    Clock::time_point last_bar_{};
};

} // namespace mfres::cli
