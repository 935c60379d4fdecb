// SPDX-License-Identifier: MIT
#include "backends/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/kernels/tile_kernels.cpp"
#include <hwy/foreach_target.h> // includes this file once for each instruction set

#include "backends/kernels/pragmas.h"
#include "backends/kernels/tile_kernels.h"
#include "backends/kernels/vectors-inl.h"

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace mfres::kernels {
namespace HWY_NAMESPACE {
namespace {

/// Stores the first `count` floats of a vector, after the residual and the activation.
HWY_INLINE void store(const ConvolutionTile& t, Vector value, std::int64_t at, std::int64_t count) {
    const Floats d;
    if (count >= lanes) {
        if (t.residual)
            value = hn::Add(value, hn::LoadU(d, t.residual + at));
        hn::StoreU(activate(t.activation, value), d, t.output + at);
        return;
    }
    HWY_ALIGN float values[lanes] = {};
    if (t.residual) {
        std::copy_n(t.residual + at, count, values);
        value = hn::Add(value, hn::Load(d, values));
    }
    hn::Store(activate(t.activation, value), d, values);
    std::copy_n(values, count, t.output + at);
}

template <int vectors, int voxels, bool is_even>
void convolve_tile(const ConvolutionTile& t) {
    const Floats d;
    Vector sum[voxels][vectors];
    MFRES_UNROLL
    for (int c = 0; c < vectors; ++c) {
        const Vector bias = hn::Load(d, t.bias + c * lanes);
        MFRES_UNROLL
        for (int v = 0; v < voxels; ++v)
            sum[v][c] = bias;
    }
    const float* weights = t.weights;
    const float* const* inputs = t.inputs;
    for (std::int64_t tap = 0; tap < t.taps; ++tap) {
        const float* const first = *inputs;
        if (!first) {
            inputs += is_even ? 1 : voxels;
            weights += t.length * vectors * lanes;
            continue;
        }
        const float* x[voxels];
        MFRES_UNROLL
        for (int v = 0; v < voxels; ++v)
            x[v] = (is_even ? first + v * t.step : inputs[v]) + t.offset;
        inputs += is_even ? 1 : voxels;
        for (std::int64_t i = 0; i < t.length; ++i) {
            Vector weight[vectors];
            MFRES_UNROLL
            for (int c = 0; c < vectors; ++c)
                weight[c] = hn::Load(d, weights + c * lanes);
            weights += vectors * lanes;
            MFRES_UNROLL
            for (int v = 0; v < voxels; ++v) {
                const Vector value = hn::Set(d, x[v][i]);
                MFRES_UNROLL
                for (int c = 0; c < vectors; ++c)
                    sum[v][c] = hn::MulAdd(value, weight[c], sum[v][c]);
            }
        }
    }
    MFRES_UNROLL
    for (int v = 0; v < voxels; ++v) {
        if (v >= t.voxels)
            break;
        MFRES_UNROLL
        for (int c = 0; c < vectors; ++c)
            store(t, sum[v][c], v * t.stride + c * lanes, t.channels - c * lanes);
    }
}

template <int vectors, int voxels>
constexpr TileKernel kernel() {
    return {vectors, voxels, convolve_tile<vectors, voxels, true>, convolve_tile<vectors, voxels, false>};
}

/// As many sums as there are registers for, beside the weights and one input value.
template <bool many>
std::span<const TileKernel> kernels() {
    if constexpr (many) {
        static constexpr TileKernel all[] = {kernel<1, 12>(), kernel<1, 12>(), kernel<2, 12>(), kernel<1, 12>(),
                                             kernel<3, 8>(),  kernel<2, 8>(),  kernel<4, 6>(),  kernel<3, 6>()};
        return all;
    } else {
        static constexpr TileKernel all[] = {kernel<1, 12>(), kernel<1, 12>(), kernel<2, 6>(), kernel<1, 6>()};
        return all;
    }
}

} // namespace

const TileKernels* tile_kernels_of_target() {
    static const TileKernels own{hwy::TargetName(HWY_TARGET), static_cast<int>(lanes), kernels<many_registers>()};
    return &own;
}

} // namespace HWY_NAMESPACE
} // namespace mfres::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mfres::kernels {

HWY_EXPORT(tile_kernels_of_target);

const TileKernels& tile_kernels() {
    return *HWY_DYNAMIC_DISPATCH(tile_kernels_of_target)();
}

} // namespace mfres::kernels
#endif // HWY_ONCE
