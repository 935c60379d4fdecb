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

/// The first `count` floats at `from`; zeros behind them.
HWY_INLINE Vector load(const float* from, std::int64_t count) {
    const Floats d;
    if (count >= lanes)
        return hn::LoadU(d, from);
    HWY_ALIGN float values[lanes] = {};
    std::copy_n(from, count, values);
    return hn::Load(d, values);
}

/// Stores the first `count` floats of a vector.
HWY_INLINE void store(Vector value, float* to, std::int64_t count) {
    const Floats d;
    if (count >= lanes) {
        hn::StoreU(value, d, to);
        return;
    }
    HWY_ALIGN float values[lanes];
    hn::Store(value, d, values);
    std::copy_n(values, count, to);
}

/// Adds the products of an input value of each voxel, value(v), with the weights of all output channels.
template <int vectors, int voxels, typename Value>
HWY_INLINE void add_products(const float* weights, const Value& value, Vector (&sum)[voxels][vectors]) {
    const Floats d;
    Vector weight[vectors];
    MFRES_UNROLL
    for (int c = 0; c < vectors; ++c)
        weight[c] = hn::Load(d, weights + c * lanes);
    MFRES_UNROLL
    for (int v = 0; v < voxels; ++v) {
        const Vector x = value(v);
        MFRES_UNROLL
        for (int c = 0; c < vectors; ++c)
            sum[v][c] = hn::MulAdd(x, weight[c], sum[v][c]);
    }
}

#if HWY_ARCH_ARM_A64
/// Four input values of each voxel from index i on: products can take any lane of a vector as their factor.
template <int vectors, int voxels>
HWY_INLINE void add_four_products(const float* const (&x)[voxels], std::int64_t i, const float* weights,
                                  Vector (&sum)[voxels][vectors]) {
    const Floats d;
    Vector four[voxels];
    MFRES_UNROLL
    for (int v = 0; v < voxels; ++v)
        four[v] = hn::LoadU(d, x[v] + i);
    add_products(
        weights, [&](int v) HWY_ATTR { return hn::Broadcast<0>(four[v]); }, sum);
    add_products(
        weights + vectors * lanes, [&](int v) HWY_ATTR { return hn::Broadcast<1>(four[v]); }, sum);
    add_products(
        weights + 2 * vectors * lanes, [&](int v) HWY_ATTR { return hn::Broadcast<2>(four[v]); }, sum);
    add_products(
        weights + 3 * vectors * lanes, [&](int v) HWY_ATTR { return hn::Broadcast<3>(four[v]); }, sum);
}
#endif

template <int vectors, int voxels>
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
        const float* x[voxels];
        if (!first) {
            inputs += t.is_even ? 1 : voxels;
            weights += t.length * vectors * lanes;
            continue;
        }
        if (t.is_even) {
            MFRES_UNROLL
            for (int v = 0; v < voxels; ++v)
                x[v] = first + v * t.step + t.offset;
            ++inputs;
        } else {
            MFRES_UNROLL
            for (int v = 0; v < voxels; ++v)
                x[v] = inputs[v] + t.offset;
            inputs += voxels;
        }
        std::int64_t i = 0;
#if HWY_ARCH_ARM_A64
        for (; i + 4 <= t.length; i += 4, weights += 4 * vectors * lanes)
            add_four_products(x, i, weights, sum);
#endif
        for (; i < t.length; ++i, weights += vectors * lanes)
            add_products(
                weights, [&](int v) HWY_ATTR { return hn::Set(d, x[v][i]); }, sum);
    }
    // Calls visit(voxel, vector, its place in the output, channels of it) for every vector that is stored.
    const auto stored = [&](const auto& visit) HWY_ATTR {
        MFRES_UNROLL
        for (int v = 0; v < voxels; ++v) {
            if (v >= t.voxels)
                break;
            MFRES_UNROLL
            for (int c = 0; c < vectors; ++c)
                visit(v, c, v * t.stride + c * lanes, c < vectors - 1 ? lanes : t.channels - c * lanes);
        }
    };
    if (t.residual)
        stored([&](int v, int c, std::int64_t at, std::int64_t count)
                   HWY_ATTR { sum[v][c] = hn::Add(sum[v][c], load(t.residual + at, count)); });
    activate(t.activation, sum);
    stored([&](int v, int c, std::int64_t at, std::int64_t count) HWY_ATTR { store(sum[v][c], t.output + at, count); });
}

template <int vectors, int voxels>
constexpr TileKernel kernel() {
    return {vectors, voxels, convolve_tile<vectors, voxels>};
}

/// As many sums as there are registers for, beside the weights and one input value, or one of each voxel for lanes.
template <bool many>
std::span<const TileKernel> kernels() {
    if constexpr (HWY_ARCH_ARM_A64) {
        static constexpr TileKernel all[] = {kernel<1, 12>(), kernel<1, 12>(), kernel<2, 9>(), kernel<1, 9>(),
                                             kernel<3, 6>(),  kernel<2, 6>(),  kernel<4, 4>(), kernel<3, 4>()};
        return all;
    } else if constexpr (many) {
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

const TileKernels& tile_kernels([[maybe_unused]] std::int64_t outputs) {
    const TileKernels& best = tile_kernels();
#if HWY_TARGETS & HWY_AVX2
    if (const TileKernels& narrow = *N_AVX2::tile_kernels_of_target();
        narrow.lanes < best.lanes && outputs <= narrow.lanes)
        return narrow;
#endif
    return best;
}

} // namespace mfres::kernels
#endif // HWY_ONCE
