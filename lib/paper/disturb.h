// The same patient as another scanner, pipeline or pair of hands might have delivered it: what a segmentation should
// hardly notice. A disturbance is a window (which voxels are there, and in which order) and a change of intensities.
#pragma once

#include "core/random.h"

#include <mfres/robustness.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <span>

namespace mfres {

/// Voxels of another grid that lie parallel to the original's: voxel n shows original voxel begin + n, or begin + size
/// - 1 - n along a mirrored axis. It may reach beyond the original on any side.
struct Window {
    std::array<std::int64_t, 3> begin{}; ///< may be negative
    std::array<std::int64_t, 3> size{};
    std::array<bool, 3> mirrored{};
};

/// The volume in a window, `outside` where the original has no voxel. Unmirrored axes keep every voxel's place in the
/// world; a mirrored one keeps the place of the window, so that the patient is mirrored. Precondition: sizes >= 1.
Volume seen_through(const Volume& volume, const Window& window, float outside);

/// Labels of a window on the original's grid; 0 where the window has no voxel.
LabelMap put_back(const LabelMap& labels, const Window& window, const Grid& original);

/// The window of a disturbance. `brain_begin` and `brain_end` (one past) enclose everything that is not background, so
/// that nothing of the patient is lost.
Window window_of(Disturbance disturbance, const std::array<std::int64_t, 3>& size,
                 const std::array<std::int64_t, 3>& brain_begin, const std::array<std::int64_t, 3>& brain_end);

/// Changes one modality's voxels that are not background; no voxel becomes background by it. `stream` is the modality's
/// own. Disturbances of space change nothing here.
void change_voxels(Disturbance disturbance, Volume& volume, float background, Random stream);

} // namespace mfres
