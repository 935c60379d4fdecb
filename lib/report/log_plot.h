// SPDX-License-Identifier: MIT
// A plot with two logarithmic axes.
#pragma once

#include "report/drawing.h"

#include <string>
#include <utility>
#include <vector>

namespace mfres {

/// The decades of an axis.
struct LogRange {
    double least = 1.0;
    double most = 10.0;

    /// Takes a value in; those that are not above zero have no place.
    void include(double value);
    /// Widens both ends to the next 1, 2 or 5 times a power of ten.
    LogRange rounded() const;
};

class LogPlot {
  public:
    LogPlot(std::string title, std::string x_words, std::string y_words, const LogRange& x, const LogRange& y);

    /// Where a point lies, moved to the border of the plot if it lies outside.
    CanvasPoint at(double x, double y) const;
    void line(const std::vector<std::pair<double, double>>& points, const Colour& colour, double width,
              double dash = 0.0);
    void point(double x, double y, Marker marker, double radius, const Colour& colour);
    void words(double x, double y, const std::string& words, const Colour& colour, Anchor anchor = Anchor::start);
    /// An entry of the legend at the right.
    void key(const std::string& words, Marker marker, const Colour& colour);

    const Drawing& drawing() const { return drawing_; }

  private:
    void axes(const std::string& x_words, const std::string& y_words);

    LogRange x_, y_;
    int keys_ = 0;
    Drawing drawing_;
};

} // namespace mfres
