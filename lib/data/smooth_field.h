// SPDX-License-Identifier: MIT
// A smooth random scalar field over a box of voxels, for bias fields and elastic deformations.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace mfres {

/// A tensor product of uniform cubic B-splines whose control values are -1 or 1, each by a fair coin. So the field
/// stays within -1 to 1, has continuous second derivatives, and along an axis changes by at most 2 / spacing a voxel.
/// (Free form deformation: Rueckert et al., IEEE Trans Med Imaging 18:712, 1999.)
class SmoothField {
  public:
    /// Over [x][y][z] of `extents`, with a control point every `spacing` voxels along each axis, the first at voxel 0.
    /// Preconditions: extents and spacings at least 1.
    SmoothField(const std::array<std::int64_t, 3>& extents, const std::array<double, 3>& spacing, std::uint64_t seed);

    /// The field at (x, y, 0), (x, y, 1), ...; as many as `out` has, at most the extent along z.
    void row(std::int64_t x, std::int64_t y, std::span<float> out);

  private:
    /// Control points first to first + 3 and their weights at one voxel of an axis.
    struct Taps {
        std::size_t first;
        std::array<float, 4> weights;
    };
    std::array<std::vector<Taps>, 3> taps_;
    std::array<std::size_t, 3> points_{};
    std::vector<float> control_; ///< [x][y][z]
    std::vector<float> line_;    ///< control values of one z-line
};

} // namespace mfres
