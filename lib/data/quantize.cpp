// SPDX-License-Identifier: MIT
#include "data/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

namespace mfres {

namespace {

constexpr double most_steps = 65535.0; // between 2^16 values
constexpr double clipped_fraction = 0.0005;

/// The values as first + k * step, with k from 0 to count - 1.
struct Progression {
    double first = 0.0;
    double step = 1.0;
    double intervals = 0.0; ///< count - 1
};

std::optional<Progression> integer_progression(std::span<const float> values) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    const double first = *low;
    if (*high - first > 1e9)
        return std::nullopt;
    std::int64_t divisor = 0;
    for (const float value : values) {
        if (value != std::nearbyint(value))
            return std::nullopt;
        if (divisor != 1)
            divisor = std::gcd(divisor, static_cast<std::int64_t>(value - first));
    }
    const auto step = static_cast<double>(divisor);
    return Progression{first, step, (*high - first) / step};
}

/// Euclid's algorithm on real numbers: remainders up to `tolerance` count as 0.
double common_divisor(double a, double b, double tolerance) {
    while (b > tolerance) {
        a = std::abs(std::remainder(a, b));
        std::swap(a, b);
    }
    return a;
}

/// Recognises values that were integers before a slope and an intercept were applied in single precision.
std::optional<Progression> scaled_progression(std::span<const float> values) {
    std::vector<float> sorted(values.begin(), values.end());
    std::sort(sorted.begin(), sorted.end());
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    const double low = sorted.front();
    const double high = sorted.back();
    const double rounding = std::numeric_limits<float>::epsilon() * std::max(std::abs(low), std::abs(high));
    const double smallest_step = (high - low) / most_steps;
    double divisor = 0.0;
    for (std::size_t i = 1; i < sorted.size(); ++i) {
        const double difference = static_cast<double>(sorted[i]) - sorted[i - 1];
        divisor = common_divisor(std::max(divisor, difference), std::min(divisor, difference), 8.0 * rounding);
        if (divisor < 0.99 * smallest_step || divisor < 16.0 * rounding)
            return std::nullopt;
    }
    // The whole range holds the step more precisely than any single difference.
    const double intervals = std::round((high - low) / divisor);
    const Progression found{low, (high - low) / intervals, intervals};
    const auto fits = [&](float value) {
        const double k = std::round((value - low) / found.step);
        return std::abs(low + k * found.step - value) <= 4.0 * rounding;
    };
    if (!std::all_of(sorted.begin(), sorted.end(), fits))
        return std::nullopt;
    return found;
}

/// Percentile by rank, `fraction` of the values below it.
double ranked(std::vector<float>& values, double fraction) {
    const auto rank = static_cast<std::ptrdiff_t>(fraction * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), values.begin() + rank, values.end());
    return values[static_cast<std::size_t>(rank)];
}

Quantization clipped_levels(std::span<const float> intensities, int levels) {
    std::vector<float> values(intensities.begin(), intensities.end());
    double low = ranked(values, clipped_fraction);
    double high = ranked(values, 1.0 - clipped_fraction);
    if (!(high > low)) {
        low = *std::min_element(values.begin(), values.end());
        high = *std::max_element(values.begin(), values.end());
    }
    return {low, (high - low) / (levels - 1), 0, levels - 1, false};
}

} // namespace

std::int32_t Quantization::quantum(double intensity) const {
    const double nearest = std::nearbyint((intensity - base) / step);
    return static_cast<std::int32_t>(std::clamp(nearest, static_cast<double>(lowest), static_cast<double>(highest)));
}

Quantization choose_quantization(std::span<const float> intensities, double mean, int levels) {
    auto progression = integer_progression(intensities);
    if (!progression)
        progression = scaled_progression(intensities);
    const bool exact = progression && progression->intervals <= most_steps;
    if (levels > 0 && (!exact || progression->intervals > levels - 1))
        return clipped_levels(intensities, levels);
    if (exact && progression->intervals <= 255.0)
        return {progression->first, progression->step, 0, static_cast<std::int32_t>(progression->intervals), true};
    if (!exact) {
        const auto [low, high] = std::minmax_element(intensities.begin(), intensities.end());
        progression = {*low, (static_cast<double>(*high) - *low) / most_steps, most_steps};
    }
    // Quanta around the mean keep the z-score's offset near 0, and with it float rounding small.
    const double zero = std::clamp(std::nearbyint((mean - progression->first) / progression->step),
                                   progression->intervals - 32767.0, 32768.0);
    return {progression->first + zero * progression->step, progression->step, static_cast<std::int32_t>(-zero),
            static_cast<std::int32_t>(progression->intervals - zero), exact};
}

} // namespace mfres
