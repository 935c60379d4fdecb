// The picture of a training run: loss, Dice of the regions and learning rate over the steps, one panel each.
#pragma once

#include "train/drawing.h"

#include <mfres/trainer.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mfres {

struct CurveOptions {
    std::string title;      ///< one line on top
    std::int64_t steps = 0; ///< of the whole training; the axis ends there, or at three times the last row
    std::optional<std::int64_t> best_step; ///< marked in the Dice panel
};

/// Mean over `window` values around each, fewer at the ends (window is odd, or grows to the next odd number).
std::vector<double> running_mean(std::span<const double> values, std::size_t window);

/// 1, 2 or 5 times a power of ten so that `span` holds at most `most` of it. Precondition: span > 0, most > 0.
double tick_step(double span, int most);

/// Draws what rows there are: without any, empty panels; the Dice panel only where something was evaluated.
/// Colours are of the Okabe-Ito palette, and regions differ in their markers too.
Drawing draw_curve(std::span<const TrainRow> rows, const CurveOptions& options);

} // namespace mfres
