// SPDX-License-Identifier: MIT
// Faults that public data has: noise and ringing around the brain, padding, a moved or cut contrast.
#pragma once

#include "core/random.h"

#include <mfres/volume.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

namespace mfres::test {

using Index = std::array<std::int64_t, 3>;

inline std::size_t offset_of(const Grid& grid, const Index& at) {
    return static_cast<std::size_t>(at[0] + grid.size[0] * (at[1] + grid.size[1] * at[2]));
}

/// Adds uniform noise of +- amplitude to every voxel that is exactly 0.
inline void add_noise_around(Volume& volume, double amplitude, std::uint64_t seed) {
    Random random(seed);
    for (float& value : volume.voxels)
        if (value == 0.0F)
            value = static_cast<float>(random.uniform(-amplitude, amplitude));
}

/// (value - mean) / deviation over the whole volume.
inline void standardise(Volume& volume) {
    double sum = 0.0;
    double squares = 0.0;
    for (const float value : volume.voxels) {
        sum += static_cast<double>(value);
        squares += static_cast<double>(value) * static_cast<double>(value);
    }
    const auto n = static_cast<double>(volume.voxels.size());
    const double mean = sum / n;
    const double deviation = std::sqrt(squares / n - mean * mean);
    for (float& value : volume.voxels)
        value = static_cast<float>((static_cast<double>(value) - mean) / deviation);
}

/// With `before` and `after` voxels of `value` more along each axis, at the same place in the world.
inline Volume padded(const Volume& volume, const Index& before, const Index& after, float value) {
    Volume larger;
    larger.grid = volume.grid;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        larger.grid.size[axis] += before[axis] + after[axis];
        for (std::size_t row = 0; row < 3; ++row)
            larger.grid.affine[row][3] -= volume.grid.affine[row][axis] * static_cast<double>(before[axis]);
    }
    larger.voxels.assign(static_cast<std::size_t>(larger.grid.voxels()), value);
    const Index& size = volume.grid.size;
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            std::copy_n(volume.voxels.begin() + static_cast<std::ptrdiff_t>(offset_of(volume.grid, {0, j, k})), size[0],
                        larger.voxels.begin() + static_cast<std::ptrdiff_t>(
                                                    offset_of(larger.grid, {before[0], j + before[1], k + before[2]})));
    return larger;
}

/// Voxel (i, j, k) of the result is voxel (i, j, k) - by of the volume, 0 beyond it.
inline Volume moved(const Volume& volume, const Index& by) {
    Volume result{volume.grid, std::vector<float>(volume.voxels.size(), 0.0F)};
    const Index& size = volume.grid.size;
    for (std::int64_t k = 0; k < size[2]; ++k)
        for (std::int64_t j = 0; j < size[1]; ++j)
            for (std::int64_t i = 0; i < size[0]; ++i) {
                const Index from = {i - by[0], j - by[1], k - by[2]};
                bool inside = true;
                for (std::size_t axis = 0; axis < 3; ++axis)
                    inside = inside && from[axis] >= 0 && from[axis] < size[axis];
                if (inside)
                    result.voxels[offset_of(volume.grid, {i, j, k})] = volume.voxels[offset_of(volume.grid, from)];
            }
    return result;
}

/// Shifted by half a voxel along i by cubic splines and shifted back: what resampling tools leave around edges. The
/// coefficients are those of interpolating B-splines (Unser 1999), the row mirrored at neither end.
inline void ring(Volume& volume) {
    const auto length = static_cast<std::size_t>(volume.grid.size[0]);
    const double pole = std::sqrt(3.0) - 2.0;
    const auto shift = [&](std::vector<double>& row, bool forward) {
        for (std::size_t i = 1; i < length; ++i)
            row[i] += pole * row[i - 1];
        row[length - 1] *= -pole / (1.0 - pole * pole);
        for (std::size_t i = length - 1; i-- > 0;)
            row[i] = pole * (row[i + 1] - row[i]);
        const std::vector<double> c = row;
        const auto at = [&](std::size_t i, int step) {
            const auto index = static_cast<std::ptrdiff_t>(i) + (forward ? step : -step);
            return index < 0 || index >= static_cast<std::ptrdiff_t>(length) ? 0.0
                                                                             : 6.0 * c[static_cast<std::size_t>(index)];
        };
        for (std::size_t i = 0; i < length; ++i)
            row[i] = (at(i, -1) + 23.0 * at(i, 0) + 23.0 * at(i, 1) + at(i, 2)) / 48.0;
    };
    std::vector<double> row(length);
    for (std::size_t first = 0; first < volume.voxels.size(); first += length) {
        std::copy_n(volume.voxels.begin() + static_cast<std::ptrdiff_t>(first), length, row.begin());
        shift(row, true);
        shift(row, false);
        std::transform(row.begin(), row.end(), volume.voxels.begin() + static_cast<std::ptrdiff_t>(first),
                       [](double value) { return static_cast<float>(value); });
    }
}

} // namespace mfres::test
