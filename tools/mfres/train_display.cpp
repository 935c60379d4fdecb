// SPDX-License-Identifier: MIT
#include "train_display.h"

#include "cli.h"

#include "core/format.h"
#include "core/platform.h"
#include "core/try.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <iostream>

namespace mfres::cli {

namespace {

std::string step_words(const TrainEvent& event) {
    std::array<char, 96> words{};
    std::snprintf(words.data(), words.size(), "step %lld/%lld  loss %.4f", static_cast<long long>(event.step),
                  static_cast<long long>(event.steps), event.loss);
    return words.data();
}

std::string pace(const TrainEvent& event) {
    std::array<char, 64> words{};
    std::snprintf(words.data(), words.size(), "%.3g s/step  ETA ", event.seconds_per_step);
    return words.data() + duration(event.seconds_left);
}

/// "BraTS-Africa 0.612 (4)  CBICA 0.803 (2)": mean Dice and cases of each site; nothing where there is one only.
std::string site_words(const Validation& validation) {
    const auto sites = by_site(validation);
    std::string words;
    for (const SiteDice& of : sites) {
        std::array<char, 48> numbers{};
        std::snprintf(numbers.data(), numbers.size(), " %.3f (%zu)", of.score(), of.cases);
        words += (words.empty() ? "" : "  ") + of.site + numbers.data();
    }
    return sites.size() > 1 ? words : "";
}

} // namespace

std::string dice_words(const RegionDice& dice) {
    std::array<char, 80> words{};
    std::snprintf(words.data(), words.size(), "WT %.3f  TC %.3f  ET %.3f  mean %.3f", dice[0], dice[1], dice[2],
                  (dice[0] + dice[1] + dice[2]) / 3.0);
    return words.data();
}

TrainDisplay::TrainDisplay(bool quiet) : quiet_(quiet), terminal_(platform::errors_go_to_terminal()) {}

bool TrainDisplay::show(const TrainEvent& event) {
    using Kind = TrainEvent::Kind;
    if (event.kind == Kind::warning)
        line("mfres: warning: " + event.message, true);
    if (event.kind == Kind::note)
        line(event.message);
    if (event.kind == Kind::caching)
        bar(event.done, event.total, text("cases into the cache, ", event.done, " of ", event.total));
    if (event.kind == Kind::row)
        line(text(step_words(event), "  ", pace(event)));
    if (event.kind == Kind::step)
        bar(static_cast<std::size_t>(event.step), static_cast<std::size_t>(event.steps),
            text(step_words(event), "  ", pace(event)));
    if (event.kind == Kind::validating)
        bar(event.done, event.total, text("validation, case ", event.done + 1, " of ", event.total));
    if (event.kind == Kind::validated) {
        line(text("step ", event.step, "/", event.steps, "  validation  ", dice_words(event.validation->mean),
                  event.best ? "  best so far  (" : "  (", counted(event.validation->cases.size(), "case"), ", ",
                  duration(event.validation->seconds), ")"));
        if (const std::string sites = site_words(*event.validation); !sites.empty())
            line(text("step ", event.step, "/", event.steps, "  by site  ", sites));
    }
    return !stop_requested();
}

void TrainDisplay::clear() {
    if (drawn_)
        std::cerr << "\r\033[K" << std::flush;
    drawn_ = false;
}

void TrainDisplay::line(const std::string& words, bool even_if_quiet) {
    if (quiet_ && !even_if_quiet)
        return;
    clear();
    std::cerr << words << std::endl; // a log that is watched must not lag behind
}

void TrainDisplay::bar(std::size_t done, std::size_t total, const std::string& words) {
    const std::chrono::duration<double> since = Clock::now() - last_bar_;
    if (quiet_ || !terminal_ || total == 0 || since.count() < 0.1)
        return;
    constexpr std::size_t width = 24;
    std::string blocks;
    for (std::size_t i = 0; i < width; ++i)
        blocks += i * total < done * width ? "█" : "░";
    std::cerr << "\r\033[K" << blocks << ' ' << words << std::flush;
    drawn_ = true;
    last_bar_ = Clock::now();
}

} // namespace mfres::cli
