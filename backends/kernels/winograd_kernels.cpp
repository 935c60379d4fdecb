// SPDX-License-Identifier: MIT
#include "backends/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/kernels/winograd_kernels.cpp"
#include <hwy/foreach_target.h> // includes this file once for each instruction set

#include "backends/kernels/pragmas.h"
#include "backends/kernels/vectors-inl.h"
#include "backends/kernels/winograd_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mfres::kernels {
namespace HWY_NAMESPACE {
namespace {

/// B' d of six values.
HWY_INLINE void transform_six(const Vector (&d)[6], Vector (&t)[6]) {
    const Floats tag;
    const Vector two = hn::Set(tag, 2.0F);
    const Vector four = hn::Set(tag, 4.0F);
    const Vector five = hn::Set(tag, 5.0F);
    const Vector even = hn::NegMulAdd(four, d[2], d[4]);
    const Vector odd = hn::NegMulAdd(four, d[1], d[3]);
    const Vector near = hn::Sub(d[4], d[2]);
    const Vector slope = hn::Mul(two, hn::Sub(d[3], d[1]));
    t[0] = hn::MulAdd(four, d[0], hn::NegMulAdd(five, d[2], d[4]));
    t[1] = hn::Add(even, odd);
    t[2] = hn::Sub(even, odd);
    t[3] = hn::Add(near, slope);
    t[4] = hn::Sub(near, slope);
    t[5] = hn::MulAdd(four, d[1], hn::NegMulAdd(five, d[3], d[5]));
}

/// A' m of six values.
HWY_INLINE void transform_products(const Vector (&m)[6], Vector (&y)[4]) {
    const Floats tag;
    const Vector near_sum = hn::Add(m[1], m[2]);
    const Vector near_difference = hn::Sub(m[1], m[2]);
    const Vector far_sum = hn::Add(m[3], m[4]);
    const Vector far_difference = hn::Sub(m[3], m[4]);
    y[0] = hn::Add(m[0], hn::Add(near_sum, far_sum));
    y[1] = hn::MulAdd(hn::Set(tag, 2.0F), far_difference, near_difference);
    y[2] = hn::MulAdd(hn::Set(tag, 4.0F), far_sum, near_sum);
    y[3] = hn::Add(hn::MulAdd(hn::Set(tag, 8.0F), far_difference, near_difference), m[5]);
}

/// A vector of channels from `channel` on.
template <bool whole>
HWY_INLINE void transform_channels(const WinogradInput& t, std::int64_t channel) {
    const Floats tag;
    Vector columns[6][6];
    MFRES_UNROLL
    for (int j = 0; j < 6; ++j) {
        Vector d[6];
        MFRES_UNROLL
        for (int i = 0; i < 6; ++i) {
            const bool inside = whole || (i >= t.begin[0] && i < t.end[0] && j >= t.begin[1] && j < t.end[1]);
            d[i] = inside ? hn::LoadU(tag, t.voxels + i * t.stride[0] + j * t.stride[1] + channel) : hn::Zero(tag);
        }
        transform_six(d, columns[j]);
    }
    MFRES_UNROLL
    for (int i = 0; i < 6; ++i) {
        const Vector row[6] = {columns[0][i], columns[1][i], columns[2][i],
                               columns[3][i], columns[4][i], columns[5][i]};
        Vector products[6];
        transform_six(row, products);
        MFRES_UNROLL
        for (int j = 0; j < 6; ++j)
            hn::StoreU(products[j], tag, t.output + (i * 6 + j) * t.plane + channel);
    }
}

void transform_input(const WinogradInput& t) {
    if (t.whole())
        for (std::int64_t c = 0; c < t.channels; c += lanes)
            transform_channels<true>(t, c);
    else
        for (std::int64_t c = 0; c < t.channels; c += lanes)
            transform_channels<false>(t, c);
}

void transform_output(const WinogradOutput& t) {
    const Floats tag;
    for (std::int64_t c = 0; c < t.channels; c += lanes) {
        Vector columns[6][4];
        MFRES_UNROLL
        for (int j = 0; j < 6; ++j) {
            Vector m[6];
            MFRES_UNROLL
            for (int i = 0; i < 6; ++i)
                m[i] = hn::LoadU(tag, t.products + (i * 6 + j) * t.plane + c);
            transform_products(m, columns[j]);
        }
        const Vector bias = hn::LoadU(tag, t.bias + c);
        MFRES_UNROLL
        for (int i = 0; i < 4; ++i) {
            if (i >= t.count[0])
                break;
            const Vector row[6] = {columns[0][i], columns[1][i], columns[2][i],
                                   columns[3][i], columns[4][i], columns[5][i]};
            Vector values[4];
            transform_products(row, values);
            MFRES_UNROLL
            for (int j = 0; j < 4; ++j) {
                if (j >= t.count[1])
                    break;
                const std::int64_t at = i * t.stride[0] + j * t.stride[1] + c;
                Vector value = hn::Add(values[j], bias);
                if (t.residual)
                    value = hn::Add(value, hn::LoadU(tag, t.residual + at));
                hn::StoreU(activate(t.activation, value), tag, t.output + at);
            }
        }
    }
}

void transform_lines(const WinogradLines& t) {
    const Floats tag;
    for (std::int64_t c = 0; c < t.channels; ++c) {
        const float* from[6];
        float* to[6];
        for (int i = 0; i < 6; ++i) {
            from[i] = t.inputs[i * t.channels + c];
            to[i] = t.outputs[i * t.channels + c];
        }
        for (std::int64_t z = 0; z < t.floats; z += lanes) {
            Vector d[6];
            MFRES_UNROLL
            for (int i = 0; i < 6; ++i)
                d[i] = hn::Load(tag, from[i] + z);
            Vector products[6];
            transform_six(d, products);
            MFRES_UNROLL
            for (int i = 0; i < 6; ++i)
                hn::Store(products[i], tag, to[i] + z);
        }
    }
}

void sum_lines(const WinogradSums& t) {
    const Floats tag;
    for (std::int64_t c = 0; c < t.channels; ++c) {
        const float* from[6];
        for (int i = 0; i < 6; ++i)
            from[i] = t.products[i * t.channels + c];
        const Vector bias = hn::Set(tag, t.bias[c]);
        for (std::int64_t z = 0; z < t.floats; z += lanes) {
            Vector m[6];
            MFRES_UNROLL
            for (int i = 0; i < 6; ++i)
                m[i] = hn::Load(tag, from[i] + z);
            Vector values[4];
            transform_products(m, values);
            MFRES_UNROLL
            for (int n = 0; n < 4; ++n) {
                if (n >= t.count)
                    break;
                Vector value = hn::Add(values[n], bias);
                if (t.residual)
                    value = hn::Add(value, hn::Load(tag, t.residual[n * t.channels + c] + z));
                hn::Store(activate(t.activation, value), tag, t.outputs[n * t.channels + c] + z);
            }
        }
    }
}

} // namespace

const WinogradKernels* winograd_kernels_of_target() {
    static const WinogradKernels own{hwy::TargetName(HWY_TARGET),
                                     static_cast<int>(lanes),
                                     transform_input,
                                     transform_output,
                                     transform_lines,
                                     sum_lines};
    return &own;
}

} // namespace HWY_NAMESPACE
} // namespace mfres::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mfres::kernels {

HWY_EXPORT(winograd_kernels_of_target);

const WinogradKernels& winograd_kernels() {
    return *HWY_DYNAMIC_DISPATCH(winograd_kernels_of_target)();
}

} // namespace mfres::kernels
#endif // HWY_ONCE
