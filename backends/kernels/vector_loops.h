// SPDX-License-Identifier: MIT
// Inner loops of training and of reduced precision, compiled once for each instruction set and chosen at run time: plain
// loops over contiguous floats, without allocation and without threads. Every pattern repeats per-channel values over
// `Row::pattern` floats (see Blocks), and a row starts where its pattern does. Outputs may lie on inputs.
#pragma once

#include "graph/quantization.h"

#include <cstdint>

namespace mfres::kernels {

/// n(x) = (x - mean) * factor + offset, per channel. The mean is taken off first, so that a large one costs no digits.
struct Affine {
    const float* mean = nullptr;
    const float* factor = nullptr;
    const float* offset = nullptr;
};

/// dx = own * g + centred * (x - mean) + constant, per channel.
struct AffineGradient {
    const float* mean = nullptr;
    const float* own = nullptr;
    const float* centred = nullptr;
    const float* constant = nullptr;
};

/// A row of floats and the pattern that goes along it.
struct Row {
    std::int64_t count = 0;
    std::int64_t pattern = 0;
};

/// Sums of a row of voxels for one class; see ClassSums.
struct RowSums {
    float probability_truth = 0.0F;
    float probability = 0.0F;
    float probability_squared = 0.0F;
    float truth = 0.0F;
};

/// A class's slope; see ClassSlope.
struct RowSlope {
    float truth = 0.0F;
    float constant = 0.0F;
    float probability = 0.0F;
};

/// Two places along a line and their weights.
struct Blend {
    std::int64_t low = 0, high = 0;
    float low_weight = 0.0F, high_weight = 0.0F;
};

struct VectorLoops {
    /// sum += x - pivot and squares += (x - pivot)^2, by place in the pattern.
    void (*add_statistics)(const Row& row, const float* x, const float* pivot, float* sum, float* squares);

    /// y = activation(n(x)), or with `adds` y = activation(y + n(x)).
    void (*normalise)(const Row& row, const Activation& activation, const Affine& affine, const float* x, bool adds,
                      float* y);

    /// y = activation(x), or with `adds` y = activation(y + x).
    void (*take)(const Row& row, const Activation& activation, const float* x, bool adds, float* y);

    /// y = g where z > 0, else what the activation's slope leaves of it.
    void (*mask)(const Row& row, const Activation& activation, const float* g, const float* z, float* y);

    /// The same with z = n(x).
    void (*mask_normalised)(const Row& row, const Activation& activation, const Affine& affine, const float* g,
                            const float* x, float* y);

    /// sum += g and dot += g * (x - mean), by place in the pattern.
    void (*add_products)(const Row& row, const float* g, const float* x, const float* mean, float* sum, float* dot);

    /// The same with g masked as mask_normalised does.
    void (*add_masked_products)(const Row& row, const Activation& activation, const Affine& affine, const float* g,
                                const float* x, float* sum, float* dot);

    /// dx of a normalisation.
    void (*input_gradient)(const Row& row, const AffineGradient& gradient, const float* g, const float* x, float* dx);

    /// The same with g masked as mask_normalised does.
    void (*masked_input_gradient)(const Row& row, const Activation& activation, const Affine& affine,
                                  const AffineGradient& gradient, const float* g, const float* x, float* dx);

    /// y = factor * x, and y += factor * x.
    void (*scale)(std::int64_t count, float factor, const float* x, float* y);
    void (*add_scaled)(std::int64_t count, float factor, const float* x, float* y);

    /// bfloat16 to float, which is exact.
    void (*from_bf16)(std::int64_t count, const std::uint16_t* x, float* y);

    /// `count` channels of every voxel from x, which has `x_channels`, to y, which has `y_channels`; with `adds` to what
    /// is there. And the way back, as to_bf16 rounds.
    void (*widen_channels)(const std::uint16_t* x, std::int64_t x_channels, float* y, std::int64_t y_channels,
                           std::int64_t count, std::int64_t voxels, bool adds);
    void (*narrow_channels)(const float* x, std::int64_t x_channels, std::uint16_t* y, std::int64_t y_channels,
                            std::int64_t count, std::int64_t voxels);

    /// Integers of quantize(), in two's complement where they are signed.
    void (*to_bytes)(std::int64_t count, const Quantizer& quantizer, const float* x, std::uint8_t* y);

    /// bfloat16, ties to even; NaN stays NaN.
    void (*to_bf16)(std::int64_t count, const float* x, std::uint16_t* y);

    /// Softmax of up to `stride` voxels, class by class: p[c * stride + voxel]. `spare` holds 2 * stride floats: by voxel
    /// the greatest logit, and 1 / the sum of exp(logit - greatest).
    void (*probabilities)(const float* logits, std::int64_t voxels, std::int64_t channels, std::int64_t stride,
                          float* p, float* spare);

    /// Sums over voxels with probabilities p of class `own`.
    RowSums (*class_sums)(const float* p, const std::uint8_t* truth, std::int64_t voxels, int own);

    /// dL/dz from probabilities as above; `spare` holds `stride` floats.
    void (*logit_gradient)(const float* p, const std::uint8_t* truth, std::int64_t voxels, std::int64_t channels,
                           std::int64_t stride, const RowSlope* slopes, float* spare, float* gradient);

    /// The pointwise part of a loss (PointwiseLoss) by voxel: its value f, and the coefficient of df/dz_c = coefficient *
    /// (p_c - g_c). `spare` and p as probabilities() has left them.
    void (*pointwise)(const float* logits, const float* p, const float* spare, const std::uint8_t* truth,
                      std::int64_t voxels, std::int64_t channels, std::int64_t stride, float gamma, float* value,
                      float* coefficient);

    /// gradient += coefficient * (p - g).
    void (*add_pointwise)(const float* p, const std::uint8_t* truth, const float* coefficient, std::int64_t voxels,
                          std::int64_t channels, std::int64_t stride, float* gradient);

    /// y = sum of weights[k] * lines[k], four lines.
    void (*blend_lines)(std::int64_t count, const float* const* lines, const float* weights, float* y);

    /// Voxel z of y is the blend of two voxels of x.
    void (*expand_line)(const Blend* blends, std::int64_t voxels, std::int64_t channels, const float* x, float* y);

    /// The transpose: voxel z of y is the sum of weights[begin[z] .. begin[z + 1]) times the voxels of x from first[z].
    void (*reduce_line)(const std::int64_t* first, const std::int64_t* begin, const float* weights, std::int64_t voxels,
                        std::int64_t channels, const float* x, float* y);

    /// Distillation: gradient += factor * (sum of t * p - t) with the targets t [voxel][channel], and their cross-entropies.
    /// `logits`, `spare` and p as probabilities() has left them.
    void (*add_distillation)(const float* logits, const float* p, const float* spare, const float* targets,
                             std::int64_t voxels, std::int64_t channels, std::int64_t stride, float factor,
                             float* value, float* gradient);
};

/// The loops for this processor; see dispatch.h.
const VectorLoops& vector_loops();

} // namespace mfres::kernels
