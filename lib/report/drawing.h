// SPDX-License-Identifier: MIT
// A drawing of lines, markers and text, written as SVG and as PNG.
#pragma once

#include "picture/image.h"

#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mfres {

enum class Anchor : std::uint8_t { start, middle, end };
enum class Marker : std::uint8_t { circle, square, triangle };

/// A list of shapes, drawn in order.
class Drawing {
  public:
    Drawing(int width, int height) : width_(width), height_(height) {}

    /// `dash` > 0: dashes and gaps of that length.
    void line(std::vector<CanvasPoint> points, const Colour& colour, double width, double dash = 0.0);
    /// Filled, `radius` pixels from its centre to its border.
    void marker(CanvasPoint centre, Marker marker, double radius, const Colour& colour);
    /// ASCII text in a sans-serif font, `size` pixels high, on the baseline through `at`; `upwards` rotates it by 90
    /// degrees counter-clockwise.
    void words(CanvasPoint at, std::string words, double size, const Colour& colour, Anchor anchor = Anchor::start,
               bool upwards = false);

    /// An SVG 1.1 file with a white background.
    std::string svg() const;

    /// A PNG file with a white background, `scale` pixels for each pixel of the drawing. Errors: those of encode_png.
    Result<std::vector<std::byte>> png(double scale) const;

    /// One shape; the members used depend on the kind.
    struct Shape {
        enum class Kind : std::uint8_t { line, polygon, circle, words };
        Kind kind = Kind::line;
        std::vector<CanvasPoint>
            points; ///< of a line or polygon; otherwise one: the centre, or the anchor on the baseline
        Colour colour{};
        double size = 1.0; ///< width of a line, radius of a circle, height of text
        double dash = 0.0;
        std::string words;
        Anchor anchor = Anchor::start;
        bool upwards = false;
    };
    const std::vector<Shape>& shapes() const { return shapes_; }

  private:
    int width_;
    int height_;
    std::vector<Shape> shapes_;
};

/// Writes <stem>.svg, and <stem>.png at `scale`. Errors: those of Drawing::png, file_write.
Status write_drawing(const Drawing& drawing, const std::filesystem::path& stem, double scale);

} // namespace mfres
