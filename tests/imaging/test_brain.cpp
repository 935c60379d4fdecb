// SPDX-License-Identifier: MIT
// The brain of phantoms whose background is not one value: noise, ringing, padding, in one contrast and in all.
#include "imaging/brain.h"
#include "phantom/phantom.h"
#include "support/catch.h"
#include "support/disturbed.h"
#include "support/scans.h"

#include <algorithm>

using namespace mfres;
using test::scans_of;

namespace {

using Volumes = std::array<Volume, 4>;

const Volumes& clean() {
    static const Volumes volumes = [] {
        auto made = make_phantom({.seed = 4, .size = {80, 96, 72}, .threads = 2});
        REQUIRE_OK(made);
        return std::move(made->volumes);
    }();
    return volumes;
}

Brain brain_of(const Volumes& volumes) {
    return find_brain(scans_of(volumes), all_modalities, 2);
}

/// 1 in every voxel that is brain, i fastest.
std::vector<std::uint8_t> mask_of(const Brain& brain) {
    const auto& size = brain.grid.size;
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(brain.grid.voxels()), 0);
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (const VoxelRun& run : brain.row(j, k))
                std::fill_n(mask.begin() + run.begin + size[0] * (j + size[1] * k), run.end - run.begin,
                            std::uint8_t{1});
    return mask;
}

/// Voxels that are brain in one of the two only, by the brain of the first.
double difference(const Brain& a, const Brain& b) {
    const auto first = mask_of(a);
    const auto second = mask_of(b);
    REQUIRE(first.size() == second.size());
    std::int64_t different = 0;
    for (std::size_t i = 0; i < first.size(); ++i)
        different += first[i] != second[i] ? 1 : 0;
    return static_cast<double>(different) / static_cast<double>(a.brain_voxels);
}

} // namespace

TEST_CASE("the brain of a clean phantom is what is not 0 in it") {
    const Brain brain = brain_of(clean());
    const auto mask = mask_of(brain);
    for (std::size_t i = 0; i < mask.size(); ++i) {
        bool any = false;
        for (const Volume& volume : clean())
            any = any || volume.voxels[i] != 0.0F;
        REQUIRE((mask[i] != 0) == any);
    }
    CHECK(brain.speck_voxels == 0);
    CHECK(brain.border_voxels == 0);
    CHECK(brain.shown_by_all(0x0F) > brain.brain_voxels * 9 / 10);
    CHECK(brain.shown_by_any(0x0F) == brain.brain_voxels);
    for (const Background& background : brain.backgrounds) {
        CHECK(background.values == PageVector<float>{0.0F});
        CHECK(background.tolerance == 0.0F);
        CHECK_FALSE(background.noisy);
    }
}

TEST_CASE("noise of 1e-6 around one contrast does not make the grid brain") {
    const Brain expected = brain_of(clean());
    for (const double amplitude : {1e-6, 1.0}) {
        INFO(amplitude);
        Volumes volumes = clean();
        test::add_noise_around(volumes[3], amplitude, 1);
        const Brain brain = brain_of(volumes);
        CHECK(brain.backgrounds[3].noisy);
        CHECK_FALSE(brain.backgrounds[0].noisy);
        CHECK(difference(expected, brain) < 0.001);
        CHECK(brain.foreground[3] < expected.brain_voxels * 102 / 100);
    }
}

TEST_CASE("noise around all contrasts leaves the brain, without holes") {
    const Brain expected = brain_of(clean());
    Volumes volumes = clean();
    for (std::size_t m = 0; m < 4; ++m)
        test::add_noise_around(volumes[m], 1e-6, m);
    // A dark block deep in the brain, within the tolerance.
    const test::Index middle = {40, 48, 36};
    for (auto& volume : volumes)
        for (std::int64_t k = -2; k < 2; ++k)
            for (std::int64_t j = -2; j < 2; ++j)
                for (std::int64_t i = -2; i < 2; ++i)
                    volume.voxels[test::offset_of(volume.grid, {middle[0] + i, middle[1] + j, middle[2] + k})] = 1e-5F;
    const Brain brain = brain_of(volumes);
    for (const Background& background : brain.backgrounds)
        CHECK(background.noisy);
    CHECK(difference(expected, brain) < 0.01);
    CHECK(mask_of(brain)[test::offset_of(brain.grid, middle)] == 1);
}

TEST_CASE("the ringing of splines around one contrast does not grow the brain") {
    const Brain expected = brain_of(clean());
    Volumes volumes = clean();
    test::ring(volumes[3]);
    const auto rings =
        std::count_if(volumes[3].voxels.begin(), volumes[3].voxels.end(), [](float value) { return value != 0.0F; });
    REQUIRE(rings > expected.brain_voxels * 11 / 10);
    CHECK(difference(expected, brain_of(volumes)) < 0.001);
    for (std::size_t m = 0; m < 3; ++m)
        test::ring(volumes[m]);
    const Brain all = brain_of(volumes);
    CHECK(difference(expected, all) < 0.2); // two voxels along i, of a head of 60
}

TEST_CASE("zeros around a volume that is no longer 0 outside the brain are background, and so is the value inside") {
    const Brain expected = brain_of(clean());
    struct Padding {
        test::Index before, after;
    };
    for (const Padding& padding :
         {Padding{{6, 6, 6}, {6, 6, 6}}, Padding{{0, 0, 0}, {0, 0, 5}}, Padding{{8, 8, 0}, {8, 8, 0}}}) {
        INFO(padding.before[0] << " " << padding.after[2]);
        Volumes volumes = clean();
        for (Volume& volume : volumes) {
            test::standardise(volume);
            volume = test::padded(volume, padding.before, padding.after, 0.0F);
        }
        const Brain brain = brain_of(volumes);
        for (const Background& background : brain.backgrounds) {
            CHECK(background.values.size() == 2);
            CHECK_FALSE(background.noisy);
        }
        // Voxels of a contrast that have one of the two values by chance are brain through the others.
        CHECK(std::abs(brain.brain_voxels - expected.brain_voxels) < expected.brain_voxels / 1000);
        CHECK(brain.border_voxels == 0);
    }
}

TEST_CASE("a block of one value is no background around something") {
    Volumes volumes;
    for (Volume& volume : volumes) {
        volume.grid.size = {12, 12, 12};
        volume.voxels.assign(12 * 12 * 12, 0.0F);
        for (std::int64_t k = 3; k < 9; ++k)
            for (std::int64_t j = 3; j < 9; ++j)
                for (std::int64_t i = 3; i < 9; ++i)
                    volume.voxels[test::offset_of(volume.grid, {i, j, k})] = 7.0F;
    }
    CHECK(brain_of(volumes).brain_voxels == 6 * 6 * 6);
}

TEST_CASE("the brain does not depend on the number of threads") {
    Volumes volumes = clean();
    test::add_noise_around(volumes[1], 1e-6, 5);
    const Brain one = find_brain(scans_of(volumes), all_modalities, 1);
    const Brain three = find_brain(scans_of(volumes), all_modalities, 3);
    CHECK(one.runs == three.runs);
    CHECK(one.first_run == three.first_run);
    CHECK(one.shown == three.shown);
    CHECK(one.foreground == three.foreground);
    CHECK(one.border_voxels == three.border_voxels);
}
