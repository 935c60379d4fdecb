// SPDX-License-Identifier: MIT
#include "paper/tradeoff.h"

#include "core/format.h"
#include "core/try.h"
#include "report/plot.h"
#include "report/text_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace mfres {

namespace {

constexpr Colour black = {0x22, 0x22, 0x22};
constexpr Colour grey = {0x66, 0x66, 0x66};
constexpr Colour grid = {0xE2, 0xE2, 0xE2};

constexpr double left = 92;
constexpr double right = 940;
constexpr double top = 150; ///< title, legend and names are above it
constexpr double bottom = 520;
constexpr double dice_step = 0.1;

struct Shown {
    std::string name;
    PassCost cost;
    RegionDice dice{};
};

std::vector<Shown> shown_rows(const ExperimentReport& report) {
    std::vector<Shown> rows;
    for (std::size_t row = 0; row < report.plan.rows.size(); ++row) {
        const auto cost = cost_of(report, row);
        Shown shown{report.plan.rows[row].name, cost.value_or(PassCost{}), {}};
        bool complete = cost.has_value();
        for (const TumourRegion region : tumour_regions) {
            const auto mean = over_seeds(report, row, region, Metric::dice).mean;
            complete = complete && mean;
            shown.dice[static_cast<std::size_t>(region)] = mean.value_or(0.0);
        }
        if (complete)
            rows.push_back(std::move(shown));
    }
    std::sort(rows.begin(), rows.end(),
              [](const Shown& a, const Shown& b) { return a.cost.milliseconds < b.cost.milliseconds; });
    return rows;
}

/// The powers of ten that enclose all values, as logarithms.
struct Decades {
    double low = 2.0;
    double high = 3.0;

    double x(double milliseconds) const {
        return left + (std::log10(milliseconds) - low) / (high - low) * (right - left);
    }
};

Decades decades_of(const std::vector<Shown>& rows) {
    if (rows.empty())
        return {};
    Decades decades{std::floor(std::log10(rows.front().cost.milliseconds)),
                    std::ceil(std::log10(rows.back().cost.milliseconds))};
    decades.high = std::max(decades.high, decades.low + 1.0);
    return decades;
}

double y(double dice) {
    return bottom - dice * (bottom - top);
}

void draw_frame(Drawing& drawing, const Decades& decades) {
    for (int tick = 0; tick <= 10; ++tick) {
        const double height = y(tick * dice_step);
        drawing.line({{left, height}, {right, height}}, grid, 1.0);
        if (tick % 2 == 0)
            drawing.words({left - 10, height + 5}, grouped(tick * dice_step, 1), 13, grey, Anchor::end);
    }
    for (double power = decades.low; power < decades.high + 0.5; power += 1.0)
        for (int digit = 1; digit <= (power < decades.high ? 9 : 1); ++digit) {
            const double milliseconds = digit * std::pow(10.0, power);
            const double x = decades.x(milliseconds);
            drawing.line({{x, top}, {x, bottom}}, grid, digit == 1 ? 1.4 : 0.8);
            if (digit == 1 || digit == 2 || digit == 5)
                drawing.words({x, bottom + 22}, grouped(milliseconds, milliseconds < 1.0 ? 2 : 0), 13, grey,
                              Anchor::middle);
        }
    drawing.line({{left, top}, {left, bottom}, {right, bottom}}, grey, 1.2);
    drawing.words({left - 62, 0.5 * (top + bottom)}, "mean Dice, held-out cases", 14, black, Anchor::middle, true);
    drawing.words({0.5 * (left + right), bottom + 48}, "milliseconds of a pass over 4 x 128^3 voxels", 14, black,
                  Anchor::middle);
}

void draw_rows(Drawing& drawing, const std::vector<Shown>& rows, const Decades& decades) {
    constexpr double line_height = 17;
    constexpr double half_character = 4.1; ///< of the font of the PNG, the wider one
    std::array<double, 4> occupied{};      ///< right ends of the names on each line, the lowest line first
    for (const Shown& row : rows) {
        const double x = decades.x(row.cost.milliseconds);
        drawing.line({{x, top}, {x, bottom}}, grey, 0.8, 4.0);
        const std::string words = row.name + ", " + grouped(row.cost.peak_mib, 0) + " MiB";
        const double half = half_character * static_cast<double>(words.size());
        const double centre = std::clamp(x, left + half, right + 50 - half);
        // The lowest line with free space; otherwise the line that ends first.
        auto line = std::find_if(occupied.begin(), occupied.end(), [&](double end) { return end <= centre - half; });
        if (line == occupied.end())
            line = std::min_element(occupied.begin(), occupied.end());
        *line = centre + half;
        const double height = top - 10 - line_height * static_cast<double>(line - occupied.begin());
        drawing.words({centre, height}, words, 13, black, Anchor::middle);
        for (std::size_t region = 0; region < 3; ++region)
            drawing.marker({x, y(row.dice[region])}, region_looks[region].marker, 6.0, region_looks[region].colour);
    }
}

} // namespace

Drawing draw_tradeoff(const ExperimentReport& report) {
    Drawing drawing(1000, 590);
    drawing.words({left, 36}, "Accuracy over cost", 19, black);
    draw_region_key(drawing, {left + 6, 70});
    const std::vector<Shown> rows = shown_rows(report);
    const Decades decades = decades_of(rows);
    draw_frame(drawing, decades);
    draw_rows(drawing, rows, decades);
    if (!rows.empty())
        drawing.words({right, 36}, text(rows[0].cost.used.engine, ", ", counted(rows[0].cost.used.threads, "thread")),
                      14, grey, Anchor::end);
    return drawing;
}

} // namespace mfres
