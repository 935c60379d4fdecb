// SPDX-License-Identifier: MIT
// Volumes: voxels on a grid in patient space. Tensor (core/tensor.h) is the type without geometry.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace mfres {

/// The four MRI modalities, in the order of the networks' input channels.
enum class Modality : std::uint8_t { t1, t1ce, t2, flair };
inline constexpr std::array<Modality, 4> modalities = {Modality::t1, Modality::t1ce, Modality::t2, Modality::flair};

/// "t1", "t1ce", "t2", "flair"
std::string_view name(Modality modality) noexcept;

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

} // namespace mfres
