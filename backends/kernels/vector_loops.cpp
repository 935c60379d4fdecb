// SPDX-License-Identifier: MIT
// Plain loops, which the compiler vectorises for each target. Lambdas have HWY_ATTR because Clang does not give them the
// target of the file otherwise.
#include "backends/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/kernels/vector_loops.cpp"
#include <hwy/foreach_target.h> // includes this file once for each instruction set

#include "backends/kernels/pragmas.h"
#include "backends/kernels/vector_loops.h"

#include <hwy/highway.h>

#include <bit>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace mfres::kernels {
namespace HWY_NAMESPACE {
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
    case Activation::Kind::none:
        return body([](float z) HWY_ATTR { return z; }, [](float g, float) HWY_ATTR { return g; });
    case Activation::Kind::relu:
        return body([](float z) HWY_ATTR { return z <= 0.0F ? 0.0F : z; },
                    [](float g, float z) HWY_ATTR { return z <= 0.0F ? 0.0F : g; });
    case Activation::Kind::leaky_relu:
        return body([slope](float z) HWY_ATTR { return z > 0.0F ? z : slope * z; },
                    [slope](float g, float z) HWY_ATTR { return z > 0.0F ? g : slope * g; });
    }
}

/// Calls body(n) with n a constant where it is a usual small number of channels.
template <typename Body>
void with_count(std::int64_t count, const Body& body) {
    switch (count) {
    case 4: return body(std::integral_constant<std::int64_t, 4>{});
    case 8: return body(std::integral_constant<std::int64_t, 8>{});
    case 16: return body(std::integral_constant<std::int64_t, 16>{});
    case 32: return body(std::integral_constant<std::int64_t, 32>{});
    }
    return body(count);
}

void add_statistics(const Row& row, const float* x, const float* pivot, float* sum, float* squares) {
    along(row, [=](std::int64_t i, std::int64_t j) HWY_ATTR {
        const float value = x[i] - pivot[j];
        sum[j] += value;
        squares[j] += value * value;
    });
}

void normalise(const Row& row, const Activation& activation, const Affine& affine, const float* x, bool adds,
               float* y) {
    with_activation(activation, [&](const auto& f, const auto&) HWY_ATTR {
        if (adds)
            along(row, [=](std::int64_t i, std::int64_t j) HWY_ATTR {
                y[i] = f(y[i] + ((x[i] - affine.mean[j]) * affine.factor[j] + affine.offset[j]));
            });
        else
            along(row, [=](std::int64_t i, std::int64_t j)
                           HWY_ATTR { y[i] = f((x[i] - affine.mean[j]) * affine.factor[j] + affine.offset[j]); });
    });
}

void take(const Row& row, const Activation& activation, const float* x, bool adds, float* y) {
    with_activation(activation, [&](const auto& f, const auto&) HWY_ATTR {
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

void to_bytes(std::int64_t count, const Quantizer& quantizer, const float* x, std::uint8_t* y) {
    const Quantizer q = quantizer;
    MFRES_SIMD
    for (std::int64_t i = 0; i < count; ++i)
        y[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(quantize(q, x[i])));
}

inline std::uint16_t narrowed(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t nearest = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
    const std::uint32_t quiet = (bits >> 16U) | 0x40U;
    return static_cast<std::uint16_t>((bits & 0x7FFFFFFFU) > 0x7F800000U ? quiet : nearest);
}

inline float widened(std::uint16_t value) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16U);
}

void to_bf16(std::int64_t count, const float* x, std::uint16_t* y) {
    MFRES_SIMD
    for (std::int64_t i = 0; i < count; ++i)
        y[i] = narrowed(x[i]);
}

void from_bf16(std::int64_t count, const std::uint16_t* x, float* y) {
    constexpr std::int64_t line = 32;    // values of a cache line
    constexpr std::int64_t ahead = 4096; // a block: what is read next while this one is computed with
    std::int64_t first = 0;
    for (; first + line <= count; first += line) {
        __builtin_prefetch(x + first + ahead);
        MFRES_SIMD
        for (std::int64_t i = first; i < first + line; ++i)
            y[i] = widened(x[i]);
    }
    MFRES_SIMD
    for (std::int64_t i = first; i < count; ++i)
        y[i] = widened(x[i]);
}

/// Calls body(x, y, n) with the first of the channels of every voxel; n as in with_count.
template <typename From, typename To, typename Body>
void for_voxels(const From* x, std::int64_t x_channels, To* y, std::int64_t y_channels, std::int64_t count,
                std::int64_t voxels, const Body& body) {
    const auto all = [=](const auto n) HWY_ATTR {
        for (std::int64_t v = 0; v < voxels; ++v)
            body(x + v * x_channels, y + v * y_channels, n);
    };
    if (count == 2)
        return all(std::integral_constant<std::int64_t, 2>{});
    with_count(count, all);
}

void widen_channels(const std::uint16_t* x, std::int64_t x_channels, float* y, std::int64_t y_channels,
                    std::int64_t count, std::int64_t voxels, bool adds) {
    if (adds)
        for_voxels(x, x_channels, y, y_channels, count, voxels,
                   [](const std::uint16_t* from, float* to, const auto n) HWY_ATTR {
                       MFRES_SIMD
                       for (std::int64_t c = 0; c < n; ++c)
                           to[c] += widened(from[c]);
                   });
    else
        for_voxels(x, x_channels, y, y_channels, count, voxels,
                   [](const std::uint16_t* from, float* to, const auto n) HWY_ATTR {
                       MFRES_SIMD
                       for (std::int64_t c = 0; c < n; ++c)
                           to[c] = widened(from[c]);
                   });
}

void narrow_channels(const float* x, std::int64_t x_channels, std::uint16_t* y, std::int64_t y_channels,
                     std::int64_t count, std::int64_t voxels) {
    for_voxels(x, x_channels, y, y_channels, count, voxels,
               [](const float* from, std::uint16_t* to, const auto n) HWY_ATTR {
                   MFRES_SIMD
                   for (std::int64_t c = 0; c < n; ++c)
                       to[c] = narrowed(from[c]);
               });
}

void mask(const Row& row, const Activation& activation, const float* g, const float* z, float* y) {
    with_activation(activation, [&](const auto&, const auto& masked) HWY_ATTR {
        MFRES_SIMD
        for (std::int64_t i = 0; i < row.count; ++i)
            y[i] = masked(g[i], z[i]);
    });
}

void mask_normalised(const Row& row, const Activation& activation, const Affine& affine, const float* g, const float* x,
                     float* y) {
    with_activation(activation, [&](const auto&, const auto& masked) HWY_ATTR {
        along(row, [=](std::int64_t i, std::int64_t j) HWY_ATTR {
            y[i] = masked(g[i], (x[i] - affine.mean[j]) * affine.factor[j] + affine.offset[j]);
        });
    });
}

void add_products(const Row& row, const float* g, const float* x, const float* mean, float* sum, float* dot) {
    along(row, [=](std::int64_t i, std::int64_t j) HWY_ATTR {
        sum[j] += g[i];
        dot[j] += g[i] * (x[i] - mean[j]);
    });
}

void add_masked_products(const Row& row, const Activation& activation, const Affine& affine, const float* g,
                         const float* x, float* sum, float* dot) {
    with_activation(activation, [&](const auto&, const auto& masked) HWY_ATTR {
        along(row, [=](std::int64_t i, std::int64_t j) HWY_ATTR {
            const float centred = x[i] - affine.mean[j];
            const float own = masked(g[i], centred * affine.factor[j] + affine.offset[j]);
            sum[j] += own;
            dot[j] += own * centred;
        });
    });
}

void input_gradient(const Row& row, const AffineGradient& gradient, const float* g, const float* x, float* dx) {
    along(row, [=](std::int64_t i, std::int64_t j) HWY_ATTR {
        dx[i] = gradient.own[j] * g[i] + gradient.centred[j] * (x[i] - gradient.mean[j]) + gradient.constant[j];
    });
}

void masked_input_gradient(const Row& row, const Activation& activation, const Affine& affine,
                           const AffineGradient& gradient, const float* g, const float* x, float* dx) {
    with_activation(activation, [&](const auto&, const auto& masked) HWY_ATTR {
        along(row, [=](std::int64_t i, std::int64_t j) HWY_ATTR {
            const float centred = x[i] - affine.mean[j];
            dx[i] = gradient.own[j] * masked(g[i], centred * affine.factor[j] + affine.offset[j]) +
                    gradient.centred[j] * centred + gradient.constant[j];
        });
    });
}

void scale(std::int64_t count, float factor, const float* x, float* y) {
    MFRES_SIMD
    for (std::int64_t i = 0; i < count; ++i)
        y[i] = factor * x[i];
}

void add_scaled(std::int64_t count, float factor, const float* x, float* y) {
    MFRES_SIMD
    for (std::int64_t i = 0; i < count; ++i)
        y[i] += factor * x[i];
}

/// exp(x) for x <= 0 to about one unit in the last place: exp(x) = 2^n exp(r), |r| <= ln(2)/2, and the Taylor series of
/// exp(r), whose eighth term is below 2^-27. Plain arithmetic, so that loops over it are vectorised. NaN stays NaN.
inline float exponential(float x) {
    constexpr float log2_e = 1.44269504F;
    constexpr float ln2_high = 0.693359375F; // few digits, so that its products with n are exact
    constexpr float ln2_low = -2.12194440e-4F;
    constexpr float to_nearest = 12582912.0F; // 1.5 * 2^23: adding it rounds to a whole number
    const float bounded = x < -87.0F ? -87.0F : x;
    const float shifted = bounded * log2_e + to_nearest;
    const float n = shifted - to_nearest;
    const float r = (bounded - n * ln2_high) - n * ln2_low;
    float series = 1.0F / 5040.0F;
    series = series * r + 1.0F / 720.0F;
    series = series * r + 1.0F / 120.0F;
    series = series * r + 1.0F / 24.0F;
    series = series * r + 1.0F / 6.0F;
    series = series * r + 0.5F;
    series = series * r + 1.0F;
    series = series * r + 1.0F;
    // The low bits of `shifted` hold n as an integer; in place of an exponent it is 2^n.
    const std::uint32_t power = (std::bit_cast<std::uint32_t>(shifted) + 127U) << 23U;
    return series * std::bit_cast<float>(power);
}

void probabilities(const float* logits, std::int64_t voxels, std::int64_t channels, std::int64_t stride, float* p,
                   float* spare) {
    float* most = spare;
    float* total = spare + stride;
    with_count(channels, [&](const auto count) HWY_ATTR {
        for (std::int64_t c = 0; c < count; ++c)
            MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v)
            p[c * stride + v] = logits[v * count + c];
    });
    MFRES_SIMD
    for (std::int64_t v = 0; v < voxels; ++v) {
        most[v] = p[v];
        total[v] = 0.0F;
    }
    for (std::int64_t c = 1; c < channels; ++c) {
        const float* own = p + c * stride;
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v)
            most[v] = own[v] > most[v] ? own[v] : most[v];
    }
    for (std::int64_t c = 0; c < channels; ++c) {
        float* own = p + c * stride;
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v) {
            own[v] = exponential(own[v] - most[v]);
            total[v] += own[v];
        }
    }
    MFRES_SIMD
    for (std::int64_t v = 0; v < voxels; ++v)
        total[v] = 1.0F / total[v];
    for (std::int64_t c = 0; c < channels; ++c) {
        float* own = p + c * stride;
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v)
            own[v] *= total[v];
    }
}

RowSums class_sums(const float* p, const std::uint8_t* truth, std::int64_t voxels, int own) {
    float with_truth = 0.0F;
    float sum = 0.0F;
    float squares = 0.0F;
    float count = 0.0F;
#pragma omp simd reduction(+ : with_truth, sum, squares, count)
    for (std::int64_t v = 0; v < voxels; ++v) {
        const float g = truth[v] == own ? 1.0F : 0.0F;
        with_truth += p[v] * g;
        sum += p[v];
        squares += p[v] * p[v];
        count += g;
    }
    return {with_truth, sum, squares, count};
}

void logit_gradient(const float* p, const std::uint8_t* truth, std::int64_t voxels, std::int64_t channels,
                    std::int64_t stride, const RowSlope* slopes, float* spare, float* gradient) {
    const auto slope = [=](std::int64_t c, std::int64_t v) HWY_ATTR {
        return (truth[v] == c ? slopes[c].truth : 0.0F) + slopes[c].constant +
               slopes[c].probability * p[c * stride + v];
    };
    MFRES_SIMD
    for (std::int64_t v = 0; v < voxels; ++v)
        spare[v] = 0.0F;
    for (std::int64_t c = 0; c < channels; ++c) {
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v)
            spare[v] += p[c * stride + v] * slope(c, v);
    }
    with_count(channels, [&](const auto count) HWY_ATTR {
        for (std::int64_t c = 0; c < count; ++c)
            MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v)
            gradient[v * count + c] = p[c * stride + v] * (slope(c, v) - spare[v]);
    });
}

/// log(x) for normal x > 0 to about one unit in the last place: x = 2^n m with m around 1, and a polynomial in m - 1
/// (Cephes' logf). NaN becomes a number.
inline float logarithm(float x) {
    constexpr std::uint32_t root_of_half = 0x3F3504F3U;
    constexpr float ln2_high = 0.693359375F;
    constexpr float ln2_low = -2.12194440e-4F;
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::int32_t power = static_cast<std::int32_t>(bits - root_of_half) >> 23;
    const float r = std::bit_cast<float>(bits - (static_cast<std::uint32_t>(power) << 23U)) - 1.0F;
    const auto n = static_cast<float>(power);
    float series = 7.0376836292e-2F;
    series = series * r - 1.1514610310e-1F;
    series = series * r + 1.1676998740e-1F;
    series = series * r - 1.2420140846e-1F;
    series = series * r + 1.4249322787e-1F;
    series = series * r - 1.6668057665e-1F;
    series = series * r + 2.0000714765e-1F;
    series = series * r - 2.4999993993e-1F;
    series = series * r + 3.3333331174e-1F;
    return n * ln2_high + (r + ((series * r - 0.5F) * (r * r) + n * ln2_low));
}

/// See reference/gradients.h. q is the sum of the other probabilities, which is exact where it is small; there ce / q is
/// the series of -log(1 - q) / q.
void pointwise(const float* logits, const float* p, const float* spare, const std::uint8_t* truth, std::int64_t voxels,
               std::int64_t channels, std::int64_t stride, float gamma, float* value, float* coefficient) {
    MFRES_SIMD
    for (std::int64_t v = 0; v < voxels; ++v)
        value[v] = coefficient[v] = 0.0F;
    for (std::int64_t c = 0; c < channels; ++c) {
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v) {
            value[v] += truth[v] == c ? logits[v * channels + c] : 0.0F;
            coefficient[v] += truth[v] == c ? 0.0F : p[c * stride + v];
        }
    }
    const float* most = spare;
    const float* inverse = spare + stride;
    if (gamma == 0.0F) {
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v) {
            const float entropy = (most[v] - value[v]) - logarithm(inverse[v]) + (inverse[v] - inverse[v]);
            value[v] = entropy < 0.0F ? 0.0F : entropy;
            coefficient[v] = 1.0F;
        }
        return;
    }
    MFRES_SIMD
    for (std::int64_t v = 0; v < voxels; ++v) {
        const float q = coefficient[v];
        const float entropy = (most[v] - value[v]) - logarithm(inverse[v]) + (inverse[v] - inverse[v]);
        const bool small = q < 0.01F;
        const float divisor = small ? 1.0F : q;
        const float ratio = small ? 1.0F + q * (0.5F + q * (1.0F / 3.0F + q * 0.25F)) : entropy / divisor;
        const float exponent = gamma * logarithm(q > 1e-30F ? q : 1e-30F);
        const float factor = q > 1e-30F ? exponential(exponent < 0.0F ? exponent : 0.0F) : 0.0F;
        value[v] = small ? factor * q * ratio : factor * entropy;
        value[v] += inverse[v] - inverse[v];
        coefficient[v] = factor * (1.0F + gamma * (1.0F - q) * ratio);
    }
}

void add_pointwise(const float* p, const std::uint8_t* truth, const float* coefficient, std::int64_t voxels,
                   std::int64_t channels, std::int64_t stride, float* gradient) {
    with_count(channels, [&](const auto count) HWY_ATTR {
        for (std::int64_t c = 0; c < count; ++c)
            MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v)
            gradient[v * count + c] += coefficient[v] * (p[c * stride + v] - (truth[v] == c ? 1.0F : 0.0F));
    });
}

void add_distillation(const float* logits, const float* p, const float* spare, const float* targets,
                      std::int64_t voxels, std::int64_t channels, std::int64_t stride, float factor, float* value,
                      float* gradient) {
    const float* most = spare;
    const float* inverse = spare + stride;
    const auto add = [=](std::int64_t v, const auto count) HWY_ATTR {
        const float all = (most[v] - logarithm(inverse[v])) + (inverse[v] - inverse[v]); // NaN stays NaN
        float sum = 0.0F;
        float entropy = 0.0F;
        for (std::int64_t c = 0; c < count; ++c) {
            sum += targets[v * count + c];
            entropy += targets[v * count + c] * (all - logits[v * count + c]);
        }
        value[v] = entropy;
        for (std::int64_t c = 0; c < count; ++c)
            gradient[v * count + c] += factor * (sum * p[c * stride + v] - targets[v * count + c]);
    };
    // Vectors along v need the loops over c unrolled.
    constexpr std::integral_constant<std::int64_t, 4> four;
    if (channels == four) {
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v)
            add(v, four);
        return;
    }
    for (std::int64_t v = 0; v < voxels; ++v)
        add(v, channels);
}

void blend_lines(std::int64_t count, const float* const* lines, const float* weights, float* y) {
    const float *a = lines[0], *b = lines[1], *c = lines[2], *d = lines[3];
    const float wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
    MFRES_SIMD
    for (std::int64_t i = 0; i < count; ++i)
        y[i] = (wa * a[i] + wb * b[i]) + (wc * c[i] + wd * d[i]);
}

void expand_line(const Blend* blends, std::int64_t voxels, std::int64_t channels, const float* x, float* y) {
    with_count(channels, [&](const auto count) HWY_ATTR {
        for (std::int64_t z = 0; z < voxels; ++z) {
            const Blend blend = blends[z];
            const float* low = x + blend.low * count;
            const float* high = x + blend.high * count;
            float* own = y + z * count;
            MFRES_SIMD
            for (std::int64_t c = 0; c < count; ++c)
                own[c] = blend.low_weight * low[c] + blend.high_weight * high[c];
        }
    });
}

void reduce_line(const std::int64_t* first, const std::int64_t* begin, const float* weights, std::int64_t voxels,
                 std::int64_t channels, const float* x, float* y) {
    with_count(channels, [&](const auto count) HWY_ATTR {
        for (std::int64_t z = 0; z < voxels; ++z) {
            const std::int64_t sources = begin[z + 1] - begin[z];
            const float* w = weights + begin[z];
            const float* from = x + first[z] * count;
            float* own = y + z * count;
            if (sources == 4) { // inside of a volume of twice the extent
                MFRES_SIMD
                for (std::int64_t c = 0; c < count; ++c)
                    own[c] = (w[0] * from[c] + w[1] * from[count + c]) +
                             (w[2] * from[2 * count + c] + w[3] * from[3 * count + c]);
                continue;
            }
            MFRES_SIMD
            for (std::int64_t c = 0; c < count; ++c)
                own[c] = 0.0F;
            for (std::int64_t k = 0; k < sources; ++k)
                MFRES_SIMD
            for (std::int64_t c = 0; c < count; ++c)
                own[c] += w[k] * from[k * count + c];
        }
    });
}

} // namespace

const VectorLoops* vector_loops_of_target() {
    static constexpr VectorLoops own{add_statistics,
                                     normalise,
                                     take,
                                     mask,
                                     mask_normalised,
                                     add_products,
                                     add_masked_products,
                                     input_gradient,
                                     masked_input_gradient,
                                     scale,
                                     add_scaled,
                                     from_bf16,
                                     widen_channels,
                                     narrow_channels,
                                     to_bytes,
                                     to_bf16,
                                     probabilities,
                                     class_sums,
                                     logit_gradient,
                                     pointwise,
                                     add_pointwise,
                                     blend_lines,
                                     expand_line,
                                     reduce_line,
                                     add_distillation};
    return &own;
}

} // namespace HWY_NAMESPACE
} // namespace mfres::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mfres::kernels {

HWY_EXPORT(vector_loops_of_target);

const VectorLoops& vector_loops() {
    return *HWY_DYNAMIC_DISPATCH(vector_loops_of_target)();
}

} // namespace mfres::kernels
#endif // HWY_ONCE
