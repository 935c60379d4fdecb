// SPDX-License-Identifier: MIT
#include "picture/image.h"

#include "picture/font.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mfres {

namespace {

/// Distances beyond the border of a shape at which its share of a pixel ends.
constexpr double soft = 0.5;

struct Bounds {
    int left, top, right, bottom; ///< the last two are not part of it
};

/// The pixels of the image that lie less than `margin` outside the points.
Bounds bounds_of(const RgbImage& image, std::span<const CanvasPoint> points, double margin) {
    constexpr double far = std::numeric_limits<double>::max();
    double low_x = far, low_y = far, high_x = -far, high_y = -far;
    for (const CanvasPoint& point : points) {
        low_x = std::min(low_x, point.x);
        low_y = std::min(low_y, point.y);
        high_x = std::max(high_x, point.x);
        high_y = std::max(high_y, point.y);
    }
    const auto within = [](double place, int extent) {
        return static_cast<int>(std::clamp(place, 0.0, static_cast<double>(extent)));
    };
    return {within(std::ceil(low_x - margin), image.width), within(std::ceil(low_y - margin), image.height),
            within(std::floor(high_x + margin) + 1.0, image.width),
            within(std::floor(high_y + margin) + 1.0, image.height)};
}

double distance_to_segment(const CanvasPoint& p, const CanvasPoint& a, const CanvasPoint& b) {
    const double along_x = b.x - a.x;
    const double along_y = b.y - a.y;
    const double square = along_x * along_x + along_y * along_y;
    const double share =
        square > 0.0 ? std::clamp(((p.x - a.x) * along_x + (p.y - a.y) * along_y) / square, 0.0, 1.0) : 0.0;
    return std::hypot(p.x - a.x - share * along_x, p.y - a.y - share * along_y);
}

/// How far the point lies outside the polygon; negative inside.
double distance_beyond(const CanvasPoint& p, std::span<const CanvasPoint> corners) {
    double most = -std::numeric_limits<double>::max();
    for (std::size_t n = 0; n < corners.size(); ++n) {
        const CanvasPoint& a = corners[n];
        const CanvasPoint& b = corners[(n + 1) % corners.size()];
        const double length = std::hypot(b.x - a.x, b.y - a.y);
        if (length > 0.0)
            most = std::max(most, ((p.x - a.x) * (b.y - a.y) - (p.y - a.y) * (b.x - a.x)) / length);
    }
    return most;
}

float share_at(double beyond) {
    return static_cast<float>(std::clamp(soft - beyond, 0.0, 1.0));
}

/// Shares of a colour in the pixels of a part of an image. Shapes that overlap are joined, so that a stroke that crosses
/// another of the same text is not seen through it.
class Shares {
  public:
    explicit Shares(const Bounds& bounds)
        : bounds_(bounds), shares_(static_cast<std::size_t>(std::max(0, bounds.right - bounds.left)) *
                                   static_cast<std::size_t>(std::max(0, bounds.bottom - bounds.top))) {}

    /// `beyond(point)`: how far a point of `part` lies outside the shape.
    template <typename Beyond>
    void join(const Bounds& part, const Beyond& beyond) {
        for (int y = part.top; y < part.bottom; ++y)
            for (int x = part.left; x < part.right; ++x) {
                float& share = shares_[index(x, y)];
                share = std::max(share, share_at(beyond(CanvasPoint{double(x), double(y)})));
            }
    }

    void paint(RgbImage& image, const Colour& colour) const {
        for (int y = bounds_.top; y < bounds_.bottom; ++y)
            for (int x = bounds_.left; x < bounds_.right; ++x)
                if (shares_[index(x, y)] > 0.0F)
                    image.blend(x, y, colour, shares_[index(x, y)]);
    }

  private:
    std::size_t index(int x, int y) const {
        return static_cast<std::size_t>(y - bounds_.top) * static_cast<std::size_t>(bounds_.right - bounds_.left) +
               static_cast<std::size_t>(x - bounds_.left);
    }

    Bounds bounds_;
    std::vector<float> shares_;
};

void join_line(Shares& shares, const RgbImage& image, std::span<const CanvasPoint> points, double width) {
    const double radius = 0.5 * width;
    for (std::size_t n = 0; n < points.size(); ++n) {
        const std::span<const CanvasPoint> segment = points.subspan(n, std::min<std::size_t>(2, points.size() - n));
        if (segment.size() < 2 && n > 0)
            break; // the last point ended a segment; only a line of one point is a dot
        shares.join(bounds_of(image, segment, radius + soft), [&](const CanvasPoint& p) {
            return distance_to_segment(p, segment.front(), segment.back()) - radius;
        });
    }
}

/// The strokes of a text, in pixels.
std::vector<std::vector<CanvasPoint>> strokes_of(const CanvasPoint& at, std::string_view words,
                                                 const Lettering& lettering) {
    std::vector<std::vector<CanvasPoint>> strokes;
    double pen = 0.0;
    for (std::size_t n = 0; n < words.size();) {
        const font::Glyph glyph = font::next_glyph(words, n);
        for (const auto& stroke : glyph.strokes) {
            std::vector<CanvasPoint>& placed = strokes.emplace_back();
            for (const CanvasPoint& point : stroke) {
                const double along = lettering.scale * (pen + point.x);
                const double below = lettering.scale * point.y;
                placed.push_back(lettering.upwards ? CanvasPoint{at.x + below, at.y - along}
                                                   : CanvasPoint{at.x + along, at.y + below});
            }
        }
        pen += glyph.advance;
    }
    return strokes;
}

} // namespace

GreyImage::GreyImage(int columns, int rows)
    : width(columns), height(rows), grey(static_cast<std::size_t>(columns) * static_cast<std::size_t>(rows)) {}

RgbImage::RgbImage(int columns, int rows, const Colour& colour)
    : width(columns), height(rows), rgb(3 * static_cast<std::size_t>(columns) * static_cast<std::size_t>(rows)) {
    for (std::size_t at = 0; at < rgb.size(); at += 3)
        std::copy(colour.begin(), colour.end(), rgb.begin() + static_cast<std::ptrdiff_t>(at));
}

RgbImage::RgbImage(const GreyImage& grey) : width(grey.width), height(grey.height) {
    rgb.reserve(3 * grey.grey.size());
    for (const std::uint8_t shade : grey.grey)
        rgb.insert(rgb.end(), 3, shade);
}

Colour RgbImage::at(int x, int y) const {
    const std::size_t first = index(x, y);
    return {rgb[first], rgb[first + 1], rgb[first + 2]};
}

void RgbImage::set(int x, int y, const Colour& colour) {
    std::copy(colour.begin(), colour.end(), rgb.begin() + static_cast<std::ptrdiff_t>(index(x, y)));
}

void RgbImage::blend(int x, int y, const Colour& colour, float share) {
    for (std::size_t channel = 0; channel < colour.size(); ++channel) {
        std::uint8_t& value = rgb[index(x, y) + channel];
        value = static_cast<std::uint8_t>(
            std::lrint(static_cast<float>(value) * (1.0F - share) + static_cast<float>(colour[channel]) * share));
    }
}

void fill_rectangle(RgbImage& image, int x, int y, int width, int height, const Colour& colour) {
    for (int row = std::max(0, y); row < std::min(image.height, y + height); ++row)
        for (int column = std::max(0, x); column < std::min(image.width, x + width); ++column)
            image.set(column, row, colour);
}

void paste(RgbImage& image, const RgbImage& part, int x, int y) {
    for (int row = 0; row < part.height; ++row)
        for (int column = 0; column < part.width; ++column)
            if (image.holds(x + column, y + row))
                image.set(x + column, y + row, part.at(column, row));
}

void draw_line(RgbImage& image, std::span<const CanvasPoint> points, double width, const Colour& colour) {
    Shares shares(bounds_of(image, points, 0.5 * width + soft));
    join_line(shares, image, points, width);
    shares.paint(image, colour);
}

void draw_disc(RgbImage& image, const CanvasPoint& centre, double radius, const Colour& colour) {
    draw_line(image, std::span(&centre, 1), 2.0 * radius, colour);
}

void fill_convex(RgbImage& image, std::span<const CanvasPoint> corners, const Colour& colour) {
    const Bounds bounds = bounds_of(image, corners, soft);
    Shares shares(bounds);
    shares.join(bounds, [&](const CanvasPoint& p) { return distance_beyond(p, corners); });
    shares.paint(image, colour);
}

void draw_outline(RgbImage& image, const GreyImage& mask, const Colour& colour) {
    const auto in_mask = [&](int x, int y) { return image.holds(x, y) && mask.at(x, y) != 0; };
    for (int y = 0; y < image.height; ++y)
        for (int x = 0; x < image.width; ++x)
            if (in_mask(x, y) && !(in_mask(x - 1, y) && in_mask(x + 1, y) && in_mask(x, y - 1) && in_mask(x, y + 1)))
                image.set(x, y, colour);
}

double text_width(std::string_view words, double scale) {
    double width = 0.0;
    for (std::size_t n = 0; n < words.size();)
        width += font::next_glyph(words, n).advance;
    return scale * width;
}

void draw_text(RgbImage& image, const CanvasPoint& at, std::string_view words, const Lettering& lettering) {
    const auto strokes = strokes_of(at, words, lettering);
    std::vector<CanvasPoint> all;
    for (const auto& stroke : strokes)
        all.insert(all.end(), stroke.begin(), stroke.end());
    if (all.empty())
        return; // spaces only
    Shares shares(bounds_of(image, all, 0.5 * lettering.weight + soft));
    for (const auto& stroke : strokes)
        join_line(shares, image, stroke, lettering.weight);
    shares.paint(image, lettering.colour);
}

} // namespace mfres
