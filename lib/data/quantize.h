// SPDX-License-Identifier: MIT
// Intensities as integers: how a modality's voxels are turned into steps that fit 8 or 16 bits.
#pragma once

#include <mfres/status.h>

#include <cstdint>
#include <span>

namespace mfres {

/// intensity = base + quantum * step, with lowest <= quantum <= highest.
struct Quantization {
    double base = 0.0;
    double step = 1.0;
    std::int32_t lowest = 0;
    std::int32_t highest = 255;
    bool exact = true; ///< every intensity it was chosen for is met, up to float rounding

    bool fits_uint8() const { return lowest >= 0 && highest <= 255; }
    /// The nearest quantum of an intensity.
    std::int32_t quantum(double intensity) const;
};

/// Steps for the intensities of one modality inside the brain. In this order:
/// - values that are a + b k with integers k (integers, also after scl_slope and scl_inter): their own steps, if 2^16
///   of them reach from the smallest to the largest value; 0 to 255 if 2^8 do, else around the mean;
/// - otherwise 2^16 steps from the smallest to the largest: an error of at most 1/131070 of that range, which is below
///   1e-4 standard deviations for ranges of up to 13 of them.
/// With `levels` (2 to 256, 0 = none), where the above needs more steps than that: so many steps between the 0.05 and
/// the 99.95 percentile, values beyond those clipped to them.
/// Precondition: at least two different values, all finite; levels 0 or 2 to 256.
Quantization choose_quantization(std::span<const float> intensities, double mean, int levels);

} // namespace mfres
