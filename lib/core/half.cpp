// SPDX-License-Identifier: MIT
#include "core/half.h"

#include <bit>

namespace mfres {

namespace {

/// value / 2^shift, rounded to the nearest integer, ties to even. Precondition: 0 < shift < 32.
std::uint32_t shift_right_to_even(std::uint32_t value, unsigned shift) {
    const std::uint32_t quotient = value >> shift;
    const std::uint32_t rest = value & ((1U << shift) - 1U);
    const std::uint32_t half = 1U << (shift - 1U);
    return quotient + static_cast<std::uint32_t>(rest > half || (rest == half && (quotient & 1U) != 0));
}

} // namespace

float f16_to_f32(std::uint16_t bits) {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16U;
    const std::uint32_t exponent = (bits >> 10U) & 0x1FU;
    const std::uint32_t fraction = bits & 0x3FFU;
    if (exponent == 0x1FU)
        return std::bit_cast<float>(sign | 0x7F800000U | (fraction << 13U));
    if (exponent != 0)
        return std::bit_cast<float>(sign | ((exponent + 112U) << 23U) | (fraction << 13U)); // bias 127 - 15 = 112
    if (fraction == 0)
        return std::bit_cast<float>(sign);
    // A subnormal, fraction * 2^-24, is a normal float: bring its leading one to the hidden bit.
    const auto shift = static_cast<std::uint32_t>(std::countl_zero(fraction)) - 21U;
    return std::bit_cast<float>(sign | ((113U - shift) << 23U) | (((fraction << shift) & 0x3FFU) << 13U));
}

float bf16_to_f32(std::uint16_t bits) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

std::uint16_t f32_to_f16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (bits >> 16U) & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) {
        const std::uint32_t payload = (magnitude >> 13U) & 0x3FFU;
        return static_cast<std::uint16_t>(sign | 0x7C00U | (payload != 0 ? payload : 0x200U));
    }
    const std::uint32_t exponent = magnitude >> 23U;
    if (exponent >= 143U) // 2^16 and above, infinity included
        return static_cast<std::uint16_t>(sign | 0x7C00U);
    if (exponent >= 113U) // normal; a carry out of the fraction moves the exponent up, to infinity if need be
        return static_cast<std::uint16_t>(sign | (shift_right_to_even(magnitude, 13U) - (112U << 10U)));
    if (exponent < 102U) // below 2^-25, half of the smallest subnormal
        return static_cast<std::uint16_t>(sign);
    const std::uint32_t significand = (magnitude & 0x7FFFFFU) | 0x800000U;
    return static_cast<std::uint16_t>(sign | shift_right_to_even(significand, 126U - exponent));
}

std::uint16_t f32_to_bf16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
        const std::uint32_t upper = bits >> 16U;
        return static_cast<std::uint16_t>((upper & 0x7FU) != 0 ? upper : upper | 0x40U);
    }
    return static_cast<std::uint16_t>(shift_right_to_even(bits, 16U));
}

} // namespace mfres
