// The picture of a training run: loss, Dice of the regions and learning rate over the steps, one panel each.
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
    std::string title;      ///< one line on top
    std::int64_t steps = 0; ///< of the whole training; the axis ends there, or at three times the last row
    std::optional<std::int64_t> best_step; ///< marked in the Dice panel
};

/// How a region is drawn everywhere. Colours are of the Okabe-Ito palette, and regions differ in their markers too.
struct RegionLook {
    const char* name;
    Colour colour;
    Marker marker;
};
/// In the order of tumour_regions.
inline constexpr std::array<RegionLook, 3> region_looks = {{{"whole tumour", {0x00, 0x72, 0xB2}, Marker::circle},
                                                            {"tumour core", {0xD5, 0x5E, 0x00}, Marker::square},
                                                            {"enhancing", {0x00, 0x9E, 0x73}, Marker::triangle}}};

/// The three looks with their names in a row that begins at a point.
void draw_region_key(Drawing& drawing, const Point& at);

/// Mean over `window` values around each, fewer at the ends (window is odd, or grows to the next odd number).
std::vector<double> running_mean(std::span<const double> values, std::size_t window);

/// 1, 2 or 5 times a power of ten so that `span` holds at most `most` of it. Precondition: span > 0, most > 0.
double tick_step(double span, int most);

/// Draws what rows there are: without any, empty panels; the Dice panel only where something was evaluated.
Drawing draw_curve(std::span<const TrainRow> rows, const CurveOptions& options);

} // namespace mfres
