// Where voxels lie: affines, the 48 axis-aligned orientations, and resampling between grids.
// World axes are NIfTI's, in millimetres: x to the right, y to anterior, z to superior.
#pragma once

#include <mfres/status.h>
#include <mfres/volume.h>

#include <array>
#include <optional>
#include <string>

namespace mfres {

/// A position or direction: voxel indices (i, j, k), or millimetres (x, y, z).
using Point = std::array<double, 3>;

/// affine * (i, j, k, 1), millimetres.
Point world(const Affine& affine, const Point& index);

/// Lengths of the three columns: distances between neighbouring voxel centres along i, j, k, millimetres.
Point voxel_size(const Affine& affine);

/// Determinant of the 3x3 part, cubic millimetres; negative for a left-handed voxel order.
double determinant(const Affine& affine);

/// The affine that leads back: inverse(a) * world = index. Nothing if an entry is not finite or the axes do not span
/// space (determinant below 1e-6 of the product of the column lengths).
std::optional<Affine> inverse(const Affine& affine);

/// The affine that applies `second` to what `first` gives.
Affine compose(const Affine& second, const Affine& first);

/// The largest distance between corresponding corner voxels (index 0 or size - 1 along each axis) of two grids, mm.
double max_corner_distance(const Grid& a, const Grid& b);

/// How far the three axes are from being at right angles: the largest deviation from 90 degrees among the pairs.
/// Precondition: no column is zero.
double shear_degrees(const Affine& affine);

/// How far the voxel axes are turned away from the body's: the largest angle between a voxel axis and the world axis
/// nearest to it, degrees (0 for axis-aligned data). Precondition: no column is zero.
double tilt_degrees(const Affine& affine);

/// How a voxel array has to be turned over to run L-P-S: i to the left, j to posterior, k to superior. One of the 48
/// combinations of an axis permutation and flips.
struct Orientation {
    std::array<int, 3> axis = {0, 1, 2}; ///< axis[c]: the array's own axis that runs along canonical axis c
    std::array<bool, 3> flip{};          ///< flip[c]: it runs the other way (to the right, to anterior, to inferior)

    bool is_canonical() const { return *this == Orientation{}; }
    friend bool operator==(const Orientation&, const Orientation&) = default;
};

/// The nearest axis-aligned reading of an affine. Each voxel axis must lie closer than 45 degrees to the world axis
/// it is taken for, which (without shear) is exactly when no two axes can claim the same direction; otherwise
/// orientation_oblique. `where` names the file in the message. Precondition: no column is zero.
Result<Orientation> orientation_of(const Affine& affine, const std::string& where);

/// The orientation that undoes `orientation`.
Orientation inverse(const Orientation& orientation);

/// The grid after turning the array over: sizes and columns permuted and negated, the origin moved to the voxel that
/// becomes (0, 0, 0). Every voxel keeps its world position.
Grid reorient(const Grid& grid, const Orientation& orientation);

/// The same for voxels and their grid. Canonical data is moved through, not copied.
Volume reorient(Volume volume, const Orientation& orientation);
LabelMap reorient(LabelMap labels, const Orientation& orientation);

/// A grid of cubic voxels of `mm` millimetres over the same box, axes parallel to `grid`'s, centred on it; each size
/// is the rounded number of voxels, at least 1. Precondition: finite, non-zero columns; mm > 0.
Grid with_voxel_size(const Grid& grid, double mm);

/// Trilinear interpolation at the voxel centres of `target`; beyond the outermost voxel centres the nearest edge value
/// is continued, so `target` should cover the same box. Reducing the resolution averages no more than eight voxels.
/// Error: affine_singular if `source.grid` has no inverse.
Result<Volume> resample_linear(const Volume& source, const Grid& target, int threads);

/// The nearest label at the voxel centres of `target`, ties to the lower index, edges continued as above.
/// Error: affine_singular if `source.grid` has no inverse.
Result<LabelMap> resample_nearest(const LabelMap& source, const Grid& target, int threads);

} // namespace mfres
