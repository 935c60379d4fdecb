#include "report/drawing.h"

#include "core/file.h"
#include "core/format.h"
#include "core/try.h"

#include <cmath>
#include <cstdio>
#include <span>

#ifdef MFRES_WITH_OPENCV_IMAGES
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

namespace mfres {

void Drawing::line(std::vector<Point> points, const Colour& colour, double width, double dash) {
    shapes_.push_back({Shape::Kind::line, std::move(points), colour, width, dash, {}, Anchor::start, false});
}

void Drawing::marker(Point centre, Marker marker, double radius, const Colour& colour) {
    if (marker == Marker::circle) {
        shapes_.push_back({Shape::Kind::circle, {centre}, colour, radius, 0.0, {}, Anchor::start, false});
        return;
    }
    const double r = radius;
    const std::vector<Point> corners =
        marker == Marker::square ? std::vector<Point>{{-0.85 * r, -0.85 * r},
                                                      {0.85 * r, -0.85 * r},
                                                      {0.85 * r, 0.85 * r},
                                                      {-0.85 * r, 0.85 * r}}
                                 : std::vector<Point>{{0.0, -1.15 * r}, {1.05 * r, 0.75 * r}, {-1.05 * r, 0.75 * r}};
    std::vector<Point> placed;
    for (const Point& corner : corners)
        placed.push_back({centre.x + corner.x, centre.y + corner.y});
    shapes_.push_back({Shape::Kind::polygon, std::move(placed), colour, 0.0, 0.0, {}, Anchor::start, false});
}

void Drawing::words(Point at, std::string words, double size, const Colour& colour, Anchor anchor, bool upwards) {
    for (char& c : words)
        if (c < ' ' || c > '~') // the PNG's font knows no other characters, and the SVG shall say the same
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

std::string coordinates(const std::vector<Point>& points) {
    std::string list;
    for (const Point& point : points)
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

#ifndef MFRES_WITH_OPENCV_IMAGES

Result<std::vector<std::byte>> Drawing::png(double) const {
    return Error{ErrorCode::operation_unsupported,
                 "this build cannot write PNG: OpenCV's imgproc and imgcodecs modules were not found when it was "
                 "configured (Debian: libopencv-imgproc-dev and libopencv-imgcodecs-dev)",
                 "drawing"};
}

#else

namespace {

/// Draws on an image with eight fractional bits of a pixel.
class Painter {
  public:
    Painter(cv::Mat& image, double scale) : image_(image), scale_(scale) {}

    void draw(const Drawing::Shape& shape) {
        using Kind = Drawing::Shape::Kind;
        switch (shape.kind) {
        case Kind::line: shape.dash > 0 ? dashed(shape) : solid(shape.points, shape); break;
        case Kind::polygon: polygon(shape); break;
        case Kind::circle:
            cv::circle(image_, place(shape.points[0]), static_cast<int>(std::lround(shape.size * scale_ * one)),
                       colour(shape), cv::FILLED, cv::LINE_AA, bits);
            break;
        case Kind::words: words(shape); break;
        }
    }

  private:
    static constexpr int bits = 8;
    static constexpr double one = 1 << bits;
    static constexpr int font = cv::FONT_HERSHEY_SIMPLEX;
    /// Height of a capital at font scale 1, against that of a typical face of 1 pixel.
    static constexpr double font_pixels = 30.0;

    static cv::Scalar colour(const Drawing::Shape& shape) {
        return {static_cast<double>(shape.colour[2]), static_cast<double>(shape.colour[1]),
                static_cast<double>(shape.colour[0])}; // imencode wants blue first
    }
    cv::Point place(const Point& point) const {
        return {static_cast<int>(std::lround(point.x * scale_ * one)),
                static_cast<int>(std::lround(point.y * scale_ * one))};
    }
    int weight(double width) const { return std::max(1, static_cast<int>(std::lround(width * scale_))); }

    void solid(const std::vector<Point>& points, const Drawing::Shape& shape) {
        for (std::size_t i = 1; i < points.size(); ++i)
            cv::line(image_, place(points[i - 1]), place(points[i]), colour(shape), weight(shape.size), cv::LINE_AA,
                     bits);
    }

    /// Cuts the line into strokes; the pattern runs on across its corners.
    void dashed(const Drawing::Shape& shape) {
        double walked = 0.0;
        for (std::size_t i = 1; i < shape.points.size(); ++i) {
            const Point& a = shape.points[i - 1];
            const Point& b = shape.points[i];
            const double length = std::hypot(b.x - a.x, b.y - a.y);
            double at = 0.0;
            while (at < length) {
                const double cell = std::floor(walked / shape.dash + 1e-9);
                const double step = std::max(1e-3, std::min(length - at, (cell + 1.0) * shape.dash - walked));
                const auto between = [&](double share) {
                    return Point{a.x + (b.x - a.x) * share / length, a.y + (b.y - a.y) * share / length};
                };
                if (std::fmod(cell, 2.0) < 0.5)
                    solid({between(at), between(std::min(length, at + step))}, shape);
                at += step;
                walked += step;
            }
        }
    }

    void polygon(const Drawing::Shape& shape) {
        std::vector<cv::Point> corners;
        for (const Point& point : shape.points)
            corners.push_back(place(point));
        cv::fillConvexPoly(image_, corners, colour(shape), cv::LINE_AA, bits);
    }

    void words(const Drawing::Shape& shape) {
        const double size = shape.size * scale_ / font_pixels;
        const int stroke = std::max(1, static_cast<int>(std::lround(shape.size * scale_ / 16.0)));
        int below = 0;
        const cv::Size room = cv::getTextSize(shape.words, font, size, stroke, &below);
        const double share = shape.anchor == Anchor::start ? 0.0 : shape.anchor == Anchor::middle ? 0.5 : 1.0;
        const int before = static_cast<int>(std::lround(share * room.width));
        const cv::Point at(static_cast<int>(std::lround(shape.points[0].x * scale_)),
                           static_cast<int>(std::lround(shape.points[0].y * scale_)));
        if (!shape.upwards) {
            cv::putText(image_, shape.words, {at.x - before, at.y}, font, size, colour(shape), stroke, cv::LINE_AA);
            return;
        }
        // Hershey fonts write to the right only: written on paper of their own, turned, and laid on where it fits.
        cv::Mat paper(room.height + below + 2, room.width + 2, CV_8UC3, cv::Scalar::all(255));
        cv::putText(paper, shape.words, {1, room.height + 1}, font, size, colour(shape), stroke, cv::LINE_AA);
        cv::rotate(paper, paper, cv::ROTATE_90_COUNTERCLOCKWISE);
        const cv::Rect target(at.x - room.height - 1, at.y - (room.width - before), paper.cols, paper.rows);
        const cv::Rect visible = target & cv::Rect(0, 0, image_.cols, image_.rows);
        if (!visible.empty())
            paper(visible - target.tl()).copyTo(image_(visible));
    }

    cv::Mat& image_;
    double scale_;
};

} // namespace

Result<std::vector<std::byte>> Drawing::png(double scale) const {
    try {
        cv::Mat image(static_cast<int>(height_ * scale), static_cast<int>(width_ * scale), CV_8UC3,
                      cv::Scalar::all(255));
        Painter painter(image, scale);
        for (const Shape& shape : shapes_)
            painter.draw(shape);
        std::vector<std::uint8_t> png;
        if (!cv::imencode(".png", image, png))
            return Error{ErrorCode::internal, "OpenCV could not encode a drawing as PNG", "drawing"};
        const auto bytes = std::as_bytes(std::span(png));
        return std::vector<std::byte>(bytes.begin(), bytes.end());
    } catch (const std::exception& exception) {
        return Error{ErrorCode::internal, text("OpenCV could not draw: ", exception.what()), "drawing"};
    }
}

#endif

Status write_drawing(const Drawing& drawing, const std::filesystem::path& stem, double scale) {
    MFRES_CHECK(write_file_atomically(stem.string() + ".svg", drawing.svg()));
    const auto png = drawing.png(scale);
    if (!png)
        return png.error().code == ErrorCode::operation_unsupported ? Status() : Status(png.error());
    return write_file_atomically(stem.string() + ".png", *png);
}

} // namespace mfres
