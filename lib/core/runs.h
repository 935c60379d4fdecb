// SPDX-License-Identifier: MIT
// Runs of one value in an array, such as the background of an image.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace mfres {

/// The first value from `begin` on that is not `value`; `end` if there is none. Compares 32 bytes at once as long as their
/// bits are the same.
template <typename T>
const T* first_other(const T* begin, const T* end, std::type_identity_t<T> value) {
    std::array<T, sizeof(std::uint64_t) / sizeof(T)> same;
    same.fill(value);
    const auto word = std::bit_cast<std::uint64_t>(same);
    std::array<std::uint64_t, 4> next; // compared word by word: a call of memcmp would take longer
    for (constexpr std::ptrdiff_t step = sizeof next / sizeof(T); end - begin >= step; begin += step) {
        std::memcpy(next.data(), begin, sizeof next);
        if (((next[0] ^ word) | (next[1] ^ word) | (next[2] ^ word) | (next[3] ^ word)) != 0)
            break;
    }
    return std::find_if(begin, end, [value](T other) { return other != value; });
}

} // namespace mfres
