// SPDX-License-Identifier: MIT
#include "core/line_spans.h"
#include "core/random.h"
#include "support/catch.h"

#include <algorithm>
#include <set>

using namespace mfres;

namespace {

using Size = LineSpans::Size;
using Voxel = std::array<std::int64_t, 3>;

/// Some voxels of a grid, most lines empty.
std::set<Voxel> scattered(const Size& size, std::uint64_t seed) {
    Random random(seed);
    const auto below = [&](std::int64_t bound) {
        return static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(bound)));
    };
    std::set<Voxel> voxels;
    for (int n = 0; n < 12; ++n)
        voxels.insert({below(size[0]), below(size[1]), below(size[2])});
    return voxels;
}

LineSpans spans_of(const Size& size, const std::set<Voxel>& voxels) {
    LineSpans spans(size);
    for (const Voxel& v : voxels)
        spans.add(v[0], v[1], v[2], v[2] + 1);
    return spans;
}

bool has(const LineSpans& spans, const Voxel& v) {
    const LineSpan line = spans.line(v[0], v[1]);
    return line.begin <= v[2] && v[2] < line.end;
}

/// Whether every line is the hull of the given voxels.
bool are_hulls(const LineSpans& spans, const std::set<Voxel>& voxels) {
    return spans.voxels() == spans_of(spans.size(), voxels).voxels() &&
           std::all_of(voxels.begin(), voxels.end(), [&](const Voxel& v) { return has(spans, v); });
}

} // namespace

TEST_CASE("spans are the hull of what was added to each line") {
    const Size size = {5, 4, 9};
    LineSpans spans(size);
    CHECK_FALSE(spans.all());
    CHECK(spans.voxels() == 0);
    CHECK(spans.line(4, 3).empty());
    spans.add(2, 1, 3, 5);
    spans.add(2, 1, 7, 8);
    CHECK(spans.line(2, 1) == LineSpan{3, 8});
    CHECK(spans.voxels() == 5);
    LineSpans more(size);
    more.add(2, 1, 0, 1);
    more.add(0, 0, 2, 4);
    spans.add(more);
    CHECK(spans.line(2, 1) == LineSpan{0, 8});
    CHECK(spans.line(0, 0) == LineSpan{2, 4});
    spans.add(LineSpans());
    CHECK(spans.all());
    spans.clear(size);
    CHECK(spans.voxels() == 0);
    spans.add(1, 4, 2, 6, 9);
    CHECK(spans.voxels() == 9);
    CHECK(spans.line(1, 2) == LineSpan{6, 9});
    CHECK(spans.line(3, 2) == LineSpan{6, 9});
    CHECK(spans.line(4, 2).empty());
}

TEST_CASE("grown spans hold every voxel within reach, and the hulls of those only") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        const Size size = {7, 6, 20};
        const Size reach = {static_cast<std::int64_t>(seed % 3), static_cast<std::int64_t>(seed % 4),
                            static_cast<std::int64_t>(seed % 2)};
        const auto voxels = scattered(size, seed);
        std::set<Voxel> expected;
        const LineSpans inner = spans_of(size, voxels);
        for (std::int64_t x = 0; x < size[0]; ++x)
            for (std::int64_t y = 0; y < size[1]; ++y)
                for (std::int64_t z = 0; z < size[2]; ++z)
                    for (const Voxel& v : voxels)
                        if (std::abs(v[0] - x) <= reach[0] && std::abs(v[1] - y) <= reach[1] &&
                            std::abs(v[2] - z) <= reach[2])
                            expected.insert({x, y, z});
        LineSpans grown;
        grown.assign_grown(inner, reach);
        CHECK(are_hulls(grown, expected));
    }
    LineSpans grown(Size{2, 2, 2});
    grown.assign_grown(LineSpans(), {1, 1, 1});
    CHECK(grown.all());
    grown.assign_grown(LineSpans(Size{2, 2, 2}), {1, 1, 1});
    CHECK(grown.voxels() == 0);
}

TEST_CASE("halved spans hold the two neighbours of every voxel along each axis on the coarser grid") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        const Size size = {8, 6, 12};
        const auto voxels = scattered(size, seed);
        std::set<Voxel> expected;
        for (const Voxel& v : voxels)
            for (int corner = 0; corner < 8; ++corner) {
                Voxel coarse{};
                for (std::size_t axis = 0; axis < 3; ++axis) {
                    // Source position (f + 0.5) / 2 - 0.5, clamped below at 0, between this voxel and the next.
                    const double position = std::max(0.0, (static_cast<double>(v[axis]) + 0.5) / 2.0 - 0.5);
                    coarse[axis] =
                        std::min(static_cast<std::int64_t>(position) + (corner >> axis & 1), size[axis] / 2 - 1);
                }
                expected.insert(coarse);
            }
        LineSpans halved;
        halved.assign_halved(spans_of(size, voxels));
        CHECK(halved.size() == Size{4, 3, 6});
        CHECK(are_hulls(halved, expected));
    }
}

TEST_CASE("mirrored spans hold the mirrored voxels") {
    const Size size = {5, 4, 9};
    const auto voxels = scattered(size, 3);
    for (int axes = 0; axes < 8; ++axes) {
        std::set<Voxel> expected;
        for (Voxel v : voxels) {
            for (std::size_t axis = 0; axis < 3; ++axis)
                if (axes >> axis & 1)
                    v[axis] = size[axis] - 1 - v[axis];
            expected.insert(v);
        }
        LineSpans spans = spans_of(size, voxels);
        spans.mirror({(axes & 1) != 0, (axes & 2) != 0, (axes & 4) != 0});
        CHECK(are_hulls(spans, expected));
    }
    LineSpans nothing(size);
    nothing.mirror({true, true, true});
    CHECK(nothing.voxels() == 0);
}
