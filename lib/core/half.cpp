// SPDX-License-Identifier: MIT
#include "core/half.h"

#include "core/little_endian.h"

#include <bit>
#include <limits>

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

// By masks in place of branches, so that loops of it become vectors.
float f16_to_f32(std::uint16_t bits) {
    constexpr std::int32_t bias = 112 << 23; // 127 - 15, of the exponents
    constexpr std::int32_t smallest_normal = 113 << 23;
    const std::int32_t sign = static_cast<std::int32_t>(bits) << 16;
    const std::int32_t magnitude = (bits & 0x7FFF) << 13;
    const std::int32_t is_infinite_or_nan = (0x0F7FFFFF - magnitude) >> 31;
    const std::int32_t is_subnormal = (magnitude - 0x00800000) >> 31;
    // The exponent of infinity and NaN becomes 255.
    const std::int32_t normal = magnitude + bias + (is_infinite_or_nan & bias);
    // fraction * 2^-24 = (1 + fraction / 1024) * 2^-14 - 2^-14, without a rounding, and a zero stays one.
    const auto subnormal = std::bit_cast<std::int32_t>(std::bit_cast<float>(magnitude + smallest_normal) -
                                                       std::bit_cast<float>(smallest_normal));
    return std::bit_cast<float>((sign & std::numeric_limits<std::int32_t>::min()) | (is_subnormal & subnormal) |
                                (~is_subnormal & normal));
}

void read_f16(const std::byte* bytes, std::span<float> values) {
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = f16_to_f32(from_little_endian<std::uint16_t>(bytes + 2 * i));
}

float bf16_to_f32(std::uint16_t bits) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

void read_bf16(const std::byte* bytes, std::span<float> values) {
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = bf16_to_f32(from_little_endian<std::uint16_t>(bytes + 2 * i));
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
