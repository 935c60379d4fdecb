// SPDX-License-Identifier: MIT
// Artefacts against their formulas in double precision, on random images inside an ellipsoid.
#include "core/random.h"
#include "data/artefacts.h"
#include "data/smooth_field.h"
#include "support/catch.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

using namespace mfres;

namespace {

using Triple = std::array<std::int64_t, 3>;

/// An image that is 0 outside its brain.
struct Scan {
    Triple extents;
    std::vector<float> image;
    std::vector<std::uint8_t> brain;

    std::size_t index(const Triple& v) const {
        return static_cast<std::size_t>((v[0] * extents[1] + v[1]) * extents[2] + v[2]);
    }
    bool holds(const Triple& v) const {
        for (std::size_t axis = 0; axis < 3; ++axis)
            if (v[axis] < 0 || v[axis] >= extents[axis])
                return false;
        return true;
    }
    void each_brain_voxel(const std::function<void(const Triple&, std::size_t)>& visit) const {
        for (std::int64_t x = 0; x < extents[0]; ++x)
            for (std::int64_t y = 0; y < extents[1]; ++y)
                for (std::int64_t z = 0; z < extents[2]; ++z)
                    if (const std::size_t i = index({x, y, z}); brain[i] != 0)
                        visit({x, y, z}, i);
    }
};

Scan ellipsoid_scan(const Triple& extents, std::uint64_t seed = 1) {
    Scan scan{extents, {}, {}};
    Random random(seed);
    for (std::int64_t x = 0; x < extents[0]; ++x)
        for (std::int64_t y = 0; y < extents[1]; ++y)
            for (std::int64_t z = 0; z < extents[2]; ++z) {
                double radius = 0.0;
                const Triple v = {x, y, z};
                for (std::size_t axis = 0; axis < 3; ++axis) {
                    const double u = (2.0 * double(v[axis]) + 1.0) / double(extents[axis]) - 1.0;
                    radius += u * u;
                }
                scan.brain.push_back(radius <= 1.0 ? 1 : 0);
                scan.image.push_back(radius <= 1.0 ? static_cast<float>(random.normal()) : 0.0F);
            }
    return scan;
}

double weight_of(const AxisOperator& op, std::int64_t out, std::int64_t in) {
    if (op.rows.empty())
        return out == in ? 1.0 : 0.0;
    const auto& row = op.rows[static_cast<std::size_t>(out)];
    const std::int64_t t = in - row.first;
    return t >= 0 && t < static_cast<std::int64_t>(row.weights.size()) ? row.weights[static_cast<std::size_t>(t)] : 0.0;
}

double sum_of(const AxisOperator::Row& row) {
    double sum = 0.0;
    for (const float weight : row.weights)
        sum += weight;
    return sum;
}

struct Moments {
    double mean = 0.0, deviation = 0.0, least = 1e9, greatest = -1e9;
};

Moments moments(const Scan& scan, const std::vector<double>& values) {
    Moments found;
    double count = 0.0;
    scan.each_brain_voxel([&](const Triple&, std::size_t i) {
        found.mean += values[i];
        count += 1.0;
        found.least = std::min(found.least, values[i]);
        found.greatest = std::max(found.greatest, values[i]);
    });
    found.mean /= count;
    scan.each_brain_voxel([&](const Triple&, std::size_t i) {
        found.deviation += (values[i] - found.mean) * (values[i] - found.mean) / count;
    });
    found.deviation = std::sqrt(found.deviation);
    return found;
}

std::vector<double> wide(const std::vector<float>& values) {
    return {values.begin(), values.end()};
}

/// `values` with mean and deviation of the scan's image.
std::vector<double> restored(const Scan& scan, std::vector<double> values) {
    const Moments before = moments(scan, wide(scan.image));
    const Moments now = moments(scan, values);
    scan.each_brain_voxel([&](const Triple&, std::size_t i) {
        values[i] = (values[i] - now.mean) * before.deviation / now.deviation + before.mean;
    });
    return values;
}

std::vector<float> changed(const Scan& scan, const Artefacts& artefacts) {
    auto image = scan.image;
    ArtefactWorkspace workspace;
    add_artefacts(image, scan.extents, scan.brain, artefacts, workspace);
    for (std::size_t i = 0; i < image.size(); ++i)
        if (scan.brain[i] == 0)
            REQUIRE(image[i] == 0.0F);
    return image;
}

double largest_difference(const Scan& scan, const std::vector<float>& image, const std::vector<double>& truth) {
    double worst = 0.0;
    scan.each_brain_voxel(
        [&](const Triple&, std::size_t i) { worst = std::max(worst, std::abs(double(image[i]) - truth[i])); });
    return worst;
}

} // namespace

TEST_CASE("a blurred impulse has a Gaussian's weights") {
    for (const double sigma : {0.3, 0.8, 1.7}) {
        const auto reach = static_cast<std::int64_t>(std::ceil(3.0 * sigma));
        double sum = 0.0;
        for (std::int64_t t = -reach; t <= reach; ++t)
            sum += std::exp(-double(t * t) / (2.0 * sigma * sigma));
        const AxisOperator op = gaussian(17, sigma);
        Scan scan{{17, 17, 17}, std::vector<float>(17 * 17 * 17, 0.0F), std::vector<std::uint8_t>(17 * 17 * 17, 1)};
        scan.image[scan.index({8, 8, 8})] = 1.0F;
        ArtefactWorkspace workspace;
        filter_inside(scan.image, scan.extents, scan.brain, {op, op, op}, workspace);
        // Where the kernel lies within the box, the mask's part is 1.
        for (std::int64_t x = reach; x < 17 - reach; ++x)
            for (std::int64_t y = reach; y < 17 - reach; ++y)
                for (std::int64_t z = reach; z < 17 - reach; ++z) {
                    double weight = 1.0;
                    for (const std::int64_t place : {x, y, z}) {
                        const double t = double(place - 8);
                        weight *= std::abs(t) <= double(reach) ? std::exp(-t * t / (2.0 * sigma * sigma)) / sum : 0.0;
                    }
                    REQUIRE(double(scan.image[scan.index({x, y, z})]) == Approx(weight).margin(1e-8));
                }
    }
}

TEST_CASE("slices are means of their voxels at their centres, and linear between") {
    const AxisOperator three = slices(6, 3.0, 0.0); // of voxels 0 to 2 and 3 to 5
    for (std::int64_t i = 0; i < 6; ++i) {
        const double first = i < 3 ? 1.0 / 3.0 : 0.0;
        const double second = i < 3 ? 0.0 : 1.0 / 3.0;
        CHECK(weight_of(three, 0, i) == Approx(first));
        CHECK(weight_of(three, 1, i) == Approx(first));
        CHECK(weight_of(three, 2, i) == Approx(2.0 / 3.0 * first + 1.0 / 3.0 * second));
        CHECK(weight_of(three, 4, i) == Approx(second));
        CHECK(weight_of(three, 5, i) == Approx(second));
    }
    const AxisOperator shifted = slices(5, 2.0, 0.5); // voxel 0, voxels 1 and 2, voxels 3 and 4
    CHECK(weight_of(shifted, 0, 0) == Approx(0.75));  // a quarter of the way from centre 0 to centre 2
    CHECK(weight_of(shifted, 0, 1) == Approx(0.125));
    CHECK(weight_of(shifted, 0, 2) == Approx(0.125));
    CHECK(weight_of(shifted, 4, 4) == Approx(0.5));
    const AxisOperator same = slices(9, 1.0, 0.0);
    for (std::int64_t i = 0; i < 9; ++i)
        for (std::int64_t k = 0; k < 9; ++k)
            CHECK(weight_of(same, i, k) == (i == k ? 1.0 : 0.0));
    Random random(3);
    for (int round = 0; round < 300; ++round) {
        const auto size = static_cast<std::int64_t>(1 + random.below(40));
        const double thickness = random.uniform(1.0, 7.0);
        const AxisOperator op = slices(size, thickness, round % 3 == 0 ? 0.0 : random.uniform());
        REQUIRE(static_cast<std::int64_t>(op.rows.size()) == size);
        for (std::int64_t o = 0; o < size; ++o) {
            REQUIRE(sum_of(op.rows[static_cast<std::size_t>(o)]) == Approx(1.0));
            REQUIRE(weight_of(op, o, o) > 0.0);
            for (const float weight : op.rows[static_cast<std::size_t>(o)].weights)
                REQUIRE(weight >= 0.0F);
            // A ramp stays one, away from the ends, up to what voxels that lie in two slices are off their centres.
            if (double(o) < 2.0 * thickness || double(o) > double(size) - 2.0 * thickness - 1.0)
                continue;
            double ramp = 0.0;
            for (std::int64_t i = 0; i < size; ++i)
                ramp += weight_of(op, o, i) * double(i);
            REQUIRE(std::abs(ramp - double(o)) < 0.25 / thickness + 1e-4); // 1/8 for each voxel that is cut
        }
    }
}

TEST_CASE("truncation keeps low frequencies and removes high ones, and overshoots at a step") {
    for (const double kept : {0.4, 0.6, 0.8}) {
        const AxisOperator op = truncation(129, kept);
        const auto gain = [&](double frequency) { // as a share of Nyquist's
            double sum = 0.0;
            for (std::int64_t i = 0; i < 129; ++i)
                sum += weight_of(op, 64, i) * std::cos(std::numbers::pi * frequency * double(i - 64));
            return sum;
        };
        CHECK(gain(0.0) == Approx(1.0));
        for (double frequency = 0.0; frequency <= 1.0; frequency += 0.02) {
            INFO("kept " << kept << ", frequency " << frequency);
            if (frequency < kept - 0.08)
                CHECK(std::abs(gain(frequency) - 1.0) < 0.08);
            if (frequency > kept + 0.08)
                CHECK(std::abs(gain(frequency)) < 0.08);
        }
        double most = 0.0;
        for (std::int64_t o = 40; o < 90; ++o) {
            double step = 0.0;
            for (std::int64_t i = 64; i < 129; ++i)
                step += weight_of(op, o, i);
            most = std::max(most, step);
        }
        CHECK(most > 1.03); // Gibbs: 9 % for a step between samples
        CHECK(most < 1.15);
    }
}

TEST_CASE("operators one after the other are their composition") {
    const AxisOperator first = gaussian(20, 1.2), second = slices(20, 3.3, 0.4);
    const AxisOperator both = composed(second, first);
    for (std::int64_t o = 0; o < 20; ++o)
        for (std::int64_t i = 0; i < 20; ++i) {
            double sum = 0.0;
            for (std::int64_t k = 0; k < 20; ++k)
                sum += weight_of(second, o, k) * weight_of(first, k, i);
            CHECK(weight_of(both, o, i) == Approx(sum).margin(1e-7));
        }
}

TEST_CASE("filters inside a mask are normalised convolution, and leave a constant as it is") {
    for (const Triple& extents : {Triple{9, 21, 18}, {18, 7, 35}, {1, 5, 1}}) {
        const Scan scan = ellipsoid_scan(extents);
        const std::array<AxisOperator, 3> operators = {gaussian(extents[0], 1.1), {}, slices(extents[2], 2.6, 0.3)};
        auto image = scan.image;
        ArtefactWorkspace workspace;
        filter_inside(image, extents, scan.brain, operators, workspace);
        double worst = 0.0;
        scan.each_brain_voxel([&](const Triple& v, std::size_t i) {
            double sum = 0.0;
            double weights = 0.0;
            for (std::int64_t x = 0; x < extents[0]; ++x)
                for (std::int64_t z = 0; z < extents[2]; ++z) {
                    const std::size_t from = scan.index({x, v[1], z});
                    const double weight =
                        weight_of(operators[0], v[0], x) * weight_of(operators[2], v[2], z) * scan.brain[from];
                    sum += weight * double(scan.image[from]);
                    weights += weight;
                }
            worst = std::max(worst, std::abs(double(image[i]) - sum / weights));
        });
        CHECK(worst < 1e-5);
        std::vector<float> constant(scan.brain.begin(), scan.brain.end());
        filter_inside(constant, extents, scan.brain, operators, workspace);
        for (std::size_t i = 0; i < constant.size(); ++i)
            REQUIRE(constant[i] == Approx(double(scan.brain[i])).margin(1e-6));
    }
}

TEST_CASE("smooth fields are B-splines of coins: bounded, with bounded slopes, and other ones for other seeds") {
    const Triple extents = {40, 33, 50};
    const std::array<double, 3> spacing = {10.0, 7.5, 16.0};
    const auto values_of = [&](std::uint64_t seed) {
        SmoothField field(extents, spacing, seed);
        std::vector<float> values(40 * 33 * 50);
        for (std::int64_t x = 0; x < 40; ++x)
            for (std::int64_t y = 0; y < 33; ++y)
                field.row(x, y, std::span(values).subspan(static_cast<std::size_t>((x * 33 + y) * 50), 50));
        return values;
    };
    const auto values = values_of(5);
    const Scan box{extents, values, std::vector<std::uint8_t>(values.size(), 1)};
    const Moments found = moments(box, wide(values));
    CHECK(found.least >= -1.0);
    CHECK(found.greatest <= 1.0);
    CHECK(found.greatest - found.least > 0.7); // the field is not flat
    box.each_brain_voxel([&](const Triple& v, std::size_t i) {
        for (std::size_t axis = 0; axis < 3; ++axis) {
            Triple next = v, last = v;
            ++next[axis];
            --last[axis];
            if (!box.holds(next))
                continue;
            REQUIRE(std::abs(values[box.index(next)] - values[i]) <= 2.0 / spacing[axis] + 1e-5);
            if (box.holds(last)) // the second derivative of a uniform cubic B-spline is at most 4 / spacing^2
                REQUIRE(std::abs(values[box.index(next)] - 2.0F * values[i] + values[box.index(last)]) <=
                        4.0 / (spacing[axis] * spacing[axis]) + 1e-5);
        }
    });
    CHECK(values_of(5) == values);
    CHECK(values_of(6) != values);
}

TEST_CASE("a bias field multiplies by its gains, above the least intensity") {
    const Scan scan = ellipsoid_scan({24, 30, 20});
    const auto image = changed(scan, {.bias_field = 0.4, .bias_seed = 9});
    const double least = moments(scan, wide(scan.image)).least;
    SmoothField field(scan.extents, {12.0, 15.0, 10.0}, 9);
    auto truth = wide(scan.image);
    std::vector<float> line(20);
    scan.each_brain_voxel([&](const Triple& v, std::size_t i) {
        field.row(v[0], v[1], line);
        const double gain = 1.0 + 0.4 * double(line[static_cast<std::size_t>(v[2])]);
        REQUIRE(gain >= 0.6);
        REQUIRE(gain <= 1.4);
        truth[i] = least + (truth[i] - least) * gain;
    });
    CHECK(largest_difference(scan, image, restored(scan, truth)) < 1e-4);
    CHECK(largest_difference(scan, image, wide(scan.image)) > 0.1);
}

TEST_CASE("a histogram shift keeps the order of intensities, and is linear between its places") {
    const Scan scan = ellipsoid_scan({20, 20, 20});
    const auto image = changed(scan, {.histogram_shift = 0.45, .histogram_seed = 4});
    CHECK(largest_difference(scan, image, wide(scan.image)) > 0.05);
    std::vector<std::pair<float, float>> pairs;
    scan.each_brain_voxel([&](const Triple&, std::size_t i) { pairs.emplace_back(scan.image[i], image[i]); });
    std::sort(pairs.begin(), pairs.end());
    const float width = (pairs.back().first - pairs.front().first) / 10.0F;
    std::array<std::vector<double>, 10> slopes;
    for (std::size_t i = 1; i < pairs.size(); ++i) {
        REQUIRE(pairs[i].second >= pairs[i - 1].second);
        const auto segment = [&](float value) { return std::min(9.0F, std::floor((value - pairs[0].first) / width)); };
        if (segment(pairs[i].first) == segment(pairs[i - 1].first) && pairs[i].first - pairs[i - 1].first > 0.002F)
            slopes[static_cast<std::size_t>(segment(pairs[i].first))].push_back(
                double(pairs[i].second - pairs[i - 1].second) / double(pairs[i].first - pairs[i - 1].first));
    }
    for (const auto& of_one : slopes)
        for (const double slope : of_one)
            REQUIRE(slope == Approx(of_one[0]).epsilon(1e-2));
    REQUIRE(slopes[4].size() > 3);
    REQUIRE(slopes[5].size() > 3);
    CHECK(slopes[4][0] != Approx(slopes[5][0]).epsilon(1e-2));
    CHECK(changed(scan, {.histogram_shift = 0.45, .histogram_seed = 5}) != image);
}

TEST_CASE("ghosts are shifted copies of what is brighter than the least") {
    const Scan scan = ellipsoid_scan({16, 22, 19});
    for (int axis = 0; axis < 3; ++axis) {
        const auto image = changed(scan, {.ghost = 0.3, .ghost_axis = axis, .ghost_shift = 5});
        const double least = moments(scan, wide(scan.image)).least;
        auto truth = wide(scan.image);
        scan.each_brain_voxel([&](const Triple& v, std::size_t i) {
            double copies = 0.0;
            for (const std::int64_t shift : {-5, 5}) {
                Triple from = v;
                std::int64_t& place = from[static_cast<std::size_t>(axis)];
                place += shift;
                if (place < 0)
                    place = -place;
                if (const std::int64_t last = scan.extents[static_cast<std::size_t>(axis)] - 1; place > last)
                    place = 2 * last - place;
                if (scan.brain[scan.index(from)] != 0)
                    copies += double(scan.image[scan.index(from)]) - least;
            }
            truth[i] = least + 0.7 * (double(scan.image[i]) - least) + 0.15 * copies;
        });
        CHECK(largest_difference(scan, image, restored(scan, truth)) < 1e-4);
    }
}

TEST_CASE("ringing convolves the brain, around which there is its mean") {
    const Scan scan = ellipsoid_scan({16, 22, 19});
    for (int axis = 0; axis < 3; ++axis) {
        const auto image = changed(scan, {.ringing = 0.4, .ringing_axis = axis});
        const double mean = moments(scan, wide(scan.image)).mean;
        const std::int64_t size = scan.extents[static_cast<std::size_t>(axis)];
        const AxisOperator op = truncation(size, 0.6);
        auto truth = wide(scan.image);
        scan.each_brain_voxel([&](const Triple& v, std::size_t i) {
            truth[i] = mean;
            for (std::int64_t place = 0; place < size; ++place) {
                Triple from = v;
                from[static_cast<std::size_t>(axis)] = place;
                if (scan.brain[scan.index(from)] != 0)
                    truth[i] += weight_of(op, v[static_cast<std::size_t>(axis)], place) *
                                (double(scan.image[scan.index(from)]) - mean);
            }
        });
        CHECK(largest_difference(scan, image, restored(scan, truth)) < 1e-4);
    }
}

TEST_CASE("blur, low resolution and thick slices are one normalised filter") {
    const Scan scan = ellipsoid_scan({17, 15, 21});
    Artefacts artefacts{
        .blur = 0.7, .low_resolution = 1.8, .slice_thickness = 4.0, .slice_axis = 1, .slice_phase = 0.2};
    artefacts.resolution_phase = {0.1, 0.5, 0.9};
    const auto image = changed(scan, artefacts);
    std::array<AxisOperator, 3> operators;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t size = scan.extents[axis];
        operators[axis] = composed(slices(size, 1.8, artefacts.resolution_phase[axis]), gaussian(size, 0.7));
        if (axis == 1)
            operators[axis] = composed(slices(size, 4.0, 0.2), operators[axis]);
    }
    auto filtered = scan.image;
    ArtefactWorkspace workspace;
    filter_inside(filtered, scan.extents, scan.brain, operators, workspace);
    CHECK(largest_difference(scan, image, restored(scan, wide(filtered))) < 1e-4);
}

TEST_CASE("artefacts keep mean and deviation, and leave alone what has no contrast") {
    Artefacts all{.histogram_shift = 0.4,
                  .bias_field = 0.3,
                  .blur = 0.8,
                  .low_resolution = 2.0,
                  .slice_thickness = 3.0,
                  .ringing = 0.3,
                  .ghost = 0.2,
                  .ghost_shift = 4};
    const Scan scan = ellipsoid_scan({24, 20, 28});
    const Moments before = moments(scan, wide(scan.image));
    const auto image = changed(scan, all);
    const Moments after = moments(scan, wide(image));
    CHECK(after.mean == Approx(before.mean).margin(1e-5));
    CHECK(after.deviation == Approx(before.deviation).epsilon(1e-5));
    CHECK(image != scan.image);
    CHECK(changed(scan, all) == image);
    CHECK(changed(scan, {}) == scan.image);

    Scan flat = scan;
    std::transform(scan.brain.begin(), scan.brain.end(), flat.image.begin(), [](auto b) { return 2.5F * float(b); });
    CHECK(changed(flat, all) == flat.image);
    Scan empty = scan;
    std::fill(empty.brain.begin(), empty.brain.end(), std::uint8_t{0});
    std::fill(empty.image.begin(), empty.image.end(), 0.0F);
    CHECK(changed(empty, all) == empty.image);
}
