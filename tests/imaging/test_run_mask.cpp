// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "imaging/run_mask.h"
#include "support/catch.h"

#include <array>
#include <cstdlib>
#include <vector>

using namespace mfres;

namespace {

constexpr std::array<std::int64_t, 3> size = {9, 6, 7};
constexpr std::int64_t voxels = size[0] * size[1] * size[2];

RunMask mask_of(const std::vector<bool>& set) {
    RunMask mask;
    mask.size = size;
    for (std::int64_t row = 0; row < size[1] * size[2]; ++row) {
        mask.first_run.push_back(mask.runs.size());
        for (std::int32_t i = 0; i < size[0]; ++i)
            if (set[static_cast<std::size_t>(row * size[0] + i)]) {
                if (mask.runs.size() == mask.first_run.back() || mask.runs.back().end != i)
                    mask.runs.push_back({i, i});
                ++mask.runs.back().end;
            }
    }
    mask.first_run.push_back(mask.runs.size());
    return mask;
}

/// Calls visit(run, voxel) for each voxel of a mask.
template <typename Visit>
void for_voxels(const RunMask& mask, const Visit& visit) {
    for (std::size_t row = 0; row + 1 < mask.first_run.size(); ++row)
        for (std::size_t run = mask.first_run[row]; run < mask.first_run[row + 1]; ++run)
            for (std::int64_t i = mask.runs[run].begin; i < mask.runs[run].end; ++i)
                visit(run, static_cast<std::size_t>(static_cast<std::int64_t>(row) * size[0] + i));
}

/// The first voxel of the component of each voxel that is set, found one by one.
std::vector<std::int64_t> components_of(const std::vector<bool>& set, Neighbours neighbours) {
    std::vector<std::int64_t> first(voxels, -1);
    const auto touch = [&](std::int64_t a, std::int64_t b) {
        const std::int64_t x = std::abs(a % size[0] - b % size[0]);
        const std::int64_t y = std::abs(a / size[0] % size[1] - b / size[0] % size[1]);
        const std::int64_t z = std::abs(a / size[0] / size[1] - b / size[0] / size[1]);
        return neighbours == Neighbours::all ? x <= 1 && y <= 1 && z <= 1 : x + y + z <= 1;
    };
    for (std::int64_t seed = 0; seed < voxels; ++seed) {
        if (!set[static_cast<std::size_t>(seed)] || first[static_cast<std::size_t>(seed)] >= 0)
            continue;
        std::vector<std::int64_t> open = {seed};
        first[static_cast<std::size_t>(seed)] = seed;
        while (!open.empty()) {
            const std::int64_t voxel = open.back();
            open.pop_back();
            for (std::int64_t other = 0; other < voxels; ++other)
                if (const auto n = static_cast<std::size_t>(other); set[n] && first[n] < 0 && touch(voxel, other)) {
                    first[n] = seed;
                    open.push_back(other);
                }
        }
    }
    return first;
}

} // namespace

TEST_CASE("components of runs are those of their voxels, by faces and by corners") {
    Random random(12);
    for (const double density : {0.05, 0.2, 0.35, 0.6, 1.0, 0.0}) {
        std::vector<bool> set(voxels);
        for (std::size_t n = 0; n < set.size(); ++n)
            set[n] = random.uniform() < density;
        const RunMask mask = mask_of(set);
        for (const Neighbours neighbours : {Neighbours::faces, Neighbours::all}) {
            INFO("density " << density);
            const std::vector<std::int64_t> expected = components_of(set, neighbours);
            Components components(mask, neighbours);
            std::vector<std::int64_t> first_voxel(mask.runs.size(), -1); // of each run
            for_voxels(mask, [&](std::size_t run, std::size_t voxel) {
                if (first_voxel[run] < 0)
                    first_voxel[run] = static_cast<std::int64_t>(voxel);
            });
            bool same = true;
            std::vector<std::int64_t> counted(mask.runs.size());
            for_voxels(mask, [&](std::size_t run, std::size_t voxel) {
                same = same && first_voxel[components.root(run)] == expected[voxel];
                ++counted[components.root(run)];
            });
            CHECK(same);
            const auto counts = components.voxels(mask);
            CHECK(std::vector<std::int64_t>(counts.begin(), counts.end()) == counted);

            RunMask kept = mask;
            keep_components(kept, components, [&](std::uint32_t root) { return counts[root] > 3; });
            std::vector<bool> left(voxels);
            for_voxels(kept, [&](std::size_t, std::size_t voxel) { left[voxel] = true; });
            std::vector<bool> large(voxels);
            for_voxels(mask,
                       [&](std::size_t run, std::size_t voxel) { large[voxel] = counts[components.root(run)] > 3; });
            CHECK(left == large);
        }
        std::vector<bool> others(voxels);
        for_voxels(complement(mask), [&](std::size_t, std::size_t voxel) { others[voxel] = true; });
        others.flip();
        CHECK(others == set);
    }
}
