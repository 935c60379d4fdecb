// SPDX-License-Identifier: MIT
// Volumes: voxels on a grid in patient space. Tensor (core/tensor.h) is the type without geometry.
#pragma once

#include <mfres/export.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// The four MRI modalities, in the order of the networks' input channels.
enum class Modality : std::uint8_t { t1, t1ce, t2, flair };
inline constexpr std::array<Modality, 4> modalities = {Modality::t1, Modality::t1ce, Modality::t2, Modality::flair};

/// "t1", "t1ce", "t2", "flair"
MFRES_EXPORT std::string_view name(Modality modality) noexcept;

/// A set of contrasts: one flag for each, in the order of mfres::modalities.
using ModalitySet = std::array<bool, 4>;
inline constexpr ModalitySet all_modalities = {true, true, true, true};

/// The names of a set's contrasts in the order of mfres::modalities: "t1ce,flair".
MFRES_EXPORT std::string names(const ModalitySet& set);

/// Rows of the upper 3x4 part of a voxel-to-world matrix, millimetres, NIfTI world axes (x to the right, y to
/// anterior, z to superior): world = affine * (i, j, k, 1).
using Affine = std::array<std::array<double, 4>, 3>;

/// Size of a voxel array and its position in world coordinates.
struct Grid {
    std::array<std::int64_t, 3> size{}; ///< voxels along i, j, k
    Affine affine{};

    std::int64_t voxels() const { return size[0] * size[1] * size[2]; }
    friend bool operator==(const Grid&, const Grid&) = default;
};

/// Intensities on a grid. voxels[i + size[0] * (j + size[1] * k)], i fastest, as NIfTI stores them.
struct Volume {
    Grid grid;
    std::vector<float> voxels;
};

/// Class indices or label values on a grid, same order as Volume.
struct LabelMap {
    Grid grid;
    std::vector<std::uint8_t> labels;
};

/// Probabilities of the classes on a grid. values[voxel + grid.voxels() * class], voxels in the order of Volume. The sum
/// over the classes is 1 in every voxel, up to rounding.
struct ProbabilityMap {
    Grid grid;
    std::int64_t classes = 0;
    std::vector<float> values;

    /// The values of one class, grid.voxels() of them. Precondition: 0 <= index < classes.
    std::span<const float> of_class(std::int64_t index) const {
        const auto voxels = static_cast<std::size_t>(grid.voxels());
        return std::span(values).subspan(static_cast<std::size_t>(index) * voxels, voxels);
    }
};

/// How a voxel is stored: the scalar types of NIfTI.
enum class ScalarType : std::uint8_t { uint8, int8, uint16, int16, uint32, int32, uint64, int64, float32, float64 };

/// One contrast in memory that belongs to the caller. It is read during a call and not kept.
struct VolumeView {
    const void* voxels = nullptr; ///< voxel (0, 0, 0); null = this contrast is absent
    ScalarType type = ScalarType::float32;
    Grid grid; ///< size in voxels; affine from voxel indices to millimetres, as Affine describes it
    /// Scalars from one voxel to the next along i, j, k; negative ones are allowed. All 0 = contiguous, i fastest.
    std::array<std::int64_t, 3> strides{};
    double slope = 1.0; ///< intensity = stored * slope + inter; a slope of 0 or NaN means no scaling
    double inter = 0.0;

    /// The view of a volume's voxels.
    static VolumeView of(const Volume& volume) {
        VolumeView view;
        view.voxels = volume.voxels.data();
        view.grid = volume.grid;
        return view;
    }
};

} // namespace mfres
