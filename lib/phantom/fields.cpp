// SPDX-License-Identifier: MIT
#include "phantom/fields.h"

#include <array>
#include <numbers>

namespace mfres::phantom {

namespace {

std::size_t cube(int edge) {
    const auto n = static_cast<std::size_t>(edge);
    return n * n * n;
}

/// The four weights of the uniform cubic B-spline at fraction t of a knot interval.
std::array<float, 4> spline_weights(float t) {
    const float s = 1.0F - t;
    return {s * s * s / 6.0F, (3.0F * t * t * t - 6.0F * t * t + 4.0F) / 6.0F,
            (3.0F * s * s * s - 6.0F * s * s + 4.0F) / 6.0F, t * t * t / 6.0F};
}

/// Evaluates splines along the fastest axis and makes that axis the slowest; three calls process all axes and restore
/// the order. `source` has `rows` lines of `knots` coefficients, each of which gives `points` values.
std::vector<float> spline_along_rows(const std::vector<float>& source, std::size_t rows, int knots, int points,
                                     float knots_per_point) {
    std::vector<float> result(rows * static_cast<std::size_t>(points));
    for (int i = 0; i < points; ++i) {
        const float position = static_cast<float>(i) * knots_per_point;
        const int first = std::min(static_cast<int>(position), knots - 4);
        const auto weight = spline_weights(position - static_cast<float>(first));
        float* out = result.data() + rows * static_cast<std::size_t>(i);
        for (std::size_t row = 0; row < rows; ++row) {
            const float* c = source.data() + row * static_cast<std::size_t>(knots) + first;
            out[row] = weight[0] * c[0] + weight[1] * c[1] + weight[2] * c[2] + weight[3] * c[3];
        }
    }
    return result;
}

/// cos and sin of a wave along one axis, at every lattice coordinate.
struct AxisPhase {
    std::vector<float> cosine;
    std::vector<float> sine;
};

AxisPhase axis_phase(const Field& field, double wave_number, double phase) {
    AxisPhase result;
    for (int i = 0; i < field.points(); ++i) {
        const double angle = wave_number * (i * static_cast<double>(field.spacing()) - Field::half_extent) + phase;
        result.cosine.push_back(static_cast<float>(std::cos(angle)));
        result.sine.push_back(static_cast<float>(std::sin(angle)));
    }
    return result;
}

/// Adds cos(kx x + ky y + kz z + phase), computed from cos and sin along the axes by the addition theorem.
void add_wave(Field& field, const AxisPhase& x, const AxisPhase& y, const AxisPhase& z) {
    const auto n = static_cast<std::size_t>(field.points());
    for (std::size_t k = 0; k < n; ++k)
        for (std::size_t j = 0; j < n; ++j) {
            const float c = y.cosine[j] * z.cosine[k] - y.sine[j] * z.sine[k];
            const float s = y.sine[j] * z.cosine[k] + y.cosine[j] * z.sine[k];
            float* row = field.values().data() + n * (j + n * k);
            for (std::size_t i = 0; i < n; ++i)
                row[i] += x.cosine[i] * c - x.sine[i] * s;
        }
}

} // namespace

Field::Field(float spacing)
    : points_(static_cast<int>(std::ceil(2.0F * half_extent / spacing)) + 1),
      spacing_(2.0F * half_extent / static_cast<float>(points_ - 1)), values_(cube(points_)) {}

float Field::at(Point p) const {
    const float last = static_cast<float>(points_) - 1.001F;
    const float x = std::clamp((p.x + half_extent) / spacing_, 0.0F, last);
    const float y = std::clamp((p.y + half_extent) / spacing_, 0.0F, last);
    const float z = std::clamp((p.z + half_extent) / spacing_, 0.0F, last);
    const auto i = static_cast<std::size_t>(x);
    const auto j = static_cast<std::size_t>(y);
    const auto k = static_cast<std::size_t>(z);
    const float fx = x - static_cast<float>(i);
    const float fy = y - static_cast<float>(j);
    const float fz = z - static_cast<float>(k);
    const auto n = static_cast<std::size_t>(points_);
    const float* v = values_.data() + i + n * (j + n * k);
    const float low = lerp(lerp(v[0], v[1], fx), lerp(v[n], v[n + 1], fx), fy);
    v += n * n;
    const float high = lerp(lerp(v[0], v[1], fx), lerp(v[n], v[n + 1], fx), fy);
    return lerp(low, high, fz);
}

Point Field::gradient(Point p) const {
    return {0.5F * (at({p.x + 1, p.y, p.z}) - at({p.x - 1, p.y, p.z})),
            0.5F * (at({p.x, p.y + 1, p.z}) - at({p.x, p.y - 1, p.z})),
            0.5F * (at({p.x, p.y, p.z + 1}) - at({p.x, p.y, p.z - 1}))};
}

void Field::standardise() {
    double sum = 0;
    double squares = 0;
    for (const float v : values_) {
        sum += v;
        squares += static_cast<double>(v) * v;
    }
    const double count = static_cast<double>(values_.size());
    const double mean = sum / count;
    const double deviation = std::sqrt(std::max(squares / count - mean * mean, 1e-12));
    for (float& v : values_)
        v = static_cast<float>((v - mean) / deviation);
}

Field noise_field(Random random, float feature) {
    Field field(feature / 3.0F);
    const int knots = static_cast<int>(std::ceil(2.0F * Field::half_extent / feature)) + 4;
    std::vector<float> values(cube(knots));
    for (float& v : values)
        v = static_cast<float>(random.normal());
    const float knots_per_point = field.spacing() / feature;
    const auto n = static_cast<std::size_t>(knots);
    const auto m = static_cast<std::size_t>(field.points());
    values = spline_along_rows(values, n * n, knots, field.points(), knots_per_point);
    values = spline_along_rows(values, n * m, knots, field.points(), knots_per_point);
    field.values() = spline_along_rows(values, m * m, knots, field.points(), knots_per_point);
    field.standardise();
    return field;
}

Field wave_field(Random random, float wavelength) {
    constexpr int waves = 36;
    Field field(wavelength / 10.0F);
    for (int wave = 0; wave < waves; ++wave) {
        const double axial = random.uniform(-1.0, 1.0);
        const double around = random.uniform(0.0, 2.0 * std::numbers::pi);
        const double number = 2.0 * std::numbers::pi / (wavelength * random.uniform(0.85, 1.15));
        const double phase = random.uniform(0.0, 2.0 * std::numbers::pi);
        const double across = number * std::sqrt(1.0 - axial * axial);
        add_wave(field, axis_phase(field, across * std::cos(around), phase),
                 axis_phase(field, across * std::sin(around), 0.0), axis_phase(field, number * axial, 0.0));
    }
    field.standardise();
    return field;
}

} // namespace mfres::phantom
