// SPDX-License-Identifier: MIT
// Numbers as bytes in an order that no processor decides.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

namespace mfres {

/// The bytes of an unsigned number, the least significant first.
template <typename T>
std::array<std::byte, sizeof(T)> little_endian(T value) {
    std::array<std::byte, sizeof(T)> bytes{};
    for (std::size_t i = 0; i < sizeof(T); ++i)
        bytes[i] = static_cast<std::byte>((value >> (8U * i)) & 0xFFU);
    return bytes;
}

/// The number that the first sizeof(T) bytes make.
template <typename T>
T from_little_endian(const std::byte* bytes) {
    T value = 0;
    if constexpr (std::endian::native == std::endian::little) {
        std::memcpy(&value, bytes, sizeof(T));
    } else {
        for (std::size_t i = 0; i < sizeof(T); ++i)
            value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(bytes[i]) << (8U * i)));
    }
    return value;
}

} // namespace mfres
