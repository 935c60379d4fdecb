// SPDX-License-Identifier: MIT
// Linear interpolation at places of a CropWalk, for host and device compilers.
#pragma once

#include "backends/anywhere.h"

#include <cstdint>

namespace mfres {

/// Interpolation along one axis: low * [index] + high * [index + 1], both within the box.
struct AxisWeights {
    std::int64_t index;
    float low;
    float high;
};

/// Weights at a place, in steps of 2^-32 voxel, whose nearest voxel is in a box of `size`. Neighbours outside the box
/// count as 0.
MFRES_ANYWHERE inline AxisWeights axis_weights(std::int64_t place, std::int64_t size) {
    const std::int64_t index = place >> 32;
    const auto fraction =
        static_cast<float>(static_cast<std::int32_t>((static_cast<std::uint64_t>(place) & 0xFFFFFFFFU) >> 8U)) *
        0x1.0p-24F;
    if (index < 0)
        return {0, fraction, 0.0F};
    if (index + 1 < size)
        return {index, 1.0F - fraction, fraction};
    if (size == 1)
        return {0, 1.0F - fraction, 0.0F};
    return {index - 1, 0.0F, 1.0F - fraction};
}

} // namespace mfres
