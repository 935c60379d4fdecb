// The arithmetic of element-wise training steps as plain loops over contiguous floats. Every pattern repeats
// per-channel values over `pattern` floats (see Blocks), and a block starts where its pattern does. Outputs may lie on
// inputs.
#pragma once

#include "graph/rewrite.h"

#include <cstdint>

namespace mfres::onednn {

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

/// sum += x - pivot and squares += (x - pivot)^2, by place in the pattern.
void add_statistics(const Row& row, const float* x, const float* pivot, float* sum, float* squares);

/// y = activation(n(x)), or with `adds` y = activation(y + n(x)).
void normalise(const Row& row, const Activation& activation, const Affine& affine, const float* x, bool adds, float* y);

/// y = activation(x), or with `adds` y = activation(y + x).
void take(const Row& row, const Activation& activation, const float* x, bool adds, float* y);

/// y = g where z > 0, else what the activation's slope leaves of it.
void mask(const Row& row, const Activation& activation, const float* g, const float* z, float* y);

/// The same with z = n(x).
void mask_normalised(const Row& row, const Activation& activation, const Affine& affine, const float* g, const float* x,
                     float* y);

/// sum += g and dot += g * (x - mean), by place in the pattern.
void add_products(const Row& row, const float* g, const float* x, const float* mean, float* sum, float* dot);

/// The same with g masked as mask_normalised does.
void add_masked_products(const Row& row, const Activation& activation, const Affine& affine, const float* g,
                         const float* x, float* sum, float* dot);

/// dx of a normalisation.
void input_gradient(const Row& row, const AffineGradient& gradient, const float* g, const float* x, float* dx);

/// The same with g masked as mask_normalised does.
void masked_input_gradient(const Row& row, const Activation& activation, const Affine& affine,
                           const AffineGradient& gradient, const float* g, const float* x, float* dx);

/// y = factor * x
void scale(const Row& row, float factor, const float* x, float* y);

} // namespace mfres::onednn
