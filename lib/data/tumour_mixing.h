// SPDX-License-Identifier: MIT
// Tumours of one case placed into crops of another (CarveMix: Zhang et al., MICCAI 2021; TumorCP: Yang et al., MICCAI
// 2021): more combinations of tumour and brain than there are patients.
#pragma once

#include "data/augmentation.h"

#include <cstdint>

namespace mfres {

/// How a tumour is placed.
struct TumourMix {
    std::uint64_t donor = 0; ///< decides which case it is from, see donor_of
    Pose pose;               ///< turns and mirrors it; `begin` is set by its place
    std::uint64_t seed = 0;  ///< of the places that are tried
};

/// Voxels around a tumour over which the donor's brain fades into the crop's.
constexpr std::int64_t tumour_margin = 5;

/// Places the whole tumour of `donor` into a crop. Its centre is a random brain voxel: the first of at most
/// 32 that are drawn where at least half of the tumour is within the crop, and of that at least 90 % on brain and at
/// most 10 % on tumour that is there already and 20 % on fluid (z-scores of T2 above 1 and of FLAIR below -1).
///
/// With d the distance to the placed tumour's nearest voxel, a brain voxel of the crop that shows brain of the donor
/// becomes (1 - a) z + a (f z' + o) with a = 1 - d / (tumour_margin + 1) where that is positive: all of the donor
/// inside the tumour, nothing of it beyond the margin. Factor f and offset o of a modality give the donor's voxels of
/// the margin the mean and the deviation of the crop's (f within 1/2 to 2; both leave z' as it is where the margin has
/// fewer than 64 voxels of healthy brain in both). Classes become the donor's where that is tumour; tumour of the crop
/// that only the margin covers keeps class and intensity.
///
/// Returns whether a place was found; otherwise the crop stays as it is. Precondition: the crop has a brain mask, the
/// donor a tumour.
bool mix_tumour(const CachedCase& donor, const TumourMix& mix, const Crop& crop);

} // namespace mfres
