// SPDX-License-Identifier: MIT
// Augmentation with artefacts of MR acquisition, for one contrast of a crop: intensity mapping, bias field, blur, low
// resolution, thick slices, Gibbs ringing, ghosting. Only brain voxels are read and written: the background is 0 by
// masking, which is no intensity, and must not be blurred into the brain.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace mfres {

/// The artefacts in the order in which they are applied. `least` and `greatest` are the extremes of the crop's brain
/// voxels z; `least` is used as the intensity 0 of the raw image, which is unknown after z-score normalisation.
struct Artefacts {
    /// Monotone piecewise linear mapping of intensities: [least, greatest] is divided into `segments` equal parts, and
    /// the values at the inner borders are shifted at random by at most this share of a part.
    double histogram_shift = 0.0; ///< below 1/2
    std::uint64_t histogram_seed = 0;
    static constexpr std::size_t segments = 10;

    /// z becomes least + (z - least) (1 + bias_field s) with a SmoothField s of two cells along each axis.
    double bias_field = 0.0; ///< below 1
    std::uint64_t bias_seed = 0;

    double blur = 0.0; ///< sigma of gaussian() along all axes, voxels

    double low_resolution = 1.0;              ///< thickness of slices() along all axes, voxels
    std::array<double, 3> resolution_phase{}; ///< `phase` of slices() along x, y and z
    double slice_thickness = 1.0;             ///< of slices() along one axis, voxels
    int slice_axis = 0;                       ///< 0 x, 1 y, 2 z
    double slice_phase = 0.0;

    /// The share of spatial frequencies along an axis that is cut off by truncation() (Gibbs ringing).
    double ringing = 0.0; ///< below 1
    int ringing_axis = 0;

    /// Ghosts of periodic motion during the acquisition: the lines of k-space are multiplied by 1 - ghost + ghost
    /// cos(2 pi shift k), so with v = z - least, z(x) becomes least + (1 - ghost) v(x) + ghost / 2 (v(x - shift) +
    /// v(x + shift)), where v is 0 outside the brain and is mirrored at the faces of the crop.
    double ghost = 0.0; ///< 0 to 1
    int ghost_axis = 0;
    std::int64_t ghost_shift = 0; ///< voxels; limited to the extent less 1

    bool any() const {
        return histogram_shift > 0.0 || bias_field > 0.0 || blur > 0.0 || low_resolution > 1.0 ||
               slice_thickness > 1.0 || ringing > 0.0 || ghost > 0.0;
    }
};

/// A linear filter along an axis, a row per output: out[o] = sum over t of weights[t] in[first + t].
struct AxisOperator {
    struct Row {
        std::int64_t first = 0;
        std::vector<float> weights;
    };
    std::vector<Row> rows;
};

/// Gaussian: weights exp(-t^2 / (2 sigma^2)) for |t| <= ceil(3 sigma), normalised to the sum 1 before ends cut them.
AxisOperator gaussian(std::int64_t size, double sigma);

/// Partial volume: the mean of each slice of `thickness` voxels, interpolated linearly back to voxels, and constant
/// beyond the centres of the first and the last slice. Slices start at (i - phase) thickness for i = 0, 1, ...; of a
/// slice that an end cuts, the mean is over the part inside. Preconditions: thickness at least 1, 0 <= phase < 1.
AxisOperator slices(std::int64_t size, double thickness, double phase);

/// Low-pass filter at `kept` times the Nyquist frequency: weights sin(pi kept t) / (pi t) for |t| <= 24, normalised to
/// the sum 1.
AxisOperator truncation(std::int64_t size, double kept);

/// The filter that applies `before`, then `after`.
AxisOperator composed(const AxisOperator& after, const AxisOperator& before);

/// Buffers that are kept between calls.
struct ArtefactWorkspace {
    std::vector<float> weight, line;
};

/// Normalised convolution (Knutsson and Westin, CVPR 1993): in the brain, filter(image * brain) / filter(brain), where
/// filter applies the operator of each axis in turn (one without rows: none). `image` is [x][y][z] of `extents`, 0
/// outside the brain. Precondition: weights are not negative, and the weight of a voxel for itself is positive.
void filter_inside(std::span<float> image, const std::array<std::int64_t, 3>& extents,
                   std::span<const std::uint8_t> brain, const std::array<AxisOperator, 3>& operators,
                   ArtefactWorkspace& workspace);

/// Applies the artefacts to one contrast, [x][y][z] of `extents`; it is 0 outside the brain before and after. Blur, low
/// resolution and thick slices are one filter_inside(). Finally the mean and the standard deviation of the crop's brain
/// voxels are restored, because z-score normalisation would follow the acquisition. Precondition: equal sizes.
void add_artefacts(std::span<float> image, const std::array<std::int64_t, 3>& extents,
                   std::span<const std::uint8_t> brain, const Artefacts& artefacts, ArtefactWorkspace& workspace);

} // namespace mfres
