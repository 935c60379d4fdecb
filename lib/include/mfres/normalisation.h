// SPDX-License-Identifier: MIT
// How intensities are normalised before a network sees them. A model states which normalisation its weights expect.
#pragma once

#include <mfres/export.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace mfres {

/// Per contrast, over its n brain voxels. Both give (value - mean) / deviation with the mean and the population
/// standard deviation of the values, and 0 outside the brain.
enum class Normalisation : std::uint8_t {
    zscore_brain, ///< of the values as they are
    /// Of the values clipped to [low, high]: with the brain's values in ascending order v[0] <= ... <= v[n - 1] and
    /// k = floor((n - 1) / 2000), low = v[k] and high = v[n - 1 - k] (the 0.05 and 99.95 percentiles, without
    /// interpolation). If low == high, nothing is clipped. Mean and deviation are those of the clipped values, so a few
    /// wild voxels change neither.
    zscore_brain_clipped,
};
inline constexpr std::array<Normalisation, 2> normalisations = {Normalisation::zscore_brain,
                                                                Normalisation::zscore_brain_clipped};

/// "zscore-brain", "zscore-brain-clipped"
MFRES_EXPORT std::string_view to_string(Normalisation normalisation) noexcept;

/// The normalisation of that name. Errors: invalid_argument, naming the ones there are.
MFRES_EXPORT Result<Normalisation> parse_normalisation(std::string_view text);

} // namespace mfres
