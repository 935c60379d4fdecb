// SPDX-License-Identifier: MIT
#include "backends/kernels/pair_kernels.h"

#include "backends/kernels/pragmas.h"
#include "core/half.h"

#include <algorithm>
#include <bit>
#include <string_view>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define MFRES_HAS_PAIR_KERNELS
#endif

namespace mfres::kernels {

std::vector<float> packed_pair_weights(const Tensor& weight) {
    const Shape& shape = weight.shape();
    const std::int64_t taps = shape[2] * shape[3];
    std::vector<float> packed;
    packed.reserve(static_cast<std::size_t>(weight.elements() / 2));
    for (std::int64_t first = 0; first < shape[0]; first += row_block)
        for (std::int64_t tap = 0; tap < taps; ++tap)
            for (std::int64_t pair = 0; pair < shape[1] / 2; ++pair)
                for (std::int64_t z = 0; z < shape[4]; ++z)
                    for (std::int64_t out = first; out < std::min(first + row_block, shape[0]); ++out) {
                        const auto bits = [&](std::int64_t in) {
                            return std::uint32_t{
                                f32_to_bf16(weight[((out * shape[1] + in) * taps + tap) * shape[4] + z])};
                        };
                        packed.push_back(std::bit_cast<float>(bits(2 * pair + 1) << 16U | bits(2 * pair)));
                    }
    return packed;
}

#ifdef MFRES_HAS_PAIR_KERNELS

namespace {

// Functions that are inlined need the instruction sets of those that call them.
#define MFRES_PAIRS_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define MFRES_PAIRS_INLINE MFRES_PAIRS_TARGET inline __attribute__((always_inline))

constexpr std::int64_t lanes = 16;
/// Vectors along z computed together: with four channels 16 sums.
constexpr std::int64_t most_vectors = 4;

MFRES_PAIRS_INLINE __m512 activated(const Activation& activation, __m512 value) {
    const __m512 zero = _mm512_setzero_ps();
    switch (activation.kind) {
    case Activation::Kind::none: return value;
    // NaN is not below zero, so it stays.
    case Activation::Kind::relu: return _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(value, zero, _CMP_LT_OQ), zero);
    case Activation::Kind::leaky_relu:
        return _mm512_mask_mul_ps(value, _mm512_cmp_ps_mask(value, zero, _CMP_LT_OQ), value,
                                  _mm512_set1_ps(activation.slope));
    }
    return value;
}

/// `channels` output channels from `first` on, `vectors` vectors from voxel z on.
template <int channels, int vectors, int shifts>
MFRES_PAIRS_INLINE void convolve_block(const RowConvolution& c, const float* weights, std::int64_t first,
                                       std::int64_t z) {
    __m512 sum[channels][vectors];
    MFRES_UNROLL
    for (int o = 0; o < channels; ++o) {
        MFRES_UNROLL
        for (int v = 0; v < vectors; ++v)
            sum[o][v] = _mm512_set1_ps(c.bias[first + o]);
    }
    for (std::int64_t r = 0; r < c.rows; ++r) {
        const float* row = c.inputs[r] + z - shifts / 2;
        MFRES_UNROLL
        for (int s = 0; s < shifts; ++s, weights += channels) {
            __m512bh x[vectors];
            MFRES_UNROLL
            for (int v = 0; v < vectors; ++v)
                x[v] = (__m512bh)_mm512_loadu_ps(row + s + v * lanes);
            MFRES_UNROLL
            for (int o = 0; o < channels; ++o) {
                const auto weight = (__m512bh)_mm512_set1_ps(weights[o]);
                MFRES_UNROLL
                for (int v = 0; v < vectors; ++v)
                    sum[o][v] = _mm512_dpbf16_ps(sum[o][v], weight, x[v]);
            }
        }
    }
    MFRES_UNROLL
    for (int o = 0; o < channels; ++o) {
        MFRES_UNROLL
        for (int v = 0; v < vectors; ++v) {
            const std::int64_t at = z + v * lanes;
            __m512 value = sum[o][v];
            if (c.residual)
                value = _mm512_add_ps(value, _mm512_load_ps(c.residual[first + o] + at));
            _mm512_store_ps(c.outputs[first + o] + at, activated(c.activation, value));
        }
    }
}

template <int channels, int shifts>
MFRES_PAIRS_INLINE void convolve_channels(const RowConvolution& c, const float* weights, std::int64_t first) {
    std::int64_t z = 0;
    // Steps as equal as possible: a few sums would wait for each other.
    for (std::int64_t left = c.floats / lanes; left > 0; left = (c.floats - z) / lanes) {
        const std::int64_t steps = (left + most_vectors - 1) / most_vectors;
        const std::int64_t vectors = (left + steps - 1) / steps;
        if (vectors == 1)
            convolve_block<channels, 1, shifts>(c, weights, first, z);
        else if (vectors == 2)
            convolve_block<channels, 2, shifts>(c, weights, first, z);
        else if (vectors == 3)
            convolve_block<channels, 3, shifts>(c, weights, first, z);
        else
            convolve_block<channels, 4, shifts>(c, weights, first, z);
        z += vectors * lanes;
    }
}

template <int shifts>
MFRES_PAIRS_INLINE void convolve_rows(const RowConvolution& c) {
    static_assert(row_block == 4);
    const float* weights = c.weights;
    std::int64_t first = 0;
    for (; first + row_block <= c.channels; first += row_block, weights += row_block * c.rows * shifts)
        convolve_channels<4, shifts>(c, weights, first);
    if (c.channels - first == 1)
        convolve_channels<1, shifts>(c, weights, first);
    else if (c.channels - first == 2)
        convolve_channels<2, shifts>(c, weights, first);
    else if (c.channels - first == 3)
        convolve_channels<3, shifts>(c, weights, first);
}

MFRES_PAIRS_TARGET void convolve(const RowConvolution& c) {
    if (c.shifts == 1)
        convolve_rows<1>(c);
    else
        convolve_rows<3>(c);
}

MFRES_PAIRS_TARGET void pack(const float* const* rows, std::int64_t pairs, std::int64_t floats, float* const* packed) {
    // Of the 32 values of a conversion the first 16 are of the even channel.
    alignas(64) static constexpr std::uint16_t alternating[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                                  21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                                  11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i order = _mm512_load_si512(alternating);
    for (std::int64_t p = 0; p < pairs; ++p)
        for (std::int64_t z = 0; z < floats; z += lanes) {
            const __m512bh both =
                _mm512_cvtne2ps_pbh(_mm512_load_ps(rows[2 * p + 1] + z), _mm512_load_ps(rows[2 * p] + z));
            _mm512_store_si512(packed[p] + z, _mm512_permutexvar_epi16(order, (__m512i)both));
        }
}

bool has_instructions() {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5U & 1U) != 0;
}

} // namespace

const PairKernels* pair_kernels() {
    static constexpr PairKernels own{"AVX512-BF16", convolve, pack};
    static const bool has = has_instructions();
    // Where AVX-512 is chosen, the system saves its registers.
    return has && std::string_view(line_kernels().name) == "AVX3" ? &own : nullptr;
}

#else

const PairKernels* pair_kernels() {
    return nullptr;
}

#endif

} // namespace mfres::kernels
