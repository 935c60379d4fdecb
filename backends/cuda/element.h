// SPDX-License-Identifier: MIT
// What activations are stored as, and how a float becomes one: the same bits on a GPU and on the host.
#pragma once

#include "backends/anywhere.h"

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace mfres::cuda {

enum class ElementType : std::uint8_t { f32, bf16, fp16 };

constexpr std::int64_t bytes_of(ElementType type) {
    return type == ElementType::f32 ? 4 : 2;
}

struct Bf16 {
    std::uint16_t bits;
};

struct Fp16 {
    std::uint16_t bits;
};

MFRES_ANYWHERE inline std::uint32_t bits_of(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
}

MFRES_ANYWHERE inline float float_of(std::uint32_t bits) {
    float value = 0.0F;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

MFRES_ANYWHERE inline float widen(float value) {
    return value;
}

MFRES_ANYWHERE inline float widen(Bf16 value) {
    return float_of(static_cast<std::uint32_t>(value.bits) << 16U);
}

MFRES_ANYWHERE inline float widen(Fp16 value) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(value.bits));
#else
    const std::uint32_t sign = (value.bits & 0x8000U) << 16U;
    const std::uint32_t rest = value.bits & 0x7FFFU;
    if (rest >= 0x7C00U) // infinity or NaN
        return float_of(sign | 0x7F800000U | (rest & 0x3FFU) << 13U);
    // The exponent's bias is put right by a product, which is exact for subnormal numbers too.
    const float magnitude = float_of(rest << 13U) * 0x1p112F;
    return sign != 0 ? -magnitude : magnitude;
#endif
}

/// To nearest, ties to even; what is too large becomes infinite, NaN stays NaN.
MFRES_ANYWHERE inline void narrow(float value, float& to) {
    to = value;
}

MFRES_ANYWHERE inline void narrow(float value, Bf16& to) {
    const std::uint32_t bits = bits_of(value);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U)
        to.bits = static_cast<std::uint16_t>(bits >> 16U | 0x40U);
    else
        to.bits = static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16U & 1U)) >> 16U);
}

MFRES_ANYWHERE inline void narrow(float value, Fp16& to) {
#ifdef __CUDA_ARCH__
    to.bits = __half_as_ushort(__float2half_rn(value));
#else
    const std::uint32_t bits = bits_of(value);
    const std::uint32_t sign = bits >> 16U & 0x8000U;
    const std::uint32_t rest = bits & 0x7FFFFFFFU;
    std::uint32_t half = 0;
    if (rest > 0x7F800000U) {
        half = 0x7E00U;
    } else if (rest >= 0x477FF000U) { // 65520, from where on infinity is nearest
        half = 0x7C00U;
    } else if (rest < 0x38800000U) { // below the smallest normal number: the sum's last bit is worth 2^-24
        half = bits_of(float_of(rest) + 0.5F) - bits_of(0.5F);
    } else {
        half = (rest - 0x38000000U + 0xFFFU + (rest >> 13U & 1U)) >> 13U;
    }
    to.bits = static_cast<std::uint16_t>(sign | half);
#endif
}

template <typename T>
MFRES_ANYWHERE inline T narrowed(float value) {
    T to;
    narrow(value, to);
    return to;
}

} // namespace mfres::cuda
