// SPDX-License-Identifier: MIT
// How a crop is taken out of a cached case and varied: everything that moves voxels happens in one resampling straight
// from the cached integers, so that nothing is interpolated twice; then intensities change, inside the brain only.
#pragma once

#include "backends/crops.h"
#include "data/cache.h"
#include "data/smooth_field.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace mfres {

/// Position and orientation of a crop in the box. Voxel o of the crop is interpolated at
///   begin + c + M^-1 F (o - c),  c = (extents - 1) / 2,  M = zoom * rotation,
/// of the box: the content is rotated and zoomed about the crop's centre, then mirrored. F negates the flipped axes.
struct Pose {
    std::array<std::int64_t, 3> begin{}; ///< the crop's first voxel in the box, without rotation; may be negative
    std::array<bool, 3> flip{};
    int axis = 0;         ///< rotation axis: 0 x, 1 y, 2 z
    double radians = 0.0; ///< positive turns content from y to z, from z to x, from x to y
    double zoom = 1.0;    ///< above 1 enlarges

    bool resamples() const { return radians != 0.0 || zoom != 1.0; }
};

/// The same for an engine, for a crop of these extents.
CropWalk walk_of(const Pose& pose, const std::array<std::int64_t, 3>& extents);

/// The case for an engine. The result points into it.
CropSource source_of(const CachedCase& source);

/// A crop in dense arrays, z fastest.
struct Crop {
    std::array<std::int64_t, 3> extents{};
    float* images = nullptr;         ///< [4][x][y][z], z-scores
    std::uint8_t* classes = nullptr; ///< [x][y][z]
    std::uint8_t* brain = nullptr;   ///< [x][y][z], or null if it is not needed
};

/// An elastic deformation: to the place of the box that each voxel of a crop shows, amplitude times a smooth field with
/// control points every 32 voxels of the crop is added along each axis, so that nothing moves by more than the
/// amplitude. Below 16 / 3 voxels it cannot fold: no derivative exceeds 2 amplitude / 32, so the norm of all nine is
/// below 1.
class Warp {
  public:
    static constexpr double spacing = 32.0;

    /// Over a crop of these extents; amplitude in voxels of the box.
    Warp(const std::array<std::int64_t, 3>& extents, double amplitude, std::uint64_t seed);

    /// Displacements along the box's x, y, z of a row of the crop, in steps of 2^-32 voxel; as many as the extent along
    /// z. They last until the next call.
    const std::array<std::vector<std::int64_t>, 3>& row(std::int64_t x, std::int64_t y);

  private:
    std::array<SmoothField, 3> fields_;
    float amplitude_;
    std::vector<float> line_;
    std::array<std::vector<std::int64_t>, 3> displacements_;
};

/// Fills a crop: images linear between voxels, where the nearest voxel is brain, and 0 elsewhere; classes and brain
/// from the nearest voxel (ties to the higher index); 0 outside the box. Without rotation, zoom and warp voxels are
/// copied. Precondition: extents 1 to 4096, zoom > 0, quanta 0 outside the brain; a warp made for these extents.
void take_crop(const CachedCase& source, const Pose& pose, const Crop& crop, Warp* warp = nullptr);

/// The same by interpolation even where copying would do; what take_crop is tested against.
void resample_crop(const CachedCase& source, const Pose& pose, const Crop& crop, Warp* warp = nullptr);

/// Changes the z-scores of one modality where `brain` is not 0. The noise of a voxel depends on the seed and its index
/// alone, so that engines make the same. Precondition: equal sizes.
void change_intensity(std::span<float> image, std::span<const std::uint8_t> brain, const IntensityChange& change);

} // namespace mfres
