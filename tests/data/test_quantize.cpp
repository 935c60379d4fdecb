// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "data/quantize.h"
#include "support/catch.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

using namespace mfres;

namespace {

double mean_of(const std::vector<float>& values) {
    double sum = 0.0;
    for (const float value : values)
        sum += value;
    return sum / static_cast<double>(values.size());
}

double worst_error(const std::vector<float>& values, const Quantization& steps) {
    double worst = 0.0;
    for (const float value : values) {
        const std::int32_t quantum = steps.quantum(value);
        REQUIRE(quantum >= steps.lowest);
        REQUIRE(quantum <= steps.highest);
        worst = std::max(worst, std::abs(steps.base + quantum * steps.step - value));
    }
    return worst;
}

/// `count` values intercept + slope * k in single precision, k from 0 to `largest`, both ends included.
std::vector<float> scaled_integers(std::size_t count, std::uint64_t largest, float slope, float intercept) {
    Random random(9);
    std::vector<float> values = {intercept, intercept + slope * static_cast<float>(largest)};
    while (values.size() < count)
        values.push_back(intercept + slope * static_cast<float>(random.below(largest + 1)));
    return values;
}

} // namespace

TEST_CASE("integers that fit 8 bits keep their own steps, also when shifted, spaced or scaled") {
    for (const auto& [slope, intercept] : {std::pair{1.0F, 0.0F},
                                           {1.0F, -31000.0F},
                                           {1.0F, 54321.0F},
                                           {12.0F, 7.0F},
                                           {0.0137F, -32.5F},
                                           {3.7e-5F, 0.0F},
                                           {0.25F, 100.25F}}) {
        INFO("slope " << slope << ", intercept " << intercept);
        const auto values = scaled_integers(5000, 255, slope, intercept);
        const Quantization steps = choose_quantization(values, mean_of(values), 0);
        CHECK(steps.exact);
        CHECK(steps.fits_uint8());
        CHECK(steps.highest == 255);
        CHECK(worst_error(values, steps) <= 1e-5 * slope * 255);
    }
}

TEST_CASE("wider integers take 16 bits around the mean, exactly") {
    for (const auto& [largest, slope, intercept] : {std::tuple{std::uint64_t{256}, 1.0F, 0.0F},
                                                    {std::uint64_t{65535}, 1.0F, -32768.0F},
                                                    {std::uint64_t{4095}, 0.5F, 12.0F},
                                                    {std::uint64_t{3000}, 0.0021F, -1.0F}}) {
        INFO("largest " << largest << ", slope " << slope);
        const auto values = scaled_integers(20000, largest, slope, intercept);
        const double mean = mean_of(values);
        const Quantization steps = choose_quantization(values, mean, 0);
        CHECK(steps.exact);
        CHECK_FALSE(steps.fits_uint8());
        CHECK(steps.lowest >= -32768);
        CHECK(steps.highest <= 32767);
        CHECK(static_cast<std::uint64_t>(steps.highest - steps.lowest) == largest);
        if (largest < 65535) // else there is no room to choose the middle
            CHECK(std::abs(steps.base - mean) <= 0.51 * steps.step);
        CHECK(worst_error(values, steps) <= 2e-6 * slope * static_cast<double>(largest));
    }
}

TEST_CASE("continuous intensities and integers over too wide a range are rounded to 16 bits") {
    Random random(2);
    std::vector<float> continuous;
    for (int i = 0; i < 50000; ++i)
        continuous.push_back(static_cast<float>(300.0 + 40.0 * random.normal()));
    const auto [low, high] = std::minmax_element(continuous.begin(), continuous.end());
    const Quantization steps = choose_quantization(continuous, mean_of(continuous), 0);
    CHECK_FALSE(steps.exact);
    CHECK(worst_error(continuous, steps) <= (*high - *low) / 131070.0 * 1.001);
    CHECK(worst_error(continuous, steps) < 1e-4 * 40.0);

    const auto wide = scaled_integers(1000, 70001, 1.0F, 0.0F);
    const Quantization rounded = choose_quantization(wide, mean_of(wide), 0);
    CHECK_FALSE(rounded.exact);
    CHECK(worst_error(wide, rounded) <= 70001.0 / 131070.0 * 1.001);
}

TEST_CASE("levels round what needs more steps, clip outliers, and leave alone what does not") {
    auto values = scaled_integers(20000, 1000, 1.0F, 5.0F);
    values.push_back(1e6F); // one hot voxel must not use up the steps
    const Quantization steps = choose_quantization(values, mean_of(values), 64);
    CHECK(steps.fits_uint8());
    CHECK(steps.highest == 63);
    CHECK(steps.step < 17.0);
    CHECK(steps.quantum(1e6) == 63);
    std::set<std::int32_t> used;
    for (const float value : values)
        used.insert(steps.quantum(value));
    CHECK(used.size() == 64);

    const auto few = scaled_integers(500, 63, 2.0F, 0.0F);
    CHECK(choose_quantization(few, mean_of(few), 64).exact);
    CHECK_FALSE(choose_quantization(few, mean_of(few), 63).exact);

    // Almost constant: both percentiles are the same value, and the steps then span the whole range.
    std::vector<float> lonely(10000, 3.0F);
    lonely.push_back(4.0F);
    lonely.push_back(2.5F);
    lonely.push_back(2.75F);
    const Quantization spread = choose_quantization(lonely, 3.0, 2);
    CHECK(spread.quantum(2.5) == 0);
    CHECK(spread.quantum(4.0) == 1);
}
