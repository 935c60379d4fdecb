// SPDX-License-Identifier: MIT
#include "data/smooth_field.h"

#include "core/random.h"

#include <cmath>

namespace mfres {

SmoothField::SmoothField(const std::array<std::int64_t, 3>& extents, const std::array<double, 3>& spacing,
                         std::uint64_t seed) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
        for (std::int64_t voxel = 0; voxel < extents[axis]; ++voxel) {
            const double place = static_cast<double>(voxel) / spacing[axis];
            const double u = place - std::floor(place);
            const double v = 1.0 - u;
            taps_[axis].push_back(
                {static_cast<std::size_t>(place),
                 {static_cast<float>(v * v * v / 6.0), static_cast<float>((3.0 * u * u * u - 6.0 * u * u + 4.0) / 6.0),
                  static_cast<float>((3.0 * v * v * v - 6.0 * v * v + 4.0) / 6.0),
                  static_cast<float>(u * u * u / 6.0)}});
        }
        points_[axis] = taps_[axis].back().first + 4;
    }
    control_.resize(points_[0] * points_[1] * points_[2]);
    line_.resize(points_[2]);
    Random random(seed);
    for (float& value : control_)
        value = random.uniform() < 0.5 ? -1.0F : 1.0F;
}

void SmoothField::row(std::int64_t x, std::int64_t y, std::span<float> out) {
    const Taps& along_x = taps_[0][static_cast<std::size_t>(x)];
    const Taps& along_y = taps_[1][static_cast<std::size_t>(y)];
    std::fill(line_.begin(), line_.end(), 0.0F);
    for (std::size_t i = 0; i < 4; ++i)
        for (std::size_t j = 0; j < 4; ++j) {
            const float weight = along_x.weights[i] * along_y.weights[j];
            const float* const from = &control_[((along_x.first + i) * points_[1] + along_y.first + j) * points_[2]];
            for (std::size_t k = 0; k < points_[2]; ++k)
                line_[k] += weight * from[k];
        }
    for (std::size_t z = 0; z < out.size(); ++z) {
        const Taps& taps = taps_[2][z];
        const float* const from = &line_[taps.first];
        out[z] = taps.weights[0] * from[0] + taps.weights[1] * from[1] + taps.weights[2] * from[2] +
                 taps.weights[3] * from[3];
    }
}

} // namespace mfres
