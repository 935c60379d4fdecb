// SPDX-License-Identifier: MIT
// Perturbations of a case as other scanners, pipelines or preparations cause them, to which a segmentation should be
// robust. A disturbance is a window (the field of view and the order of voxels) and a change of intensities.
#pragma once

#include "core/random.h"
#include "paper/robustness.h"

#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <span>

namespace mfres {

/// A field of view parallel to the original grid: voxel n is the original voxel begin + n, or begin + size - 1 - n
/// along a mirrored axis. It may extend beyond the original on any side.
struct Window {
    std::array<std::int64_t, 3> begin{}; ///< may be negative
    std::array<std::int64_t, 3> size{};
    std::array<bool, 3> mirrored{};
};

/// The volume in a window, with `outside` where the original has no voxel. Voxels keep their world positions along axes
/// that are not mirrored. Along a mirrored axis the window keeps its position, so that the patient is mirrored.
/// Precondition: sizes >= 1.
Volume seen_through(const Volume& volume, const Window& window, float outside);

/// Labels of a window mapped back to the original grid; 0 where the window has no voxel.
LabelMap put_back(const LabelMap& labels, const Window& window, const Grid& original);

/// The window of a disturbance. `brain_begin` and `brain_end` (one past) enclose all voxels that are not background;
/// no window crops them.
Window window_of(Disturbance disturbance, const std::array<std::int64_t, 3>& size,
                 const std::array<std::int64_t, 3>& brain_begin, const std::array<std::int64_t, 3>& brain_end);

/// Changes the intensities of one modality outside the background; no voxel becomes background. `stream` is the random
/// stream of the modality. Geometric disturbances change nothing here.
void change_voxels(Disturbance disturbance, Volume& volume, float background, Random stream);

} // namespace mfres
