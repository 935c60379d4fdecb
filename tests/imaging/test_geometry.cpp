// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "imaging/geometry.h"
#include "support/catch.h"
#include "support/disturbed.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>
#include <span>

using namespace mfres;

namespace {

constexpr Affine lps = {{{-1, 0, 0, 0}, {0, -1, 0, 239}, {0, 0, 1, 0}}};

/// A rotation by `degrees` about a world axis, voxels of `mm` millimetres.
Affine rotated(int about, double degrees, double mm = 1.0) {
    const double angle = degrees * std::numbers::pi / 180.0;
    const int a = (about + 1) % 3;
    const int b = (about + 2) % 3;
    Affine affine{};
    affine[about][about] = mm;
    affine[a][a] = affine[b][b] = mm * std::cos(angle);
    affine[a][b] = -mm * std::sin(angle);
    affine[b][a] = mm * std::sin(angle);
    return affine;
}

/// All 48 ways to lay three voxel axes along the world axes, with three different voxel sizes.
std::vector<Affine> axis_aligned_affines() {
    std::vector<Affine> result;
    std::array<int, 3> world_axis = {0, 1, 2};
    do
        for (int signs = 0; signs < 8; ++signs) {
            Affine affine = {{{0, 0, 0, 10}, {0, 0, 0, -20}, {0, 0, 0, 30}}};
            for (int axis = 0; axis < 3; ++axis)
                affine[world_axis[axis]][axis] = ((signs >> axis) & 1 ? -1.0 : 1.0) * (1.0 + 0.25 * axis);
            result.push_back(affine);
        }
    while (std::next_permutation(world_axis.begin(), world_axis.end()));
    return result;
}

template <typename Visit>
void for_each_voxel(const Grid& grid, const Visit& visit) {
    std::size_t offset = 0;
    for (std::int64_t k = 0; k < grid.size[2]; ++k)
        for (std::int64_t j = 0; j < grid.size[1]; ++j)
            for (std::int64_t i = 0; i < grid.size[0]; ++i)
                visit(offset++, Point{static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)});
}

/// A different value for every position of a quarter-millimetre lattice.
float value_at(const Point& mm) {
    return static_cast<float>(mm[0] + 100.0 * mm[1] + 10000.0 * mm[2]);
}

Volume sampled(const Grid& grid) {
    Volume volume{grid, std::vector<float>(static_cast<std::size_t>(grid.voxels()))};
    for_each_voxel(grid, [&](std::size_t offset, const Point& index) {
        volume.voxels[offset] = value_at(world(grid.affine, index));
    });
    return volume;
}

} // namespace

TEST_CASE("affines: positions, sizes, determinant, composition and inverse") {
    CHECK(world(lps, {10, 20, 30}) == Point{-10, 219, 30});
    CHECK(determinant(lps) == 1.0);
    CHECK(voxel_size({{{0, 3, 0, 5}, {2, 0, 0, 6}, {0, 4, -1, 7}}}) == Point{2, 5, 1});

    Random random(3);
    for (int round = 0; round < 50; ++round) {
        Affine affine = rotated(round % 3, random.uniform(-180, 180), random.uniform(0.1, 5.0));
        for (auto& row : affine)
            row[3] = random.uniform(-200, 200);
        const auto back = inverse(affine);
        REQUIRE(back);
        const Point index = {random.uniform(0, 200), random.uniform(0, 200), random.uniform(0, 200)};
        const Point there = world(affine, index);
        const Point again = world(*back, there);
        const Point composed = world(compose(*back, affine), index);
        for (int axis = 0; axis < 3; ++axis) {
            CHECK(again[axis] == Approx(index[axis]).margin(1e-9));
            CHECK(composed[axis] == Approx(index[axis]).margin(1e-9));
        }
    }
}

TEST_CASE("affines without inverse are told") {
    CHECK_FALSE(inverse(Affine{}));
    CHECK_FALSE(inverse({{{1, 0, 1, 0}, {0, 1, 1, 0}, {0, 0, 0, 0}}}));
    CHECK_FALSE(inverse({{{1, 2, 0, 0}, {2, 4, 0, 0}, {0, 0, 1, 0}}}));
    CHECK_FALSE(inverse({{{std::nan(""), 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}}));
    CHECK_FALSE(inverse({{{1, 0, 0, HUGE_VAL}, {0, 1, 0, 0}, {0, 0, 1, 0}}}));
    CHECK(inverse({{{1e-4, 0, 0, 0}, {0, 1e-4, 0, 0}, {0, 0, 1e-4, 0}}}));
}

TEST_CASE("corner distance, shear and tilt have known values") {
    const Grid a{{11, 21, 31}, lps};
    Grid b = a;
    CHECK(max_corner_distance(a, b) == 0.0);
    b.affine[0][3] = 3;
    b.affine[2][3] = 4;
    CHECK(max_corner_distance(a, b) == Approx(5.0));
    Grid stretched = a;
    stretched.affine[2][2] = 1.01; // 30 steps of a hundredth millimetre
    CHECK(max_corner_distance(a, stretched) == Approx(0.3));

    CHECK(shear_degrees(lps) == Approx(0.0).margin(1e-9));
    CHECK(shear_degrees(rotated(0, 33, 2)) == Approx(0.0).margin(1e-6));
    CHECK(shear_degrees(
              {{{1, std::sin(std::numbers::pi / 6), 0, 0}, {0, std::cos(std::numbers::pi / 6), 0, 0}, {0, 0, 1, 0}}}) ==
          Approx(30.0));
    CHECK(tilt_degrees(lps) == Approx(0.0).margin(1e-9));
    CHECK(tilt_degrees(rotated(2, 12)) == Approx(12.0));
    CHECK(tilt_degrees(rotated(1, 120)) == Approx(30.0));
}

TEST_CASE("all 48 orientations reach L-P-S with every voxel at its place in the world") {
    std::set<std::pair<std::array<int, 3>, std::array<bool, 3>>> seen;
    for (const auto& affine : axis_aligned_affines()) {
        const Grid grid{{3, 4, 35}, affine};
        const auto orientation = orientation_of(affine, "x");
        REQUIRE_OK(orientation);
        seen.insert({orientation->axis, orientation->flip});

        const Volume canonical = reorient(sampled(grid), *orientation);
        CHECK(canonical.grid == reorient(grid, *orientation));
        CHECK(canonical.grid.affine[0][0] < 0);
        CHECK(canonical.grid.affine[1][1] < 0);
        CHECK(canonical.grid.affine[2][2] > 0);
        for (int row = 0; row < 3; ++row)
            for (int axis = 0; axis < 3; ++axis)
                CHECK((row == axis || canonical.grid.affine[row][axis] == 0.0));
        CHECK(canonical.voxels == sampled(canonical.grid).voxels);

        const Volume back = reorient(canonical, inverse(*orientation));
        CHECK(back.grid == grid);
        CHECK(back.voxels == sampled(grid).voxels);
    }
    CHECK(seen.size() == 48);
}

TEST_CASE("labels turn over like volumes, also across block borders") {
    Random random(5);
    for (const auto& affine : axis_aligned_affines()) {
        LabelMap labels{{{33, 34, 7}, affine}, std::vector<std::uint8_t>(33 * 34 * 7)};
        for (auto& label : labels.labels)
            label = static_cast<std::uint8_t>(random.below(256));
        const auto orientation = orientation_of(affine, "x");
        REQUIRE_OK(orientation);
        const LabelMap canonical = reorient(labels, *orientation);
        const Volume as_volume =
            reorient(Volume{labels.grid, {labels.labels.begin(), labels.labels.end()}}, *orientation);
        CHECK(std::equal(canonical.labels.begin(), canonical.labels.end(), as_volume.voxels.begin()));
        const LabelMap back = reorient(canonical, inverse(*orientation));
        CHECK(back.labels == labels.labels);
        CHECK(back.grid == labels.grid);
    }
}

TEST_CASE("canonical data is moved, not copied") {
    Volume volume = sampled({{5, 6, 7}, lps});
    const float* voxels = volume.voxels.data();
    const auto orientation = orientation_of(lps, "x");
    REQUIRE_OK(orientation);
    CHECK(orientation->is_canonical());
    const Volume same = reorient(std::move(volume), *orientation);
    CHECK(same.voxels.data() == voxels);
}

TEST_CASE("oblique data is read along the nearest axes up to 45 degrees") {
    for (int about = 0; about < 3; ++about) {
        for (const double degrees : {0.0, 10.0, 30.0, 44.9, -44.9}) {
            const auto orientation = orientation_of(rotated(about, degrees), "x");
            const auto straight = orientation_of(rotated(about, 0), "x");
            REQUIRE_OK(orientation);
            CHECK(*orientation == *straight);
        }
        REQUIRE_CODE(orientation_of(rotated(about, 45), "x"), orientation_oblique);
        REQUIRE_CODE(orientation_of(rotated(about, -135), "x"), orientation_oblique);
        const auto beyond = orientation_of(rotated(about, 46), "x");
        const auto quarter = orientation_of(rotated(about, 90), "x");
        REQUIRE_OK(beyond);
        CHECK(*beyond == *quarter);
    }
    // Turned by 60 degrees about the space diagonal, every axis is 48 degrees away from all three world axes.
    const double a = 2.0 / 3.0;
    const double b = -1.0 / 3.0;
    REQUIRE_CODE(orientation_of({{{a, b, a, 0}, {a, a, b, 0}, {b, a, a, 0}}}, "x"), orientation_oblique);
    // Sheared so far that two axes are nearest to x.
    REQUIRE_CODE(orientation_of({{{1, 0.9, 0, 0}, {0, 0.5, 0, 0}, {0, 0, 1, 0}}}, "x"), orientation_oblique);
}

TEST_CASE("a grid of another voxel size covers the same box") {
    const Grid grid{{40, 30, 21}, {{{-2, 0, 0, 50}, {0, -2, 0, 60}, {0, 0, 2, -70}}}};
    const Grid fine = with_voxel_size(grid, 1.0);
    CHECK(fine.size == std::array<std::int64_t, 3>{80, 60, 42});
    const Point size = voxel_size(fine.affine);
    for (int axis = 0; axis < 3; ++axis)
        CHECK(size[axis] == Approx(1.0));
    const Point corner = world(fine.affine, {-0.5, -0.5, -0.5});
    const Point expected = world(grid.affine, {-0.5, -0.5, -0.5});
    for (int axis = 0; axis < 3; ++axis)
        CHECK(corner[axis] == Approx(expected[axis]));

    const Grid uneven = with_voxel_size({{10, 10, 10}, {{{0.77, 0, 0, 0}, {0, 0.77, 0, 0}, {0, 0, 0.77, 0}}}}, 1.0);
    CHECK(uneven.size == std::array<std::int64_t, 3>{8, 8, 8});
    CHECK(world(uneven.affine, {3.5, 3.5, 3.5})[0] == Approx(0.77 * 4.5)); // the centres stay together
    CHECK(with_voxel_size({{1, 1, 1}, rotated(0, 0, 0.1)}, 1.0).size == std::array<std::int64_t, 3>{1, 1, 1});
}

TEST_CASE("trilinear resampling reproduces linear functions, whatever the grids") {
    const Grid source_grid{{20, 22, 24}, rotated(2, 10, 1.5)};
    const Volume source = sampled(source_grid);
    Grid target{{10, 9, 8}, rotated(0, -15, 1.0)};
    const Point centre = world(source_grid.affine, {9, 10, 11});
    for (int row = 0; row < 3; ++row)
        target.affine[row][3] += centre[row] - world(target.affine, {5, 5, 4})[row];
    const auto result = resample_linear(source, target, 1);
    REQUIRE_OK(result);
    CHECK(result->grid == target);
    for_each_voxel(target, [&](std::size_t offset, const Point& index) {
        CHECK(result->voxels[offset] == Approx(value_at(world(target.affine, index))).epsilon(1e-4).margin(0.2));
    });
    const auto threaded = resample_linear(source, target, 3);
    REQUIRE_OK(threaded);
    CHECK(threaded->voxels == result->voxels);
}

TEST_CASE("resampling onto the same grid changes nothing, beyond the edge it continues") {
    const Volume volume = sampled({{6, 5, 4}, lps});
    const auto same = resample_linear(volume, volume.grid, 2);
    REQUIRE_OK(same);
    CHECK(same->voxels == volume.voxels);
    Grid outside = volume.grid;
    outside.affine[2][3] += 100;
    const auto continued = resample_linear(volume, outside, 1);
    REQUIRE_OK(continued);
    const auto last_slice = volume.voxels.end() - 30;
    CHECK(std::equal(last_slice, volume.voxels.end(), continued->voxels.begin()));
}

namespace {

/// Tissue of a whole volume, resampled to a whole volume. Counts how often planes are read.
Result<Volume> resample_whole(const Volume& volume, const std::vector<std::uint8_t>& tissue, float outside,
                              const Grid& target, int threads, int* planes_read = nullptr) {
    const auto plane = static_cast<std::size_t>(volume.grid.size[0] * volume.grid.size[1]);
    const auto read = [&](std::int64_t k, std::span<float> values, std::span<std::uint8_t> marks) -> Status {
        std::copy_n(volume.voxels.begin() + static_cast<std::ptrdiff_t>(plane) * k, plane, values.begin());
        std::copy_n(tissue.begin() + static_cast<std::ptrdiff_t>(plane) * k, plane, marks.begin());
        if (planes_read)
            ++*planes_read;
        return {};
    };
    Volume result{target, {}};
    const Status done =
        resample_tissue({volume.grid, read}, outside, target, threads, [&](std::span<const float> voxels) {
            result.voxels.insert(result.voxels.end(), voxels.begin(), voxels.end());
        });
    if (!done)
        return done.error();
    return result;
}

/// sum(w t v) / sum(w t) as the formula says, with all voxels in memory. The positions are those of resample_tissue.
Volume resample_by_formula(const Volume& volume, const std::vector<std::uint8_t>& tissue, float outside,
                           const Grid& target) {
    const Affine map = compose(*inverse(volume.grid.affine), target.affine);
    Volume result{target, {}};
    for_each_voxel(target, [&](std::size_t, const Point& index) {
        const Point start = world(map, {0.0, index[1], index[2]});
        std::array<std::int64_t, 3> lower{};
        std::array<float, 3> weight{};
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const double last = static_cast<double>(volume.grid.size[axis] - 1);
            const double position = std::clamp(start[axis] + index[0] * map[axis][0], 0.0, last);
            lower[axis] = static_cast<std::int64_t>(position);
            weight[axis] = static_cast<float>(position - static_cast<double>(lower[axis]));
        }
        double sum = 0.0;
        double weights = 0.0;
        for (unsigned corner = 0; corner < 8; ++corner) {
            double share = 1.0;
            std::array<std::int64_t, 3> at = lower;
            for (std::size_t axis = 0; axis < 3; ++axis) {
                const bool upper = (corner >> axis & 1U) != 0;
                share *= static_cast<double>(upper ? weight[axis] : 1.0F - weight[axis]);
                at[axis] = std::min(lower[axis] + (upper ? 1 : 0), volume.grid.size[axis] - 1);
            }
            const std::size_t offset = test::offset_of(volume.grid, at);
            weights += tissue[offset] != 0 ? share : 0.0;
            sum += tissue[offset] != 0 ? share * static_cast<double>(volume.voxels[offset]) : 0.0;
        }
        result.voxels.push_back(weights >= 0.5 - 1e-6 ? static_cast<float>(sum / weights) : outside);
    });
    return result;
}

} // namespace

TEST_CASE("tissue that comes in planes is resampled as the formula says, whatever the grids") {
    Random random(31);
    const Grid upright{{13, 11, 9}, {{{-2, 0, 0, 0}, {0, -1.5, 0, 0}, {0, 0, 0.5, 0}}}};
    for (const Grid& grid : {upright, Grid{{9, 14, 11}, rotated(2, 25, 1.3)}}) {
        Volume volume{grid, {}};
        std::vector<std::uint8_t> tissue;
        for (std::int64_t n = 0; n < grid.voxels(); ++n) {
            volume.voxels.push_back(static_cast<float>(random.uniform(-100.0, 100.0)));
            tissue.push_back(random.below(3) != 0 ? 1 : 0);
        }
        Grid turned = with_voxel_size(grid, 1.0);
        turned.affine = compose(rotated(0, 40, 1.0), turned.affine);
        for (const Grid& target : {with_voxel_size(grid, 1.0), with_voxel_size(grid, 2.7), grid, turned})
            for (const int threads : {1, 3}) {
                const auto result = resample_whole(volume, tissue, -5.0F, target, threads);
                REQUIRE_OK(result);
                const Volume expected = resample_by_formula(volume, tissue, -5.0F, target);
                REQUIRE(result->voxels.size() == expected.voxels.size());
                for (std::size_t n = 0; n < expected.voxels.size(); ++n)
                    REQUIRE(std::abs(result->voxels[n] - expected.voxels[n]) < 1e-3F);
            }
        int planes_read = 0;
        REQUIRE_OK(resample_whole(volume, tissue, -5.0F, with_voxel_size(grid, 1.0), 2, &planes_read));
        CHECK(planes_read <= grid.size[2]); // each once where the axes are parallel
    }
}

TEST_CASE("resampling tissue never mixes it with its background") {
    Volume volume{{{12, 10, 9}, {{{-2, 0, 0, 0}, {0, -3, 0, 0}, {0, 0, 1.5, 0}}}}, {}};
    volume.voxels.assign(12 * 10 * 9, -5.0F);
    std::vector<std::uint8_t> tissue(volume.voxels.size(), 0);
    for (std::size_t k = 2; k < 7; ++k)
        for (std::size_t j = 3; j < 8; ++j)
            for (std::size_t i = 2; i < 9; ++i) {
                volume.voxels[i + 12 * (j + 10 * k)] = static_cast<float>(1000 + i);
                tissue[i + 12 * (j + 10 * k)] = 1;
            }
    const Grid target = with_voxel_size(volume.grid, 1.0);
    const auto plain = resample_linear(volume, target, 1);
    const auto result = resample_whole(volume, tissue, -5.0F, target, 1);
    const auto threaded = resample_whole(volume, tissue, -5.0F, target, 3);
    REQUIRE_OK(plain);
    REQUIRE_OK(result);
    REQUIRE_OK(threaded);
    CHECK(result->voxels == threaded->voxels);
    std::int64_t inside = 0;
    std::int64_t mixed = 0;
    for (std::size_t n = 0; n < result->voxels.size(); ++n) {
        const float value = result->voxels[n];
        REQUIRE((value == -5.0F || (value >= 1001.99F && value <= 1008.01F)));
        inside += value != -5.0F ? 1 : 0;
        mixed += plain->voxels[n] != -5.0F && plain->voxels[n] < 1001.0F ? 1 : 0;
        if (plain->voxels[n] > 1002.5F && plain->voxels[n] < 1007.5F && value != -5.0F)
            CHECK(std::abs(value - plain->voxels[n]) < 6.0F);
    }
    CHECK(mixed > 100); // what the mask is for
    // 7 x 5 x 5 voxels of 2 x 3 x 1.5 mm; a rim of up to a voxel may go either way where half a voxel is split.
    CHECK(static_cast<double>(inside) == Approx(7 * 5 * 5 * 9.0).epsilon(0.15));
    // Where everything around is tissue, both agree.
    const std::vector<std::uint8_t> all(volume.voxels.size(), 1);
    const auto same = resample_whole(volume, all, -5.0F, target, 1);
    REQUIRE_OK(same);
    for (std::size_t n = 0; n < plain->voxels.size(); ++n)
        REQUIRE(same->voxels[n] == Approx(plain->voxels[n]).epsilon(1e-5));
    REQUIRE_CODE(
        resample_whole({{{2, 2, 2}, {}}, std::vector<float>(8)}, std::vector<std::uint8_t>(8), 0.0F, target, 1),
        affine_singular);
}

TEST_CASE("labels survive a finer grid and back") {
    Random random(9);
    LabelMap labels{{{9, 8, 7}, {{{-2, 0, 0, 5}, {0, -3, 0, 6}, {0, 0, 2, 7}}}}, std::vector<std::uint8_t>(9 * 8 * 7)};
    for (auto& label : labels.labels)
        label = static_cast<std::uint8_t>(random.below(5));
    const auto fine = resample_nearest(labels, with_voxel_size(labels.grid, 1.0), 2);
    REQUIRE_OK(fine);
    CHECK(fine->labels.size() == 18 * 24 * 14);
    const auto back = resample_nearest(*fine, labels.grid, 2);
    REQUIRE_OK(back);
    CHECK(back->labels == labels.labels);
}

TEST_CASE("resampling from a grid without inverse is rejected") {
    const Volume volume{{{2, 2, 2}, Affine{}}, std::vector<float>(8)};
    REQUIRE_CODE(resample_linear(volume, {{2, 2, 2}, lps}, 1), affine_singular);
    const LabelMap labels{{{2, 2, 2}, Affine{}}, std::vector<std::uint8_t>(8)};
    REQUIRE_CODE(resample_nearest(labels, {{2, 2, 2}, lps}, 1), affine_singular);
}
