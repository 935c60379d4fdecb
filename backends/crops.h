// SPDX-License-Identifier: MIT
// Crops of cases as an engine can cut and vary them on its device: lib/train draws them, and cuts them itself for
// engines that do not.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

namespace mfres {

/// A case as integers in host memory; arrays are [x][y][z] of `size`, z fastest.
struct CropSource {
    struct Modality {
        const void* quanta = nullptr; ///< uint8, or int16 where `wide`; 0 outside the brain
        bool wide = false;
        float scale = 1.0F; ///< z-score = quantum * scale + offset inside the brain
        float offset = 0.0F;
    };
    std::array<std::int64_t, 3> size{};
    std::array<Modality, 4> modalities{};
    const std::uint8_t* classes = nullptr; ///< 0..3
    const std::uint8_t* brain = nullptr;   ///< 0 or 1
    std::int64_t voxels() const { return size[0] * size[1] * size[2]; }
};

/// Which place of the box each voxel of a crop shows, in steps of 2^-32 voxel: additions are exact, so a voxel's place
/// does not depend on the way to it. Voxel o shows start + sum over n of o[n] * column[n].
struct CropWalk {
    static constexpr int fraction_bits = 32;

    std::array<std::array<std::int64_t, 3>, 3> column{};
    std::array<std::int64_t, 3> start{};
};

/// How the z-scores of one modality change, in this order: with t = (z - least) / (greatest - least) over the brain
/// voxels of the crop, z becomes least + t^gamma (greatest - least), or, inverted, greatest - (1 - t)^gamma (greatest -
/// least); then z * scale + shift; then noise.
struct IntensityChange {
    double gamma = 1.0;
    bool inverted = false;
    double scale = 1.0;
    double shift = 0.0;
    double noise = 0.0; ///< standard deviation
    std::uint64_t noise_seed = 0;

    /// What makes every z-score 0: a contrast that is not there.
    static IntensityChange to_nothing() { return {.scale = 0.0}; }
    bool leaves_nothing() const { return scale == 0.0 && shift == 0.0 && noise == 0.0; }
    bool changes() const { return gamma != 1.0 || scale != 1.0 || shift != 0.0 || noise != 0.0; }
};

/// One sample: images linear between voxels where the nearest voxel is brain, 0 elsewhere; classes from the nearest
/// voxel; 0 outside the box; then intensities inside the brain.
struct CropRequest {
    std::shared_ptr<const void> owner; ///< of what `source` points to
    CropSource source;
    CropWalk walk;
    std::array<IntensityChange, 4> intensities{};
};

} // namespace mfres
