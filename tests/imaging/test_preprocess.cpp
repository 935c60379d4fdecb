// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "imaging/preprocess.h"
#include "support/catch.h"
#include "support/scans.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace mfres;

namespace {

using Index = std::array<std::int64_t, 3>;
using Volumes = std::array<Volume, 4>;
using test::scans_of;

Volumes constant_volumes(const Index& size, const std::array<float, 4>& background) {
    Volumes volumes;
    for (std::size_t m = 0; m < 4; ++m) {
        volumes[m].grid.size = size;
        volumes[m].grid.affine = {{{-1, 0, 0, 3}, {0, -1, 0, 4}, {0, 0, 1, 5}}};
        volumes[m].voxels.assign(static_cast<std::size_t>(volumes[m].grid.voxels()), background[m]);
    }
    return volumes;
}

float& voxel(Volume& volume, const Index& at) {
    const auto& size = volume.grid.size;
    return volume.voxels[static_cast<std::size_t>(at[0] + size[0] * (at[1] + size[1] * at[2]))];
}

/// Calls visit(i, j, k) for begin <= (i, j, k) < end.
template <typename Visit>
void for_box(const Index& begin, const Index& end, const Visit& visit) {
    for (std::int64_t k = begin[2]; k < end[2]; ++k)
        for (std::int64_t j = begin[1]; j < end[1]; ++j)
            for (std::int64_t i = begin[0]; i < end[0]; ++i)
                visit(i, j, k);
}

constexpr Index odd_size = {37, 29, 41};
constexpr Index box_begin = {5, 3, 7};
constexpr Index box_end = {30, 22, 38};

bool in_ellipsoid(std::int64_t i, std::int64_t j, std::int64_t k) {
    double sum = 0.0;
    const Index at = {i, j, k};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const double radius = 0.5 * static_cast<double>(box_end[axis] - box_begin[axis]);
        const double centre = 0.5 * static_cast<double>(box_begin[axis] + box_end[axis] - 1);
        const double u = (static_cast<double>(at[axis]) - centre) / radius;
        sum += u * u;
    }
    return sum <= 1.0;
}

/// Noise inside an ellipsoid that touches all faces of the box [box_begin, box_end), a different non-zero background
/// outside; some brain voxels of FLAIR have exactly the background value.
Volumes ellipsoid_case() {
    Volumes volumes = constant_volumes(odd_size, {0.0F, -32768.0F, 0.25F, 12.5F});
    Random random(7);
    for_box({0, 0, 0}, odd_size, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        if (!in_ellipsoid(i, j, k))
            return;
        for (std::size_t m = 0; m < 4; ++m)
            voxel(volumes[m], {i, j, k}) =
                static_cast<float>(random.uniform(20.0, 220.0 + 50.0 * static_cast<double>(m)));
        if (random.below(10) == 0)
            voxel(volumes[3], {i, j, k}) = 12.5F;
    });
    return volumes;
}

StridedView<float> channels_last(Tensor& memory) {
    const Shape& s = memory.shape();
    return {memory.data(), s, {s.elements(), 1, s[1] * s[4] * s[3], s[1] * s[4], s[1]}};
}

Tensor filled(const Preprocessing& preprocessing, const Volumes& volumes, const Index& offset, const Index& size,
              int threads = 1) {
    Tensor input(Shape{1, 4, size[0], size[1], size[2]}, std::numeric_limits<float>::quiet_NaN());
    fill_input(preprocessing, scans_of(volumes), offset, view(input), threads);
    return input;
}

bool same_bits(const Preprocessing& a, const Preprocessing& b) {
    for (std::size_t m = 0; m < 4; ++m)
        if (a.intensity[m].background != b.intensity[m].background || a.intensity[m].mean != b.intensity[m].mean ||
            a.intensity[m].stddev != b.intensity[m].stddev)
            return false;
    return a.grid == b.grid && a.box_begin == b.box_begin && a.box_end == b.box_end && a.padded_size == b.padded_size &&
           a.brain_voxels == b.brain_voxels && a.speck_voxels == b.speck_voxels && a.runs == b.runs &&
           a.first_run == b.first_run;
}

bool same_values(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() && std::equal(a.values().begin(), a.values().end(), b.values().begin());
}

} // namespace

TEST_CASE("mean, deviation and box of a two-valued block are exact") {
    // 6 x 4 x 10 brain voxels, half 10 and half 14: mean 12, population deviation 2; other modalities shifted by 100 m.
    Volumes volumes = constant_volumes({20, 12, 16}, {0.0F, 100.0F, 200.0F, 300.0F});
    for_box({4, 5, 3}, {10, 9, 13}, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        for (std::size_t m = 0; m < 4; ++m)
            voxel(volumes[m], {i, j, k}) = (i % 2 == 0 ? 10.0F : 14.0F) + 100.0F * static_cast<float>(m);
    });
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->brain_voxels == 240);
    CHECK(preprocessing->speck_voxels == 0);
    CHECK(preprocessing->box_begin == Index{4, 5, 3});
    CHECK(preprocessing->box_end == Index{10, 9, 13});
    CHECK(preprocessing->padded_size == Index{16, 16, 16});
    CHECK(preprocessing->grid == volumes[0].grid);
    for (std::size_t m = 0; m < 4; ++m) {
        CHECK(preprocessing->intensity[m].background == 100.0F * static_cast<float>(m));
        CHECK(preprocessing->intensity[m].mean == 12.0 + 100.0 * static_cast<double>(m));
        CHECK(preprocessing->intensity[m].stddev == 2.0);
    }

    const Tensor input = filled(*preprocessing, volumes, {0, 0, 0}, {16, 16, 16});
    const auto values = view(input);
    for (std::int64_t m = 0; m < 4; ++m)
        for_box({0, 0, 0}, {16, 16, 16}, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
            const float expected = x < 6 && y < 4 && z < 10 ? (x % 2 == 0 ? -1.0F : 1.0F) : 0.0F;
            REQUIRE(values.at(0, m, x, y, z) == expected);
        });
}

TEST_CASE("every modality has its own background, found on the border") {
    const Volumes volumes = ellipsoid_case();
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->intensity[0].background == 0.0F);
    CHECK(preprocessing->intensity[1].background == -32768.0F);
    CHECK(preprocessing->intensity[2].background == 0.25F);
    CHECK(preprocessing->intensity[3].background == 12.5F);
    CHECK(preprocessing->box_begin == box_begin);
    CHECK(preprocessing->box_end == box_end);
    CHECK(preprocessing->padded_size == Index{32, 32, 32});
}

TEST_CASE("a brain that touches the border leaves the background the most frequent value") {
    Volumes volumes = constant_volumes({10, 10, 10}, {5.0F, 5.0F, 5.0F, 5.0F});
    float value = 10.0F;
    for_box({0, 0, 0}, {10, 10, 6}, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        value += 1.0F;
        for (auto& volume : volumes)
            voxel(volume, {i, j, k}) = value;
    });
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->intensity[2].background == 5.0F);
    CHECK(preprocessing->brain_voxels == 600);
    CHECK(preprocessing->box_begin == Index{0, 0, 0});
    CHECK(preprocessing->box_end == Index{10, 10, 6});
}

TEST_CASE("brain voxels with the background's value in one modality keep their place below the mean") {
    Volumes volumes = ellipsoid_case();
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    const Tensor input = filled(*preprocessing, volumes, {0, 0, 0}, preprocessing->padded_size);
    std::int64_t dark = 0;
    for_box(box_begin, box_end, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        if (!in_ellipsoid(i, j, k) || voxel(volumes[3], {i, j, k}) != 12.5F)
            return;
        ++dark;
        const float flair = view(input).at(0, 3, i - box_begin[0], j - box_begin[1], k - box_begin[2]);
        REQUIRE(flair == Approx((12.5 - preprocessing->intensity[3].mean) / preprocessing->intensity[3].stddev));
        REQUIRE(flair < -1.0F);
    });
    CHECK(dark > 100);
}

TEST_CASE("the input has mean 0 and deviation 1 over the brain and is 0 elsewhere") {
    const Volumes volumes = ellipsoid_case();
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    const Tensor input = filled(*preprocessing, volumes, {0, 0, 0}, preprocessing->padded_size);
    for (std::int64_t m = 0; m < 4; ++m) {
        double sum = 0.0;
        double squares = 0.0;
        std::int64_t brain = 0;
        for_box({0, 0, 0}, preprocessing->padded_size, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
            const double value = view(input).at(0, m, x, y, z);
            if (!in_ellipsoid(x + box_begin[0], y + box_begin[1], z + box_begin[2])) {
                REQUIRE(value == 0.0);
                return;
            }
            ++brain;
            sum += value;
            squares += value * value;
        });
        CHECK(brain == preprocessing->brain_voxels);
        CHECK(std::abs(sum / static_cast<double>(brain)) < 1e-6);
        CHECK(squares / static_cast<double>(brain) == Approx(1.0).epsilon(1e-6));
    }
}

TEST_CASE("specks stretch neither the box nor the statistics") {
    const Volumes clean = ellipsoid_case();
    const auto expected = plan_preprocessing(scans_of(clean));
    REQUIRE_OK(expected);
    Volumes specked = clean;
    voxel(specked[1], {0, 0, 0}) = -31330.0F;
    voxel(specked[1], {36, 28, 40}) = -31330.0F;
    voxel(specked[3], {36, 28, 39}) = 900.0F; // touches the one before: a component of two
    voxel(specked[0], {0, 15, 20}) = 1.0F;
    const auto preprocessing = plan_preprocessing(scans_of(specked));
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->speck_voxels == 4);
    CHECK(preprocessing->brain_voxels == expected->brain_voxels);
    CHECK(preprocessing->box_begin == box_begin);
    CHECK(preprocessing->box_end == box_end);
    for (std::size_t m = 0; m < 4; ++m) {
        CHECK(preprocessing->intensity[m].mean == expected->intensity[m].mean);
        CHECK(preprocessing->intensity[m].stddev == expected->intensity[m].stddev);
    }
    CHECK(same_values(filled(*preprocessing, specked, {-5, -3, -7}, odd_size),
                      filled(*expected, clean, {-5, -3, -7}, odd_size)));
}

TEST_CASE("the largest part is the brain, and diagonal neighbours belong together") {
    Volumes volumes = constant_volumes({40, 20, 20}, {0.0F, 0.0F, 0.0F, 0.0F});
    const auto paint = [&](const Index& begin, const Index& end) {
        for_box(begin, end, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
            for (auto& volume : volumes)
                voxel(volume, {i, j, k}) = static_cast<float>(1 + i + j + k);
        });
    };
    paint({2, 2, 2}, {16, 18, 18});    // 3584 voxels
    paint({30, 5, 5}, {32, 7, 7});     // 8 voxels apart: 0.2 %
    paint({16, 18, 18}, {17, 19, 19}); // one voxel that touches the first piece by a corner
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->brain_voxels == 3585);
    CHECK(preprocessing->speck_voxels == 8);
    CHECK(preprocessing->second_part_voxels == 8);
    CHECK(preprocessing->box_end == Index{17, 19, 19});
}

TEST_CASE("pieces that meet only far from where they begin are one component") {
    // A comb: 30 teeth of one voxel's width, joined by a bar at the far end; a tooth alone would be a speck.
    Volumes volumes = constant_volumes({64, 40, 8}, {0.0F, 0.0F, 0.0F, 0.0F});
    std::int64_t painted = 0;
    const auto paint = [&](const Index& begin, const Index& end) {
        for_box(begin, end, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
            ++painted;
            for (auto& volume : volumes)
                voxel(volume, {i, j, k}) = static_cast<float>(1 + j);
        });
    };
    for (std::int64_t tooth = 0; tooth < 30; ++tooth)
        paint({2 + 2 * tooth, 36 - tooth % 3, 4}, {3 + 2 * tooth, 37, 5});
    paint({2, 37, 2}, {62, 39, 7});
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->brain_voxels == painted);
    CHECK(preprocessing->box_begin == Index{2, 34, 2});
}

TEST_CASE("the brain of a random sponge is what a flood fill over all 26 neighbours finds") {
    const Index size = {40, 32, 24};
    Volumes volumes = constant_volumes(size, {0.0F, 0.0F, 0.0F, 0.0F});
    Random random(17);
    for (std::size_t n = 0; n < volumes[0].voxels.size(); ++n)
        if (random.below(100) < 11)
            for (auto& volume : volumes)
                volume.voxels[n] = static_cast<float>(1 + n % 5);

    const auto at = [&](const Index& v) { return static_cast<std::size_t>(v[0] + size[0] * (v[1] + size[1] * v[2])); };
    std::vector<bool> seen(volumes[0].voxels.size(), false);
    std::vector<Index> largest;
    for_box({0, 0, 0}, size, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        std::vector<Index> component;
        const auto reach = [&](const Index& v) {
            if (volumes[0].voxels[at(v)] == 0.0F || seen[at(v)])
                return;
            seen[at(v)] = true;
            component.push_back(v);
        };
        reach({i, j, k});
        for (std::size_t n = 0; n < component.size(); ++n) {
            const Index v = component[n];
            for_box({std::max<std::int64_t>(v[0] - 1, 0), std::max<std::int64_t>(v[1] - 1, 0),
                     std::max<std::int64_t>(v[2] - 1, 0)},
                    {std::min(v[0] + 2, size[0]), std::min(v[1] + 2, size[1]), std::min(v[2] + 2, size[2])},
                    [&](std::int64_t x, std::int64_t y, std::int64_t z) {
                        reach({x, y, z});
                    });
        }
        if (component.size() > largest.size())
            largest = component;
    });
    std::vector<bool> brain(volumes[0].voxels.size(), false);
    for (const Index& v : largest)
        brain[at(v)] = true;

    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->speck_voxels > 100);
    std::vector<bool> found(brain.size(), false);
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (const VoxelRun& run : preprocessing->row(j, k))
                for (std::int64_t i = run.begin; i < run.end; ++i)
                    found[at({i, j, k})] = true;
    CHECK(found == brain);
}

TEST_CASE("a background that interpolation blurred by a rounding stays background") {
    Volumes volumes = ellipsoid_case();
    const auto expected = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(expected);
    for (std::size_t n = 0; n < volumes[1].voxels.size(); n += 3)
        if (volumes[1].voxels[n] == -32768.0F)
            volumes[1].voxels[n] = std::nextafter(-32768.0F, 0.0F);
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->brain_voxels == expected->brain_voxels);
}

TEST_CASE("rescaling a modality's intensities leaves the network's input unchanged") {
    const Volumes volumes = ellipsoid_case();
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    const Tensor input = filled(*preprocessing, volumes, {0, 0, 0}, preprocessing->padded_size);
    Volumes rescaled = volumes;
    const std::array<float, 4> slopes = {3.0F, 0.37F, 1.0F, 0.01F};
    const std::array<float, 4> intercepts = {100.0F, -7.0F, 45.0F, 0.5F};
    for (std::size_t m = 0; m < 4; ++m)
        for (float& value : rescaled[m].voxels)
            value = value * slopes[m] + intercepts[m];
    const auto other = plan_preprocessing(scans_of(rescaled));
    REQUIRE_OK(other);
    CHECK(other->runs == preprocessing->runs);
    const Tensor same = filled(*other, rescaled, {0, 0, 0}, other->padded_size);
    for (std::int64_t n = 0; n < input.elements(); ++n)
        REQUIRE(std::abs(same[n] - input[n]) < 1e-5F);
}

TEST_CASE("the margin grows the box as far as the grid reaches and the multiple rounds it up") {
    const Volumes volumes = ellipsoid_case();
    PreprocessOptions options;
    options.margin = 4;
    options.multiple = 8;
    const auto preprocessing = plan_preprocessing(scans_of(volumes), options);
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->box_begin == Index{1, 0, 3});
    CHECK(preprocessing->box_end == Index{34, 26, 41});
    CHECK(preprocessing->padded_size == Index{40, 32, 40});
    const auto without = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(without);
    CHECK(same_values(filled(*preprocessing, volumes, {4, 3, 4}, {25, 19, 31}),
                      filled(*without, volumes, {0, 0, 0}, {25, 19, 31})));
}

TEST_CASE("channels-last and other strides get the values of the dense input") {
    const Volumes volumes = ellipsoid_case();
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    const auto& size = preprocessing->padded_size;
    const Tensor dense = filled(*preprocessing, volumes, {0, 0, 0}, size);

    Tensor last(dense.shape(), std::numeric_limits<float>::quiet_NaN());
    fill_input(*preprocessing, scans_of(volumes), {0, 0, 0}, channels_last(last), 1);
    // x fastest, every row padded by 3 floats that must stay as they were
    const std::int64_t pitch = size[0] + 3;
    std::vector<float> memory(static_cast<std::size_t>(4 * size[2] * size[1] * pitch), -99.0F);
    const StridedView<float> reversed{
        memory.data(), dense.shape(), {0, size[2] * size[1] * pitch, 1, pitch, size[1] * pitch}};
    fill_input(*preprocessing, scans_of(volumes), {0, 0, 0}, reversed, 1);
    for (std::int64_t m = 0; m < 4; ++m)
        for_box({0, 0, 0}, size, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
            const float expected = view(dense).at(0, m, x, y, z);
            REQUIRE(channels_last(last).at(0, m, x, y, z) == expected);
            REQUIRE(reversed.at(0, m, x, y, z) == expected);
        });
    CHECK(std::count(memory.begin(), memory.end(), -99.0F) == 4 * size[2] * size[1] * 3);
}

TEST_CASE("a tile holds the crop of the whole input, and zeros beyond the box") {
    const Volumes volumes = ellipsoid_case();
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    const auto& box = preprocessing->padded_size;
    const Tensor whole = filled(*preprocessing, volumes, {0, 0, 0}, box);
    for (const Index& offset :
         {Index{16, 0, 16}, Index{3, 5, 7}, Index{-9, -11, -20}, Index{25, 20, 28}, Index{90, 0, 0}}) {
        const Index size = {16, 19, 21};
        const Tensor tile = filled(*preprocessing, volumes, offset, size);
        for (std::int64_t m = 0; m < 4; ++m)
            for_box({0, 0, 0}, size, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
                const Index at = {x + offset[0], y + offset[1], z + offset[2]};
                bool inside = true;
                for (std::size_t axis = 0; axis < 3; ++axis)
                    inside = inside && at[axis] >= 0 && at[axis] < box[axis];
                const float expected = inside ? view(whole).at(0, m, at[0], at[1], at[2]) : 0.0F;
                REQUIRE(view(tile).at(0, m, x, y, z) == expected);
            });
    }
}

TEST_CASE("rows longer than a block of the transposition are filled completely") {
    Volumes volumes = constant_volumes({150, 9, 35}, {0.0F, 1.0F, 2.0F, 3.0F});
    Random random(3);
    for_box({1, 1, 1}, {149, 8, 34}, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        for (auto& volume : volumes)
            voxel(volume, {i, j, k}) = static_cast<float>(random.uniform(10.0, 20.0));
    });
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    REQUIRE(preprocessing->padded_size == Index{160, 16, 48});
    const Tensor input = filled(*preprocessing, volumes, {0, 0, 0}, preprocessing->padded_size);
    for (std::size_t m = 0; m < 4; ++m)
        for_box({0, 0, 0}, preprocessing->padded_size, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
            const auto& scale = preprocessing->intensity[m];
            const bool brain = x < 148 && y < 7 && z < 33;
            const double expected =
                brain ? (voxel(volumes[m], {x + 1, y + 1, z + 1}) - scale.mean) / scale.stddev : 0.0;
            REQUIRE(view(input).at(0, static_cast<std::int64_t>(m), x, y, z) == Approx(expected).margin(1e-6));
        });
}

TEST_CASE("undoing the crop puts every brain voxel's label back and nothing anywhere else") {
    const Volumes volumes = ellipsoid_case();
    PreprocessOptions options;
    options.margin = 2;
    const auto preprocessing = plan_preprocessing(scans_of(volumes), options);
    REQUIRE_OK(preprocessing);
    const auto& box = preprocessing->padded_size;
    const auto label_at = [](std::int64_t i, std::int64_t j, std::int64_t k) {
        return static_cast<std::uint8_t>(1 + (i * 7 + j * 3 + k * 11) % 251);
    };
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(box[0] * box[1] * box[2]));
    for_box({0, 0, 0}, box, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
        labels[static_cast<std::size_t>((x * box[1] + y) * box[2] + z)] =
            label_at(x + preprocessing->box_begin[0], y + preprocessing->box_begin[1], z + preprocessing->box_begin[2]);
    });
    const LabelMap map = uncrop(*preprocessing, labels);
    CHECK(map.grid == volumes[0].grid);
    REQUIRE(map.labels.size() == volumes[0].voxels.size());
    for_box({0, 0, 0}, odd_size, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        const auto got = map.labels[static_cast<std::size_t>(i + odd_size[0] * (j + odd_size[1] * k))];
        REQUIRE(got == (in_ellipsoid(i, j, k) ? label_at(i, j, k) : 0));
    });
}

TEST_CASE("the number of threads changes no bit of plan or input") {
    const Volumes volumes = ellipsoid_case();
    PreprocessOptions options;
    const auto one = plan_preprocessing(scans_of(volumes), options);
    REQUIRE_OK(one);
    const Tensor expected = filled(*one, volumes, {0, 0, 0}, one->padded_size);
    for (const int threads : {0, 2, 3, 7, 64}) {
        options.threads = threads;
        const auto many = plan_preprocessing(scans_of(volumes), options);
        REQUIRE_OK(many);
        CHECK(same_bits(*one, *many));
        CHECK(same_values(filled(*many, volumes, {0, 0, 0}, many->padded_size, threads), expected));
    }
}

TEST_CASE("less than 1 % of brain is rejected with counts, 1 % is accepted") {
    Volumes volumes = constant_volumes({20, 20, 20}, {0.0F, 0.0F, 0.0F, 0.0F});
    const auto paint = [&](std::int64_t count) {
        for (std::int64_t n = 0; n < count; ++n)
            for (auto& volume : volumes)
                voxel(volume, {5 + n % 4, 5 + n / 4 % 4, 5 + n / 16}) = static_cast<float>(1 + n);
    };
    CHECK(plan_preprocessing(scans_of(volumes)).error().message.find("0 of 8000") != std::string::npos);
    paint(79);
    const auto rejected = plan_preprocessing(scans_of(volumes));
    REQUIRE_CODE(rejected, brain_too_small);
    CHECK(rejected.error().message.find("79 of 8000") != std::string::npos);
    paint(80);
    REQUIRE_OK(plan_preprocessing(scans_of(volumes)));
}

TEST_CASE("a grid of nothing but specks is rejected") {
    // 1500 single voxels: together 2 % of the grid, each less than 0.1 % of them
    Volumes volumes = constant_volumes({42, 42, 42}, {0.0F, 0.0F, 0.0F, 0.0F});
    for (std::int64_t n = 0; n < 1500; ++n)
        voxel(volumes[0], {1 + n % 20 * 2, 1 + n / 20 % 20 * 2, 1 + n / 400 * 2}) = 1.0F;
    const auto rejected = plan_preprocessing(scans_of(volumes));
    REQUIRE_CODE(rejected, brain_too_small);
    CHECK(rejected.error().message.find("1499") != std::string::npos);
}

TEST_CASE("a modality that is constant over the brain is rejected by name") {
    Volumes volumes = ellipsoid_case();
    SECTION("everywhere") {
        std::fill(volumes[2].voxels.begin(), volumes[2].voxels.end(), 0.1F);
    }
    SECTION("inside the brain only") {
        for (float& value : volumes[2].voxels)
            value = value == 0.25F ? 0.25F : 0.1F;
    }
    const auto rejected = plan_preprocessing(scans_of(volumes));
    REQUIRE_CODE(rejected, volume_constant);
    CHECK(rejected.error().where == "T2");
}

TEST_CASE("a small deviation on a large mean is no constant and keeps its digits") {
    Volumes volumes = ellipsoid_case();
    for (std::size_t n = 0; n < volumes[0].voxels.size(); ++n)
        if (volumes[0].voxels[n] != 0.0F)
            volumes[0].voxels[n] = 1048576.0F + static_cast<float>(n % 2) * 0.125F;
    const auto preprocessing = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(preprocessing);
    CHECK(preprocessing->intensity[0].stddev == Approx(0.0625).epsilon(1e-3));
}

TEST_CASE("voxels that are not finite are rejected rather than spread over the input") {
    Volumes volumes = ellipsoid_case();
    voxel(volumes[1], {17, 12, 20}) =
        GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
    const auto rejected = plan_preprocessing(scans_of(volumes));
    REQUIRE_CODE(rejected, voxel_not_finite);
    CHECK(rejected.error().where == "T1ce");
}

TEST_CASE("bad options and volumes that do not belong together are rejected") {
    Volumes volumes = ellipsoid_case();
    PreprocessOptions options;
    SECTION("multiple 0") {
        options.multiple = 0;
        REQUIRE_CODE(plan_preprocessing(scans_of(volumes), options), invalid_argument);
    }
    SECTION("negative margin") {
        options.margin = -1;
        REQUIRE_CODE(plan_preprocessing(scans_of(volumes), options), invalid_argument);
    }
    SECTION("another grid size") {
        volumes[3].grid.size = {29, 37, 41};
        REQUIRE_CODE(plan_preprocessing(scans_of(volumes)), grid_size_mismatch);
    }
    SECTION("no voxels at all") {
        REQUIRE_CODE(plan_preprocessing({}), invalid_argument);
    }
}

namespace {

/// The brain's values of a modality in ascending order.
std::vector<float> sorted_brain(const Preprocessing& preprocessing, const Volume& volume) {
    std::vector<float> values;
    const auto& size = volume.grid.size;
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (const VoxelRun& run : preprocessing.row(j, k))
                for (std::int64_t i = run.begin; i < run.end; ++i)
                    values.push_back(volume.voxels[static_cast<std::size_t>(i + size[0] * (j + size[1] * k))]);
    std::sort(values.begin(), values.end());
    return values;
}

} // namespace

TEST_CASE("clipped normalisation takes mean and deviation between two order statistics, whatever the threads") {
    Volumes volumes = ellipsoid_case();
    // Negative values, huge ones, values that differ in their last bit only, and whole numbers.
    Random random(11);
    for (std::size_t i = 0; i < volumes[0].voxels.size(); ++i) {
        if (volumes[0].voxels[i] != 0.0F)
            volumes[0].voxels[i] = static_cast<float>(std::pow(random.normal(), 5.0)) + 0.01F;
        if (volumes[1].voxels[i] != -32768.0F)
            volumes[1].voxels[i] = std::nextafter(7.0F, random.below(2) == 0 ? 0.0F : 9.0F);
        if (volumes[3].voxels[i] != 12.5F)
            volumes[3].voxels[i] = std::floor(volumes[3].voxels[i]);
    }
    volumes[2].voxels[static_cast<std::size_t>(17 + 37 * (12 + 29 * 20))] = 1e9F;
    const bool integers = GENERATE(false, true); // are counted as they are stored
    if (integers)
        for (Volume& volume : volumes)
            for (float& value : volume.voxels)
                value = std::floor(std::clamp(7.0F * value, -30000.0F, 30000.0F));
    for (const CompactVolume& scan : scans_of(volumes))
        CHECK((scan.stored_values() > 0) == integers);
    PreprocessOptions options;
    options.normalisation = Normalisation::zscore_brain_clipped;
    const auto clipped = plan_preprocessing(scans_of(volumes), options);
    REQUIRE_OK(clipped);
    REQUIRE(clipped->brain_voxels > 4001);
    const auto skipped = static_cast<std::size_t>((clipped->brain_voxels - 1) / 2000);
    REQUIRE(skipped >= 2);
    const Tensor input = filled(*clipped, volumes, {0, 0, 0}, clipped->padded_size);
    for (std::size_t m = 0; m < 4; ++m) {
        INFO("modality " << m);
        const std::vector<float> sorted = sorted_brain(*clipped, volumes[m]);
        const float low = sorted[skipped];
        const float high = sorted[sorted.size() - 1 - skipped];
        CHECK(clipped->intensity[m].low == low);
        CHECK(clipped->intensity[m].high == high);
        double mean = 0.0;
        for (const float value : sorted)
            mean += std::clamp(value, low, high);
        mean /= static_cast<double>(sorted.size());
        double squares = 0.0;
        for (const float value : sorted)
            squares += std::pow(std::clamp(value, low, high) - mean, 2.0);
        CHECK(clipped->intensity[m].mean == Approx(mean));
        CHECK(clipped->intensity[m].stddev == Approx(std::sqrt(squares / static_cast<double>(sorted.size()))));
        double most = 0.0;
        for_box({0, 0, 0}, clipped->padded_size, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
            most = std::max<double>(most, view(input).at(0, static_cast<std::int64_t>(m), x, y, z));
        });
        CHECK(most == Approx((high - mean) / clipped->intensity[m].stddev).epsilon(1e-5));
    }
    for (const int threads : {2, 5}) {
        options.threads = threads;
        const auto again = plan_preprocessing(scans_of(volumes), options);
        REQUIRE_OK(again);
        CHECK(same_bits(*clipped, *again));
        for (std::size_t m = 0; m < 4; ++m)
            CHECK((again->intensity[m].low == clipped->intensity[m].low &&
                   again->intensity[m].high == clipped->intensity[m].high));
    }
    const auto plain = plan_preprocessing(scans_of(volumes));
    REQUIRE_OK(plain);
    CHECK(plain->intensity[2].stddev > (integers ? 1.05 : 100.0) * clipped->intensity[2].stddev);
    CHECK(std::isinf(plain->intensity[2].low));
}

TEST_CASE("where nearly all of the brain has one value nothing is clipped") {
    Volumes volumes = constant_volumes({40, 40, 40}, {0.0F, 0.0F, 0.0F, 0.0F});
    for_box({5, 5, 5}, {35, 35, 35}, [&](std::int64_t i, std::int64_t j, std::int64_t k) {
        for (std::size_t m = 0; m < 4; ++m)
            voxel(volumes[m], {i, j, k}) = m == 0 ? 7.0F : static_cast<float>(1 + i + j + k);
    });
    voxel(volumes[0], {20, 20, 20}) = 9.0F;
    PreprocessOptions options;
    options.normalisation = Normalisation::zscore_brain_clipped;
    const auto planned = plan_preprocessing(scans_of(volumes), options);
    REQUIRE_OK(planned);
    CHECK(std::isinf(planned->intensity[0].high));
    CHECK(planned->intensity[0].stddev > 0.0);
    CHECK(std::isfinite(planned->intensity[1].high));
}

TEST_CASE("channels come in the order asked for, and those of absent contrasts are zero") {
    const Volumes volumes = ellipsoid_case();
    const auto scans = scans_of(volumes);
    PreprocessOptions options;
    options.channels = {Modality::flair, Modality::t1ce, Modality::t1, Modality::t2};
    const auto usual = plan_preprocessing(scans);
    const auto permuted = plan_preprocessing(scans, options);
    REQUIRE_OK(usual);
    REQUIRE_OK(permuted);
    const Tensor expected = filled(*usual, volumes, {0, 0, 0}, usual->padded_size);
    const Tensor input = filled(*permuted, volumes, {0, 0, 0}, usual->padded_size);
    bool same = true;
    for_box({0, 0, 0}, usual->padded_size, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
        for (std::int64_t c = 0; c < 4; ++c)
            same &= view(input).at(0, c, x, y, z) ==
                    view(expected).at(0, static_cast<std::int64_t>(permuted->channels[static_cast<std::size_t>(c)]), x,
                                      y, z);
    });
    CHECK(same);

    options.present = {false, true, false, true};
    std::array<CompactVolume, 4> two = scans;
    two[0] = CompactVolume();
    two[2] = CompactVolume();
    const auto partial = plan_preprocessing(two, options);
    REQUIRE_OK(partial);
    CHECK(partial->brain_voxels == usual->brain_voxels); // T1ce shows something in every voxel of the brain
    Tensor part({1, 4, usual->padded_size[0], usual->padded_size[1], usual->padded_size[2]}, 99.0F);
    fill_input(*partial, two, {0, 0, 0}, view(part), 2);
    bool zero = true;
    for_box({0, 0, 0}, usual->padded_size, [&](std::int64_t x, std::int64_t y, std::int64_t z) {
        zero &= view(part).at(0, 2, x, y, z) == 0.0F && view(part).at(0, 3, x, y, z) == 0.0F;
        same &= view(part).at(0, 0, x, y, z) == view(input).at(0, 0, x, y, z);
    });
    CHECK(zero);
    CHECK(same);

    options.present = {};
    REQUIRE_CODE(plan_preprocessing(scans, options), invalid_argument);
    options.present = all_modalities;
    options.channels = {Modality::flair, Modality::t1ce, Modality::t1, Modality::t1};
    REQUIRE_CODE(plan_preprocessing(scans, options), invalid_argument);
}
