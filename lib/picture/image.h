// SPDX-License-Identifier: MIT
// Pictures in memory: colour images and what is drawn on them, and grey sections of volumes. Pixel (x, y) is the square
// of side 1 around the point (x, y); x grows to the right, y downwards. What lies outside an image is not drawn.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace mfres {

using Colour = std::array<std::uint8_t, 3>; ///< red, green, blue

/// A position in pixels.
struct CanvasPoint {
    double x = 0.0;
    double y = 0.0;
};

/// Rows from top to bottom, one byte a pixel.
struct GreyImage {
    GreyImage() = default;
    GreyImage(int columns, int rows);

    std::uint8_t& at(int x, int y) { return grey[index(x, y)]; }
    std::uint8_t at(int x, int y) const { return grey[index(x, y)]; }

    int width = 0;
    int height = 0;
    std::vector<std::uint8_t> grey;

  private:
    std::size_t index(int x, int y) const {
        return static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x);
    }
};

/// Rows from top to bottom, three bytes (red, green, blue) a pixel.
struct RgbImage {
    RgbImage() = default;
    RgbImage(int columns, int rows, const Colour& colour);
    explicit RgbImage(const GreyImage& grey);

    Colour at(int x, int y) const;
    void set(int x, int y, const Colour& colour);
    /// at = (1 - share) * at + share * colour, rounded to the nearest value. Precondition: share is 0 to 1.
    void blend(int x, int y, const Colour& colour, float share);
    bool holds(int x, int y) const { return x >= 0 && y >= 0 && x < width && y < height; }

    int width = 0;
    int height = 0;
    std::vector<std::uint8_t> rgb;

  private:
    std::size_t index(int x, int y) const {
        return 3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x));
    }
};

/// Pixels x to x + width - 1, y to y + height - 1.
void fill_rectangle(RgbImage& image, int x, int y, int width, int height, const Colour& colour);

/// Puts `part` on `image`, its top left pixel at (x, y).
void paste(RgbImage& image, const RgbImage& part, int x, int y);

/// Strokes with round ends and joints, `width` pixels wide. A pixel's share of the colour falls from 1 to 0 over one pixel
/// across the border.
void draw_line(RgbImage& image, std::span<const CanvasPoint> points, double width, const Colour& colour);

void draw_disc(RgbImage& image, const CanvasPoint& centre, double radius, const Colour& colour);

/// Fills a convex polygon, its corners in clockwise order as seen.
void fill_convex(RgbImage& image, std::span<const CanvasPoint> corners, const Colour& colour);

/// The pixels of the mask (those that are not 0) with a neighbour, of four, that is not in it: the mask's inner border.
/// Precondition: both have the same size.
void draw_outline(RgbImage& image, const GreyImage& mask, const Colour& colour);

/// One row of UTF-8 in the font of picture/font.h: printable ASCII and the letters of Latin-1, all else as '?'.
struct Lettering {
    double scale = 1.0;  ///< pixels per unit of the font, whose capitals are 21 units high
    double weight = 1.0; ///< width of the strokes in pixels
    Colour colour{};
    bool upwards = false; ///< rotated by 90 degrees counter-clockwise
};

/// From where the first character starts to where the last one ends, in pixels.
double text_width(std::string_view words, double scale);

/// Draws with the left end of the baseline at `at`.
void draw_text(RgbImage& image, const CanvasPoint& at, std::string_view words, const Lettering& lettering);

} // namespace mfres
