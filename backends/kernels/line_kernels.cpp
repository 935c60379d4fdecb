// SPDX-License-Identifier: MIT
#include "backends/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/kernels/line_kernels.cpp"
#include <hwy/foreach_target.h> // includes this file once for each instruction set

#include "backends/kernels/line_kernels.h"
#include "backends/kernels/pragmas.h"
#include "backends/kernels/vectors-inl.h"

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace mfres::kernels {
namespace HWY_NAMESPACE {

/// Vectors along z computed together by so many blocks of output channels: with four channels 16 sums where there are 32
/// registers, 8 where there are 16. On AArch64, where a product takes its weight from a lane, 24 sums of eight channels
/// read least, and 16 of one or two.
template <int blocks, int channels>
constexpr int vectors_together() {
    if (HWY_ARCH_ARM_A64 && blocks == 2)
        return 3;
    if (HWY_ARCH_ARM_A64 && channels <= 2)
        return 8;
    return many_registers ? 4 : 2;
}

/// Adds the products of vectors along z with a weight for each output channel, in blocks of which each has its weights
/// `stride` behind those of the one before.
template <int blocks, int channels, int vectors>
HWY_INLINE void add_products(const float* row, const float* weights, std::int64_t stride,
                             Vector (&sum)[blocks * channels][vectors]) {
    const Floats d;
    Vector x[vectors];
    MFRES_UNROLL
    for (int v = 0; v < vectors; ++v)
        x[v] = hn::LoadU(d, row + v * lanes);
    const auto add = [&](int o, Vector weight) HWY_ATTR {
        MFRES_UNROLL
        for (int v = 0; v < vectors; ++v)
            sum[o][v] = hn::MulAdd(weight, x[v], sum[o][v]);
    };
#if HWY_ARCH_ARM_A64 // products can take any lane of a vector as their factor
    if constexpr (channels == 4) {
        MFRES_UNROLL
        for (int b = 0; b < blocks; ++b) {
            const Vector four = hn::LoadU(d, weights + b * stride);
            add(4 * b, hn::Broadcast<0>(four));
            add(4 * b + 1, hn::Broadcast<1>(four));
            add(4 * b + 2, hn::Broadcast<2>(four));
            add(4 * b + 3, hn::Broadcast<3>(four));
        }
        return;
    }
#endif
    MFRES_UNROLL
    for (int o = 0; o < blocks * channels; ++o)
        add(o, hn::Set(d, weights[o / channels * stride + o % channels]));
}

/// `blocks` blocks of `channels` output channels from `first` on, `vectors` vectors from voxel z on. `known_shifts` is the
/// number of shifts around the voxel itself; 0: those of the convolution.
template <int blocks, int channels, int vectors, int known_shifts>
HWY_INLINE void convolve_block(const RowConvolution& c, const float* weights, std::int64_t first, std::int64_t z) {
    const Floats d;
    const std::int64_t stride = channels * c.rows * c.shifts;
    Vector sum[blocks * channels][vectors];
    MFRES_UNROLL
    for (int o = 0; o < blocks * channels; ++o) {
        const Vector bias = hn::Set(d, c.bias[first + o]);
        MFRES_UNROLL
        for (int v = 0; v < vectors; ++v)
            sum[o][v] = bias;
    }
    for (std::int64_t r = 0; r < c.rows; ++r) {
        const float* row = c.inputs[r] + z;
        if constexpr (known_shifts > 0) {
            MFRES_UNROLL
            for (int s = 0; s < known_shifts; ++s, weights += channels)
                add_products<blocks, channels>(row + s - known_shifts / 2, weights, stride, sum);
        } else {
            row += c.first_shift;
            for (std::int64_t s = 0; s < c.shifts; ++s, row += c.shift_step, weights += channels)
                add_products<blocks, channels>(row, weights, stride, sum);
        }
    }
    if (c.residual) {
        MFRES_UNROLL
        for (int o = 0; o < blocks * channels; ++o) {
            const float* const residual = c.residual[first + o] + z;
            MFRES_UNROLL
            for (int v = 0; v < vectors; ++v)
                sum[o][v] = hn::Add(sum[o][v], hn::Load(d, residual + v * lanes));
        }
    }
    activate(c.activation, sum);
    MFRES_UNROLL
    for (int o = 0; o < blocks * channels; ++o) {
        float* const output = c.outputs[first + o] + z;
        MFRES_UNROLL
        for (int v = 0; v < vectors; ++v)
            hn::Store(sum[o][v], d, output + v * lanes);
    }
}

/// The same for a number of vectors that is known when it runs: 1 to `most`.
template <int blocks, int channels, int most, int known_shifts>
HWY_INLINE void convolve_vectors(const RowConvolution& c, const float* weights, std::int64_t first, std::int64_t z,
                                 std::int64_t vectors) {
    if constexpr (most > 1)
        if (vectors < most)
            return convolve_vectors<blocks, channels, most - 1, known_shifts>(c, weights, first, z, vectors);
    convolve_block<blocks, channels, most, known_shifts>(c, weights, first, z);
}

/// `blocks` blocks of output channels.
template <int blocks, int channels, int known_shifts>
HWY_INLINE void convolve_channels(const RowConvolution& c, const float* weights, std::int64_t first) {
    constexpr int together = vectors_together<blocks, channels>();
    std::int64_t z = 0;
    if constexpr (row_multiple % (together * lanes) == 0) {
        for (; z < c.floats; z += together * lanes)
            convolve_block<blocks, channels, together, known_shifts>(c, weights, first, z);
    } else {
        // Steps as equal as possible: a few sums would wait for each other.
        for (std::int64_t left = c.floats / lanes; left > 0; left = (c.floats - z) / lanes) {
            const std::int64_t steps = (left + together - 1) / together;
            const std::int64_t vectors = (left + steps - 1) / steps;
            convolve_vectors<blocks, channels, together, known_shifts>(c, weights, first, z, vectors);
            z += vectors * lanes;
        }
    }
}

template <int known_shifts>
HWY_INLINE void convolve_rows(const RowConvolution& c) {
    const float* weights = c.weights;
    std::int64_t first = 0;
    const auto done = [&](std::int64_t count) HWY_ATTR {
        first += count;
        weights += count * c.rows * c.shifts;
    };
    // Two blocks where one has too few sums for a vector, or where they read less.
    if constexpr (lanes == row_multiple || HWY_ARCH_ARM_A64)
        if (c.floats == lanes || HWY_ARCH_ARM_A64)
            for (; first + 2 * row_block <= c.channels; done(2 * row_block))
                convolve_channels<2, row_block, known_shifts>(c, weights, first);
    for (; first + row_block <= c.channels; done(row_block))
        convolve_channels<1, row_block, known_shifts>(c, weights, first);
    if (c.channels - first == 1)
        convolve_channels<1, 1, known_shifts>(c, weights, first);
    else if (c.channels - first == 2)
        convolve_channels<1, 2, known_shifts>(c, weights, first);
    else if (c.channels - first == 3)
        convolve_channels<1, 3, known_shifts>(c, weights, first);
}

void convolve(const RowConvolution& c) {
    if (c.shifts == 1 && c.first_shift == 0)
        convolve_rows<1>(c);
    else if (c.shifts == 3 && c.first_shift == -1 && c.shift_step == 1)
        convolve_rows<3>(c);
    else
        convolve_rows<0>(c);
}

void add(const RowSum& s) {
    const Floats d;
    for (std::int64_t c = 0; c < s.channels; ++c)
        for (std::int64_t z = 0; z < s.floats; z += lanes) {
            Vector sum = hn::Load(d, s.inputs[c] + z);
            for (std::int64_t k = 1; k < s.terms; ++k)
                sum = hn::Add(sum, hn::Load(d, s.inputs[k * s.channels + c] + z));
            hn::Store(activate(s.activation, sum), d, s.outputs[c] + z);
        }
}

#if HWY_TARGET != HWY_SCALAR

using FourTag = hn::FixedTag<float, 4>;
using Four = hn::Vec<FourTag>;

HWY_INLINE Four load_four(const float* from) {
    return hn::LoadU(FourTag(), from);
}

HWY_INLINE void store_four(Four four, float* to) {
    hn::StoreU(four, FourTag(), to);
}

HWY_INLINE void stream_four(Four four, float* to) {
    hn::Stream(four, FourTag(), to);
}

struct Square {
    Four a, b, c, d;
};

/// Rows and columns of 4 x 4 floats exchanged.
HWY_INLINE Square transposed(Four a, Four b, Four c, Four d) {
    const FourTag tag;
    const auto ab_low = hn::InterleaveLower(tag, a, b);
    const auto ab_high = hn::InterleaveUpper(tag, a, b);
    const auto cd_low = hn::InterleaveLower(tag, c, d);
    const auto cd_high = hn::InterleaveUpper(tag, c, d);
    return {hn::ConcatLowerLower(tag, cd_low, ab_low), hn::ConcatUpperUpper(tag, cd_low, ab_low),
            hn::ConcatLowerLower(tag, cd_high, ab_high), hn::ConcatUpperUpper(tag, cd_high, ab_high)};
}

#else

struct Four {
    float values[4];
};

HWY_INLINE Four load_four(const float* from) {
    return {{from[0], from[1], from[2], from[3]}};
}

HWY_INLINE void store_four(const Four& four, float* to) {
    std::copy_n(four.values, 4, to);
}

HWY_INLINE void stream_four(const Four& four, float* to) {
    store_four(four, to);
}

struct Square {
    Four a, b, c, d;
};

HWY_INLINE Square transposed(const Four& a, const Four& b, const Four& c, const Four& d) {
    const auto column = [&](int i) { return Four{{a.values[i], b.values[i], c.values[i], d.values[i]}}; };
    return {column(0), column(1), column(2), column(3)};
}

#endif

#if HWY_TARGET != HWY_SCALAR

/// Sixteen channels of sixteen voxels, `stride` floats apart, to rows.
/// Square by square of four channels and voxels in the 128-bit blocks of the vectors, then block by block.
HWY_INLINE void to_sixteen_rows(const float* voxels, std::int64_t stride, float* const* rows, std::int64_t z) {
    const Floats d;
    Vector blocks[4][4]; // [channel in the block][four voxels]: block b has channel 4 b + that of these voxels
    MFRES_UNROLL
    for (int four = 0; four < 4; ++four) {
        const float* from = voxels + 4 * four * stride;
        const Vector a = hn::LoadU(d, from);
        const Vector b = hn::LoadU(d, from + stride);
        const Vector e = hn::LoadU(d, from + 2 * stride);
        const Vector f = hn::LoadU(d, from + 3 * stride);
        const hn::Repartition<std::uint64_t, Floats> pairs; // ARMv7 has no vectors of doubles
        const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
        const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
        const auto ef_low = hn::BitCast(pairs, hn::InterleaveLower(d, e, f));
        const auto ef_high = hn::BitCast(pairs, hn::InterleaveUpper(d, e, f));
        blocks[0][four] = hn::BitCast(d, hn::InterleaveLower(pairs, ab_low, ef_low));
        blocks[1][four] = hn::BitCast(d, hn::InterleaveUpper(pairs, ab_low, ef_low));
        blocks[2][four] = hn::BitCast(d, hn::InterleaveLower(pairs, ab_high, ef_high));
        blocks[3][four] = hn::BitCast(d, hn::InterleaveUpper(pairs, ab_high, ef_high));
    }
    MFRES_UNROLL
    for (int c = 0; c < 4; ++c) {
        const Vector low_even = hn::ConcatLowerLower(d, blocks[c][2], blocks[c][0]);
        const Vector low_odd = hn::ConcatLowerLower(d, blocks[c][3], blocks[c][1]);
        const Vector high_even = hn::ConcatUpperUpper(d, blocks[c][2], blocks[c][0]);
        const Vector high_odd = hn::ConcatUpperUpper(d, blocks[c][3], blocks[c][1]);
        hn::StoreU(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(low_odd), low_even), d, rows[c] + z);
        hn::StoreU(hn::OddEvenBlocks(low_odd, hn::SwapAdjacentBlocks(low_even)), d, rows[4 + c] + z);
        hn::StoreU(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(high_odd), high_even), d, rows[8 + c] + z);
        hn::StoreU(hn::OddEvenBlocks(high_odd, hn::SwapAdjacentBlocks(high_even)), d, rows[12 + c] + z);
    }
}

#endif

/// Calls square(channel, voxel) for every whole square of four channels and voxels, one(channel, voxel) for the rest.
/// All channels of four voxels follow each other, so that each line of memory is done with at once.
template <typename Squares, typename Ones>
HWY_INLINE void for_squares(const Voxels& voxels, const Squares& square, const Ones& one) {
    const std::int64_t whole_channels = voxels.channels / 4 * 4;
    const std::int64_t whole_voxels = voxels.count / 4 * 4;
    for (std::int64_t z = 0; z < whole_voxels; z += 4)
        for (std::int64_t c = 0; c < whole_channels; c += 4)
            square(c, z);
    for (std::int64_t c = 0; c < voxels.channels; ++c)
        for (std::int64_t z = c < whole_channels ? whole_voxels : 0; z < voxels.count; ++z)
            one(c, z);
}

void to_rows(const Voxels& voxels, const float* from, float* const* rows) {
    const std::int64_t stride = voxels.stride;
#if HWY_TARGET != HWY_SCALAR
    if constexpr (lanes == 16)
        if (voxels.channels % 16 == 0 && voxels.count % 16 == 0) {
            for (std::int64_t z = 0; z < voxels.count; z += 16)
                for (std::int64_t c = 0; c < voxels.channels; c += 16)
                    to_sixteen_rows(from + z * stride + c, stride, rows + c, z);
            return;
        }
#endif
    for_squares(
        voxels,
        [&](std::int64_t c, std::int64_t z) HWY_ATTR {
            const float* v = from + z * stride + c;
            const Square s =
                transposed(load_four(v), load_four(v + stride), load_four(v + 2 * stride), load_four(v + 3 * stride));
            store_four(s.a, rows[c] + z);
            store_four(s.b, rows[c + 1] + z);
            store_four(s.c, rows[c + 2] + z);
            store_four(s.d, rows[c + 3] + z);
        },
        [&](std::int64_t c, std::int64_t z) HWY_ATTR { rows[c][z] = from[z * stride + c]; });
}

template <typename Store>
HWY_INLINE void to_voxels_by(const Voxels& voxels, const float* const* rows, float* to, const Store& store) {
    const std::int64_t stride = voxels.stride;
    for_squares(
        voxels,
        [&](std::int64_t c, std::int64_t z) HWY_ATTR {
            float* v = to + z * stride + c;
            const Square s = transposed(load_four(rows[c] + z), load_four(rows[c + 1] + z), load_four(rows[c + 2] + z),
                                        load_four(rows[c + 3] + z));
            store(s.a, v);
            store(s.b, v + stride);
            store(s.c, v + 2 * stride);
            store(s.d, v + 3 * stride);
        },
        [&](std::int64_t c, std::int64_t z) HWY_ATTR { to[z * stride + c] = rows[c][z]; });
}

void to_voxels(const Voxels& voxels, const float* const* rows, float* to) {
    // Past the caches, which hold too little for anybody to find the voxels there later: memory need not be read first.
    if (voxels.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(to) % 16 == 0)
        to_voxels_by(voxels, rows, to, [](const auto& four, float* at) HWY_ATTR { stream_four(four, at); });
    else
        to_voxels_by(voxels, rows, to, [](const auto& four, float* at) HWY_ATTR { store_four(four, at); });
}

/// A vector of values from i on, or one value: rounded alike, so that it does not matter where a part of a line begins.
template <typename Tag>
HWY_INLINE void blend_at(const RowUpsampling& u, const Tag& d, std::int64_t i) {
    auto sum = hn::Mul(hn::Set(d, u.weights[0]), hn::LoadU(d, u.lines[0] + i));
    for (std::size_t k = 1; k < u.lines.size(); ++k)
        sum = hn::MulAdd(hn::Set(d, u.weights[k]), hn::LoadU(d, u.lines[k] + i), sum);
    hn::StoreU(sum, d, u.blend + i);
}

HWY_INLINE void blend_lines(const RowUpsampling& u) {
    const std::int64_t count = (u.before + u.voxels + u.after) * u.channels;
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes)
        blend_at(u, Floats(), i);
    for (; i < count; ++i)
        blend_at(u, hn::CappedTag<float, 1>(), i);
}

/// Between the voxels i - 1, i and i + 1 of a row lie the new ones 2i and 2i + 1.
HWY_INLINE void double_row(const RowUpsampling& u, float* row, float* out) {
    const Floats d;
    const Vector near = hn::Set(d, 0.75F);
    const Vector far = hn::Set(d, 0.25F);
    if (u.before == 0)
        row[-1] = row[0];
    if (u.after == 0)
        row[u.voxels] = row[u.voxels - 1];
    for (std::int64_t i = 0; i < u.voxels; i += lanes) {
        const Vector here = hn::Mul(near, hn::Load(d, row + i));
        const Vector even = hn::MulAdd(far, hn::LoadU(d, row + i - 1), here);
        const Vector odd = hn::MulAdd(far, hn::LoadU(d, row + i + 1), here);
        hn::StoreInterleaved2(even, odd, d, out + 2 * i);
    }
}

void upsample(const RowUpsampling& u) {
    const Floats d;
    blend_lines(u);
    to_rows({u.channels, u.channels, u.before + u.voxels + u.after}, u.blend, u.rows);
    for (std::int64_t c = 0; c < u.channels; ++c) {
        float* out = u.outputs[c];
        double_row(u, u.rows[c] + u.before, out);
        if (!u.residual && u.activation.kind == Activation::Kind::none)
            continue;
        for (std::int64_t z = 0; z < 2 * u.voxels; z += lanes) {
            Vector value = hn::Load(d, out + z);
            if (u.residual)
                value = hn::Add(value, hn::Load(d, u.residual[c] + z));
            hn::Store(activate(u.activation, value), d, out + z);
        }
    }
}

void finish_stores() {
    hwy::FlushStream();
}

const LineKernels* line_kernels_of_target() {
    static const LineKernels own{hwy::TargetName(HWY_TARGET),
                                 static_cast<int>(lanes),
                                 convolve,
                                 add,
                                 upsample,
                                 to_rows,
                                 to_voxels,
                                 finish_stores};
    return &own;
}

} // namespace HWY_NAMESPACE
} // namespace mfres::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mfres::kernels {

HWY_EXPORT(line_kernels_of_target);

const LineKernels& line_kernels() {
    return *HWY_DYNAMIC_DISPATCH(line_kernels_of_target)();
}

} // namespace mfres::kernels
#endif // HWY_ONCE
