// SPDX-License-Identifier: MIT
#include "report/plot.h"

#include "core/decimal_text.h"
#include "core/format.h"
#include "core/try.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

constexpr Colour black = {0x22, 0x22, 0x22};
constexpr Colour grey = {0x66, 0x66, 0x66};
constexpr Colour grid = {0xE2, 0xE2, 0xE2};
constexpr Colour faint_blue = {0xB3, 0xD4, 0xE8};
constexpr Colour blue = {0x00, 0x72, 0xB2};
constexpr Colour purple = {0xCC, 0x79, 0xA7};

constexpr int width = 1000;
constexpr double left = 92;
constexpr double right = 900; ///< labels of the last values are to the right of it
constexpr double label_size = 14;
constexpr double small_size = 13;

/// The fewest digits that distinguish ticks of that distance; "5e-4" for small values.
std::string tick_label(double value, double step) {
    if (value == 0.0)
        return "0";
    if (step < 1e-4) {
        const double power = std::floor(std::log10(std::abs(value)) + 1e-9);
        return format_classic("%.3g", value / std::pow(10.0, power)) + format_classic("e%.0f", power);
    }
    const int decimals = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
    return decimal_text(value, decimals, "");
}

/// Closed range of values.
struct Extent {
    double low = 0.0;
    double high = 1.0;
};

/// Extends the range to multiples of the tick distance.
Extent to_ticks(Extent extent, int most) {
    if (!(extent.high > extent.low)) {
        const double room = std::max(std::abs(extent.low) * 0.1, 1e-3);
        extent = {extent.low - room, extent.low + room};
    }
    // The extended range may have a larger tick distance, which extends it again; two rounds are enough.
    for (int round = 0; round < 3; ++round) {
        const double step = tick_step(extent.high - extent.low, most);
        extent = {std::floor(extent.low / step + 1e-6) * step, std::ceil(extent.high / step - 1e-6) * step};
    }
    return extent;
}

/// Axes of a panel and the map from values to pixels.
struct Panel {
    double top, bottom;
    Extent x, y;

    CanvasPoint at(double step, double value) const {
        const double share_x = (step - x.low) / (x.high - x.low);
        const double share_y = (std::clamp(value, y.low, y.high) - y.low) / (y.high - y.low);
        return {left + share_x * (right - left), bottom - share_y * (bottom - top)};
    }
};

void draw_axes(Drawing& drawing, const Panel& panel, const std::string& name, int y_ticks, bool step_labels) {
    const double y_step = tick_step(panel.y.high - panel.y.low, y_ticks);
    for (double tick = std::ceil(panel.y.low / y_step - 1e-6); tick <= panel.y.high / y_step + 1e-6; tick += 1.0) {
        const double shown = tick == 0.0 ? 0.0 : tick * y_step;
        const CanvasPoint start = panel.at(panel.x.low, shown);
        drawing.line({start, panel.at(panel.x.high, shown)}, grid, 1.0);
        drawing.words({left - 10, start.y + 5}, tick_label(shown, y_step), small_size, grey, Anchor::end);
    }
    const double x_step = std::max(1.0, tick_step(panel.x.high - panel.x.low, 9));
    for (double value = 0.0; value <= panel.x.high * (1 + 1e-9); value += x_step) {
        const CanvasPoint foot = panel.at(value, panel.y.low);
        drawing.line({foot, {foot.x, panel.top}}, grid, 1.0);
        drawing.line({foot, {foot.x, foot.y + 5}}, grey, 1.0);
        if (step_labels)
            drawing.words({foot.x, foot.y + 22}, tick_label(value, x_step), small_size, grey, Anchor::middle);
    }
    drawing.line({{left, panel.top}, {left, panel.bottom}, {right, panel.bottom}}, grey, 1.2);
    drawing.words({left - 68, 0.5 * (panel.top + panel.bottom)}, name, label_size, black, Anchor::middle, true);
    if (step_labels)
        drawing.words({0.5 * (left + right), panel.bottom + 46}, "step", label_size, black, Anchor::middle);
}

std::vector<CanvasPoint> path(const Panel& panel, std::span<const TrainRow> rows, std::span<const double> values) {
    std::vector<CanvasPoint> points;
    for (std::size_t i = 0; i < rows.size(); ++i)
        points.push_back(panel.at(static_cast<double>(rows[i].step), values[i]));
    return points;
}

/// Position of the label of a line's last value.
CanvasPoint beside_end(const Panel& panel, std::span<const TrainRow> rows, double value) {
    const CanvasPoint end = panel.at(static_cast<double>(rows.back().step), value);
    return {end.x + 12, end.y + 5};
}

template <typename Value>
std::vector<double> column(std::span<const TrainRow> rows, const Value& value) {
    std::vector<double> values;
    for (const TrainRow& row : rows)
        values.push_back(value(row));
    return values;
}

Extent extent_of(std::span<const double> values, Extent when_empty) {
    if (values.empty())
        return when_empty;
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    return {*low, *high};
}

/// Loss of each row in a pale colour and its running mean; without the mean if there are few rows.
void draw_loss(Drawing& drawing, Panel panel, std::span<const TrainRow> rows) {
    const auto loss = column(rows, [](const TrainRow& row) { return row.loss; });
    panel.y = to_ticks(extent_of(loss, {0.0, 1.0}), 6);
    draw_axes(drawing, panel, "loss", 6, false);
    const std::size_t window = loss.size() < 12 ? 1 : std::max<std::size_t>(3, loss.size() / 25) | 1U;
    const auto smooth = running_mean(loss, window);
    const double key = panel.top - 12;
    if (window > 1) {
        drawing.line(path(panel, rows, loss), faint_blue, 1.2);
        drawing.line({{left + 6, key - 4}, {left + 34, key - 4}}, faint_blue, 2.0);
        drawing.words({left + 42, key}, "one row", small_size, black);
        drawing.line({{left + 118, key - 4}, {left + 146, key - 4}}, blue, 2.2);
        drawing.words({left + 154, key}, text("mean of ", window, " rows"), small_size, black);
    }
    drawing.line(path(panel, rows, smooth), blue, 2.2);
    if (!smooth.empty())
        drawing.words(beside_end(panel, rows, smooth.back()), format_classic("%.4f", smooth.back()), label_size, blue);
}

/// Baselines of the labels at the lines' ends, moved apart if they overlap.
std::array<double, 3> label_heights(const Panel& panel, const RegionDice& dice) {
    constexpr double apart = 19;
    std::array<std::size_t, 3> order = {0, 1, 2};
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return dice[a] > dice[b]; });
    std::array<double, 3> heights{};
    double lowest = -1e9;
    for (const std::size_t region : order) {
        heights[region] = std::max(panel.at(0, dice[region]).y, lowest + apart);
        lowest = heights[region];
    }
    const double over = std::max(0.0, lowest - panel.bottom);
    for (double& height : heights)
        height += 5 - over;
    return heights;
}

void draw_dice(Drawing& drawing, Panel panel, std::span<const TrainRow> rows, const CurveOptions& options) {
    std::vector<TrainRow> evaluated;
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(evaluated), [](const TrainRow& row) { return row.dice; });
    panel.y = {0.0, 1.0};
    draw_axes(drawing, panel, "Dice, validation", 5, false);
    if (options.best_step) {
        const double x = panel.at(static_cast<double>(*options.best_step), 0).x;
        drawing.line({{x, panel.top}, {x, panel.bottom}}, grey, 1.2, 5.0);
        const bool beyond_middle = x > 0.5 * (left + right);
        drawing.words({x + (beyond_middle ? -6 : 6), panel.bottom - 8}, text("best: step ", *options.best_step),
                      small_size, grey, beyond_middle ? Anchor::end : Anchor::start);
    }
    const auto heights = label_heights(panel, *evaluated.back().dice);
    const bool crowded = evaluated.size() > 40;
    for (std::size_t region = 0; region < 3; ++region) {
        const RegionLook& look = region_looks[region];
        const auto dice = column(evaluated, [&](const TrainRow& row) { return (*row.dice)[region]; });
        const auto points = path(panel, evaluated, dice);
        drawing.line(points, look.colour, 2.0);
        for (const CanvasPoint& point : points)
            drawing.marker(point, look.marker, crowded ? 2.8 : 4.5, look.colour);
        drawing.words({points.back().x + 12, heights[region]}, format_classic("%.3f", dice.back()), label_size,
                      look.colour);
    }
    draw_region_key(drawing, {left + 6, panel.top - 16});
}

void draw_rate(Drawing& drawing, Panel panel, std::span<const TrainRow> rows) {
    const auto rate = column(rows, [](const TrainRow& row) { return row.learning_rate; });
    panel.y = to_ticks({0.0, std::max(extent_of(rate, {0.0, 1e-3}).high, 1e-12)}, 4);
    draw_axes(drawing, panel, "learning rate", 4, true);
    drawing.line(path(panel, rows, rate), purple, 2.0);
    if (!rate.empty())
        drawing.words(beside_end(panel, rows, rate.back()), tick_label(rate.back(), 0.0), label_size, purple);
}

} // namespace

void draw_region_key(Drawing& drawing, const CanvasPoint& at) {
    for (std::size_t region = 0; region < 3; ++region) {
        const RegionLook& look = region_looks[region];
        const double x = at.x + 150 * static_cast<double>(region);
        drawing.line({{x, at.y}, {x + 28, at.y}}, look.colour, 2.0);
        drawing.marker({x + 14, at.y}, look.marker, 4.5, look.colour);
        drawing.words({x + 36, at.y + 4}, look.name, small_size, black);
    }
}

std::vector<double> running_mean(std::span<const double> values, std::size_t window) {
    const auto reach = static_cast<std::ptrdiff_t>(window / 2);
    const auto count = static_cast<std::ptrdiff_t>(values.size());
    std::vector<double> means;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const std::ptrdiff_t begin = std::max<std::ptrdiff_t>(0, i - reach);
        const std::ptrdiff_t end = std::min(count, i + reach + 1);
        double sum = 0.0;
        for (std::ptrdiff_t j = begin; j < end; ++j)
            sum += values[static_cast<std::size_t>(j)];
        means.push_back(sum / static_cast<double>(end - begin));
    }
    return means;
}

double tick_step(double span, int most) {
    const double power = std::pow(10.0, std::floor(std::log10(span / most)));
    for (const double factor : {1.0, 2.0, 5.0, 10.0})
        if (span / (factor * power) <= most * (1 + 1e-9))
            return factor * power;
    return 10.0 * power;
}

Drawing draw_curve(std::span<const TrainRow> rows, const CurveOptions& options) {
    constexpr double title_height = 54;
    constexpr double key_height = 34; ///< height of the legend above a panel
    constexpr double gap = 26;
    const bool evaluated = std::any_of(rows.begin(), rows.end(), [](const TrainRow& row) { return row.dice; });
    const std::int64_t last = rows.empty() ? 1 : rows.back().step;
    // To the end of the training, but to no more than three times the last step.
    const Extent steps = {0.0, static_cast<double>(std::max(last, std::min(options.steps, 3 * last)))};

    Panel panel{title_height + key_height, title_height + key_height + 250, steps, {}};
    const double dice_top = panel.bottom + gap + key_height;
    const double rate_top = (evaluated ? dice_top + 250 : panel.bottom) + gap + 8;
    const double rate_bottom = rate_top + 110;
    Drawing drawing(width, static_cast<int>(rate_bottom) + 66);
    drawing.words({left, 36}, options.title, 19, black);
    draw_loss(drawing, panel, rows);
    if (evaluated)
        draw_dice(drawing, {dice_top, dice_top + 250, steps, {}}, rows, options);
    draw_rate(drawing, {rate_top, rate_bottom, steps, {}}, rows);
    return drawing;
}

} // namespace mfres
