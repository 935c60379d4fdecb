// SPDX-License-Identifier: MIT
// What is drawn for the samples of a batch: from Random(seed).fork(step).fork(sample), and there every option from a
// fork of its own, so that switching one on leaves the numbers of the others as they were.
#pragma once

#include "core/random.h"
#include "data/artefacts.h"
#include "data/augmentation.h"
#include "data/cache.h"
#include "data/tumour_mixing.h"

#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace mfres {

/// How a sample is drawn and varied. The defaults are the paper's: crop anywhere, mirror, rotate.
struct Sampling {
    std::int64_t batch = 8;
    std::array<std::int64_t, 3> crop{128, 128, 128};
    /// How often the crop is centred on a random tumour voxel, as far as it then is within the box. Otherwise its
    /// place in the box is random; along an axis where the crop is larger, it contains the whole box.
    double tumour_probability = 0.0;
    bool flips = true;              ///< mirror along each axis with probability 1/2
    double rotation_degrees = 10.0; ///< angle uniform in +- this, about x, y or z (linear; labels nearest)
    /// How often a crop is rotated and zoomed; the others are copied, which takes a third of the time.
    double rotation_probability = 1.0;
    double intensity_scale = 0.0; ///< factor uniform in 1 +- this, per modality
    double intensity_shift = 0.0; ///< z-score offset uniform in +- this, per modality, inside the brain
    double gamma = 0.0;           ///< exponent uniform in 1 +- this on the intensities mapped to 0..1, per modality
    double noise = 0.0;           ///< standard deviation of Gaussian noise, z-score units, inside the brain
    double zoom = 0.0;            ///< isotropic scale uniform in 1 +- this, together with the rotation
    /// Each contrast of a sample is 0 everywhere (the mean, as a missing sequence is given to a network) with this
    /// probability p, independently; where that meets T1ce and FLAIR both, one of the two, by a fair coin, is kept. So
    /// one of them is always there, never all are dropped, T1 and T2 are dropped with probability p, and T1ce and FLAIR
    /// with p - p^2 / 2. A dropped contrast gets no other change of intensity.
    double modality_dropout = 0.0;

    double gamma_inverted = 0.0; ///< how often a modality's gamma is applied to the negated intensities

    // What scanners differ in, see data/artefacts.h: each with a probability per modality of a sample.
    double histogram_shift = 0.0; ///< largest shift of grey values, as a share of a tenth of their range; below 1/2
    double histogram_shift_probability = 0.2;
    double bias_field = 0.0; ///< gains within 1 +- b with b uniform in 0 to this
    double bias_field_probability = 0.2;
    double blur = 0.0; ///< sigma uniform in 0 to this, voxels
    double blur_probability = 0.2;
    double low_resolution = 1.0; ///< voxels larger by a factor uniform in 1 to this, along all axes
    double low_resolution_probability = 0.2;
    double anisotropy = 1.0; ///< slices thicker by a factor uniform in 1 to this, along one axis
    double anisotropy_probability = 0.2;
    double ringing = 0.0; ///< share of the frequencies along one axis that is cut off, uniform in 0 to this
    double ringing_probability = 0.1;
    double ghost = 0.0; ///< strength uniform in 0 to this, shifted by 1/8 to 1/2 of the crop along one axis
    double ghost_probability = 0.1;

    double elastic = 0.0; ///< amplitude of a Warp uniform in 0 to this, voxels, in all modalities and labels alike
    double elastic_probability = 0.3;

    /// How often a tumour of another case is placed into a sample, see data/tumour_mixing.h: mirrored as the sample,
    /// with probability 1/2 from left to right besides, and turned by at most 10 degrees about a random axis.
    double tumour_mixing = 0.0;
};

/// Errors: invalid_argument, naming the option, where the value is not between low and high.
Status check_range(const char* option, double value, double low, double high);

/// Errors: invalid_argument, naming the option that is out of range.
Status check_sampling(const Sampling& sampling);

/// Whether samples get what no engine makes on its device, so that batches have to be arrays: artefacts, warps,
/// placed tumours.
bool made_on_host(const Sampling& sampling);

/// Which cases are samples [begin, end) of the step's batch: over n cases, samples step * batch + i take the cases in
/// the order of a fresh shuffle per pass.
std::vector<std::size_t> cases_of_step(std::size_t cases, std::int64_t batch, std::int64_t begin, std::int64_t end,
                                       std::uint64_t seed, std::int64_t step);

/// One sample as it was drawn.
struct SampleDraw {
    Pose pose;
    double warp = 0.0; ///< amplitude; 0 = none
    std::uint64_t warp_seed = 0;
    std::optional<TumourMix> mix;
    std::array<Artefacts, 4> artefacts{};
    std::array<IntensityChange, 4> intensities{};

    bool changes_intensities() const;
};

/// Which case gives the tumour that is placed into case `receiver`: of those others that have one, the number-th modulo
/// how many there are; none where there is no such case.
std::optional<std::size_t> donor_of(std::span<const CacheEntry> entries, std::size_t receiver, std::uint64_t number);

/// Draws a sample of a case. Precondition: check_sampling.
SampleDraw draw_sample(const CachedCase& source, const CacheEntry& entry, const Sampling& sampling,
                       const Random& random);

} // namespace mfres
