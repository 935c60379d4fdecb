// SPDX-License-Identifier: MIT
// Compact volumes made slice by slice against those made of whole volumes.
#include "core/random.h"
#include "imaging/slice_stack.h"
#include "support/catch.h"

#include <cmath>

using namespace mfres;

namespace {

/// Noise in a random box of a random grid, which may touch faces and may be empty; a few volumes have a background that
/// the first slice does not show.
template <typename T>
PageVector<T> random_voxels(Grid& grid, Random& random) {
    for (auto& extent : grid.size)
        extent = 2 + static_cast<std::int64_t>(random.below(9));
    const auto& size = grid.size;
    std::array<std::int64_t, 3> begin{};
    std::array<std::int64_t, 3> end{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        begin[axis] = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(size[axis])));
        end[axis] = begin[axis] + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(size[axis])));
    }
    const bool other_first_slice = random.below(4) == 0;
    const bool fractions = random.below(2) == 0;
    PageVector<T> voxels;
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (std::int64_t i = 0; i < size[0]; ++i) {
                const bool inside =
                    i >= begin[0] && i < end[0] && j >= begin[1] && j < end[1] && k >= begin[2] && k < end[2];
                double value = inside ? static_cast<double>(random.below(5)) : 2.0;
                if (other_first_slice && k == 0)
                    value = 7.0;
                if (fractions && inside && std::is_floating_point_v<T>)
                    value += 0.25 * static_cast<double>(random.below(4));
                voxels.push_back(static_cast<T>(value));
            }
    return voxels;
}

template <typename T>
CompactVolume whole(const Grid& grid, const PageVector<T>& voxels, double slope, double inter) {
    if constexpr (std::is_same_v<T, float>) {
        auto made = make_scan({grid, {voxels.begin(), voxels.end()}});
        REQUIRE_OK(made);
        return std::move(made).value();
    } else {
        return CompactVolume(grid, voxels, slope, inter);
    }
}

template <typename T>
void compare(double slope, double inter) {
    Random random(77);
    for (int round = 0; round < 400; ++round) {
        Grid grid;
        const PageVector<T> voxels = random_voxels<T>(grid, random);
        const CompactVolume expected = whole(grid, voxels, slope, inter);
        SliceStack<T> stack(grid, slope, inter, random.below(2) == 0 ? voxels.size() : 0);
        for (std::size_t done = 0; done < voxels.size();) {
            std::size_t count = std::min<std::size_t>(voxels.size() - done, 1 + random.below(50));
            if (random.below(2) == 0) {
                stack.append(std::span(voxels).subspan(done, count));
            } else {
                count = std::min(count, stack.room().size());
                std::copy_n(voxels.begin() + static_cast<std::ptrdiff_t>(done), count, stack.room().begin());
                stack.took(count);
            }
            done += count;
            CHECK(stack.count() == static_cast<std::int64_t>(done));
        }
        const CompactVolume made = std::move(stack).finish();
        CHECK(made.background() == expected.background());
        CHECK(made.kept_begin() == expected.kept_begin());
        CHECK(made.kept_size() == expected.kept_size());
        CHECK(made.bytes() == expected.bytes());
        CHECK(made.whole_bytes() == expected.whole_bytes());
        CHECK(same_intensities(made, expected));
    }
}

} // namespace

TEST_CASE("a volume that comes in slices is that of the whole") {
    SECTION("float") {
        compare<float>(1.0, 0.0);
    }
    SECTION("uint8") {
        compare<std::uint8_t>(0.5, -3.0);
    }
    SECTION("int16") {
        compare<std::int16_t>(1.0, 0.0);
    }
    SECTION("uint16, intensities that coincide") {
        compare<std::uint16_t>(1e-9, 1.0);
    }
}
