// SPDX-License-Identifier: MIT
// The two 16-bit floating-point formats of model files. Conversions operate on bits and give the same results on every
// processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mfres {

/// IEEE 754 binary16 (1 sign, 5 exponent, 10 fraction bits) to float. Exact for every pattern: subnormals, both zeros
/// and infinities, and the payload of a NaN.
float f16_to_f32(std::uint16_t bits);

/// bfloat16 (the upper half of a float: 1 sign, 8 exponent, 7 fraction bits) to float. Exact for every pattern.
float bf16_to_f32(std::uint16_t bits);

/// The same for many values, whose bytes come with the least significant first: two for each of `values`.
void read_f16(const std::byte* bytes, std::span<float> values);
void read_bf16(const std::byte* bytes, std::span<float> values);

/// The nearest binary16, ties to even (IEEE 754-2019, 4.3.1): magnitudes of 65520 and more become infinity, a NaN stays
/// a NaN with the upper bits of its payload.
std::uint16_t f32_to_f16(float value);

/// The nearest bfloat16, ties to even; overflow becomes infinity, a NaN stays a NaN.
std::uint16_t f32_to_bf16(float value);

} // namespace mfres
