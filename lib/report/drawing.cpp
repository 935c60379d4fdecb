// SPDX-License-Identifier: MIT
#include "report/drawing.h"

#include "core/file.h"
#include "core/format.h"
#include "core/try.h"
#include "picture/png.h"

#include <cmath>
#include <cstdio>

namespace mfres {

void Drawing::line(std::vector<CanvasPoint> points, const Colour& colour, double width, double dash) {
    shapes_.push_back({Shape::Kind::line, std::move(points), colour, width, dash, {}, Anchor::start, false});
}

void Drawing::marker(CanvasPoint centre, Marker marker, double radius, const Colour& colour) {
    if (marker == Marker::circle) {
        shapes_.push_back({Shape::Kind::circle, {centre}, colour, radius, 0.0, {}, Anchor::start, false});
        return;
    }
    const double r = radius;
    const std::vector<CanvasPoint> corners =
        marker == Marker::square
            ? std::vector<CanvasPoint>{{-0.85 * r, -0.85 * r},
                                       {0.85 * r, -0.85 * r},
                                       {0.85 * r, 0.85 * r},
                                       {-0.85 * r, 0.85 * r}}
            : std::vector<CanvasPoint>{{0.0, -1.15 * r}, {1.05 * r, 0.75 * r}, {-1.05 * r, 0.75 * r}};
    std::vector<CanvasPoint> placed;
    for (const CanvasPoint& corner : corners)
        placed.push_back({centre.x + corner.x, centre.y + corner.y});
    shapes_.push_back({Shape::Kind::polygon, std::move(placed), colour, 0.0, 0.0, {}, Anchor::start, false});
}

void Drawing::words(CanvasPoint at, std::string words, double size, const Colour& colour, Anchor anchor, bool upwards) {
    for (char& c : words)
        if (c < ' ' || c > '~') // the font of the PNG has no other characters, and the SVG shows the same text
            c = '?';
    shapes_.push_back({Shape::Kind::words, {at}, colour, size, 0.0, std::move(words), anchor, upwards});
}

// ---- SVG ------------------------------------------------------------------------------------------------------------

namespace {

std::string number(double value) {
    std::array<char, 32> digits{};
    print_classic(digits.data(), digits.size(), "%.2f", value);
    return digits.data();
}

std::string hex(const Colour& colour) {
    std::array<char, 8> digits{};
    std::snprintf(digits.data(), digits.size(), "#%02X%02X%02X", colour[0], colour[1], colour[2]);
    return digits.data();
}

std::string escaped(const std::string& words) {
    std::string result;
    for (const char c : words)
        result += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
    return result;
}

std::string coordinates(const std::vector<CanvasPoint>& points) {
    std::string list;
    for (const CanvasPoint& point : points)
        list += (list.empty() ? "" : " ") + number(point.x) + ',' + number(point.y);
    return list;
}

std::string svg_words(const Drawing::Shape& shape) {
    const char* anchor = shape.anchor == Anchor::start ? "start" : shape.anchor == Anchor::middle ? "middle" : "end";
    const std::string x = number(shape.points[0].x);
    const std::string y = number(shape.points[0].y);
    const std::string turn = shape.upwards ? text(" transform=\"rotate(-90 ", x, ' ', y, ")\"") : "";
    return text("<text x=\"", x, "\" y=\"", y, "\" font-size=\"", number(shape.size), "\" fill=\"", hex(shape.colour),
                "\" text-anchor=\"", anchor, '"', turn, '>', escaped(shape.words), "</text>\n");
}

std::string svg_shape(const Drawing::Shape& shape) {
    using Kind = Drawing::Shape::Kind;
    switch (shape.kind) {
    case Kind::line:
        return text("<polyline points=\"", coordinates(shape.points), "\" fill=\"none\" stroke=\"", hex(shape.colour),
                    "\" stroke-width=\"", number(shape.size), "\" stroke-linejoin=\"round\"",
                    shape.dash > 0 ? text(" stroke-dasharray=\"", number(shape.dash), '"') : "", "/>\n");
    case Kind::polygon:
        return text("<polygon points=\"", coordinates(shape.points), "\" fill=\"", hex(shape.colour), "\"/>\n");
    case Kind::circle:
        return text("<circle cx=\"", number(shape.points[0].x), "\" cy=\"", number(shape.points[0].y), "\" r=\"",
                    number(shape.size), "\" fill=\"", hex(shape.colour), "\"/>\n");
    case Kind::words: return svg_words(shape);
    }
    return {};
}

} // namespace

std::string Drawing::svg() const {
    std::string file =
        text("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width_, "\" height=\"", height_, "\" viewBox=\"0 0 ",
             width_, ' ', height_, "\" font-family=\"Helvetica, Arial, sans-serif\">\n<rect width=\"", width_,
             "\" height=\"", height_, "\" fill=\"#FFFFFF\"/>\n");
    for (const Shape& shape : shapes_)
        file += svg_shape(shape);
    return file + "</svg>\n";
}

// ---- PNG ------------------------------------------------------------------------------------------------------------

namespace {

/// Draws shapes on an image that has `scale` pixels for each of the drawing.
class Painter {
  public:
    Painter(RgbImage& image, double scale) : image_(image), scale_(scale) {}

    void draw(const Drawing::Shape& shape) {
        using Kind = Drawing::Shape::Kind;
        switch (shape.kind) {
        case Kind::line: shape.dash > 0 ? dashed(shape) : solid(shape.points, shape); break;
        case Kind::polygon: fill_convex(image_, placed(shape.points), shape.colour); break;
        case Kind::circle: draw_disc(image_, place(shape.points[0]), shape.size * scale_, shape.colour); break;
        case Kind::words: words(shape); break;
        }
    }

  private:
    /// Height of text in units of the font.
    static constexpr double font_height = 30.0;

    CanvasPoint place(const CanvasPoint& point) const { return {point.x * scale_, point.y * scale_}; }
    std::vector<CanvasPoint> placed(const std::vector<CanvasPoint>& points) const {
        std::vector<CanvasPoint> all;
        for (const CanvasPoint& point : points)
            all.push_back(place(point));
        return all;
    }

    void solid(const std::vector<CanvasPoint>& points, const Drawing::Shape& shape) {
        draw_line(image_, placed(points), std::max(1.0, shape.size * scale_), shape.colour);
    }

    /// Splits the polyline into dashes; the pattern continues across its corners.
    void dashed(const Drawing::Shape& shape) {
        double walked = 0.0;
        for (std::size_t i = 1; i < shape.points.size(); ++i) {
            const CanvasPoint& a = shape.points[i - 1];
            const CanvasPoint& b = shape.points[i];
            const double length = std::hypot(b.x - a.x, b.y - a.y);
            double at = 0.0;
            while (at < length) {
                const double cell = std::floor(walked / shape.dash + 1e-9);
                const double step = std::max(1e-3, std::min(length - at, (cell + 1.0) * shape.dash - walked));
                const auto between = [&](double share) {
                    return CanvasPoint{a.x + (b.x - a.x) * share / length, a.y + (b.y - a.y) * share / length};
                };
                if (std::fmod(cell, 2.0) < 0.5)
                    solid({between(at), between(std::min(length, at + step))}, shape);
                at += step;
                walked += step;
            }
        }
    }

    void words(const Drawing::Shape& shape) {
        const double size = shape.size * scale_ / font_height;
        const double share = shape.anchor == Anchor::start ? 0.0 : shape.anchor == Anchor::middle ? 0.5 : 1.0;
        const double before = share * text_width(shape.words, size);
        CanvasPoint at = place(shape.points[0]);
        (shape.upwards ? at.y : at.x) += shape.upwards ? before : -before;
        draw_text(image_, at, shape.words,
                  {size, std::max(1.25, shape.size * scale_ / 14.0), shape.colour, shape.upwards});
    }

    RgbImage& image_;
    double scale_;
};

} // namespace

Result<std::vector<std::byte>> Drawing::png(double scale) const {
    RgbImage image(static_cast<int>(width_ * scale), static_cast<int>(height_ * scale), {255, 255, 255});
    Painter painter(image, scale);
    for (const Shape& shape : shapes_)
        painter.draw(shape);
    return encode_png(image);
}

Status write_drawing(const Drawing& drawing, const std::filesystem::path& stem, double scale) {
    MFRES_CHECK(write_file_atomically(stem.string() + ".svg", drawing.svg()));
    MFRES_TRY(const auto png, drawing.png(scale));
    return write_file_atomically(stem.string() + ".png", png);
}

} // namespace mfres
