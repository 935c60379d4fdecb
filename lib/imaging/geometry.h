// SPDX-License-Identifier: MIT
// Geometry of volumes: affines, the 48 axis-aligned orientations, and resampling between grids.
// World axes are NIfTI's, in millimetres: x to the right, y to anterior, z to superior.
#pragma once

#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mfres {

/// A position or direction: voxel indices (i, j, k), or millimetres (x, y, z).
using Point = std::array<double, 3>;

/// affine * (i, j, k, 1), millimetres.
Point world(const Affine& affine, const Point& index);

/// Lengths of the three columns: distances between neighbouring voxel centres along i, j, k, millimetres.
Point voxel_size(const Affine& affine);

/// Determinant of the 3x3 part, cubic millimetres; negative for a left-handed voxel order.
double determinant(const Affine& affine);

/// The inverse affine: inverse(a) * world = index. Nothing if an entry is not finite or the matrix is singular
/// (determinant below 1e-6 of the product of the column lengths).
std::optional<Affine> inverse(const Affine& affine);

/// The composition: first `first`, then `second`.
Affine compose(const Affine& second, const Affine& first);

/// The largest distance between corresponding corner voxels (index 0 or size - 1 along each axis) of two grids, mm.
double max_corner_distance(const Grid& a, const Grid& b);

/// Shear: the largest deviation from 90 degrees between two of the three axes.
/// Precondition: no column is zero.
double shear_degrees(const Affine& affine);

/// Obliqueness: the largest angle between a voxel axis and the nearest world axis, degrees (0 for axis-aligned data).
/// Precondition: no column is zero.
double tilt_degrees(const Affine& affine);

/// The axis permutation and flips (48 combinations) that reorient a voxel array to L-P-S: i to the left, j to
/// posterior, k to superior.
struct Orientation {
    std::array<int, 3> axis = {0, 1, 2}; ///< axis[c]: the array axis parallel to canonical axis c
    std::array<bool, 3> flip{}; ///< flip[c]: it has the opposite direction (to the right, to anterior, to inferior)

    bool is_canonical() const { return *this == Orientation{}; }
    friend bool operator==(const Orientation&, const Orientation&) = default;
};

/// The nearest axis-aligned orientation of an affine. Each voxel axis must be within 45 degrees of its world axis, so
/// that without shear no two voxel axes have the same nearest world axis. Error: orientation_oblique.
/// `where` names the file in the message. Precondition: no column is zero.
Result<Orientation> orientation_of(const Affine& affine, std::string_view where);

/// The inverse orientation.
Orientation inverse(const Orientation& orientation);

/// The grid after reorientation: sizes and columns are permuted and negated, and the origin is that of the new voxel
/// (0, 0, 0). Every voxel keeps its world position.
Grid reorient(const Grid& grid, const Orientation& orientation);

/// Reorients voxels and grid. A volume that is canonical already is moved, not copied.
Volume reorient(Volume volume, const Orientation& orientation);
LabelMap reorient(LabelMap labels, const Orientation& orientation);

/// A grid of cubic voxels of `mm` millimetres over the same box, axes parallel to `grid`'s, centred on it; each size
/// is the rounded number of voxels, at least 1. Precondition: finite, non-zero columns; mm > 0.
Grid with_voxel_size(const Grid& grid, double mm);

/// Trilinear interpolation at the voxel centres of `target`; beyond the outermost voxel centres the nearest edge value
/// is continued, so `target` should cover the same box. There is no low-pass filter: downsampling uses eight voxels.
/// Error: affine_singular if `source.grid` has no inverse.
Result<Volume> resample_linear(const Volume& source, const Grid& target, int threads);

/// A volume of tissue in a background that is read a plane at a time, so that it is never whole in memory.
struct TissuePlanes {
    Grid grid;
    /// Writes plane k, i fastest: the values, and which of them are tissue (not 0).
    std::function<Status(std::int64_t k, std::span<float> values, std::span<std::uint8_t> tissue)> read;
    /// Turns the axes of the planes to those of `grid`, where they differ.
    Orientation orientation = {};
};

/// The mean of the surrounding voxels that are tissue, each with its weight of trilinear interpolation,
/// sum(w t v) / sum(w t); `outside` where these have less than half of the weight. So nothing between tissue and
/// background arises. Calls take(plane) with the planes of `target` in their order, i fastest; planes whose axes have to
/// be turned give planes that have to be turned likewise, of the same values. Each plane of the source is read once at
/// most, and none after a later one, where the axes of both grids are parallel. Errors: affine_singular, as above; those
/// of `read`.
Status resample_tissue(const TissuePlanes& source, float outside, const Grid& target, int threads,
                       const std::function<void(std::span<const float>)>& take);

/// The nearest label at the voxel centres of `target`, ties to the lower index, edges continued as above.
/// Error: affine_singular if `source.grid` has no inverse.
Result<LabelMap> resample_nearest(const LabelMap& source, const Grid& target, int threads);

/// Plane k of the same, of an array that `orientation` turns into one on `target`. Error: affine_singular, as above.
Status resample_nearest_plane(const LabelMap& source, const Grid& target, const Orientation& orientation,
                              std::int64_t k, std::span<std::uint8_t> plane, int threads);

/// The size of an array that `orientation` turns into one of `size` voxels.
std::array<std::int64_t, 3> size_before(const std::array<std::int64_t, 3>& size, const Orientation& orientation);

/// Where a voxel of an array lies in the one of `size` voxels that `orientation` turns it into.
std::array<std::int64_t, 3> turned(const std::array<std::int64_t, 3>& voxel, const std::array<std::int64_t, 3>& size,
                                   const Orientation& orientation);

} // namespace mfres
