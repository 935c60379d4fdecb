// SPDX-License-Identifier: MIT
#include "picture/font.h"
#include "picture/png.h"
#include "picture/resize.h"
#include "support/catch.h"

#include <cmath>
#include <random>

namespace mfres {

namespace {

GreyImage noise(int width, int height) {
    GreyImage image(width, height);
    std::mt19937 random(7);
    for (std::uint8_t& value : image.grey)
        value = static_cast<std::uint8_t>(random() & 0xFFU);
    return image;
}

/// Keys' kernel with a = -3/4.
double kernel(double x) {
    const double d = std::abs(x);
    if (d >= 2.0)
        return 0.0;
    return d <= 1.0 ? 1.25 * d * d * d - 2.25 * d * d + 1.0 : -0.75 * d * d * d + 3.75 * d * d - 6.0 * d + 3.0;
}

double tent(double x) {
    return std::max(0.0, 1.0 - std::abs(x));
}

/// The sum over all pixels, weighted by their distances from the middle of the new pixel.
template <typename Kernel>
double interpolated(const GreyImage& image, double x, double y, const Kernel& weight) {
    double sum = 0.0;
    for (int row = -3; row < image.height + 3; ++row)
        for (int column = -3; column < image.width + 3; ++column)
            sum += weight(x - column) * weight(y - row) *
                   image.at(std::clamp(column, 0, image.width - 1), std::clamp(row, 0, image.height - 1));
    return std::clamp(sum, 0.0, 255.0);
}

/// How much colour was drawn on a white image, in pixels.
double drawn(const RgbImage& image) {
    double sum = 0.0;
    for (std::size_t n = 0; n < image.rgb.size(); n += 3)
        sum += (255.0 - image.rgb[n]) / 255.0;
    return sum;
}

RgbImage white(int width, int height) {
    return {width, height, {255, 255, 255}};
}

constexpr Colour black{0, 0, 0};

TEST_CASE("enlarged images are interpolated by the kernel's formula") {
    const GreyImage image = noise(9, 7);
    const GreyImage cubic = resize(image, 31, 20, Resampling::cubic);
    const GreyImage linear = resize(image, 31, 20, Resampling::linear);
    REQUIRE(cubic.width == 31);
    REQUIRE(cubic.height == 20);
    for (int y = 0; y < 20; ++y)
        for (int x = 0; x < 31; ++x) {
            const double at_x = (x + 0.5) * 9 / 31 - 0.5;
            const double at_y = (y + 0.5) * 7 / 20 - 0.5;
            INFO(x << ' ' << y);
            CHECK(std::abs(cubic.at(x, y) - interpolated(image, at_x, at_y, kernel)) < 1.0);
            CHECK(std::abs(linear.at(x, y) - interpolated(image, at_x, at_y, tent)) < 1.0);
        }
}

TEST_CASE("an image of the same size and a constant image stay as they are") {
    const GreyImage image = noise(8, 5);
    GreyImage constant(6, 6);
    for (std::uint8_t& value : constant.grey)
        value = 255;
    for (const Resampling way : {Resampling::linear, Resampling::cubic, Resampling::area}) {
        CHECK(resize(image, 8, 5, way).grey == image.grey);
        const GreyImage scaled = resize(constant, 4, 13, way);
        CHECK(scaled.grey == std::vector<std::uint8_t>(4 * 13, 255));
    }
}

TEST_CASE("a shrunk image has the means of the areas that its pixels cover") {
    GreyImage image(6, 2);
    image.grey = {0, 10, 20, 30, 40, 50, 100, 110, 120, 130, 140, 150};
    CHECK(resize(image, 3, 1, Resampling::area).grey == std::vector<std::uint8_t>{55, 75, 95});
    // 1.5 pixels each: (0 + 10 / 2) / 1.5, (10 / 2 + 20) / 1.5, ...
    CHECK(resize(image, 4, 2, Resampling::area).grey == std::vector<std::uint8_t>{3, 17, 33, 47, 103, 117, 133, 147});
}

TEST_CASE("lines, discs and polygons cover their areas") {
    RgbImage line = white(60, 40);
    const std::vector<CanvasPoint> segment = {{10.3, 10.7}, {50.1, 30.2}};
    draw_line(line, segment, 3.0, black);
    const double length = std::hypot(39.8, 19.5);
    CHECK(drawn(line) == Approx(3.0 * length + 0.25 * 9.0 * 3.14159).epsilon(0.01)); // with round ends
    RgbImage disc = white(40, 40);
    draw_disc(disc, {20.2, 19.6}, 9.0, black);
    CHECK(drawn(disc) == Approx(81.0 * 3.14159).epsilon(0.01));
    RgbImage triangle = white(40, 40);
    const std::vector<CanvasPoint> corners = {{20.0, 5.0}, {33.0, 30.0}, {7.0, 30.0}};
    fill_convex(triangle, corners, black);
    CHECK(drawn(triangle) == Approx(0.5 * 26.0 * 25.0).epsilon(0.02));
    CHECK(triangle.at(20, 20) == black);
    CHECK(triangle.at(2, 2) == Colour{255, 255, 255});
}

TEST_CASE("what lies outside an image is not drawn") {
    RgbImage image = white(10, 10);
    const std::vector<CanvasPoint> far = {{-50.0, -50.0}, {-20.0, 90.0}};
    draw_line(image, far, 2.0, black);
    draw_disc(image, {1e9, -1e9}, 5.0, black);
    draw_text(image, {300.0, 5.0}, "text", {});
    fill_rectangle(image, -5, 12, 40, 9, black);
    paste(image, RgbImage(3, 3, black), 10, -3);
    CHECK(drawn(image) == 0.0);
    paste(image, RgbImage(3, 3, black), 8, -1); // two columns and two rows of it
    fill_rectangle(image, -5, 9, 6, 9, black);
    CHECK(drawn(image) == 5.0);
}

TEST_CASE("an outline is the inner border of a mask, at the image's edge as well") {
    GreyImage mask(7, 6);
    for (int y = 0; y < 5; ++y)
        for (int x = 1; x < 6; ++x)
            mask.at(x, y) = 255;
    RgbImage image = white(7, 6);
    draw_outline(image, mask, black);
    CHECK(drawn(image) == 16.0);
    CHECK(image.at(3, 0) == black);
    CHECK(image.at(3, 1) == Colour{255, 255, 255});
    CHECK(image.at(0, 0) == Colour{255, 255, 255});
}

TEST_CASE("colours are blended in their shares") {
    RgbImage image(1, 1, {10, 200, 100});
    image.blend(0, 0, {110, 0, 100}, 0.25F);
    CHECK(image.at(0, 0) == Colour{35, 150, 100});
}

TEST_CASE("every printable character has a width and, the space excepted, strokes") {
    for (char c = ' '; c <= '~'; ++c) {
        const font::Glyph glyph = font::glyph_of(c);
        INFO(c);
        CHECK(glyph.advance > 5.0);
        CHECK(glyph.strokes.empty() == (c == ' '));
        for (const auto& stroke : glyph.strokes)
            for (const CanvasPoint& point : stroke) {
                CHECK(std::abs(point.y + 10.0) < 20.0);
                CHECK(std::abs(point.x - 0.5 * glyph.advance) < 20.0);
            }
    }
    CHECK(text_width("\xC3", 2.0) == text_width("?", 2.0));
    CHECK(text_width("WM", 0.5) == Approx(text_width("W", 0.5) + text_width("M", 0.5)));
    // H: capitals are 21 units high and stand on the baseline.
    const font::Glyph capital = font::glyph_of('H');
    CHECK(capital.strokes.front().front().y == -21.0);
    CHECK(capital.strokes.front().back().y == 0.0);
}

TEST_CASE("letters of Latin-1 are drawn with their accents, all else beyond ASCII as a question mark") {
    const auto drawn_words = [](std::string_view words) {
        RgbImage image = white(300, 60);
        draw_text(image, {10.0, 45.0}, words, {1.0, 1.5, black, false});
        return image.rgb;
    };
    for (const auto& [letter, base] : {std::pair{"\u00E4", "a"},
                                       {"\u00D6", "O"},
                                       {"\u00FC", "u"},
                                       {"\u00E9", "e"},
                                       {"\u00F1", "n"},
                                       {"\u00E5", "a"},
                                       {"\u00E7", "c"},
                                       {"\u00F8", "o"}}) {
        INFO(letter);
        CHECK(text_width(letter, 1.0) == text_width(base, 1.0));
        CHECK(drawn_words(letter) != drawn_words(base));
        CHECK(drawn_words(letter) != drawn_words("?"));
    }
    CHECK(drawn_words("Stra\u00DFe") == drawn_words("Strasse"));
    CHECK(drawn_words("\u00C6") == drawn_words("AE"));
    CHECK(drawn_words("\u00E4") != drawn_words("\u00E0")); // two dots, and a grave
    for (const char* other : {"\u0416", "\u4E2D", "\U0001F9E0", "\xFF", "\xC3"}) {
        INFO(other);
        CHECK(drawn_words(other) == drawn_words("?")); // one for each character
    }
}

TEST_CASE("text that runs upwards is the horizontal text rotated") {
    RgbImage across = white(80, 80);
    RgbImage upwards = white(80, 80);
    Lettering lettering{1.0, 1.5, black, false};
    draw_text(across, {10.0, 40.0}, "F4", lettering);
    lettering.upwards = true;
    draw_text(upwards, {40.0, 69.0}, "F4", lettering);
    CHECK(drawn(across) > 50.0);
    for (int y = 0; y < 80; ++y)
        for (int x = 0; x < 80; ++x)
            CHECK(across.at(x, y) == upwards.at(y, 79 - x));
}

TEST_CASE("a PNG has the signature, the size and a shorter body than its pixels") {
    const auto png = encode_png(white(300, 200));
    REQUIRE_OK(png);
    REQUIRE(png->size() > 57);
    CHECK(png->size() < 2000);
    const auto byte = [&](std::size_t n) { return std::to_integer<int>((*png)[n]); };
    CHECK(byte(0) == 0x89);
    CHECK(byte(18) * 256 + byte(19) == 300);
    CHECK(byte(23) == 200);
    CHECK(byte(24) == 8);
    CHECK(byte(25) == 2);
}

} // namespace

} // namespace mfres
