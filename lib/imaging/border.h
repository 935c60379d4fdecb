// SPDX-License-Identifier: MIT
// The border of a volume, whose most frequent intensity is the background.
#pragma once

#include "core/page_vector.h"

#include <array>
#include <cmath>
#include <cstdint>

namespace mfres::border {

/// The intensity of a stored value.
template <typename T>
float intensity(T stored, double slope, double inter) {
    return static_cast<float>(static_cast<double>(stored) * slope + inter);
}

/// Calls visit(first, count, step) for the border voxels of every line along i of slice k, each voxel once. `first` is an
/// index into the slice.
template <typename Visit>
void visit_slice(const std::array<std::int64_t, 3>& size, std::int64_t k, const Visit& visit) {
    for (std::int64_t j = 0; j < size[1]; ++j) {
        const bool whole_row = j == 0 || j == size[1] - 1 || k == 0 || k == size[2] - 1 || size[0] <= 2;
        if (whole_row)
            visit(size[0] * j, size[0], std::int64_t{1});
        else
            visit(size[0] * j, std::int64_t{2}, size[0] - 1);
    }
}

/// How many voxels a border has at most.
inline std::int64_t voxels(const std::array<std::int64_t, 3>& size) {
    return 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2]);
}

/// Bytes that reading a scan with so many voxels on its border takes besides the voxels that are kept: buffers of a file
/// and of zlib, and the border as stored, as intensities and sorted.
inline std::int64_t reading_bytes(std::int64_t border_voxels) {
    constexpr std::int64_t buffers = std::int64_t{1} << 20;
    return buffers + 3 * border_voxels * static_cast<std::int64_t>(sizeof(float));
}

/// The most frequent value; of equally frequent ones the smallest, 0 if there is none. Without a majority, one of the most
/// numerous values that are alike, see border_value(). Precondition: none is NaN.
float most_frequent(PageVector<float> values);

} // namespace mfres::border
