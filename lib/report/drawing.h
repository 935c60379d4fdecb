// A flat drawing of lines, markers and words, written as SVG anywhere and as PNG where OpenCV is there.
#pragma once

#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mfres {

using Colour = std::array<std::uint8_t, 3>; ///< red, green, blue

/// In pixels, x to the right, y downwards from the drawing's top left corner.
struct Point {
    double x = 0.0;
    double y = 0.0;
};

enum class Anchor : std::uint8_t { start, middle, end };
enum class Marker : std::uint8_t { circle, square, triangle };

/// Shapes in the order in which they cover each other.
class Drawing {
  public:
    Drawing(int width, int height) : width_(width), height_(height) {}

    /// `dash` > 0: strokes and gaps of that length.
    void line(std::vector<Point> points, const Colour& colour, double width, double dash = 0.0);
    /// Filled, `radius` pixels from its centre to its border.
    void marker(Point centre, Marker marker, double radius, const Colour& colour);
    /// ASCII words in a sans-serif face, `size` pixels high, on the baseline through `at`; `upwards` turns them a
    /// quarter to the left.
    void words(Point at, std::string words, double size, const Colour& colour, Anchor anchor = Anchor::start,
               bool upwards = false);

    /// A complete SVG 1.1 file on white.
    std::string svg() const;

    /// A PNG file on white, `scale` pixels for each pixel of the drawing.
    /// Errors: operation_unsupported (this build is without OpenCV's pictures), internal (OpenCV failed).
    Result<std::vector<std::byte>> png(double scale) const;

    /// One shape; which members count depends on the kind.
    struct Shape {
        enum class Kind : std::uint8_t { line, polygon, circle, words };
        Kind kind = Kind::line;
        std::vector<Point> points; ///< of line and polygon; else one: centre, or the baseline's anchor
        Colour colour{};
        double size = 1.0; ///< width of a line, radius of a circle, height of words
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

/// Writes <stem>.svg, and <stem>.png at `scale` where this build can. Errors: internal, file_write.
Status write_drawing(const Drawing& drawing, const std::filesystem::path& stem, double scale);

} // namespace mfres
