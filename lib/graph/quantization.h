// SPDX-License-Identifier: MIT
// Post-training quantization to 8 bits (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
// Integer-Arithmetic-Only Inference", with symmetric weights per output channel): what every backend computes that runs
// a network in int8, to the last rounding.
//
// A quantized convolution y = conv(x, w) + b reads integers and computes
//   y[o] = s_x * s_w[o] * sum over taps of q_x * q_w[o]  +  b[o]
//   q_w = round(w / s_w[o]), within -127..127, s_w[o] = largest |w[o]| / 127
//   q_x = round(x / s_x), within 0..255 where x is never negative (after a ReLU), s_x = most / 255,
//                         within -127..127 elsewhere, s_x = max(-least, most) / 127
// with halves rounded to even. The sum is exact (32-bit integers); scale, bias, residual and activation are floating
// point. All other operations are computed in floating point, and so are convolutions without a range: in f32, or with
// operands in bf16 where a backend is faster so.
//
// A value is rounded once, where a convolution reads it: sums, slices, concats and upsamplings of quantized branches
// work on unrounded values, and a residual is added unrounded. Whether a backend keeps a value as integers between two
// convolutions, or rounds when it is read, makes no difference.
#pragma once

#include "graph/rewrite.h"

#include <mfres/export.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace mfres {

/// The values of a tensor that quantization keeps apart; those outside are clamped.
struct ActivationRange {
    float least = 0.0F; ///< 0 for a tensor that is never negative, else below 0
    float most = 0.0F;  ///< not below `least`

    friend bool operator==(const ActivationRange& a, const ActivationRange& b) {
        return a.least == b.least && a.most == b.most;
    }
};

/// For each convolution that is quantized, by its name in the network's inference form, the range of what it reads.
using ActivationRanges = std::map<std::string, ActivationRange, std::less<>>;

/// How a tensor becomes integers.
struct Quantizer {
    float scale = 1.0F;   ///< of one step
    float inverse = 1.0F; ///< 1 / scale
    float least = 0.0F;   ///< integers that exist
    float most = 255.0F;

    bool is_signed() const { return least < 0.0F; }
};

/// The quantizer of a range; a range of zeros gets scale 1.
MFRES_EXPORT Quantizer quantiser_of(const ActivationRange& range);

/// The nearest integer, halves to even, without a library call, so that loops of it become vectors. |x| < 2^22.
/// This and quantize() are `static` for files that are compiled for several processors: the linker must not share them.
static inline float round_to_even(float x) {
    constexpr float shift = 12582912.0F; // 1.5 * 2^23: floats around it are whole numbers
    return (x + shift) - shift;
}

/// x as one of the quantizer's integers. NaN becomes the least of them; inputs are rejected before if they hold one.
static inline float quantize(const Quantizer& quantizer, float x) {
    const float scaled = x * quantizer.inverse;
    const float above = scaled > quantizer.least ? scaled : quantizer.least;
    return round_to_even(above < quantizer.most ? above : quantizer.most);
}

/// A convolution's weights as integers -127..127, [out, in/groups, kernel...] as before, and a scale per output
/// channel.
struct QuantizedWeights {
    std::vector<std::int8_t> values;
    std::vector<float> scales;
};

/// `largest` holds the magnitude per output channel that becomes 127; a channel of zeros gets scale 1.
MFRES_EXPORT QuantizedWeights quantize_weights(const Tensor& weights, const std::vector<float>& largest);

/// The largest magnitude of every output channel.
MFRES_EXPORT std::vector<float> largest_per_channel(const Tensor& weights);

/// The magnitudes that become 127 in convolution `name` of an inference form. What move_pointwise_before_upsample split
/// ("<name>.high", "<name>.low") shares those of the whole, so that weights which are multiples of the whole's scale
/// stay so. Folding a BatchNorm multiplies both weights and scale: quantized weights come through exactly.
MFRES_EXPORT std::vector<float> largest_per_channel(const Network& form, const std::string& name);

/// The convolutions of the original network of which every part in the inference form has a range.
MFRES_EXPORT std::set<std::string, std::less<>> wholly_quantized(const Graph& form, const ActivationRanges& ranges);

/// The convolution of the original network that convolution `name` of its inference form comes from.
MFRES_EXPORT std::string original_convolution(const Graph& form, const std::string& name);

} // namespace mfres
