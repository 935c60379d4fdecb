// SPDX-License-Identifier: MIT
#include "report/log_plot.h"

#include "core/try.h"
#include "report/text_table.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace mfres {

namespace {

constexpr int width = 900;
constexpr int height = 560;
constexpr double left = 90, right = 720, top = 50, bottom = 490;
constexpr Colour ink{0x22, 0x22, 0x22};
constexpr Colour faint{0xDD, 0xDD, 0xDD};
constexpr std::array<double, 3> steps{1.0, 2.0, 5.0};

/// The nearest 1, 2 or 5 times a power of ten that is not above `value`.
double step_below(double value) {
    const double decade = std::pow(10.0, std::floor(std::log10(value)));
    double best = decade;
    for (const double step : steps)
        if (step * decade <= value * (1 + 1e-12))
            best = step * decade;
    return best;
}

double step_above(double value) {
    const double decade = std::pow(10.0, std::floor(std::log10(value)));
    for (const double step : steps)
        if (step * decade >= value * (1 - 1e-12))
            return step * decade;
    return 10.0 * decade;
}

std::string tick(double value) {
    return grouped(value, value < 0.095 ? 3 : value < 0.95 ? 1 : 0);
}

} // namespace

void LogRange::include(double value) {
    if (!(value > 0.0) || !std::isfinite(value))
        return;
    least = std::min(least, value);
    most = std::max(most, value);
}

LogRange LogRange::rounded() const {
    return {step_below(least), std::max(step_above(most), 2.0 * step_below(least))};
}

LogPlot::LogPlot(std::string title, std::string x_words, std::string y_words, const LogRange& x, const LogRange& y)
    : x_(x.rounded()), y_(y.rounded()), drawing_(width, height) {
    axes(x_words, y_words);
    drawing_.words({left, 28}, std::move(title), 16, ink);
}

CanvasPoint LogPlot::at(double x, double y) const {
    const auto place = [](const LogRange& range, double value, double from, double to) {
        const double clamped = std::clamp(value, range.least, range.most);
        return from + (to - from) * std::log(clamped / range.least) / std::log(range.most / range.least);
    };
    return {place(x_, x, left, right), place(y_, y, bottom, top)};
}

void LogPlot::axes(const std::string& x_words, const std::string& y_words) {
    // Where an axis is long, powers of ten are enough.
    const auto each_tick = [](const LogRange& range, const auto& visit) {
        const bool decades = range.most / range.least > 3e3;
        for (double decade = step_below(range.least) / 10.0; decade <= range.most; decade *= 10.0) {
            const double power = std::pow(10.0, std::round(std::log10(decade)));
            for (const double step : steps)
                if ((!decades || step == 1.0) && step * power >= range.least * (1 - 1e-9) &&
                    step * power <= range.most * (1 + 1e-9))
                    visit(step * power);
        }
    };
    each_tick(x_, [&](double value) {
        const double x = at(value, y_.least).x;
        drawing_.line({{x, top}, {x, bottom}}, faint, 1);
        drawing_.words({x, bottom + 18}, tick(value), 12, ink, Anchor::middle);
    });
    each_tick(y_, [&](double value) {
        const double y = at(x_.least, value).y;
        drawing_.line({{left, y}, {right, y}}, faint, 1);
        drawing_.words({left - 8, y + 4}, tick(value), 12, ink, Anchor::end);
    });
    drawing_.line({{left, top}, {left, bottom}, {right, bottom}}, ink, 1);
    drawing_.words({(left + right) / 2, bottom + 44}, x_words, 13, ink, Anchor::middle);
    drawing_.words({24, (top + bottom) / 2}, y_words, 13, ink, Anchor::middle, true);
}

void LogPlot::line(const std::vector<std::pair<double, double>>& points, const Colour& colour, double thickness,
                   double dash) {
    std::vector<CanvasPoint> places;
    for (const auto& [x, y] : points)
        places.push_back(at(x, y));
    if (places.size() > 1)
        drawing_.line(std::move(places), colour, thickness, dash);
}

void LogPlot::point(double x, double y, Marker marker, double radius, const Colour& colour) {
    drawing_.marker(at(x, y), marker, radius, colour);
}

void LogPlot::words(double x, double y, const std::string& words, const Colour& colour, Anchor anchor) {
    const CanvasPoint place = at(x, y);
    drawing_.words({place.x, place.y - 6}, words, 12, colour, anchor);
}

void LogPlot::key(const std::string& words, Marker marker, const Colour& colour) {
    const double y = top + 12 + 22 * keys_++;
    drawing_.marker({right + 20, y - 4}, marker, 5, colour);
    drawing_.words({right + 34, y}, words, 12, ink);
}

} // namespace mfres
