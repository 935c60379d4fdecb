// SPDX-License-Identifier: MIT
// Distances between the surfaces of two masks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace mfres {

/// The voxel values that count as inside.
using ValueSet = std::array<bool, 256>;

/// Voxels of a grid, i fastest, with the values that count as inside.
struct Mask {
    std::span<const std::uint8_t> values; ///< size[0] * size[1] * size[2]
    std::array<std::int64_t, 3> size{};
    ValueSet inside{};
};

/// Distances of every surface voxel of each mask to the other mask's surface, pooled, unordered, mm.
/// Empty if a mask is empty. Precondition: equal sizes, spacing positive and finite.
std::vector<double> pooled_surface_distances(const Mask& a, const Mask& b, const std::array<double, 3>& spacing_mm);

/// The p-quantile (0..1) with linear interpolation between the order statistics around (n - 1) p; nullopt without
/// values.
std::optional<double> quantile(std::vector<double> values, double p);

} // namespace mfres
