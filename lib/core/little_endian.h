// SPDX-License-Identifier: MIT
// Numbers as bytes in an order that no processor decides.
#pragma once

#include <array>
#include <cstddef>

namespace mfres {

/// The bytes of an unsigned number, the least significant first.
template <typename T>
std::array<std::byte, sizeof(T)> little_endian(T value) {
    std::array<std::byte, sizeof(T)> bytes{};
    for (std::size_t i = 0; i < sizeof(T); ++i)
        bytes[i] = static_cast<std::byte>((value >> (8U * i)) & 0xFFU);
    return bytes;
}

} // namespace mfres
