// How well a segmentation agrees with a reference: Dice, sensitivity, specificity and the 95th percentile of the
// surface distances, per tumour region, per case, and as tables over many cases.
#pragma once

#include <mfres/regions.h>
#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

// Counts -----------------------------------------------------------------------------------------------------------

/// Voxels of one region.
struct RegionCount {
    std::int64_t true_positives = 0; ///< in the prediction and in the reference
    std::int64_t predicted = 0;      ///< in the prediction
    std::int64_t reference = 0;      ///< in the reference

    friend bool operator==(const RegionCount&, const RegionCount&) = default;
};

/// Voxels of every region; sums of counts are counts of the sum.
struct RegionCounts {
    std::int64_t voxels = 0;              ///< compared altogether
    std::array<RegionCount, 3> regions{}; ///< in the order of tumour_regions

    const RegionCount& operator[](TumourRegion region) const { return regions[static_cast<std::size_t>(region)]; }
    RegionCounts& operator+=(const RegionCounts& other);
    friend bool operator==(const RegionCounts&, const RegionCounts&) = default;
};

/// Counts two arrays of class indices 0..3, voxel for voxel; any other value counts as background. One pass, no memory.
/// Precondition: equal lengths (of unequal ones the common beginning is counted).
RegionCounts count_regions(std::span<const std::uint8_t> predicted_classes,
                           std::span<const std::uint8_t> reference_classes, RegionDefinition definition);

/// 2 |P n R| / (|P| + |R|) (Dice 1945; eq. 9-10 of the MF-RES2Net paper), 0..1; 1 where both are empty.
double dice(const RegionCount& count) noexcept;

/// |P n R| / |R|, 0..1. With an empty reference: 1 if the prediction is empty too, else 0.
double sensitivity(const RegionCount& count) noexcept;

/// The share of the voxels outside the reference that the prediction leaves out, 0..1; 1 where there are none.
/// `voxels` is what was compared altogether. It is close to 1 wherever that includes much background; the published
/// values of the challenge server are lower than a whole 240 x 240 x 155 grid can give, so it counted over less.
double specificity(const RegionCount& count, std::int64_t voxels) noexcept;

} // namespace mfres
