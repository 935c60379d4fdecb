// SPDX-License-Identifier: MIT
// All 65536 patterns of both 16-bit formats, against definitions in double precision.
#include "core/half.h"
#include "core/little_endian.h"
#include "support/catch.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

using namespace mfres;

namespace {

constexpr std::uint32_t patterns = 0x10000U;

/// The value of an IEEE-like pattern with `fraction_bits` and `exponent_bits`, by its definition.
double value_of(std::uint32_t bits, int exponent_bits, int fraction_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    const auto fraction = static_cast<double>(bits & ((1U << fraction_bits) - 1U));
    const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1)
        return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                             : std::numeric_limits<double>::quiet_NaN();
    if (exponent == 0)
        return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
    return sign * std::ldexp(fraction + std::ldexp(1.0, fraction_bits), exponent - bias - fraction_bits);
}

/// Expands every pattern and compares with value_of; signs of zeros and NaNs count.
std::uint32_t wrong_expansions(float (*expand)(std::uint16_t), int exponent_bits, int fraction_bits) {
    std::uint32_t wrong = 0;
    for (std::uint32_t bits = 0; bits < patterns; ++bits) {
        const float actual = expand(static_cast<std::uint16_t>(bits));
        const double expected = value_of(bits, exponent_bits, fraction_bits);
        const bool same_value = std::isnan(expected) ? std::isnan(actual) : double{actual} == expected;
        const bool same_sign = (std::bit_cast<std::uint32_t>(actual) >> 31U) == (bits >> 15U);
        wrong += same_value && same_sign ? 0 : 1;
    }
    return wrong;
}

std::uint32_t changed_by_round_trip(float (*expand)(std::uint16_t), std::uint16_t (*narrow)(float)) {
    std::uint32_t changed = 0;
    for (std::uint32_t bits = 0; bits < patterns; ++bits)
        changed += narrow(expand(static_cast<std::uint16_t>(bits))) == bits ? 0 : 1;
    return changed;
}

/// For every pair of neighbouring finite magnitudes: the midpoint goes to the even one, the floats on either side of
/// it to the nearer one; both signs. Also the midpoint between the largest finite value and what follows it.
std::uint32_t wrong_roundings(float (*expand)(std::uint16_t), std::uint16_t (*narrow)(float), std::uint16_t infinity,
                              double after_largest) {
    std::uint32_t wrong = 0;
    for (std::uint32_t bits = 0; bits < infinity; ++bits) {
        const double low = expand(static_cast<std::uint16_t>(bits));
        const double high = bits + 1 == infinity ? after_largest : expand(static_cast<std::uint16_t>(bits + 1));
        const auto middle = static_cast<float>((low + high) / 2);
        wrong += double{middle} == (low + high) / 2 ? 0 : 1;
        const std::uint32_t even = bits + (bits & 1U);
        for (const std::uint32_t sign : {0U, 0x8000U}) {
            const float s = sign == 0 ? 1.0F : -1.0F;
            wrong += narrow(s * middle) == (sign | even) ? 0 : 1;
            wrong += narrow(s * std::nextafter(middle, 0.0F)) == (sign | bits) ? 0 : 1;
            wrong += narrow(s * std::nextafter(middle, std::numeric_limits<float>::infinity())) == (sign | (bits + 1))
                         ? 0
                         : 1;
        }
    }
    return wrong;
}

} // namespace

TEST_CASE("every f16 and bf16 pattern has the value its definition gives") {
    CHECK(wrong_expansions(f16_to_f32, 5, 10) == 0);
    CHECK(wrong_expansions(bf16_to_f32, 8, 7) == 0);
}

TEST_CASE("many halves are read as one by one, from any byte on") {
    std::vector<std::byte> bytes(1); // odd addresses
    for (std::size_t bits = 0; bits < patterns; ++bits)
        for (const std::byte byte : little_endian(static_cast<std::uint16_t>(bits)))
            bytes.push_back(byte);
    std::vector<float> values(patterns);
    const auto differing = [&](float (*one)(std::uint16_t)) {
        int count = 0;
        for (std::size_t bits = 0; bits < patterns; ++bits)
            count += std::bit_cast<std::uint32_t>(values[bits]) !=
                     std::bit_cast<std::uint32_t>(one(static_cast<std::uint16_t>(bits)));
        return count;
    };
    read_f16(bytes.data() + 1, values);
    CHECK(differing(f16_to_f32) == 0);
    read_bf16(bytes.data() + 1, values);
    CHECK(differing(bf16_to_f32) == 0);
}

TEST_CASE("every f16 and bf16 pattern survives the way to f32 and back, NaN payloads included") {
    CHECK(changed_by_round_trip(f16_to_f32, f32_to_f16) == 0);
    CHECK(changed_by_round_trip(bf16_to_f32, f32_to_bf16) == 0);
}

TEST_CASE("narrowing rounds to nearest, ties to even, at every midpoint") {
    CHECK(wrong_roundings(f16_to_f32, f32_to_f16, 0x7C00U, 65536.0) == 0);
    CHECK(wrong_roundings(bf16_to_f32, f32_to_bf16, 0x7F80U, std::ldexp(1.0, 128)) == 0);
}

TEST_CASE("narrowing at the ends of the range") {
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(f32_to_f16(65504.0F) == 0x7BFFU);
    CHECK(f32_to_f16(65519.996F) == 0x7BFFU);
    CHECK(f32_to_f16(65520.0F) == 0x7C00U);
    CHECK(f32_to_f16(-1e30F) == 0xFC00U);
    CHECK(f32_to_f16(infinity) == 0x7C00U);
    CHECK(f32_to_f16(0x1.0p-24F) == 0x0001U);
    CHECK(f32_to_f16(0x1.0p-25F) == 0x0000U);
    CHECK(f32_to_f16(-0x1.0p-149F) == 0x8000U);
    CHECK(f32_to_bf16(infinity) == 0x7F80U);
    CHECK(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7F80U);
    CHECK(f32_to_bf16(-0.0F) == 0x8000U);
    // A NaN whose payload lies below what fits must not turn into an infinity.
    const auto low_nan = std::bit_cast<float>(0x7F800001U);
    CHECK(std::isnan(f16_to_f32(f32_to_f16(low_nan))));
    CHECK(std::isnan(bf16_to_f32(f32_to_bf16(low_nan))));
}
