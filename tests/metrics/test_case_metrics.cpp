// SPDX-License-Identifier: MIT
// One case: both schemes on every combination of empty regions, both definitions, spacing from the grid, rejections.
#include "support/catch.h"

#include <mfres/metrics.h>

#include <cmath>

using namespace mfres;

namespace {

Grid grid_of(const std::array<std::int64_t, 3>& size, const std::array<double, 3>& mm) {
    Grid grid;
    grid.size = size;
    for (std::size_t axis = 0; axis < 3; ++axis)
        grid.affine[axis][axis] = axis < 2 ? -mm[axis] : mm[axis];
    return grid;
}

/// Background with single voxels of the given classes.
struct Voxel {
    std::int64_t i, j, k;
    std::uint8_t value;
};
LabelMap map_with(const std::vector<Voxel>& voxels, const std::array<double, 3>& mm = {1.0, 1.0, 1.0}) {
    LabelMap map{grid_of({10, 8, 6}, mm), std::vector<std::uint8_t>(480)};
    for (const Voxel& voxel : voxels)
        map.labels[static_cast<std::size_t>(voxel.i + 10 * (voxel.j + 8 * voxel.k))] = voxel.value;
    return map;
}

CaseMetrics evaluate(const LabelMap& predicted, const LabelMap& reference, RegionDefinition definition,
                     EmptyScheme scheme) {
    const auto result = evaluate_case("case", predicted, reference, definition, scheme);
    REQUIRE_OK(result);
    CHECK(result->id == "case");
    return *result;
}

using Value = std::optional<double>;

void check(const RegionMetrics& scores, Value dice, Value sensitivity, Value specificity, Value hd95) {
    CHECK(scores[Metric::dice] == dice);
    CHECK(scores[Metric::sensitivity] == sensitivity);
    CHECK(scores[Metric::specificity] == specificity);
    CHECK(scores[Metric::hd95] == hd95);
}

} // namespace

TEST_CASE("one case worked out by hand, spacing as the affine has it") {
    // Enhancing voxels 2 steps apart along i (1.5 mm) and 1 along k (4 mm); core and oedema agree.
    const std::array<double, 3> mm = {1.5, 1.0, 4.0};
    const LabelMap predicted = map_with({{1, 1, 1, 3}, {5, 5, 2, 1}, {6, 5, 2, 2}}, mm);
    const LabelMap reference = map_with({{3, 1, 2, 3}, {5, 5, 2, 1}, {6, 5, 2, 2}}, mm);
    const auto brats = evaluate(predicted, reference, RegionDefinition::brats, EmptyScheme::server2019);
    const double apart = std::sqrt(3.0 * 3.0 + 4.0 * 4.0);
    check(brats[TumourRegion::et], 0.0, 0.0, 478.0 / 479.0, apart);
    CHECK(brats[TumourRegion::wt][Metric::dice] == 4.0 / 6.0);
    CHECK(brats[TumourRegion::tc][Metric::dice] == 0.5);
    CHECK(brats[TumourRegion::tc][Metric::sensitivity] == 0.5);
    CHECK(brats[TumourRegion::tc][Metric::specificity] == 477.0 / 478.0);
    // TC surfaces: {(1,1,1), (5,5,2)} and {(3,1,2), (5,5,2)}: distances 5, 0, 5, 0; the percentile lies at 2.85 of
    // 0..3.
    CHECK(brats[TumourRegion::tc][Metric::hd95] == apart);

    const auto paper = evaluate(predicted, reference, RegionDefinition::paper, EmptyScheme::server2019);
    check(paper[TumourRegion::wt], 1.0, 1.0, 1.0, 0.0); // without the enhancing voxels
    check(paper[TumourRegion::tc], 1.0, 1.0, 1.0, 0.0);
    CHECK(paper[TumourRegion::et] == brats[TumourRegion::et]);
}

TEST_CASE("both schemes on every combination of empty prediction and reference") {
    const LabelMap nothing = map_with({});
    const LabelMap oedema = map_with({{4, 4, 4, 2}});
    const LabelMap enhancing = map_with({{4, 4, 4, 2}, {1, 1, 1, 3}});
    for (const RegionDefinition definition : region_definitions) {
        INFO(to_string(definition));
        SECTION("server2019, " + std::string(to_string(definition))) {
            const EmptyScheme scheme = EmptyScheme::server2019;
            check(evaluate(nothing, nothing, definition, scheme)[TumourRegion::wt], 1.0, 1.0, 1.0, {});
            check(evaluate(oedema, oedema, definition, scheme)[TumourRegion::et], 1.0, 1.0, 1.0, {});
            check(evaluate(enhancing, oedema, definition, scheme)[TumourRegion::et], 0.0, 0.0, 479.0 / 480.0, {});
            check(evaluate(oedema, enhancing, definition, scheme)[TumourRegion::et], 0.0, 0.0, 1.0, {});
            check(evaluate(enhancing, enhancing, definition, scheme)[TumourRegion::et], 1.0, 1.0, 1.0, 0.0);
        }
        SECTION("brats2020, " + std::string(to_string(definition))) {
            const EmptyScheme scheme = EmptyScheme::brats2020;
            check(evaluate(nothing, nothing, definition, scheme)[TumourRegion::wt], 1.0, 1.0, 1.0, 0.0);
            check(evaluate(oedema, oedema, definition, scheme)[TumourRegion::et], 1.0, 1.0, 1.0, 0.0);
            check(evaluate(enhancing, oedema, definition, scheme)[TumourRegion::et], 0.0, 0.0, 479.0 / 480.0,
                  373.12866);
            check(evaluate(oedema, enhancing, definition, scheme)[TumourRegion::et], 0.0, 0.0, 1.0, 373.12866);
            check(evaluate(enhancing, enhancing, definition, scheme)[TumourRegion::et], 1.0, 1.0, 1.0, 0.0);
        }
    }
}

TEST_CASE("threads change nothing") {
    std::vector<Voxel> voxels;
    for (std::int64_t i = 0; i < 10; ++i)
        voxels.push_back({i, i % 8, i % 6, static_cast<std::uint8_t>(i % 4)});
    const LabelMap predicted = map_with(voxels);
    const LabelMap reference = map_with({{2, 2, 2, 1}, {3, 3, 3, 3}, {5, 5, 5, 2}});
    const auto one = evaluate_case("c", predicted, reference, RegionDefinition::brats, EmptyScheme::brats2020, 1);
    REQUIRE_OK(one);
    for (const int threads : {0, 2, 3, 8}) {
        const auto many =
            evaluate_case("c", predicted, reference, RegionDefinition::brats, EmptyScheme::brats2020, threads);
        REQUIRE_OK(many);
        CHECK(*many == *one);
    }
}

TEST_CASE("maps that do not belong together are rejected") {
    const LabelMap good = map_with({{1, 1, 1, 1}});
    const auto rejected = [&](const LabelMap& predicted) {
        return evaluate_case("case", predicted, good, RegionDefinition::brats, EmptyScheme::server2019);
    };
    LabelMap larger = good;
    larger.grid.size[2] += 1;
    larger.labels.resize(560);
    REQUIRE_CODE(rejected(larger), grid_size_mismatch);
    LabelMap elsewhere = good;
    elsewhere.grid.affine[1][3] += 0.2;
    REQUIRE_CODE(rejected(elsewhere), grid_position_mismatch);
    LabelMap stray = good;
    stray.labels[7] = 4; // a label value, not a class
    REQUIRE_CODE(rejected(stray), label_outside_scheme);
    CHECK(rejected(stray).error().message.find("the prediction of case") != std::string::npos);
    LabelMap torn = good;
    torn.labels.pop_back();
    REQUIRE_CODE(rejected(torn), invalid_argument);
}

TEST_CASE("schemes and metrics are found by their names") {
    for (const EmptyScheme scheme : empty_schemes) {
        const auto found = parse_empty_scheme(to_string(scheme));
        REQUIRE_OK(found);
        CHECK(*found == scheme);
    }
    REQUIRE_CODE(parse_empty_scheme("server2018"), invalid_argument);
    CHECK(parse_empty_scheme("x").error().message.find("server2019, brats2020") != std::string::npos);
    CHECK(name(Metric::hd95) == "Hausdorff95");
}
