// SPDX-License-Identifier: MIT
// What scanners and their settings do to one contrast of a crop: other grey values, an uneven coil, blur, low
// resolution, thick slices, ringing, ghosts. Brain voxels alone are changed and alone count, so that the background,
// which is 0 and means nothing, gets into none of them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace mfres {

/// In the order in which they happen. `least` and `greatest` are over the brain voxels of the crop; `least` stands for
/// the intensity 0 of a raw image, which z-scores have lost.
struct Artefacts {
    /// Grey values mapped monotonously: the range from least to greatest is cut into `segments` equal parts, the
    /// places between them are moved by at most this share of a part, and values between are mapped linearly.
    double histogram_shift = 0.0; ///< below 1/2
    std::uint64_t histogram_seed = 0;
    static constexpr std::size_t segments = 10;

    /// z becomes least + (z - least) (1 + bias_field s) with a SmoothField s of two parts along each axis.
    double bias_field = 0.0; ///< below 1
    std::uint64_t bias_seed = 0;

    double blur = 0.0; ///< sigma of gaussian() along all axes, voxels

    double low_resolution = 1.0;              ///< thickness of slices() along all axes, voxels
    std::array<double, 3> resolution_phase{}; ///< where they begin along each
    double slice_thickness = 1.0;             ///< of slices() along one axis, voxels
    int slice_axis = 0;                       ///< 0 x, 1 y, 2 z
    double slice_phase = 0.0;

    /// The share of spatial frequencies along an axis that is cut off by truncation() (Gibbs ringing).
    double ringing = 0.0; ///< below 1
    int ringing_axis = 0;

    /// Motion with a period during the acquisition: the lines of k-space are multiplied by 1 - ghost + ghost
    /// cos(2 pi shift k), so with v = z - least, z(x) becomes least + (1 - ghost) v(x) + ghost / 2 (v(x - shift) +
    /// v(x + shift)), where v is 0 outside the brain, and beyond the crop the crop's mirror image.
    double ghost = 0.0; ///< 0 to 1
    int ghost_axis = 0;
    std::int64_t ghost_shift = 0; ///< voxels; at most the extent less 1 counts

    bool any() const {
        return histogram_shift > 0.0 || bias_field > 0.0 || blur > 0.0 || low_resolution > 1.0 ||
               slice_thickness > 1.0 || ringing > 0.0 || ghost > 0.0;
    }
};

/// A linear map of the values along an axis: out[o] = sum over t of weights[t] in[first + t].
struct AxisOperator {
    struct Row {
        std::int64_t first = 0;
        std::vector<float> weights;
    };
    std::vector<Row> rows;
};

/// Weights in proportion to exp(-t^2 / (2 sigma^2)) for |t| <= ceil(3 sigma), with sum 1 where none is beyond an end.
AxisOperator gaussian(std::int64_t size, double sigma);

/// Means over slices of `thickness` voxels, interpolated linearly between the slices' centres back to voxels, and
/// constant beyond the first and the last centre. Slices start at (i - phase) thickness for i = 0, 1, ...; the mean of
/// one that is cut by an end is over what is left. Preconditions: thickness at least 1, 0 <= phase < 1.
AxisOperator slices(std::int64_t size, double thickness, double phase);

/// All frequencies above `kept` times the Nyquist frequency removed: sin(pi kept t) / (pi t) for |t| <= 24, over
/// the sum of these weights.
AxisOperator truncation(std::int64_t size, double kept);

/// `before`, then `after`.
AxisOperator composed(const AxisOperator& after, const AxisOperator& before);

/// Memory that calls reuse.
struct ArtefactWorkspace {
    std::vector<float> weight, line;
};

/// Normalised convolution (Knutsson and Westin, CVPR 1993): the operators, one an axis or none where it has no rows, on
/// values times mask, over the same on the mask, inside the mask; `image` is [x][y][z] of `extents` and 0 outside it.
/// Precondition: weights are not negative, and those of a voxel for itself positive.
void filter_inside(std::span<float> image, const std::array<std::int64_t, 3>& extents,
                   std::span<const std::uint8_t> brain, const std::array<AxisOperator, 3>& operators,
                   ArtefactWorkspace& workspace);

/// Adds them to one contrast, [x][y][z] of `extents`, 0 outside the brain and afterwards too. Blur, low resolution and
/// thick slices are one filter_inside(). At last mean and deviation of the crop's brain voxels are made what they were,
/// as the z-scores of a whole scan are taken after all this. Precondition: equal sizes.
void add_artefacts(std::span<float> image, const std::array<std::int64_t, 3>& extents,
                   std::span<const std::uint8_t> brain, const Artefacts& artefacts, ArtefactWorkspace& workspace);

} // namespace mfres
