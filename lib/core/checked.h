// SPDX-License-Identifier: MIT
// Products and sums of sizes with a check for overflow of 64 bits, and of what a process can address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <new>
#include <optional>

namespace mfres {

/// a * b, or nothing if a factor is negative or the product does not fit.
inline std::optional<std::int64_t> checked_multiply(std::int64_t a, std::int64_t b) {
    std::int64_t product = 0;
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product))
        return std::nullopt;
    return product;
}

/// a + b, or nothing if a summand is negative or the sum does not fit.
inline std::optional<std::int64_t> checked_add(std::int64_t a, std::int64_t b) {
    std::int64_t sum = 0;
    if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &sum))
        return std::nullopt;
    return sum;
}

/// The product of all factors, or nothing if it does not fit.
template <typename Range>
std::optional<std::int64_t> checked_product(const Range& factors) {
    std::int64_t product = 1;
    for (const auto factor : factors) {
        const auto next = checked_multiply(product, static_cast<std::int64_t>(factor));
        if (!next)
            return std::nullopt;
        product = *next;
    }
    return product;
}

inline std::optional<std::int64_t> checked_product(std::initializer_list<std::int64_t> factors) {
    return checked_product<std::initializer_list<std::int64_t>>(factors);
}

/// The number of elements of an array of T. Throws std::bad_alloc where a process cannot address so many: a cast would give
/// a shorter array on a machine with addresses of 32 bits.
template <typename T>
std::size_t array_size(std::int64_t elements) {
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::ptrdiff_t>::max()) / sizeof(T);
    if (elements < 0 || static_cast<std::uint64_t>(elements) > most)
        throw std::bad_array_new_length();
    return static_cast<std::size_t>(elements);
}

} // namespace mfres
