// SPDX-License-Identifier: MIT
// Our own kernels for every instruction set that this processor has: each loop against the same formula in double
// precision, then whole ops, fusion groups and gradients against the reference.
#include "core/half.h"
#include "core/random.h"
#include "support/catch.h"

#if defined(MFRES_WITH_ONEDNN) || defined(MFRES_WITH_NATIVE)
#include "backends/kernels/dispatch.h"
#include "backends/kernels/fusion_group.h"
#include "backends/kernels/line_kernels.h"
#include "backends/kernels/loops.h"
#include "backends/kernels/pair_kernels.h"
#include "backends/kernels/row_convolution.h"
#include "backends/kernels/tile_convolution.h"
#include "backends/kernels/tile_kernels.h"
#include "backends/kernels/vector_loops.h"
#include "backends/kernels/winograd_convolution.h"
#include "backends/kernels/winograd_kernels.h"
#include "support/check_backend.h"
#include "support/graphs.h"
#include "support/op_cases.h"
#include "support/paths.h"
#include "support/program.h"
#include "support/run_graph.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <regex>
#include <set>

#ifdef MFRES_WITH_ONEDNN
#include "backends/onednn/inference.h"
#endif
#ifdef MFRES_WITH_NATIVE
#include "backends/native/inference.h"
#endif

using namespace mfres;
using namespace mfres::kernels;

namespace {

using Doubles = std::vector<double>;
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// Calls body() under every target.
template <typename Body>
void for_targets(const Body& body) {
    for (const std::string& target : supported_targets()) {
        INFO(target);
        const TargetScope scope(target);
        body();
    }
}

/// Floats at a 64-byte boundary.
AlignedVector<float> random_floats(std::int64_t count, std::uint64_t seed) {
    Random random(seed);
    AlignedVector<float> values(static_cast<std::size_t>(count));
    for (float& value : values)
        value = static_cast<float>(random.normal());
    return values;
}

Doubles doubles(const AlignedVector<float>& values) {
    return {values.begin(), values.end()};
}

template <typename Values>
auto& at(Values& values, std::int64_t i) {
    return values[static_cast<std::size_t>(i)];
}

/// Every value within `tolerance` of the expected one, relative to the largest magnitude; NaN equals NaN.
void check_close(const AlignedVector<float>& got, const Doubles& expected, double tolerance = 1e-6) {
    REQUIRE(got.size() >= expected.size());
    double largest = 1.0;
    for (const double value : expected)
        largest = std::isfinite(value) ? std::max(largest, std::abs(value)) : largest;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (std::isnan(expected[i]) ? std::isnan(got[i]) : std::abs(got[i] - expected[i]) <= tolerance * largest)
            continue;
        INFO("value " << i << " is " << got[i] << ", not " << expected[i]);
        CHECK(false);
        return;
    }
}

double activated(const Activation& activation, double z) {
    switch (activation.kind) {
    case Activation::Kind::none: return z;
    case Activation::Kind::relu: return z <= 0.0 ? 0.0 : z;
    case Activation::Kind::leaky_relu: return z > 0.0 ? z : double{activation.slope} * z;
    }
    return z;
}

double masked(const Activation& activation, double g, double z) {
    switch (activation.kind) {
    case Activation::Kind::none: return g;
    case Activation::Kind::relu: return z <= 0.0 ? 0.0 : g;
    case Activation::Kind::leaky_relu: return z > 0.0 ? g : double{activation.slope} * g;
    }
    return g;
}

const std::vector<Activation> activations = {
    {Activation::Kind::none, 0.0F}, {Activation::Kind::relu, 0.0F}, {Activation::Kind::leaky_relu, 0.25F}};

/// Values along a row and along its pattern, the same for every target.
struct RowData {
    explicit RowData(const Row& r)
        : row(r), x(random_floats(r.count, 1)), g(random_floats(r.count, 2)), y(random_floats(r.count, 3)),
          mean(random_floats(r.pattern, 4)), factor(random_floats(r.pattern, 5)), offset(random_floats(r.pattern, 6)),
          centred(random_floats(r.pattern, 7)) {
        if (r.count > 2)
            at(x, r.count / 2) = not_a_number;
    }

    Affine affine() const { return {mean.data(), factor.data(), offset.data()}; }
    AffineGradient gradient() const { return {mean.data(), factor.data(), centred.data(), offset.data()}; }
    double normal(std::int64_t i) const {
        const std::int64_t j = i % row.pattern;
        return (double{at(x, i)} - at(mean, j)) * at(factor, j) + at(offset, j);
    }
    /// f(i) for every place.
    template <typename F>
    Doubles map(const F& f) const {
        Doubles values;
        for (std::int64_t i = 0; i < row.count; ++i)
            values.push_back(f(i));
        return values;
    }
    /// By place in the pattern, `start` and the sum of f(i).
    template <typename F>
    Doubles sums(const AlignedVector<float>& start, const F& f) const {
        Doubles values = doubles(start);
        for (std::int64_t i = 0; i < row.count; ++i)
            at(values, i % row.pattern) += f(i);
        return values;
    }

    Row row;
    AlignedVector<float> x, g, y, mean, factor, offset, centred;
};

const std::vector<Row> row_shapes = {{64 * 5, 64}, {64 * 3 + 20, 64}, {7, 64}, {48 * 4 + 5, 48}, {1000, 33}, {1, 1}};

void check_row(const RowData& d, const Activation& f) {
    const VectorLoops& loops = vector_loops();
    for (const bool adds : {false, true}) {
        const auto before = [&](std::int64_t i) { return adds ? double{at(d.y, i)} : 0.0; };
        AlignedVector<float> y = d.y;
        loops.normalise(d.row, f, d.affine(), d.x.data(), adds, y.data());
        check_close(y, d.map([&](std::int64_t i) { return activated(f, before(i) + d.normal(i)); }));
        y = d.y;
        loops.take(d.row, f, d.x.data(), adds, y.data());
        check_close(y, d.map([&](std::int64_t i) { return activated(f, before(i) + double{at(d.x, i)}); }));
    }
    const auto masked_at = [&](std::int64_t i) { return masked(f, double{at(d.g, i)}, d.normal(i)); };
    const auto centred_at = [&](std::int64_t i) { return double{at(d.x, i)} - at(d.mean, i % d.row.pattern); };
    AlignedVector<float> y(d.y.size());
    loops.mask(d.row, f, d.g.data(), d.y.data(), y.data());
    check_close(y, d.map([&](std::int64_t i) { return masked(f, double{at(d.g, i)}, double{at(d.y, i)}); }));
    loops.mask_normalised(d.row, f, d.affine(), d.g.data(), d.x.data(), y.data());
    check_close(y, d.map(masked_at));
    AlignedVector<float> sum = d.factor;
    AlignedVector<float> dot = d.offset;
    loops.add_masked_products(d.row, f, d.affine(), d.g.data(), d.x.data(), sum.data(), dot.data());
    check_close(sum, d.sums(d.factor, masked_at), 1e-5);
    check_close(dot, d.sums(d.offset, [&](std::int64_t i) { return masked_at(i) * centred_at(i); }), 1e-5);
    loops.masked_input_gradient(d.row, f, d.affine(), d.gradient(), d.g.data(), d.x.data(), y.data());
    const auto gradient_of = [&](std::int64_t i, double g) {
        const std::int64_t j = i % d.row.pattern;
        return at(d.factor, j) * g + at(d.centred, j) * centred_at(i) + at(d.offset, j);
    };
    check_close(y, d.map([&](std::int64_t i) { return gradient_of(i, masked_at(i)); }));
    loops.input_gradient(d.row, d.gradient(), d.g.data(), d.x.data(), y.data());
    check_close(y, d.map([&](std::int64_t i) { return gradient_of(i, double{at(d.g, i)}); }));
    sum = d.factor;
    dot = d.offset;
    loops.add_products(d.row, d.g.data(), d.x.data(), d.mean.data(), sum.data(), dot.data());
    check_close(sum, d.sums(d.factor, [&](std::int64_t i) { return double{at(d.g, i)}; }), 1e-5);
    check_close(dot, d.sums(d.offset, [&](std::int64_t i) { return at(d.g, i) * centred_at(i); }), 1e-5);
    sum = d.factor;
    dot = d.offset;
    loops.add_statistics(d.row, d.x.data(), d.mean.data(), sum.data(), dot.data());
    check_close(sum, d.sums(d.factor, centred_at), 1e-5);
    check_close(dot, d.sums(d.offset, [&](std::int64_t i) { return centred_at(i) * centred_at(i); }), 1e-5);
}

/// Logits and labels of some voxels, and what is computed from them.
struct Voxelwise {
    Voxelwise(std::int64_t voxel_count, std::int64_t class_count)
        : voxels(voxel_count), channels(class_count), logits(random_floats(voxel_count * class_count, 11)) {
        Random random(12);
        for (float& value : logits)
            value *= 4.0F;
        for (std::int64_t v = 0; v < voxels; ++v)
            truth.push_back(static_cast<std::uint8_t>(random.below(static_cast<std::uint64_t>(channels))));
        for (std::int64_t v = 0; v < voxels; ++v) {
            double most = logit(v, 0);
            for (std::int64_t c = 1; c < channels; ++c)
                most = std::max(most, logit(v, c));
            double sum = 0.0;
            for (std::int64_t c = 0; c < channels; ++c)
                sum += std::exp(logit(v, c) - most);
            for (std::int64_t c = 0; c < channels; ++c)
                probability.push_back(std::exp(logit(v, c) - most) / sum);
            log_sum.push_back(most + std::log(sum));
        }
    }

    double logit(std::int64_t v, std::int64_t c) const { return double{at(logits, v * channels + c)}; }
    double p(std::int64_t v, std::int64_t c) const { return at(probability, v * channels + c); }
    double is(std::int64_t v, std::int64_t c) const { return at(truth, v) == c ? 1.0 : 0.0; }

    std::int64_t voxels, channels;
    AlignedVector<float> logits;
    std::vector<std::uint8_t> truth;
    Doubles probability; ///< [voxel][class]
    Doubles log_sum;     ///< by voxel: of exp(logit)
};

void check_voxelwise(const Voxelwise& d) {
    const VectorLoops& loops = vector_loops();
    constexpr std::int64_t stride = 256;
    const std::int64_t all = d.voxels * d.channels;
    AlignedVector<float> p(static_cast<std::size_t>(d.channels * stride));
    AlignedVector<float> spare(2 * stride);
    loops.probabilities(d.logits.data(), d.voxels, d.channels, stride, p.data(), spare.data());
    AlignedVector<float> by_voxel(static_cast<std::size_t>(all));
    for (std::int64_t v = 0; v < d.voxels; ++v)
        for (std::int64_t c = 0; c < d.channels; ++c)
            at(by_voxel, v * d.channels + c) = at(p, c * stride + v);
    check_close(by_voxel, d.probability);

    for (std::int64_t c = 0; c < d.channels; ++c) {
        const RowSums sums = loops.class_sums(p.data() + c * stride, d.truth.data(), d.voxels, static_cast<int>(c));
        Doubles expected(4, 0.0);
        for (std::int64_t v = 0; v < d.voxels; ++v) {
            expected[0] += d.p(v, c) * d.is(v, c);
            expected[1] += d.p(v, c);
            expected[2] += d.p(v, c) * d.p(v, c);
            expected[3] += d.is(v, c);
        }
        check_close({sums.probability_truth, sums.probability, sums.probability_squared, sums.truth}, expected);
    }

    AlignedVector<float> value(stride);
    AlignedVector<float> coefficient(stride);
    AlignedVector<float> gradient(static_cast<std::size_t>(all));
    for (const float gamma : {0.0F, 2.0F}) {
        loops.pointwise(d.logits.data(), p.data(), spare.data(), d.truth.data(), d.voxels, d.channels, stride, gamma,
                        value.data(), coefficient.data());
        Doubles values;
        Doubles coefficients;
        for (std::int64_t v = 0; v < d.voxels; ++v) {
            const double entropy = d.log_sum[static_cast<std::size_t>(v)] - d.logit(v, at(d.truth, v));
            double q = 0.0;
            for (std::int64_t c = 0; c < d.channels; ++c)
                q += d.is(v, c) > 0.0 ? 0.0 : d.p(v, c);
            const double factor = gamma == 0.0F ? 1.0 : q * q;
            values.push_back(factor * entropy);
            coefficients.push_back(gamma == 0.0F ? 1.0 : factor * (1.0 + 2.0 * (1.0 - q) * entropy / q));
        }
        check_close(value, values, 1e-5);
        check_close(coefficient, coefficients, 1e-5);
    }

    AlignedVector<float> slope_values = random_floats(3 * d.channels, 13);
    std::vector<RowSlope> slopes;
    for (std::int64_t c = 0; c < d.channels; ++c)
        slopes.push_back({at(slope_values, 3 * c), at(slope_values, 3 * c + 1), at(slope_values, 3 * c + 2)});
    Doubles expected;
    for (std::int64_t v = 0; v < d.voxels; ++v) {
        const auto slope = [&](std::int64_t c) {
            const RowSlope& own = slopes[static_cast<std::size_t>(c)];
            return d.is(v, c) * own.truth + own.constant + own.probability * d.p(v, c);
        };
        double mean = 0.0;
        for (std::int64_t c = 0; c < d.channels; ++c)
            mean += d.p(v, c) * slope(c);
        for (std::int64_t c = 0; c < d.channels; ++c)
            expected.push_back(d.p(v, c) * (slope(c) - mean));
    }
    AlignedVector<float> means(stride);
    loops.logit_gradient(p.data(), d.truth.data(), d.voxels, d.channels, stride, slopes.data(), means.data(),
                         gradient.data());
    check_close(gradient, expected);
    loops.add_pointwise(p.data(), d.truth.data(), coefficient.data(), d.voxels, d.channels, stride, gradient.data());
    for (std::int64_t v = 0; v < d.voxels; ++v)
        for (std::int64_t c = 0; c < d.channels; ++c)
            at(expected, v * d.channels + c) += at(coefficient, v) * (d.p(v, c) - d.is(v, c));
    check_close(gradient, expected, 1e-5);

    AlignedVector<float> targets = random_floats(all, 14);
    for (float& target : targets)
        target = std::abs(target);
    Doubles entropies(static_cast<std::size_t>(d.voxels), 0.0);
    for (std::int64_t v = 0; v < d.voxels; ++v) {
        double sum = 0.0;
        for (std::int64_t c = 0; c < d.channels; ++c) {
            sum += at(targets, v * d.channels + c);
            at(entropies, v) += at(targets, v * d.channels + c) * (at(d.log_sum, v) - d.logit(v, c));
        }
        for (std::int64_t c = 0; c < d.channels; ++c)
            at(expected, v * d.channels + c) += 0.5 * (sum * d.p(v, c) - at(targets, v * d.channels + c));
    }
    loops.add_distillation(d.logits.data(), p.data(), spare.data(), targets.data(), d.voxels, d.channels, stride, 0.5F,
                           value.data(), gradient.data());
    check_close(value, entropies, 1e-5);
    check_close(gradient, expected, 1e-5);
}

/// The bits of bfloat16 nearest to x, ties to even; NaN stays NaN.
std::uint16_t bf16_of(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    if (std::isnan(x))
        return static_cast<std::uint16_t>((bits >> 16U) | 0x40U);
    const std::uint32_t rest = bits & 0xFFFFU;
    const std::uint32_t up = rest > 0x8000U || (rest == 0x8000U && (bits >> 16U) % 2 == 1) ? 1 : 0;
    return static_cast<std::uint16_t>((bits >> 16U) + up);
}

float from_bf16(std::uint16_t x) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(x) << 16U);
}

/// Rows in memory as line kernels want them.
class Lines {
  public:
    Lines(std::int64_t rows, std::int64_t floats, std::uint64_t seed)
        : stride_(floats + row_margin),
          memory_(seed == 0 ? AlignedVector<float>(static_cast<std::size_t>(rows * stride_ + row_margin))
                            : random_floats(rows * stride_ + row_margin, seed)) {
        for (std::int64_t r = 0; r < rows; ++r) {
            rows_.push_back(memory_.data() + r * stride_ + row_margin);
            std::fill_n(rows_.back() - row_margin, row_margin, 0.0F);
        }
        std::fill_n(memory_.data() + rows * stride_, row_margin, 0.0F);
    }
    float* const* rows() const { return rows_.data(); }
    const float* const* read() const { return rows_.data(); }
    /// Zero outside of the row.
    double value(std::int64_t row, std::int64_t z, std::int64_t voxels) const {
        return z < 0 || z >= voxels ? 0.0 : double{at(rows_, row)[z]};
    }

  private:
    std::int64_t stride_;
    AlignedVector<float> memory_;
    std::vector<float*> rows_;
};

void check_convolution(std::int64_t rows, std::int64_t channels, bool three, const Activation& activation) {
    const std::int64_t floats = 48;
    const std::int64_t shifts = three ? 3 : 1;
    const Lines in(rows, floats, 21);
    const Lines residual(channels, floats, 22);
    const Lines out(channels, floats, 0);
    const AlignedVector<float> weights = random_floats(channels * rows * shifts, 23);
    const AlignedVector<float> bias = random_floats(channels, 24);
    RowConvolution c;
    c.inputs = in.read();
    c.rows = rows;
    c.shifts = three ? 3 : 1;
    c.first_shift = three ? -1 : 0;
    c.weights = weights.data();
    c.bias = bias.data();
    c.residual = residual.read();
    c.outputs = out.rows();
    c.channels = channels;
    c.floats = floats;
    c.activation = activation;
    line_kernels().convolve(c);
    AlignedVector<float> got;
    Doubles expected;
    for (std::int64_t o = 0; o < channels; ++o)
        for (std::int64_t z = 0; z < floats; ++z) {
            const std::int64_t first = o / row_block * row_block;
            const std::int64_t block = std::min(row_block, channels - first);
            double sum = at(bias, o);
            for (std::int64_t r = 0; r < rows; ++r)
                for (std::int64_t s = 0; s < shifts; ++s)
                    sum += at(weights, first * rows * shifts + (r * shifts + s) * block + o - first) *
                           in.value(r, z + (three ? s - 1 : 0), floats);
            got.push_back(out.rows()[o][z]);
            expected.push_back(activated(activation, sum + residual.value(o, z, floats)));
        }
    check_close(got, expected);
}

/// Rows of pairs against sums of products of rounded values in double precision.
void check_pairs(std::int64_t pairs, std::int64_t channels, bool three, const Activation& activation,
                 std::int64_t floats) {
    const PairKernels& kernels = *pair_kernels();
    const std::int64_t shifts = three ? 3 : 1;
    const Lines in(2 * pairs, floats, 51);
    const Lines packed(pairs, floats, 0);
    kernels.pack(in.read(), pairs, floats, packed.rows());
    const auto rounded_value = [](double value) { return bf16_to_f32(f32_to_bf16(static_cast<float>(value))); };
    bool same = true;
    for (std::int64_t p = 0; p < pairs; ++p)
        for (std::int64_t z = 0; z < floats; ++z) {
            const auto bits = std::bit_cast<std::uint32_t>(packed.rows()[p][z]);
            same = same && (bits & 0xFFFFU) == f32_to_bf16(in.rows()[2 * p][z]) &&
                   bits >> 16U == f32_to_bf16(in.rows()[2 * p + 1][z]);
        }
    CHECK(same);
    Tensor weight(Shape{channels, 2 * pairs, 1, 1, shifts});
    const AlignedVector<float> random = random_floats(weight.elements(), 53);
    std::copy(random.begin(), random.end(), weight.values().begin());
    const std::vector<float> weights = packed_pair_weights(weight);
    const Lines residual(channels, floats, 52);
    const Lines out(channels, floats, 0);
    const AlignedVector<float> bias = random_floats(channels, 54);
    RowConvolution c;
    c.inputs = packed.read();
    c.rows = pairs;
    c.shifts = shifts;
    c.first_shift = three ? -1 : 0;
    c.weights = weights.data();
    c.bias = bias.data();
    c.residual = residual.read();
    c.outputs = out.rows();
    c.channels = channels;
    c.floats = floats;
    c.activation = activation;
    kernels.convolve(c);
    AlignedVector<float> got;
    Doubles expected;
    for (std::int64_t o = 0; o < channels; ++o)
        for (std::int64_t z = 0; z < floats; ++z) {
            double sum = at(bias, o);
            for (std::int64_t r = 0; r < 2 * pairs; ++r)
                for (std::int64_t s = 0; s < shifts; ++s)
                    sum += double{rounded_value(weight[(o * 2 * pairs + r) * shifts + s])} *
                           double{rounded_value(in.value(r, z + (three ? s - 1 : 0), floats))};
            got.push_back(out.rows()[o][z]);
            expected.push_back(activated(activation, sum + residual.value(o, z, floats)));
        }
    check_close(got, expected);
}

void check_transposes(std::int64_t stride, std::int64_t channels, std::int64_t voxels) {
    const AlignedVector<float> from = random_floats(stride * voxels, 31);
    const Lines lines(channels, 64, 0);
    line_kernels().to_rows({stride, channels, voxels}, from.data(), lines.rows());
    bool equal = true;
    for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t z = 0; z < voxels; ++z)
            equal = equal && lines.rows()[c][z] == at(from, z * stride + c);
    CHECK(equal);
    AlignedVector<float> back(from.size(), 5.0F);
    line_kernels().to_voxels({stride, channels, voxels}, lines.read(), back.data());
    line_kernels().finish_stores();
    for (std::int64_t z = 0; z < voxels; ++z)
        for (std::int64_t c = 0; c < stride; ++c)
            equal = equal && at(back, z * stride + c) == (c < channels ? at(from, z * stride + c) : 5.0F);
    CHECK(equal);
}

void check_upsampling(std::int64_t channels, std::int64_t voxels, const Activation& activation) {
    const std::int64_t floats = 64;
    std::array<AlignedVector<float>, 4> lines;
    RowUpsampling u;
    u.weights = {0.5625F, 0.1875F, 0.1875F, 0.0625F};
    for (std::size_t k = 0; k < 4; ++k) {
        lines[k] = random_floats(voxels * channels, 41 + k);
        u.lines[k] = lines[k].data();
    }
    const Lines residual(channels, floats, 45);
    const Lines low(channels, floats, 0);
    const Lines out(channels, floats, 0);
    AlignedVector<float> blend(static_cast<std::size_t>(voxels * channels));
    u.voxels = voxels;
    u.residual = residual.read();
    u.outputs = out.rows();
    u.channels = channels;
    u.activation = activation;
    u.blend = blend.data();
    u.rows = low.rows();
    line_kernels().upsample(u);
    AlignedVector<float> got;
    Doubles expected;
    for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t z = 0; z < 2 * voxels; ++z) {
            const auto blended = [&](std::int64_t i) {
                const std::int64_t inside = std::clamp<std::int64_t>(i, 0, voxels - 1);
                double sum = 0.0;
                for (std::size_t k = 0; k < 4; ++k)
                    sum += double{u.weights[k]} * at(lines[k], inside * channels + c);
                return sum;
            };
            const double value = 0.75 * blended(z / 2) + 0.25 * blended(z % 2 == 0 ? z / 2 - 1 : z / 2 + 1);
            got.push_back(out.rows()[c][z]);
            expected.push_back(activated(activation, value + residual.value(c, z, floats)));
        }
    check_close(got, expected);
}

/// Compiles a network in its inference form.
using Compile = Result<std::unique_ptr<Executable>> (*)(const Network&, std::shared_ptr<ThreadPool>,
                                                        const FusionModel*);

/// The backends that use our kernels.
std::vector<std::pair<const char*, Compile>> engines() {
    std::vector<std::pair<const char*, Compile>> all;
#ifdef MFRES_WITH_ONEDNN
    all.emplace_back("onednn", [](const Network& form, std::shared_ptr<ThreadPool> pool, const FusionModel* model) {
        return onednn::compile_inference(form, std::move(pool), model);
    });
#endif
#ifdef MFRES_WITH_NATIVE
    all.emplace_back("native", [](const Network& form, std::shared_ptr<ThreadPool> pool, const FusionModel* model) {
        return native::compile_inference(form, std::move(pool), model);
    });
#endif
    return all;
}

struct ConvolutionCase {
    Conv conv;
    Shape in;
    bool residual = false;
};

/// Kernels, strides, dilations and groups as networks have them and as none has, at widths around those of a tile, in
/// lines shorter and longer than one.
std::vector<ConvolutionCase> convolution_cases() {
    std::vector<ConvolutionCase> cases;
    for (const std::int64_t channels : {1, 4, 15, 16, 17, 33, 48, 70, 112})
        for (const std::int64_t z : {1, 5, 8, 31}) {
            const bool even = z % 2 == 0;
            cases.push_back({{.out_channels = channels, .bias = even}, {1, 7, 2, 3, z}, !even});
            cases.push_back({{.out_channels = channels, .kernel = {1, 3, 3}, .padding = {0, 1, 1}, .bias = !even},
                             {2, 5, 2, 3, z},
                             even});
        }
    for (const std::int64_t z : {4, 9, 40}) {
        // clang-format off
        cases.push_back({{.out_channels = 20, .kernel = {3, 3, 1}, .padding = {1, 1, 0}}, {1, 16, 3, 4, z}, true});
        cases.push_back({{.out_channels = 33, .kernel = {3, 3, 3}, .stride = {2, 2, 2}, .padding = {1, 1, 1}, .bias = true}, {1, 4, 6, 5, z}});
        cases.push_back({{.out_channels = 17, .kernel = {3, 3, 3}, .stride = {1, 1, 3}, .padding = {1, 0, 1}}, {1, 3, 4, 4, z}});
        cases.push_back({{.out_channels = 24, .kernel = {3, 3, 3}, .dilation = {3, 2, 2}, .padding = {3, 2, 2}}, {2, 6, 5, 4, z}});
        cases.push_back({{.out_channels = 8, .kernel = {2, 1, 4}, .padding = {1, 0, 3}}, {1, 5, 3, 3, z}});
        cases.push_back({{.out_channels = 40, .kernel = {9, 1, 9}, .padding = {4, 0, 4}}, {1, 2, 3, 2, z}});
        cases.push_back({{.out_channels = 12, .kernel = {1, 1, 1}, .stride = {2, 2, 2}}, {1, 6, 5, 3, z}});
        cases.push_back({{.out_channels = 5, .kernel = {1, 1, 1}, .padding = {1, 2, 3}, .bias = true}, {1, 4, 2, 2, z}});
        for (const std::int64_t groups : {2, 3, 8, 24})
            cases.push_back({{.out_channels = 48, .kernel = {3, 3, 3}, .padding = {1, 1, 1}, .groups = groups, .bias = true}, {1, 24, 3, 3, z}, true});
        cases.push_back({{.out_channels = 112, .kernel = {1, 3, 3}, .padding = {0, 1, 1}, .bias = true}, {2, 32, 2, 7, z}, true});
        cases.push_back({{.out_channels = 16, .kernel = {3, 1, 3}, .padding = {1, 0, 1}}, {1, 64, 9, 2, z}});
        cases.push_back({{.out_channels = 48, .kernel = {3, 3, 1}, .padding = {1, 1, 0}, .bias = true}, {1, 16, 6, 1, z}, true});
        cases.push_back({{.out_channels = 80, .kernel = {3, 1, 3}, .dilation = {1, 1, 2}, .padding = {1, 0, 2}, .groups = 2}, {1, 34, 3, 3, z}});
        // clang-format on
    }
    return cases;
}

/// Under the current target and for several numbers of threads, against double precision. The output lies on the
/// residual.
void check_convolution_case(const ConvolutionCase& each, const Activation& activation) {
    GraphBuilder builder;
    const NodeId x = builder.input(each.in);
    const NodeId y = builder.conv("conv", x, each.conv);
    const Graph graph = test::finished(builder, y);
    const Weights weights = test::random_weights(graph, 5);
    const Tensor input = test::random_tensor(each.in, 6);
    Doubles expected = test::run_double(graph, weights, input);
    const Shape& out = graph.node(y).shape;
    const Tensor residual = test::random_tensor(out, 7);
    for (std::int64_t i = 0; i < out.elements(); ++i)
        at(expected, i) = activated(activation, at(expected, i) + (each.residual ? double{residual[i]} : 0.0));

    const auto channels_last = [](const Shape& shape, float* data) {
        return StridedView<float>{data, shape, channels_last_strides(shape)};
    };
    const auto check = [&](const auto& make, double tolerance = 1e-6) {
        AlignedVector<float> first;
        for (const int threads : {1, 3}) {
            const auto op = make({each.conv, each.in, out, &weights.at("conv.weight"),
                                  each.conv.bias ? &weights.at("conv.bias") : nullptr, activation, threads});
            // A margin of NaN shows what is read or written beyond the arrays.
            constexpr std::int64_t margin = 64;
            AlignedVector<float> source(static_cast<std::size_t>(each.in.elements() + margin), not_a_number);
            AlignedVector<float> result(static_cast<std::size_t>(out.elements() + margin), not_a_number);
            copy(view(input), channels_last(each.in, source.data()));
            copy(view(residual), channels_last(out, result.data()));
            AlignedVector<float> workspace(static_cast<std::size_t>(op->workspace_bytes()) / sizeof(float) + 1);
            OpArguments arguments;
            arguments.inputs = {source.data()};
            arguments.residual = each.residual ? result.data() : nullptr;
            arguments.output = result.data();
            arguments.workspace = reinterpret_cast<std::byte*>(workspace.data());
            op->bind(arguments);
            op->run();
            CHECK(std::all_of(result.end() - margin, result.end(), [](float v) { return std::isnan(v); }));
            Tensor values(out);
            copy(as_const(channels_last(out, result.data())), view(values));
            check_close({values.values().begin(), values.values().end()}, expected, tolerance);
            if (first.empty())
                first = result;
            CHECK(std::equal(first.begin(), first.end() - margin, result.begin()));
        }
    };
    check(make_tile_convolution);
    if (each.conv.stride[2] == 1)
        check(make_row_convolution);
    if (can_convolve_by_winograd({each.conv, each.in, out}))
        check(make_winograd_convolution, 1e-5); // the transforms add and subtract larger numbers
}

} // namespace

TEST_CASE("convolutions of any geometry compute their formula under every target") {
    for (const ConvolutionCase& each : convolution_cases()) {
        INFO(each.conv.kernel[0] << "x" << each.conv.kernel[1] << "x" << each.conv.kernel[2] << " to "
                                 << each.conv.out_channels << " of " << to_string(each.in) << ", " << each.conv.groups
                                 << " groups");
        const Activation& activation = activations[static_cast<std::size_t>(each.in[4]) % std::size(activations)];
        for_targets([&] { check_convolution_case(each, activation); });
    }
}

TEST_CASE("Winograd's filtering is chosen where it saves most of the products") {
    const auto chosen = [](const Conv& conv, const Shape& in) {
        const ConvolutionSpec spec{conv, in, {in[0], conv.out_channels, in[2], in[3], in[4]}};
        return winograd_is_faster(spec, tile_products(spec));
    };
    const Conv square{.out_channels = 64, .kernel = {1, 3, 3}, .padding = {0, 1, 1}};
    CHECK(chosen(square, {1, 64, 32, 32, 32}));
    CHECK_FALSE(chosen(square, {1, 64, 32, 1, 1})); // most of each tile would be thrown away
    Conv wide = square;
    wide.out_channels = 240;
    CHECK_FALSE(chosen(wide, {1, 240, 8, 8, 8})); // 8 MiB of transformed weights
    Conv other = square;
    other.stride = {1, 2, 1};
    CHECK_FALSE(chosen(other, {1, 64, 32, 32, 32}));
    other = square;
    other.groups = 2;
    CHECK_FALSE(chosen(other, {1, 64, 32, 32, 32}));
    other = square;
    other.dilation = {1, 2, 1};
    CHECK_FALSE(chosen(other, {1, 64, 32, 32, 32}));
    other = square;
    other.padding = {0, 0, 1};
    CHECK_FALSE(chosen(other, {1, 64, 32, 32, 32}));
    other = square;
    other.out_channels = 63;
    CHECK_FALSE(chosen(other, {1, 64, 32, 32, 32}));
    CHECK_FALSE(chosen({.out_channels = 64, .kernel = {3, 3, 3}, .padding = {1, 1, 1}}, {1, 64, 32, 32, 32}));
}

TEST_CASE("kernels exist for the instruction sets of this processor, and each can be chosen") {
    const auto targets = supported_targets();
    REQUIRE_FALSE(targets.empty());
    CHECK(line_kernels().name == targets[0]); // the best one, unless something else is asked for
#if defined(__x86_64__)
    const auto has = [&](const char* name) { return std::find(targets.begin(), targets.end(), name) != targets.end(); };
    if (targets[0] == "AVX3" || __builtin_cpu_supports("avx512bw") == 0) { // no limit is set
        CHECK(has("AVX3") == (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")));
        CHECK(has("AVX2") == (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")));
    }
    CHECK(has("SSE4") ==
          (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul")));
    CHECK_FALSE(has("SSSE3"));
#endif
    std::set<const VectorLoops*> loops;
    std::set<const TileKernels*> tiles;
    std::set<const WinogradKernels*> winograd;
    for (const std::string& target : targets) {
        const TargetScope scope(target);
        loops.insert(&vector_loops());
        tiles.insert(&tile_kernels());
        winograd.insert(&winograd_kernels());
        CHECK(line_kernels().name == target);
        CHECK(tile_kernels().name == target);
        CHECK(winograd_kernels().name == target);
        CHECK(supported_targets() == std::vector<std::string>{target});
    }
    CHECK(loops.size() == targets.size());
    CHECK(tiles.size() == targets.size());
    CHECK(winograd.size() == targets.size());
    CHECK(supported_targets() == targets);
    for_targets([] { CHECK(row_multiple % line_kernels().lanes == 0); });
}

TEST_CASE("loops along rows compute their formulas under every target") {
    for (const Row& row : row_shapes) {
        INFO(row.count << " floats with a pattern of " << row.pattern);
        const RowData data(row);
        for_targets([&] {
            for (const Activation& activation : activations)
                check_row(data, activation);
        });
    }
}

TEST_CASE("loops over probabilities compute their formulas under every target") {
    for (const std::int64_t voxels : {1, 16, 77, 256})
        for (const std::int64_t channels : {2, 3, 4, 8}) {
            INFO(voxels << " voxels of " << channels << " classes");
            const Voxelwise data(voxels, channels);
            for_targets([&] { check_voxelwise(data); });
        }
}

TEST_CASE("conversions give the same bits under every target") {
    AlignedVector<float> x = random_floats(1000, 51);
    const std::vector<float> special = {0.0F,         -0.0F,    1.0F,   1.00390625F, 1.01171875F,
                                        3e38F,        -3.4e38F, 1e-40F, INFINITY,    -INFINITY,
                                        not_a_number, 1.4e-45F, 127.5F, -0.5F,       2.5F};
    std::copy(special.begin(), special.end(), x.begin());
    std::vector<std::uint16_t> narrow;
    AlignedVector<float> wide;
    for (const float value : x) {
        narrow.push_back(bf16_of(value));
        wide.push_back(from_bf16(narrow.back()));
    }
    const auto same_bits = [](const AlignedVector<float>& a, const AlignedVector<float>& b) {
        return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float p, float q) {
            return std::bit_cast<std::uint32_t>(p) == std::bit_cast<std::uint32_t>(q);
        });
    };
    for_targets([&] {
        const VectorLoops& loops = vector_loops();
        std::vector<std::uint16_t> to16(x.size());
        loops.to_bf16(1000, x.data(), to16.data());
        CHECK(to16 == narrow);
        AlignedVector<float> to32(x.size());
        loops.from_bf16(1000, narrow.data(), to32.data());
        CHECK(same_bits(to32, wide));
        for (const std::int64_t count : {1, 2, 4, 5, 8, 16, 20}) { // channels of a voxel, from 20 to 25
            std::vector<std::uint16_t> some(25 * 40, 7);
            loops.narrow_channels(x.data() + 30, 20, some.data(), 25, count, 40);
            AlignedVector<float> back(20 * 40, 1.0F);
            loops.widen_channels(some.data(), 25, back.data(), 20, count, 40, true);
            bool equal = true;
            for (std::int64_t v = 0; v < 40; ++v)
                for (std::int64_t c = 0; c < 25; ++c) {
                    const bool taken = c < count;
                    const std::uint16_t expected = taken ? at(narrow, 30 + v * 20 + c) : std::uint16_t{7};
                    equal = equal && at(some, v * 25 + c) == expected;
                    if (c < 20)
                        equal = equal && at(back, v * 20 + c) == (taken ? 1.0F + from_bf16(expected) : 1.0F);
                }
            INFO(count << " channels");
            CHECK(equal);
        }
        for (const ActivationRange& range : {ActivationRange{0.0F, 2.0F}, ActivationRange{-1.0F, 3.0F}}) {
            const Quantizer quantizer = quantiser_of(range);
            std::vector<std::uint8_t> bytes(x.size() - special.size());
            loops.to_bytes(std::ssize(bytes), quantizer, x.data() + special.size(), bytes.data());
            bool equal = true;
            for (std::size_t i = 0; i < bytes.size(); ++i) {
                const float scaled = std::nearbyint(
                    std::clamp(x[i + special.size()] * quantizer.inverse, quantizer.least, quantizer.most));
                equal = equal && bytes[i] == static_cast<std::uint8_t>(static_cast<std::int32_t>(scaled));
            }
            CHECK(equal);
        }
    });
}

TEST_CASE("loops of resampling compute their formulas under every target") {
    for (const std::int64_t channels : {1, 4, 5, 16}) {
        const std::int64_t voxels = 9;
        const std::int64_t count = voxels * channels;
        std::vector<AlignedVector<float>> lines;
        for (std::uint64_t k = 0; k < 4; ++k)
            lines.push_back(random_floats(count, 61 + k));
        const std::array<const float*, 4> pointers = {lines[0].data(), lines[1].data(), lines[2].data(),
                                                      lines[3].data()};
        const std::array<float, 4> weights = {0.1F, 0.2F, 0.3F, 0.4F};
        const std::vector<Blend> blends = {
            {0, 0, 1.0F, 0.0F}, {0, 1, 0.75F, 0.25F}, {3, 4, 0.5F, 0.5F}, {7, 8, 0.2F, 0.8F}};
        const std::vector<std::int64_t> first = {0, 0, 2, 5};
        const std::vector<std::int64_t> begin = {0, 1, 5, 8, 8}; // 1, 4, 3 and 0 sources
        const AlignedVector<float> factors = random_floats(8, 65);
        Doubles blended;
        for (std::int64_t i = 0; i < count; ++i) {
            double sum = 0.0;
            for (std::size_t k = 0; k < 4; ++k)
                sum += double{weights[k]} * at(lines[k], i);
            blended.push_back(sum);
        }
        Doubles expanded;
        Doubles reduced;
        for (std::int64_t z = 0; z < 4; ++z)
            for (std::int64_t c = 0; c < channels; ++c) {
                const Blend& b = at(blends, z);
                expanded.push_back(double{b.low_weight} * at(lines[0], b.low * channels + c) +
                                   double{b.high_weight} * at(lines[0], b.high * channels + c));
                double sum = 0.0;
                for (std::int64_t k = at(begin, z); k < at(begin, z + 1); ++k)
                    sum += double{at(factors, k)} * at(lines[1], (at(first, z) + k - at(begin, z)) * channels + c);
                reduced.push_back(sum);
            }
        Doubles scaled;
        Doubles added;
        for (std::int64_t i = 0; i < count; ++i) {
            scaled.push_back(0.3F * double{at(lines[2], i)});
            added.push_back(double{at(lines[3], i)} + 0.3F * double{at(lines[2], i)});
        }
        for_targets([&] {
            const VectorLoops& loops = vector_loops();
            AlignedVector<float> y(static_cast<std::size_t>(count));
            loops.blend_lines(count, pointers.data(), weights.data(), y.data());
            check_close(y, blended);
            loops.expand_line(blends.data(), 4, channels, lines[0].data(), y.data());
            check_close(y, expanded);
            loops.reduce_line(first.data(), begin.data(), factors.data(), 4, channels, lines[1].data(), y.data());
            check_close(y, reduced);
            loops.scale(count, 0.3F, lines[2].data(), y.data());
            check_close(y, scaled);
            y = lines[3];
            loops.add_scaled(count, 0.3F, lines[2].data(), y.data());
            check_close(y, added);
        });
    }
}

TEST_CASE("line kernels compute their formulas under every target") {
    for_targets([] {
        for (const Activation& activation : activations) {
            for (const std::int64_t channels : {1, 2, 3, 4, 7})
                for (const std::int64_t rows : {1, 9})
                    for (const bool three : {false, true})
                        check_convolution(rows, channels, three, activation);
            for (const std::int64_t voxels : {1, 5, 16, 20})
                for (const std::int64_t channels : {1, 4, 6})
                    check_upsampling(channels, voxels, activation);
            const Lines terms(6, 32, 71);
            const Lines sum(2, 32, 0);
            line_kernels().add({terms.read(), 3, sum.rows(), 2, 32, activation});
            AlignedVector<float> got;
            Doubles expected;
            for (std::int64_t c = 0; c < 2; ++c)
                for (std::int64_t z = 0; z < 32; ++z) {
                    got.push_back(sum.rows()[c][z]);
                    expected.push_back(activated(activation, terms.value(c, z, 32) + terms.value(c + 2, z, 32) +
                                                                 terms.value(c + 4, z, 32)));
                }
            check_close(got, expected);
        }
        for (const std::int64_t stride : {4, 7, 12})
            for (const std::int64_t channels : {1, 4, 7})
                for (const std::int64_t voxels : {1, 4, 19})
                    if (channels <= stride)
                        check_transposes(stride, channels, voxels);
    });
}

TEST_CASE("convolutions of pairs of channels in bf16 compute their formula") {
    if (!pair_kernels()) {
        std::printf("SKIPPED: this processor has no AVX512-BF16\n");
        return;
    }
    for (const std::int64_t pairs : {1, 2, 5})
        for (const std::int64_t channels : {1, 2, 3, 4, 7, 8})
            for (const bool three : {false, true})
                for (const std::int64_t floats : {16, 48, 64, 112})
                    for (const Activation& activation : {Activation{}, Activation{Activation::Kind::relu, 0.0F},
                                                         Activation{Activation::Kind::leaky_relu, 0.2F}}) {
                        INFO(pairs << " pairs to " << channels << (three ? " with neighbours, " : ", ") << floats);
                        check_pairs(pairs, channels, three, activation, floats);
                    }
    // Where a lesser instruction set is chosen there are none.
    const TargetScope scope("AVX2");
    CHECK(pair_kernels() == nullptr);
}

TEST_CASE("every operation computes the same under every target, alone and in fusion groups") {
    FusionModel eager;
    eager.min_gain = -1e30;
    int cases = 0;
    for (const test::OpCase& each : test::op_cases()) {
        if (++cases % 4 != 0) // the whole table is checked under the best target
            continue;
        INFO(each.name);
        const Weights weights = test::random_weights(each.graph, 3);
        const Tensor input = test::random_tensor(each.graph.node(each.graph.input()).shape, 4);
        const auto truth = test::run_double(each.graph, weights, input);
        const auto form = inference_form(each.graph, weights);
        REQUIRE_OK(form);
        for_targets([&] {
            for (const auto& [engine, compile] : engines()) {
                INFO(engine);
                const auto pool = ThreadPool::create({.threads = 2});
                REQUIRE_OK(pool);
                const auto executable = compile(*form, *pool, &eager);
                REQUIRE_OK(executable);
                const auto values = test::run(**executable, input);
                REQUIRE_OK(values);
                CHECK(test::normalised_squared_error(*values, truth) <= 1e-10);
            }
        });
    }
    CHECK(cases > 100);
}

TEST_CASE("every operation has the gradients of double precision under every target") {
    const Backend* backend = test::backend_or_skip("onednn");
    if (!backend)
        return;
    for (const auto& gradient_case : test::gradient_cases()) {
        INFO(gradient_case.name);
        for_targets([&] { test::check_gradient_case(*backend, gradient_case); });
    }
}

#if defined(__x86_64__) && defined(MFRES_PROGRAM)
TEST_CASE("ONEDNN_MAX_CPU_ISA lowers our kernels with oneDNN's, MFRES_MAX_CPU_ISA those of native") {
    struct Limit {
        std::string backend, variable, isa, target;
        bool here = true;
        std::string precision = "f32";
    };
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    std::vector<Limit> limits;
#ifdef MFRES_WITH_ONEDNN
    limits.insert(limits.end(), {{"onednn", "ONEDNN_MAX_CPU_ISA", "SSE41", "SSE4"},
                                 {"onednn", "ONEDNN_MAX_CPU_ISA", "AVX", "SSE4"},
                                 {"onednn", "ONEDNN_MAX_CPU_ISA", "AVX2", "AVX2", avx2},
                                 {"onednn", "ONEDNN_MAX_CPU_ISA", "AVX512_CORE", "AVX3", avx512},
                                 {"onednn", "ONEDNN_MAX_CPU_ISA", "ALL", "AVX3", avx512}});
    // Fusion groups in bf16 where oneDNN may use its instructions, too.
    const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    const bool bf16 = vnni && pair_kernels() != nullptr;
    limits.push_back({"onednn", "ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI", "AVX3", vnni, "int8"});
    limits.push_back({"onednn", "ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", "AVX512-BF16", bf16, "int8"});
#endif
#ifdef MFRES_WITH_NATIVE
    limits.insert(limits.end(), {{"native", "MFRES_MAX_CPU_ISA", "SSE4", "SSE4"},
                                 {"native", "MFRES_MAX_CPU_ISA", "AVX2", "AVX2", avx2},
                                 {"native", "MFRES_MAX_CPU_ISA", "AVX512", "AVX3", avx512}});
#endif
    for (const Limit& limit : limits) {
        if (!limit.here) {
            std::printf("not run: %s needs a processor that has it\n", limit.isa.c_str());
            continue;
        }
        INFO(limit.variable << "=" << limit.isa);
        const auto result =
            test::run_command({"env", limit.variable + "=" + limit.isa, MFRES_PROGRAM, "bench", "--backend",
                               limit.backend, "--size", "32", "--runs", "1", "--warm-up", "0", "--threads", "1",
                               "--no-probe", "--profile", "--quiet", "--precision", limit.precision});
        CHECK(result.exit_code == 0);
        CHECK(result.out.find("mfres:fused:" + limit.target) != std::string::npos);
        // Eight output channels are computed in vectors of eight floats, with AVX-512 as well.
        const std::string out = std::regex_replace(result.out, std::regex("x8:AVX2"), "");
        for (const char* other : {"SSE4", "AVX2", "AVX3"})
            if (other != limit.target)
                CHECK(out.find(std::string(":") + other) == std::string::npos);
    }
}
#endif
#endif
