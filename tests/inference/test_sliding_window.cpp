// SPDX-License-Identifier: MIT
#include "core/random.h"
#include "inference/sliding_window.h"
#include "support/catch.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace mfres;

namespace {

using Size = std::array<std::int64_t, 3>;

Tensor random_logits(const Shape& shape, std::uint64_t seed) {
    Tensor logits(shape);
    fill_normal(logits.values(), seed);
    return logits;
}

/// The same elements with channels innermost, as some engines hold them.
struct ChannelsLast {
    explicit ChannelsLast(const Tensor& dense) : memory(dense.shape()) {
        const Shape& s = dense.shape();
        strided = {memory.data(), s, {s.elements(), 1, s[1] * s[4] * s[3], s[1] * s[4], s[1]}};
        copy(view(dense), strided);
    }
    Tensor memory;
    StridedView<float> strided;
};

/// The part of the whole logits that lies under a tile, without copying.
StridedView<const float> part(const Tensor& whole, const Size& offset, const Size& size) {
    StridedView<const float> window = view(whole);
    window.data = &window.at(0, 0, offset[0], offset[1], offset[2]);
    window.shape = Shape{1, whole.shape()[1], size[0], size[1], size[2]};
    return window;
}

std::vector<std::uint8_t> one_pass(const StridedView<const float>& logits, int threads = 1) {
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(logits.shape[2] * logits.shape[3] * logits.shape[4]), 99);
    REQUIRE_OK(argmax(logits, labels, threads));
    return labels;
}

std::vector<std::uint8_t> slow_argmax(const Tensor& logits) {
    std::vector<std::uint8_t> labels;
    const Shape& s = logits.shape();
    for (std::int64_t x = 0; x < s[2]; ++x)
        for (std::int64_t y = 0; y < s[3]; ++y)
            for (std::int64_t z = 0; z < s[4]; ++z) {
                std::int64_t best = 0;
                for (std::int64_t c = 1; c < s[1]; ++c)
                    if (view(logits).at(0, c, x, y, z) > view(logits).at(0, best, x, y, z))
                        best = c;
                labels.push_back(static_cast<std::uint8_t>(best));
            }
    return labels;
}

/// By the rule of nesting, voxel by voxel.
std::vector<std::uint8_t> slow_nesting(const Tensor& values, float threshold) {
    std::vector<std::uint8_t> labels;
    const std::int64_t voxels = values.elements() / 3;
    for (std::int64_t v = 0; v < voxels; ++v)
        labels.push_back(values[2 * voxels + v] > threshold ? 3
                         : values[voxels + v] > threshold   ? 1
                         : values[v] > threshold            ? 2
                                                            : 0);
    return labels;
}

std::vector<std::uint8_t> tiled(const TilePlan& plan, const Tensor& whole, int threads = 1) {
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(plan.box_size[0] * plan.box_size[1] * plan.box_size[2]),
                                     99);
    auto tiles = TileLabels::create(plan, labels, threads);
    REQUIRE_OK(tiles);
    for (std::size_t n = 0; n < plan.count(); ++n) {
        CHECK(tiles->next_tile() == n);
        CHECK_FALSE(tiles->complete());
        REQUIRE_OK(tiles->add(part(whole, plan.offset(n), plan.tile_size)));
    }
    REQUIRE(tiles->complete());
    return labels;
}

std::int64_t voxels(const Size& size) {
    return size[0] * size[1] * size[2];
}

} // namespace

TEST_CASE("tiles cover every voxel, start on multiples, share the overlap and come in order of x") {
    struct Row {
        Size box, tile;
        std::int64_t overlap, multiple;
    };
    for (const Row& row : {Row{{144, 176, 144}, {80, 96, 64}, 16, 16}, Row{{160, 160, 160}, {64, 64, 64}, 32, 16},
                           Row{{48, 32, 80}, {16, 32, 48}, 0, 16}, Row{{40, 24, 56}, {24, 24, 16}, 5, 8},
                           Row{{16, 16, 16}, {128, 128, 128}, 64, 16}, Row{{13, 7, 9}, {5, 3, 4}, 2, 1}}) {
        const auto plan = plan_tiles(row.box, row.tile, row.overlap, row.multiple);
        REQUIRE_OK(plan);
        std::vector<int> covered(static_cast<std::size_t>(voxels(row.box)), 0);
        std::int64_t previous_x = 0;
        for (std::size_t n = 0; n < plan->count(); ++n) {
            const Size offset = plan->offset(n);
            REQUIRE(offset[0] >= previous_x);
            previous_x = offset[0];
            for (std::size_t axis = 0; axis < 3; ++axis) {
                REQUIRE(offset[axis] % row.multiple == 0);
                REQUIRE(offset[axis] >= 0);
                REQUIRE(offset[axis] + plan->tile_size[axis] <= row.box[axis]);
            }
            for (std::int64_t x = offset[0]; x < offset[0] + plan->tile_size[0]; ++x)
                for (std::int64_t y = offset[1]; y < offset[1] + plan->tile_size[1]; ++y)
                    for (std::int64_t z = offset[2]; z < offset[2] + plan->tile_size[2]; ++z)
                        ++covered[static_cast<std::size_t>((x * row.box[1] + y) * row.box[2] + z)];
        }
        CHECK(std::count(covered.begin(), covered.end(), 0) == 0);
        for (std::size_t axis = 0; axis < 3; ++axis) {
            CHECK(plan->tile_size[axis] == std::min(row.tile[axis], row.box[axis]));
            const auto& starts = plan->starts[axis];
            for (std::size_t n = 1; n < starts.size(); ++n) {
                CHECK(starts[n] > starts[n - 1]);
                CHECK(starts[n - 1] + plan->tile_size[axis] - starts[n] >= row.overlap);
            }
        }
    }
}

TEST_CASE("a tile as large as the box gives one tile") {
    const auto plan = plan_tiles({32, 48, 16}, {32, 48, 16}, 16, 16);
    REQUIRE_OK(plan);
    CHECK(plan->count() == 1);
    CHECK(plan->offset(0) == Size{0, 0, 0});
}

TEST_CASE("impossible tilings are rejected") {
    REQUIRE_CODE(plan_tiles({33, 48, 16}, {16, 16, 16}, 0, 16), invalid_argument);
    REQUIRE_CODE(plan_tiles({32, 48, 16}, {16, 20, 16}, 0, 16), invalid_argument);
    REQUIRE_CODE(plan_tiles({32, 48, 0}, {16, 16, 16}, 0, 16), invalid_argument);
    REQUIRE_CODE(plan_tiles({32, 48, 16}, {16, 16, 16}, -1, 16), invalid_argument);
    REQUIRE_CODE(plan_tiles({32, 48, 16}, {16, 16, 16}, 0, 0), invalid_argument);
    REQUIRE_CODE(plan_tiles({64, 48, 16}, {32, 48, 16}, 17, 16), invalid_argument);
    REQUIRE_OK(plan_tiles({64, 48, 16}, {32, 48, 16}, 16, 16));
}

TEST_CASE("the chosen tile fits and no tile that fits covers the box with less computation") {
    const Size box = {144, 176, 144};
    const std::int64_t overlap = 32;
    const auto bytes_of = [](const Size& tile) { return 100 * voxels(tile) + 5000; };
    for (const std::int64_t limit : {400'000'000L, 300'000'000L, 200'000'000L, 60'000'000L, 20'000'000L}) {
        const auto tile = choose_tile(box, overlap, 16, limit, bytes_of);
        REQUIRE_OK(tile);
        CHECK(bytes_of(*tile) <= limit);
        const auto cost = [&](const Size& size) {
            const auto plan = plan_tiles(box, size, overlap, 16);
            return plan ? static_cast<std::int64_t>(plan->count()) * voxels(size)
                        : std::numeric_limits<std::int64_t>::max();
        };
        std::int64_t least = std::numeric_limits<std::int64_t>::max();
        for (std::int64_t x = 16; x <= box[0]; x += 16)
            for (std::int64_t y = 16; y <= box[1]; y += 16)
                for (std::int64_t z = 16; z <= box[2]; z += 16)
                    if (bytes_of({x, y, z}) <= limit)
                        least = std::min(least, cost({x, y, z}));
        CHECK(cost(*tile) == least);
    }
}

TEST_CASE("with memory enough the tile is the whole box, asked for once") {
    int asked = 0;
    const auto tile = choose_tile({144, 176, 144}, 16, 16, 1, [&](const Size&) {
        ++asked;
        return std::int64_t{1};
    });
    REQUIRE_OK(tile);
    CHECK(*tile == Size{144, 176, 144});
    CHECK(asked == 1);
}

TEST_CASE("when not even the smallest tile fits the error names its need") {
    const auto rejected = choose_tile({64, 64, 64}, 16, 16, 99'999, [](const Size& tile) { return voxels(tile) * 10; });
    REQUIRE_CODE(rejected, memory_limit);
    CHECK(rejected.error().message.find("327680 bytes") != std::string::npos); // 32^3 voxels: 16 shared and 16 new
    CHECK(rejected.error().message.find("99999") != std::string::npos);
    REQUIRE_CODE(choose_tile({60, 64, 64}, 16, 16, 1, [](const Size&) { return std::int64_t{0}; }), invalid_argument);
}

TEST_CASE("argmax of random logits is that of a plain loop, in every layout and for any number of classes") {
    for (const std::int64_t classes : {1, 2, 3, 4, 7}) {
        const Tensor logits = random_logits({1, classes, 5, 7, 45}, 11 + static_cast<std::uint64_t>(classes));
        const auto expected = slow_argmax(logits);
        CHECK(one_pass(view(logits)) == expected);
        const ChannelsLast last(logits);
        CHECK(one_pass(as_const(last.strided)) == expected);
        for (const int threads : {0, 2, 3, 16})
            CHECK(one_pass(as_const(last.strided), threads) == expected);
    }
}

TEST_CASE("ties go to the lowest class") {
    Tensor logits(Shape{1, 4, 2, 2, 3}, -1.5F);
    view(logits).at(0, 1, 1, 1, 2) = 2.0F;
    view(logits).at(0, 3, 1, 1, 2) = 2.0F;
    view(logits).at(0, 2, 0, 0, 0) = -0.0F;
    view(logits).at(0, 3, 0, 0, 0) = 0.0F;
    std::vector<std::uint8_t> expected(12, 0);
    expected[11] = 1;
    expected[0] = 2;
    CHECK(one_pass(view(std::as_const(logits))) == expected);
    const auto plan = plan_tiles({2, 2, 3}, {2, 2, 2}, 1, 1);
    REQUIRE_OK(plan);
    CHECK(tiled(*plan, logits) == expected);
}

TEST_CASE("logits that are not finite are rejected with counts and place") {
    const Shape shape{1, 4, 3, 5, 37};
    Tensor logits = random_logits(shape, 5);
    view(logits).at(0, 2, 1, 4, 36) = std::numeric_limits<float>::quiet_NaN();
    view(logits).at(0, 3, 2, 0, 0) = -std::numeric_limits<float>::infinity();
    view(logits).at(0, 0, 2, 0, 1) = std::numeric_limits<float>::infinity();
    std::vector<std::uint8_t> labels(3 * 5 * 37);
    const ChannelsLast last(logits);
    for (const auto& each : {view(std::as_const(logits)), as_const(last.strided)}) {
        const auto rejected = argmax(each, labels, 2);
        REQUIRE_CODE(rejected, logits_not_finite);
        const auto& message = rejected.error().message;
        CHECK(message.find("3 of 2220 logits") != std::string::npos);
        CHECK(message.find("1 NaN, 2 infinite") != std::string::npos);
        CHECK(message.find("class 2 at voxel (1, 4, 36)") != std::string::npos);
    }
}

TEST_CASE("the greatest finite logits are accepted") {
    Tensor logits(Shape{1, 2, 1, 1, 4}, std::numeric_limits<float>::lowest());
    logits[5] = std::numeric_limits<float>::max();
    CHECK(one_pass(view(std::as_const(logits))) == std::vector<std::uint8_t>{0, 1, 0, 0});
}

TEST_CASE("argmax rejects shapes it has no labels for") {
    const Tensor logits(Shape{1, 4, 2, 3, 4}, 0.0F);
    std::vector<std::uint8_t> labels(23);
    REQUIRE_CODE(argmax(view(logits), labels, 1), invalid_argument);
    labels.resize(48);
    const Tensor batch(Shape{2, 4, 2, 3, 4}, 0.0F);
    REQUIRE_CODE(argmax(view(batch), labels, 1), invalid_argument);
    const Tensor flat(Shape{4, 2, 3, 4}, 0.0F);
    REQUIRE_CODE(argmax(view(flat), labels, 1), invalid_argument);
    const Tensor many(Shape{1, 257, 1, 6, 8}, 0.0F);
    REQUIRE_CODE(argmax(view(many), labels, 1), invalid_argument);
}

TEST_CASE("tiles cut from one map give exactly the labels of one pass") {
    const Size box = {48, 40, 56};
    Tensor whole = random_logits({1, 4, box[0], box[1], box[2]}, 21);
    // Also differences of one rounding between the two leading classes.
    for (std::int64_t n = 0; n < voxels(box); n += 3)
        whole[n + voxels(box)] = std::nextafter(whole[n], 10.0F);
    const auto expected = slow_argmax(whole);
    for (const Size& tile : {Size{24, 24, 24}, Size{16, 40, 32}, Size{48, 16, 16}, box}) {
        const auto plan = plan_tiles(box, tile, 8, 8);
        REQUIRE_OK(plan);
        CHECK(tiled(*plan, whole) == expected);
    }
}

TEST_CASE("every voxel is decided by exactly one tile, the one in which it lies deepest") {
    const Size box = {48, 80, 16};
    const auto plan = plan_tiles(box, {32, 32, 16}, 8, 8);
    REQUIRE_OK(plan);
    REQUIRE(plan->count() > 4);
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const auto& starts = plan->starts[axis];
        // How far voxel i lies from the nearest face of position n that is not a face of the box.
        const auto depth = [&](std::int64_t i, std::size_t n) {
            const std::int64_t before = n == 0 ? box[axis] : i - starts[n] + 1;
            const std::int64_t behind = n + 1 == starts.size() ? box[axis] : starts[n] + plan->tile_size[axis] - i;
            return std::min(before, behind);
        };
        std::int64_t next = 0;
        for (std::size_t n = 0; n < starts.size(); ++n) {
            const auto [begin, end] = decided_by(*plan, axis, n);
            CHECK(begin == next);
            next = end;
            for (std::int64_t i = begin; i < end; ++i)
                for (std::size_t other = 0; other < starts.size(); ++other)
                    if (i >= starts[other] && i < starts[other] + plan->tile_size[axis])
                        REQUIRE(depth(i, n) >= depth(i, other));
        }
        CHECK(next == box[axis]);
    }
}

TEST_CASE("where tiles disagree each decides its half of the overlap") {
    // Two tiles of 8 that share 4 voxels along x; class 1 leads in the first and class 0 in the second.
    const auto plan = plan_tiles({12, 1, 1}, {8, 1, 1}, 4, 1);
    REQUIRE_OK(plan);
    REQUIRE(plan->starts[0] == std::vector<std::int64_t>{0, 4});
    std::vector<std::uint8_t> labels(12, 99);
    auto tiles = TileLabels::create(*plan, labels, 1);
    REQUIRE_OK(tiles);
    Tensor logits(Shape{1, 2, 8, 1, 1}, 0.0F);
    std::fill_n(logits.data() + 8, 8, 1.0F);
    REQUIRE_OK(tiles->add(view(std::as_const(logits))));
    CHECK(labels == std::vector<std::uint8_t>{1, 1, 1, 1, 1, 1, 99, 99, 99, 99, 99, 99});
    std::fill_n(logits.data() + 8, 8, -1.0F);
    REQUIRE_OK(tiles->add(view(std::as_const(logits))));
    CHECK(labels == std::vector<std::uint8_t>{1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0});
    REQUIRE_CODE(tiles->add(view(std::as_const(logits))), invalid_argument);
}

TEST_CASE("labels of tiles do not depend on threads or on the logits' layout") {
    const auto plan = plan_tiles({24, 16, 40}, {16, 16, 24}, 4, 4);
    REQUIRE_OK(plan);
    std::vector<std::vector<std::uint8_t>> results;
    for (const int threads : {1, 2, 5, 0}) {
        for (const bool last : {false, true}) {
            std::vector<std::uint8_t> labels(24 * 16 * 40);
            auto tiles = TileLabels::create(*plan, labels, threads);
            REQUIRE_OK(tiles);
            for (std::size_t n = 0; n < plan->count(); ++n) {
                const Tensor logits = random_logits({1, 4, 16, 16, 24}, 40 + n);
                const ChannelsLast other(logits);
                REQUIRE_OK(tiles->add(last ? as_const(other.strided) : view(logits)));
            }
            results.push_back(labels);
        }
    }
    for (const auto& labels : results)
        CHECK(labels == results.front());
}

TEST_CASE("bad logits of a tile are rejected, and it goes on with good ones") {
    const Size box = {32, 16, 16};
    const auto plan = plan_tiles(box, {16, 16, 16}, 0, 16);
    REQUIRE_OK(plan);
    const Tensor whole = random_logits({1, 4, 32, 16, 16}, 9);
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(voxels(box)));
    auto tiles = TileLabels::create(*plan, labels, 1);
    REQUIRE_OK(tiles);
    REQUIRE_OK(tiles->add(part(whole, {0, 0, 0}, plan->tile_size)));
    REQUIRE_CODE(tiles->add(view(whole)), invalid_argument);
    Tensor bad(Shape{1, 4, 16, 16, 16}, 0.0F);
    view(bad).at(0, 1, 2, 3, 4) = std::numeric_limits<float>::quiet_NaN();
    const auto rejected = tiles->add(view(std::as_const(bad)));
    REQUIRE_CODE(rejected, logits_not_finite);
    CHECK(rejected.error().message.find("1 of 16384") != std::string::npos);
    CHECK(rejected.error().message.find("class 1 at voxel (18, 3, 4)") != std::string::npos);
    REQUIRE_OK(tiles->add(part(whole, {16, 0, 0}, plan->tile_size)));
    CHECK(labels == slow_argmax(whole));
}

TEST_CASE("tiles that cannot be labelled are rejected") {
    const auto plan = plan_tiles({16, 16, 16}, {16, 16, 16}, 0, 16);
    REQUIRE_OK(plan);
    std::vector<std::uint8_t> labels(4096);
    REQUIRE_CODE(TileLabels::create(*plan, std::span(labels).first(4095), 1), invalid_argument);
    REQUIRE_CODE(TileLabels::create(TilePlan{}, {}, 1), invalid_argument);
    auto tiles = TileLabels::create(*plan, labels, 1);
    REQUIRE_OK(tiles);
    const Tensor many(Shape{1, 257, 16, 16, 16}, 0.0F);
    REQUIRE_CODE(tiles->add(view(many)), invalid_argument);
}

TEST_CASE("regions become labels by nesting, in one pass and in tiles, whatever layout and threads") {
    const Tensor whole = random_logits(Shape{1, 3, 20, 12, 40}, 6);
    const ChannelsLast last(whole);
    for (const float threshold : {0.0F, 0.5F}) {
        const LabelRule rule{Outputs::regions, threshold};
        const auto expected = slow_nesting(whole, threshold);
        for (std::uint8_t label = 0; label < 4; ++label) // each is there, so that none can be missed
            CHECK(std::count(expected.begin(), expected.end(), label) > 100);
        for (const int threads : {1, 3}) {
            std::vector<std::uint8_t> labels(expected.size());
            REQUIRE_OK(assign_labels(view(whole), rule, labels, threads));
            CHECK(labels == expected);
            std::fill(labels.begin(), labels.end(), std::uint8_t{9});
            REQUIRE_OK(assign_labels(as_const(last.strided), rule, labels, threads));
            CHECK(labels == expected);
        }
        const auto plan = plan_tiles({20, 12, 40}, {12, 12, 24}, 8, 4);
        REQUIRE_OK(plan);
        std::vector<std::uint8_t> labels(expected.size());
        auto tiles = TileLabels::create(*plan, labels, 2, rule);
        REQUIRE_OK(tiles);
        for (std::size_t n = 0; n < plan->count(); ++n)
            REQUIRE_OK(tiles->add(part(whole, plan->offset(n), plan->tile_size)));
        CHECK(labels == expected);
    }
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(whole.elements() / 3));
    Tensor broken = whole;
    broken[broken.elements() - 1] = std::numeric_limits<float>::infinity();
    REQUIRE_CODE(assign_labels(view(std::as_const(broken)), {Outputs::regions}, labels, 1), logits_not_finite);
    const Tensor four = random_logits(Shape{1, 4, 20, 12, 40}, 6);
    REQUIRE_CODE(assign_labels(view(four), {Outputs::regions}, labels, 1), invalid_argument);
}
