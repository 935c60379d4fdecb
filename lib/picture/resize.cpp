// SPDX-License-Identifier: MIT
#include "picture/resize.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

constexpr int weight_bits = 11;
constexpr int one = 1 << weight_bits;

/// What the pixels of one axis are sums of: `taps` weights each, of the pixels from `first` on.
struct Taps {
    std::vector<int> first;
    std::vector<std::vector<int>> weights;
};

int fixed(float weight) {
    return static_cast<int>(std::lrint(weight * static_cast<float>(one)));
}

/// Where the middle of a new pixel lies among the old ones: the pixel before it, and the fraction beyond that.
struct Place {
    int before;
    float fraction;
};

Place place_of(int pixel, int from, int to) {
    const double step = static_cast<double>(from) / to;
    const auto middle = static_cast<float>((pixel + 0.5) * step - 0.5);
    const float before = std::floor(middle);
    return {static_cast<int>(before), middle - before};
}

std::vector<int> linear_weights(float t) {
    return {fixed(1.0F - t), fixed(t)};
}

/// R. G. Keys, Cubic convolution way for digital image processing, 1981, equation 4 with a = -3/4.
std::vector<int> cubic_weights(float t) {
    constexpr float a = -0.75F;
    const auto outer = [](float x) { return ((a * x - 5.0F * a) * x + 8.0F * a) * x - 4.0F * a; }; // 1 <= x <= 2
    const auto inner = [](float x) { return ((a + 2.0F) * x - (a + 3.0F)) * x * x + 1.0F; };       // 0 <= x <= 1
    const float w0 = outer(t + 1.0F);
    const float w1 = inner(t);
    const float w2 = inner(1.0F - t);
    return {fixed(w0), fixed(w1), fixed(w2), fixed(1.0F - w0 - w1 - w2)};
}

Taps interpolating(int from, int to, Resampling way) {
    Taps taps;
    for (int pixel = 0; pixel < to; ++pixel) {
        const Place place = place_of(pixel, from, to);
        const bool cubic = way == Resampling::cubic;
        taps.first.push_back(place.before - (cubic ? 1 : 0));
        taps.weights.push_back(cubic ? cubic_weights(place.fraction) : linear_weights(place.fraction));
    }
    return taps;
}

/// Weights in proportion to the overlap of old pixels and a new one; they sum to `one`.
Taps averaging(int from, int to) {
    Taps taps;
    const double step = static_cast<double>(from) / to;
    for (int pixel = 0; pixel < to; ++pixel) {
        const double start = pixel * step;
        const double end = start + step;
        const int first = static_cast<int>(start);
        const int last = std::min(from, static_cast<int>(std::ceil(end - 1e-9)));
        std::vector<int> weights;
        int given = 0;
        for (int old = first; old < last; ++old) {
            const double covered = std::min(end, old + 1.0) - start; // of the pixels up to this one
            weights.push_back(static_cast<int>(std::lround(one * covered / step)) - given);
            given += weights.back();
        }
        taps.first.push_back(first);
        taps.weights.push_back(std::move(weights));
    }
    return taps;
}

Taps taps_of(int from, int to, Resampling way) {
    switch (way) {
    case Resampling::linear:
    case Resampling::cubic: return interpolating(from, to, way);
    case Resampling::area: return averaging(from, to);
    }
    return {};
}

/// sum(weights * value(index)), with indices beyond the ends at the ends.
template <typename Value>
std::int64_t weighted(const Taps& taps, int pixel, int from, const Value& value) {
    const auto p = static_cast<std::size_t>(pixel);
    std::int64_t sum = 0;
    for (std::size_t n = 0; n < taps.weights[p].size(); ++n)
        sum += static_cast<std::int64_t>(taps.weights[p][n]) *
               value(std::clamp(taps.first[p] + static_cast<int>(n), 0, from - 1));
    return sum;
}

} // namespace

GreyImage resize(const GreyImage& image, int width, int height, Resampling way) {
    const Taps across = taps_of(image.width, width, way);
    const Taps down = taps_of(image.height, height, way);
    std::vector<std::int64_t> rows; // [image.height][width], in units of 1 / one
    for (int y = 0; y < image.height; ++y)
        for (int x = 0; x < width; ++x)
            rows.push_back(weighted(across, x, image.width, [&](int column) { return image.at(column, y); }));
    GreyImage scaled(width, height);
    constexpr std::int64_t half = std::int64_t{1} << (2 * weight_bits - 1);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const std::int64_t sum = weighted(down, y, image.height, [&](int row) {
                return rows[static_cast<std::size_t>(row) * static_cast<std::size_t>(width) +
                            static_cast<std::size_t>(x)];
            });
            scaled.at(x, y) =
                static_cast<std::uint8_t>(std::clamp<std::int64_t>((sum + half) >> (2 * weight_bits), 0, 255));
        }
    return scaled;
}

} // namespace mfres
