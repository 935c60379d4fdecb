// SPDX-License-Identifier: MIT
#include <mfres/metrics.h>

#include "imaging/labels.h"

#include <algorithm>

namespace mfres {

namespace {

/// Confusion matrix: voxels by predicted class and reference class.
using Confusion = std::array<std::array<std::int64_t, tumour_classes>, tumour_classes>;

constexpr std::size_t class_of(std::uint8_t value) {
    return value < tumour_classes ? value : 0;
}

Confusion confusion_of(std::span<const std::uint8_t> predicted, std::span<const std::uint8_t> reference) {
    Confusion confusion{};
    for (std::size_t i = 0; i < std::min(predicted.size(), reference.size()); ++i)
        ++confusion[class_of(predicted[i])][class_of(reference[i])];
    return confusion;
}

RegionCount count_region(const Confusion& confusion, const ClassSet& members) {
    RegionCount count;
    for (std::size_t p = 0; p < members.size(); ++p)
        for (std::size_t r = 0; r < members.size(); ++r) {
            const std::int64_t voxels = confusion[p][r];
            count.true_positives += members[p] && members[r] ? voxels : 0;
            count.predicted += members[p] ? voxels : 0;
            count.reference += members[r] ? voxels : 0;
        }
    return count;
}

double ratio(std::int64_t part, std::int64_t whole) {
    return static_cast<double>(part) / static_cast<double>(whole);
}

} // namespace

RegionCounts& RegionCounts::operator+=(const RegionCounts& other) {
    voxels += other.voxels;
    for (std::size_t r = 0; r < regions.size(); ++r) {
        regions[r].true_positives += other.regions[r].true_positives;
        regions[r].predicted += other.regions[r].predicted;
        regions[r].reference += other.regions[r].reference;
    }
    return *this;
}

RegionCounts count_regions(std::span<const std::uint8_t> predicted_classes,
                           std::span<const std::uint8_t> reference_classes, RegionDefinition definition) {
    const Confusion confusion = confusion_of(predicted_classes, reference_classes);
    RegionCounts counts;
    counts.voxels = static_cast<std::int64_t>(std::min(predicted_classes.size(), reference_classes.size()));
    for (std::size_t r = 0; r < tumour_regions.size(); ++r)
        counts.regions[r] = count_region(confusion, region_classes(tumour_regions[r], definition));
    return counts;
}

double dice(const RegionCount& count) noexcept {
    const std::int64_t both = count.predicted + count.reference;
    return both == 0 ? 1.0 : ratio(2 * count.true_positives, both);
}

double sensitivity(const RegionCount& count) noexcept {
    if (count.reference == 0)
        return count.predicted == 0 ? 1.0 : 0.0;
    return ratio(count.true_positives, count.reference);
}

double specificity(const RegionCount& count, std::int64_t voxels) noexcept {
    const std::int64_t negatives = voxels - count.reference;
    const std::int64_t false_positives = count.predicted - count.true_positives;
    return negatives == 0 ? 1.0 : ratio(negatives - false_positives, negatives);
}

} // namespace mfres
