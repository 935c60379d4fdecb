// SPDX-License-Identifier: MIT
// Plot of a training run: loss, Dice of the regions and learning rate over the steps, one panel each.
#pragma once

#include "report/drawing.h"

#include <mfres/trainer.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mfres {

struct CurveOptions {
    std::string title;      ///< one line at the top
    std::int64_t steps = 0; ///< of the whole training; the axis ends there, but not beyond three times the last row
    std::optional<std::int64_t> best_step; ///< marked in the Dice panel
};

/// Name, colour and marker of a region in all plots. Colours are of the Okabe-Ito palette.
struct RegionLook {
    const char* name;
    Colour colour;
    Marker marker;
};
/// In the order of tumour_regions.
inline constexpr std::array<RegionLook, 3> region_looks = {{{"whole tumour", {0x00, 0x72, 0xB2}, Marker::circle},
                                                            {"tumour core", {0xD5, 0x5E, 0x00}, Marker::square},
                                                            {"enhancing", {0x00, 0x9E, 0x73}, Marker::triangle}}};

/// Draws the legend of the three regions from a point to the right.
void draw_region_key(Drawing& drawing, const CanvasPoint& at);

/// Centred running mean over `window` values (rounded up to an odd number), fewer at the ends.
std::vector<double> running_mean(std::span<const double> values, std::size_t window);

/// The tick distance: the smallest 1, 2 or 5 times a power of ten that fits into `span` at most `most` times.
/// Precondition: span > 0, most > 0.
double tick_step(double span, int most);

/// Draws the rows; without rows, empty panels. There is a Dice panel only if there are validations.
Drawing draw_curve(std::span<const TrainRow> rows, const CurveOptions& options);

} // namespace mfres
