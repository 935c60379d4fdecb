// SPDX-License-Identifier: MIT
// The vectors of our own kernels, for files that are compiled for every target (targets.h): to be included after
// foreach_target.h.
#if defined(MFRES_KERNELS_VECTORS_INL_H) == defined(HWY_TARGET_TOGGLE) // once for each target
#ifdef MFRES_KERNELS_VECTORS_INL_H
#undef MFRES_KERNELS_VECTORS_INL_H
#else
#define MFRES_KERNELS_VECTORS_INL_H
#endif

#include "backends/kernels/pragmas.h"
#include "graph/rewrite.h"

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace mfres::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;

constexpr std::int64_t lanes = static_cast<std::int64_t>(hn::MaxLanes(Floats()));

/// Whether the target has 32 vector registers; others have 16.
#if HWY_ARCH_ARM_A64 || (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3)
constexpr bool many_registers = true;
#else
constexpr bool many_registers = false;
#endif

HWY_INLINE Vector activate(const Activation& activation, Vector v) {
    const Floats d;
    const auto zero = hn::Zero(d);
    // NaN is not below zero, so it stays.
    switch (activation.kind) {
    case Activation::Kind::none: return v;
    case Activation::Kind::relu: return hn::IfThenZeroElse(hn::Lt(v, zero), v);
    case Activation::Kind::leaky_relu:
        return hn::IfThenElse(hn::Lt(v, zero), hn::Mul(v, hn::Set(d, activation.slope)), v);
    }
    return v;
}

/// Every vector of an array in its place: what kind of activation it is, is asked once.
template <int rows, int columns>
HWY_INLINE void activate(const Activation& activation, Vector (&values)[rows][columns]) {
    const auto all = [&](Activation::Kind kind) HWY_ATTR {
        MFRES_UNROLL
        for (int r = 0; r < rows; ++r) {
            MFRES_UNROLL
            for (int c = 0; c < columns; ++c)
                values[r][c] = activate({kind, activation.slope}, values[r][c]);
        }
    };
    switch (activation.kind) {
    case Activation::Kind::none: break;
    case Activation::Kind::relu: all(Activation::Kind::relu); break;
    case Activation::Kind::leaky_relu: all(Activation::Kind::leaky_relu); break;
    }
}

} // namespace HWY_NAMESPACE
} // namespace mfres::kernels
HWY_AFTER_NAMESPACE();

#endif
