#include "backends/onednn/row_loops.h"

// The iterations of the loop that follows are independent. Compilers cannot see that where an output may lie on an
// input, and vectorise at -O2 only what they are told to.
#define MFRES_SIMD _Pragma("omp simd")

namespace mfres::onednn {

namespace {

/// Calls body(i, j) for every place i of the row and j of the pattern.
template <typename Body>
void along(const Row& row, const Body& body) {
    std::int64_t first = 0;
    for (; first + row.pattern <= row.count; first += row.pattern) {
        MFRES_SIMD
        for (std::int64_t j = 0; j < row.pattern; ++j)
            body(first + j, j);
    }
    MFRES_SIMD
    for (std::int64_t j = 0; j < row.count - first; ++j)
        body(first + j, j);
}

/// Calls body(f, slope): f is the activation, slope(z) what it multiplies a gradient with. Comparisons are written so
/// that NaN stays NaN.
template <typename Body>
void with_activation(const Activation& activation, const Body& body) {
    const float slope = activation.slope;
    switch (activation.kind) {
    case Activation::Kind::none: return body([](float z) { return z; }, [](float g, float) { return g; });
    case Activation::Kind::relu:
        return body([](float z) { return z <= 0.0F ? 0.0F : z; },
                    [](float g, float z) { return z <= 0.0F ? 0.0F : g; });
    case Activation::Kind::leaky_relu:
        return body([slope](float z) { return z > 0.0F ? z : slope * z; },
                    [slope](float g, float z) { return z > 0.0F ? g : slope * g; });
    }
}

} // namespace

void add_statistics(const Row& row, const float* x, const float* pivot, float* sum, float* squares) {
    along(row, [=](std::int64_t i, std::int64_t j) {
        const float value = x[i] - pivot[j];
        sum[j] += value;
        squares[j] += value * value;
    });
}

void normalise(const Row& row, const Activation& activation, const Affine& affine, const float* x, bool adds,
               float* y) {
    const auto [mean, factor, offset] = affine;
    with_activation(activation, [&, mean = mean, factor = factor, offset = offset](const auto& f, const auto&) {
        if (adds)
            along(row,
                  [=](std::int64_t i, std::int64_t j) { y[i] = f(y[i] + ((x[i] - mean[j]) * factor[j] + offset[j])); });
        else
            along(row, [=](std::int64_t i, std::int64_t j) { y[i] = f((x[i] - mean[j]) * factor[j] + offset[j]); });
    });
}

void take(const Row& row, const Activation& activation, const float* x, bool adds, float* y) {
    with_activation(activation, [&](const auto& f, const auto&) {
        if (adds) {
            MFRES_SIMD
            for (std::int64_t i = 0; i < row.count; ++i)
                y[i] = f(y[i] + x[i]);
        } else {
            MFRES_SIMD
            for (std::int64_t i = 0; i < row.count; ++i)
                y[i] = f(x[i]);
        }
    });
}

void mask(const Row& row, const Activation& activation, const float* g, const float* z, float* y) {
    with_activation(activation, [&](const auto&, const auto& masked) {
        MFRES_SIMD
        for (std::int64_t i = 0; i < row.count; ++i)
            y[i] = masked(g[i], z[i]);
    });
}

void mask_normalised(const Row& row, const Activation& activation, const Affine& affine, const float* g, const float* x,
                     float* y) {
    const auto [mean, factor, offset] = affine;
    with_activation(activation, [&, mean = mean, factor = factor, offset = offset](const auto&, const auto& masked) {
        along(row,
              [=](std::int64_t i, std::int64_t j) { y[i] = masked(g[i], (x[i] - mean[j]) * factor[j] + offset[j]); });
    });
}

void add_products(const Row& row, const float* g, const float* x, const float* mean, float* sum, float* dot) {
    along(row, [=](std::int64_t i, std::int64_t j) {
        sum[j] += g[i];
        dot[j] += g[i] * (x[i] - mean[j]);
    });
}

void add_masked_products(const Row& row, const Activation& activation, const Affine& affine, const float* g,
                         const float* x, float* sum, float* dot) {
    const auto [mean, factor, offset] = affine;
    with_activation(activation, [&, mean = mean, factor = factor, offset = offset](const auto&, const auto& masked) {
        along(row, [=](std::int64_t i, std::int64_t j) {
            const float centred = x[i] - mean[j];
            const float own = masked(g[i], centred * factor[j] + offset[j]);
            sum[j] += own;
            dot[j] += own * centred;
        });
    });
}

void input_gradient(const Row& row, const AffineGradient& gradient, const float* g, const float* x, float* dx) {
    const auto [mean, own, centred, constant] = gradient;
    along(row, [=, mean = mean, own = own, centred = centred, constant = constant](std::int64_t i, std::int64_t j) {
        dx[i] = own[j] * g[i] + centred[j] * (x[i] - mean[j]) + constant[j];
    });
}

void masked_input_gradient(const Row& row, const Activation& activation, const Affine& affine,
                           const AffineGradient& gradient, const float* g, const float* x, float* dx) {
    const auto [mean, factor, offset] = affine;
    const float* own = gradient.own;
    const float* from_centre = gradient.centred;
    const float* constant = gradient.constant;
    with_activation(activation, [&, mean = mean, factor = factor, offset = offset](const auto&, const auto& masked) {
        along(row, [=](std::int64_t i, std::int64_t j) {
            const float centred = x[i] - mean[j];
            dx[i] = own[j] * masked(g[i], centred * factor[j] + offset[j]) + from_centre[j] * centred + constant[j];
        });
    });
}

void scale(const Row& row, float factor, const float* x, float* y) {
    MFRES_SIMD
    for (std::int64_t i = 0; i < row.count; ++i)
        y[i] = factor * x[i];
}

} // namespace mfres::onednn
