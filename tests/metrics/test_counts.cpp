// SPDX-License-Identifier: MIT
// Dice, sensitivity and specificity from counts, against numbers worked out by hand.
#include "support/catch.h"

#include <mfres/metrics.h>

using namespace mfres;

namespace {

using Classes = std::vector<std::uint8_t>;

// Ten voxels: two agree on each of the tumour classes 1 and 2, one on class 3, and the rest differ.
const Classes predicted = {0, 0, 1, 1, 2, 2, 3, 3, 2, 0};
const Classes reference = {0, 2, 1, 1, 2, 2, 3, 1, 0, 3};

} // namespace

TEST_CASE("the challenge's regions counted by hand") {
    const RegionCounts counts = count_regions(predicted, reference, RegionDefinition::brats);
    CHECK(counts.voxels == 10);
    CHECK(counts[TumourRegion::wt] == RegionCount{6, 7, 8});
    CHECK(counts[TumourRegion::tc] == RegionCount{4, 4, 5});
    CHECK(counts[TumourRegion::et] == RegionCount{1, 2, 2});
    CHECK(dice(counts[TumourRegion::wt]) == 12.0 / 15.0);
    CHECK(dice(counts[TumourRegion::tc]) == 8.0 / 9.0);
    CHECK(dice(counts[TumourRegion::et]) == 0.5);
    CHECK(sensitivity(counts[TumourRegion::wt]) == 6.0 / 8.0);
    CHECK(specificity(counts[TumourRegion::wt], counts.voxels) == 1.0 / 2.0);
    CHECK(specificity(counts[TumourRegion::et], counts.voxels) == 7.0 / 8.0);
}

TEST_CASE("the paper's regions counted by hand") {
    const RegionCounts counts = count_regions(predicted, reference, RegionDefinition::paper);
    CHECK(counts[TumourRegion::wt] == RegionCount{4, 5, 6}); // {1, 2}: the enhancing voxels are left out
    CHECK(counts[TumourRegion::tc] == RegionCount{2, 2, 3}); // {1}
    CHECK(counts[TumourRegion::et] == RegionCount{1, 2, 2});
    CHECK(dice(counts[TumourRegion::tc]) == 4.0 / 5.0);
}

TEST_CASE("prediction and reference exchanged: Dice stays, sensitivity becomes precision") {
    const RegionCounts one = count_regions(predicted, reference, RegionDefinition::brats);
    const RegionCounts other = count_regions(reference, predicted, RegionDefinition::brats);
    for (const TumourRegion region : tumour_regions) {
        CHECK(dice(one[region]) == dice(other[region]));
        CHECK(sensitivity(other[region]) ==
              static_cast<double>(one[region].true_positives) / static_cast<double>(one[region].predicted));
    }
}

TEST_CASE("counts of parts add up to the counts of the whole") {
    const auto part = [](const Classes& all, std::size_t begin, std::size_t end) {
        return std::span(all).subspan(begin, end - begin);
    };
    RegionCounts sum;
    for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, 3}, {3, 4}, {4, 10}})
        sum += count_regions(part(predicted, begin, end), part(reference, begin, end), RegionDefinition::brats);
    CHECK(sum == count_regions(predicted, reference, RegionDefinition::brats));
}

TEST_CASE("empty regions have a Dice and never divide by zero") {
    const RegionCount both_empty{0, 0, 0};
    CHECK(dice(both_empty) == 1.0);
    CHECK(sensitivity(both_empty) == 1.0);
    CHECK(specificity(both_empty, 10) == 1.0);
    const RegionCount no_reference{0, 3, 0};
    CHECK(dice(no_reference) == 0.0);
    CHECK(sensitivity(no_reference) == 0.0);
    CHECK(specificity(no_reference, 10) == 0.7);
    const RegionCount no_prediction{0, 0, 3};
    CHECK(dice(no_prediction) == 0.0);
    CHECK(sensitivity(no_prediction) == 0.0);
    CHECK(specificity(no_prediction, 10) == 1.0);
    CHECK(specificity(RegionCount{10, 10, 10}, 10) == 1.0); // no voxel outside the reference
}

TEST_CASE("a value that is no class counts as background") {
    const RegionCounts counts = count_regions(Classes{4, 255, 3}, Classes{3, 0, 3}, RegionDefinition::brats);
    CHECK(counts[TumourRegion::et] == RegionCount{1, 1, 2});
    CHECK(counts[TumourRegion::wt] == RegionCount{1, 1, 2});
}
