// SPDX-License-Identifier: MIT
// A PNG picture of one segmented case: two modalities in three planes, labels in colour, class volumes as text.
#pragma once

#include "picture/image.h"

#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// How a tumour class appears in previews.
struct PreviewClass {
    std::uint8_t label; ///< BraTS value; label 3 (BraTS 2023) is shown as 4
    std::string_view name;
    std::array<std::uint8_t, 3> rgb;
};

/// The classes of the BraTS schemes, in the order of the legend.
std::span<const PreviewClass> preview_classes();

/// How the voxels of a file are counted, for the axes of a preview (L, P, S): the file's own axis of each, whether it has
/// the opposite direction, and the file's number of voxels along it.
struct PreviewFileAxes {
    std::array<int, 3> axis{0, 1, 2};
    std::array<bool, 3> flip{};
    std::array<std::int64_t, 3> size{};
};

struct PreviewOptions {
    std::string title;                   ///< e.g. case and network; characters beyond ASCII appear as '?'
    std::string footer;                  ///< shown before the fixed "research use only" text, e.g. the model's hash
    bool overlay = true;                 ///< false: images without labels, the legend still has the volumes
    const LabelMap* reference = nullptr; ///< drawn as a white outline around its whole tumour; same grid
    std::string warning;                 ///< a line under the title in the alarm colour
    std::string upper = "FLAIR";         ///< what the two volumes show
    std::string lower = "T1ce";
    /// Of all classes, same grid: a line where the tumour classes together reach 1/2, and dots where no class reaches
    /// 2/3.
    const ProbabilityMap* probabilities = nullptr;
    std::optional<PreviewFileAxes> file{}; ///< slices are counted so; without it, as in the volumes
};

/// The legend's second line: "no tumour found" when every label is 0, else the volumes of tumour core (labels 1, 3, 4)
/// and whole tumour (all labels) in ml: voxel counts times the determinant of the affine.
std::string preview_summary(const LabelMap& labels);

/// Ok in a build with MFRES_WITH_PREVIEWS; otherwise operation_unsupported. Called before a case is segmented, so that an
/// impossible preview is rejected early.
Status can_draw_previews();

using PreviewImage = RgbImage;

/// FLAIR (upper row) and T1ce (lower row), or their replacements, each as an axial, a coronal and a sagittal slice, with the
/// labels and beside it without them (only the latter without `overlay`). The slices of the upper row are those with the
/// largest cross-section of tumour, those of the lower row with the largest of tumour core (of tumour where there is no
/// core); without tumour they go through the middle of the brain, and the legend says so.
/// Volumes are expected in the canonical orientation L-P-S (i to the left, j to posterior, k to superior) and are shown
/// in radiological convention: the patient's right is on the image's left. Voxel spacing (mm) is the length of the
/// affine's columns. Intensities are windowed between the 1st and 99.7th percentile of the brain, which is everything
/// that differs from the most frequent value on the grid's border.
///
/// Errors: grid_size_mismatch for different sizes, invalid_argument for voxel counts that do not match their grid or an
/// empty grid, affine_singular for a column of length 0 or not finite, voxel_not_finite, label_outside_scheme for a
/// label other than 0 to 4, operation_unsupported in a build without MFRES_WITH_PREVIEWS.
Result<PreviewImage> render_preview(const Volume& flair, const Volume& t1ce, const LabelMap& labels,
                                    const PreviewOptions& options = {});

/// Renders a PNG into memory. Errors: those of render_preview and of encode_png.
Result<std::vector<std::byte>> encode_preview(const Volume& flair, const Volume& t1ce, const LabelMap& labels,
                                              const PreviewOptions& options = {});

/// Renders a PNG and writes it atomically. Errors: those of encode_preview and of write_file_atomically.
Status write_preview(const std::filesystem::path& path, const Volume& flair, const Volume& t1ce, const LabelMap& labels,
                     const PreviewOptions& options = {});

} // namespace mfres
