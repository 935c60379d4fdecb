// SPDX-License-Identifier: MIT
// What a disturbance does to voxels and places, and that its labels come back to where they belong.
#include "paper/disturb.h"
#include "support/cases.h"

#include <algorithm>
#include <cmath>

using namespace mfres;

namespace {

const Volume& flair() {
    return test::small_phantom().volumes[static_cast<std::size_t>(Modality::flair)];
}

/// Around everything that is not 0, as the phantom's background is.
Window window_of_phantom(Disturbance disturbance) {
    const Volume& volume = flair();
    std::array<std::int64_t, 3> begin = volume.grid.size;
    std::array<std::int64_t, 3> end{};
    for (std::int64_t index = 0; index < volume.grid.voxels(); ++index)
        if (volume.voxels[static_cast<std::size_t>(index)] != 0.0F) {
            const std::array<std::int64_t, 3> place{index % volume.grid.size[0],
                                                    index / volume.grid.size[0] % volume.grid.size[1],
                                                    index / volume.grid.size[0] / volume.grid.size[1]};
            for (std::size_t axis = 0; axis < 3; ++axis) {
                begin[axis] = std::min(begin[axis], place[axis]);
                end[axis] = std::max(end[axis], place[axis] + 1);
            }
        }
    return window_of(disturbance, volume.grid.size, begin, end);
}

double sum(const Volume& volume) {
    double total = 0.0;
    for (const float voxel : volume.voxels)
        total += voxel;
    return total;
}

} // namespace

TEST_CASE("disturbances have names of their own") {
    std::vector<std::string> names;
    for (const Disturbance disturbance : disturbances)
        names.emplace_back(name(disturbance));
    CHECK(names == std::vector<std::string>{"none", "shift", "tight-crop", "loose-crop", "mirror", "scale", "contrast",
                                            "bias-field", "noise", "thick-slices"});
}

TEST_CASE("a window shows the voxels it names, in their place in the world or mirrored") {
    const Volume volume{{{3, 2, 1}, {{{-1, 0, 0, 10}, {0, -1, 0, 20}, {0, 0, 2, 30}}}}, {1, 2, 3, 4, 5, 6}};
    const Window window{{1, -1, 0}, {3, 2, 1}, {}};
    const Volume seen = seen_through(volume, window, 9);
    CHECK(seen.voxels == std::vector<float>{9, 9, 9, 2, 3, 9});
    CHECK(seen.grid.affine == Affine{{{-1, 0, 0, 9}, {0, -1, 0, 21}, {0, 0, 2, 30}}});
    const LabelMap back = put_back({seen.grid, {7, 7, 7, 1, 2, 3}}, window, volume.grid);
    CHECK(back.labels == std::vector<std::uint8_t>{0, 1, 2, 0, 0, 0});
    CHECK(back.grid == volume.grid);

    const Window mirror{{0, 0, 0}, {3, 2, 1}, {true, false, false}};
    CHECK(seen_through(volume, mirror, 9).voxels == std::vector<float>{3, 2, 1, 6, 5, 4});
    CHECK(seen_through(volume, mirror, 9).grid == volume.grid);
    CHECK(put_back({volume.grid, {3, 2, 1, 6, 5, 4}}, mirror, volume.grid).labels ==
          std::vector<std::uint8_t>{1, 2, 3, 4, 5, 6});
}

TEST_CASE("no disturbance of space loses a voxel of the brain, and labels come back") {
    LabelMap labels = test::small_phantom().labels;
    for (const Disturbance disturbance : disturbances) {
        INFO(name(disturbance));
        const Window window = window_of_phantom(disturbance);
        const Volume seen = seen_through(flair(), window, 0.0F);
        CHECK(sum(seen) == Approx(sum(flair())));
        const Volume as_volume{labels.grid, {labels.labels.begin(), labels.labels.end()}};
        const Volume moved = seen_through(as_volume, window, 0.0F);
        const LabelMap disturbed{moved.grid, {moved.voxels.begin(), moved.voxels.end()}};
        CHECK(put_back(disturbed, window, labels.grid).labels == labels.labels);
    }
    CHECK(window_of_phantom(Disturbance::shift).begin != std::array<std::int64_t, 3>{});
    CHECK(window_of_phantom(Disturbance::tight_crop).size[0] < flair().grid.size[0]);
    CHECK(window_of_phantom(Disturbance::loose_crop).size[2] == flair().grid.size[2] + 40);
}

TEST_CASE("disturbances of intensity change the brain within their bounds and nothing else") {
    const Volume& before = flair();
    for (const Disturbance disturbance :
         {Disturbance::scale, Disturbance::contrast, Disturbance::bias_field, Disturbance::noise}) {
        INFO(name(disturbance));
        Volume after = before;
        change_voxels(disturbance, after, 0.0F, Random(3));
        Volume again = before;
        change_voxels(disturbance, again, 0.0F, Random(3));
        CHECK(after.voxels == again.voxels);
        std::int64_t changed = 0;
        std::int64_t brain = 0;
        bool same_background = true;
        double largest_ratio = 0.0;
        for (std::size_t i = 0; i < before.voxels.size(); ++i) {
            same_background &= (before.voxels[i] == 0.0F) == (after.voxels[i] == 0.0F);
            if (before.voxels[i] == 0.0F)
                continue;
            ++brain;
            changed += before.voxels[i] != after.voxels[i] ? 1 : 0;
            largest_ratio = std::max<double>(largest_ratio, std::abs(std::log(after.voxels[i] / before.voxels[i])));
        }
        CHECK(same_background);
        CHECK(static_cast<double>(changed) > 0.9 * static_cast<double>(brain));
        if (disturbance == Disturbance::bias_field)
            CHECK(largest_ratio <= 0.2 + 1e-5);
    }
    Volume untouched = before;
    change_voxels(Disturbance::mirror, untouched, 0.0F, Random(3));
    CHECK(untouched.voxels == before.voxels);
}

TEST_CASE("thick slices are means over three millimetres of brain, with lines between") {
    // One column of 1 mm; -1 is background. Slices: (3, 6, 9), (12, -, -), none, (5, 5, -).
    const Grid grid{{1, 1, 12}, {{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}}};
    Volume volume{grid, {3, 6, 9, 12, -1, -1, -1, -1, -1, 5, 5, -1}};
    change_voxels(Disturbance::thick_slices, volume, -1.0F, Random(1));
    // Middles at voxels 1 (6), 4 (12) and 10 (5): voxel 2 is at 1/3 between 6 and 12, voxel 3 at 2/3.
    const std::vector<float> expected{6, 6, 8, 10, -1, -1, -1, -1, -1, 5, 5, -1};
    for (std::size_t k = 0; k < expected.size(); ++k)
        CHECK(volume.voxels[k] == Approx(expected[k]));

    Volume coarse{{{1, 1, 4}, {{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 3, 0}}}}, {1, 4, 9, 16}}; // slices of 3 mm already
    change_voxels(Disturbance::thick_slices, coarse, 0.0F, Random(1));
    CHECK(coarse.voxels == std::vector<float>{1, 4, 9, 16});
}

TEST_CASE("a voxel that would become background stays apart from it") {
    // Contrast maps the least value onto itself; noise can hit the background by chance, so the grid is made for it.
    Volume volume{{{2, 1, 1}, {}}, {-5.0F, -5.0F + 1e-6F}};
    volume.voxels[1] = std::nextafter(-5.0F, 0.0F);
    change_voxels(Disturbance::contrast, volume, -5.0F, Random(1));
    CHECK(volume.voxels[0] == -5.0F);
    CHECK(volume.voxels[1] >= -5.0F + 4e-4F);
}
