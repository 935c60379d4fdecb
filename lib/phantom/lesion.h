// The phantom's tumour: necrotic core, enhancing rim, and oedema that follows white matter.
#pragma once

#include "core/random.h"
#include "phantom/anatomy.h"

#include <array>
#include <cstdint>
#include <vector>

namespace mfres::phantom {

/// Where voxel (i, j, k) lies in the head: a rotation by a few degrees, a shift and one scale.
struct Pose {
    std::array<std::int64_t, 3> size{};
    Point origin;     ///< head position of voxel (0, 0, 0)
    Point di, dj, dk; ///< head displacement per voxel step
    float voxel = 1;  ///< mm of head per voxel step

    Point head(std::int64_t i, std::int64_t j, std::int64_t k) const {
        return origin + di * static_cast<float>(i) + dj * static_cast<float>(j) + dk * static_cast<float>(k);
    }
    std::size_t index(std::int64_t i, std::int64_t j, std::int64_t k) const {
        return static_cast<std::size_t>(i + size[0] * (j + size[1] * k));
    }
    std::size_t voxels() const { return static_cast<std::size_t>(size[0] * size[1] * size[2]); }
};

/// Tissue of every voxel, fractions in 255ths; white matter is what csf and grey leave. Outside the brain `inside` is
/// 0.
struct TissueMap {
    std::vector<std::uint8_t> inside;
    std::vector<std::uint8_t> csf;
    std::vector<std::uint8_t> grey;
    std::vector<std::uint8_t> barrier;
};

/// Size, place and pressure of a tumour, decided before anything is drawn.
struct LesionPlan {
    Point centre;
    float radius = 0;       ///< mm, of a ball as large as core and rim together
    float whole_volume = 0; ///< mm^3, with oedema
    MassEffect pressure;
};

/// Draws a plan; of many places in the white matter, one with room enough, or the roomiest.
LesionPlan plan_lesion(Random random, const Anatomy& anatomy);

struct Lesion {
    std::vector<std::uint8_t> labels;   ///< 0, 1, 2, 4
    std::vector<std::uint8_t> strength; ///< of the oedema, 255 at the tumour, less further away
};

/// Core and rim from a noise-perturbed ellipsoid; oedema by a front that starts at their surface, runs fast along
/// white matter, slowly through grey and never through fluid (Dijkstra's shortest arrival time over 26 neighbours),
/// stopped at the planned volume.
Lesion grow_lesion(Random random, const LesionPlan& plan, const Pose& pose, const TissueMap& tissue);

} // namespace mfres::phantom
