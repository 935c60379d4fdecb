// SPDX-License-Identifier: MIT
// Tumour of the phantom: necrotic core, enhancing rim, and oedema that follows white matter.
#pragma once

#include "core/random.h"
#include "phantom/anatomy.h"

#include <array>
#include <cstdint>
#include <vector>

namespace mfres::phantom {

/// Map from voxel indices to head coordinates: a rotation by a few degrees, a shift and one scale.
struct Pose {
    std::array<std::int64_t, 3> size{};
    Point origin;     ///< head position of voxel (0, 0, 0)
    Point di, dj, dk; ///< head displacement per voxel step
    float voxel = 1;  ///< mm of head per voxel

    Point head(std::int64_t i, std::int64_t j, std::int64_t k) const {
        return origin + di * static_cast<float>(i) + dj * static_cast<float>(j) + dk * static_cast<float>(k);
    }
    std::size_t index(std::int64_t i, std::int64_t j, std::int64_t k) const {
        return static_cast<std::size_t>(i + size[0] * (j + size[1] * k));
    }
    std::size_t voxels() const { return static_cast<std::size_t>(size[0] * size[1] * size[2]); }
};

/// Tissue fractions of every voxel in units of 1/255; white matter is the rest. `inside` is 0 outside the brain.
struct TissueMap {
    std::vector<std::uint8_t> inside;
    std::vector<std::uint8_t> csf;
    std::vector<std::uint8_t> grey;
    std::vector<std::uint8_t> barrier;
};

/// Size, position and mass effect of a tumour.
struct LesionPlan {
    Point centre;
    float radius = 0;       ///< mm, of a ball with the volume of core and rim
    float whole_volume = 0; ///< mm^3, with oedema
    MassEffect pressure;
};

/// Draws a random plan. Among many positions in white matter it takes the first with enough distance to the brain's
/// surface, midline and ventricles, or the one with the largest distance.
LesionPlan plan_lesion(Random random, const Anatomy& anatomy);

struct Lesion {
    std::vector<std::uint8_t> labels;   ///< 0, 1, 2, 4
    std::vector<std::uint8_t> strength; ///< of the oedema: 255 at the rim, decreasing with distance
};

/// Core and rim from a noise-perturbed ellipsoid. Oedema is the set of voxels that a front from their surface reaches
/// first, up to the planned volume: fast in white matter, slow in grey matter, not in fluid (Dijkstra's algorithm over
/// 26 neighbours).
Lesion grow_lesion(Random random, const LesionPlan& plan, const Pose& pose, const TissueMap& tissue);

} // namespace mfres::phantom
