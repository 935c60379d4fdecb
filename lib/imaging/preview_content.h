// SPDX-License-Identifier: MIT
// What a preview shows: checked volumes, intensity windows, the part of the grid and the slices. Independent of OpenCV.
#pragma once

#include "imaging/preview.h"

#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace mfres::preview {

using Index3 = std::array<std::int64_t, 3>;

/// The label under which a class is drawn: BraTS 2023 writes enhancing tumour as 3, earlier years as 4.
std::uint8_t class_of(std::uint8_t label);

/// Volume of each class in ml, in the order of preview_classes().
std::array<double, 3> class_volumes(const LabelMap& map);

/// "12.3 ml"; three decimals below 1 ml.
std::string millilitres(double volume);

/// Equal grids, finite intensities, labels from 0 to 4. Errors: those of render_preview.
Status check_input(const Volume& flair, const Volume& t1ce, const LabelMap& labels, const PreviewOptions& options);

/// Voxel size in mm: the lengths of the affine's columns. Error: affine_singular.
Result<std::array<double, 3>> spacing_of(const Grid& grid);

/// Intensities that are shown as black and as white.
struct Window {
    float background = 0;
    float low = 0;
    float high = 1;
};

/// The 1st to the 99.7th percentile of the brain.
Window window_of(const Volume& volume);
/// The same of intensities that differ from the background, in any order.
Window window_of(std::vector<float> brain, float background);

/// Inclusive range of voxels.
struct Box {
    Index3 low;
    Index3 high;
};

/// Where FLAIR or T1ce differ from their background, with a margin of 5 mm; the whole grid if they differ nowhere.
Box brain_box(const Volume& flair, const Volume& t1ce, float flair_background, float t1ce_background,
              const std::array<double, 3>& spacing);

/// Along each axis the slice with the most voxels whose value `belongs`, among equal ones the nearest to their centroid;
/// where none belongs, the same for all values but 0; without these the middle of the box.
Index3 slices_through(const LabelMap& map, const Box& box, const std::function<bool(std::uint8_t)>& belongs);

} // namespace mfres::preview
