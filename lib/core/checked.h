// SPDX-License-Identifier: MIT
// Products and sums of sizes with a check for overflow of 64 bits.
#pragma once

#include <cstdint>
#include <initializer_list>
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

} // namespace mfres
