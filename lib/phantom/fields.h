// SPDX-License-Identifier: MIT
// Points in the head coordinates of the phantom, and smooth random scalar fields.
#pragma once

#include "core/random.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace mfres::phantom {

/// Head coordinates in mm of an adult head; x to the right, y to anterior, z to superior, origin in the middle of the
/// cerebrum.
struct Point {
    float x = 0;
    float y = 0;
    float z = 0;
};

inline Point operator+(Point a, Point b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z};
}
inline Point operator-(Point a, Point b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}
inline Point operator*(Point a, float s) {
    return {a.x * s, a.y * s, a.z * s};
}
inline float dot(Point a, Point b) {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
inline float length(Point a) {
    return std::sqrt(dot(a, a));
}

/// 0 below `low`, 1 above `high`, a smooth cubic between.
inline float smooth_step(float low, float high, float value) {
    const float t = std::clamp((value - low) / (high - low), 0.0F, 1.0F);
    return t * t * (3.0F - 2.0F * t);
}
inline float lerp(float a, float b, float t) {
    return a + (b - a) * t;
}
/// Smooth minimum of two distances; it differs from the minimum where they differ by less than `radius`.
inline float smooth_min(float a, float b, float radius) {
    const float h = std::max(radius - std::abs(a - b), 0.0F);
    return std::min(a, b) - h * h / (4.0F * radius);
}
inline float smooth_max(float a, float b, float radius) {
    return -smooth_min(-a, -b, radius);
}

/// A scalar field on a coarse cubic lattice around the origin, evaluated by trilinear interpolation. Noise is computed
/// once per lattice point, which is cheaper than once per voxel.
class Field {
  public:
    /// The lattice covers [-half_extent, half_extent] on every axis; beyond it the border value is continued.
    static constexpr float half_extent = 120.0F;

    /// Lattice points lie at most `spacing` mm apart; all values start at 0.
    explicit Field(float spacing);

    float at(Point p) const;
    /// Gradient per mm, from central differences over two millimetres.
    Point gradient(Point p) const;

    int points() const { return points_; }
    float spacing() const { return spacing_; }
    std::vector<float>& values() { return values_; }

    /// Shifts and scales the values to mean 0 and standard deviation 1.
    void standardise();

  private:
    int points_;
    float spacing_;
    std::vector<float> values_;
};

/// Noise with features of about `feature` mm: independent normal coefficients of cubic B-splines with that knot
/// distance. Mean 0, standard deviation 1.
Field noise_field(Random random, float feature);

/// A sum of plane waves of random direction and phase; wavelengths have a spread of 15 % around `wavelength` mm. Its
/// zero set is a labyrinth of sheets about half a wavelength apart. Mean 0, standard deviation 1.
Field wave_field(Random random, float wavelength);

} // namespace mfres::phantom
