// SPDX-License-Identifier: MIT
// Whole numbers rounded up. Precondition of both: value >= 0, the other above 0.
#pragma once

#include <cstdint>

namespace mfres {

constexpr std::int64_t quotient_up(std::int64_t value, std::int64_t divisor) {
    return (value + divisor - 1) / divisor;
}

/// The least multiple of `multiple` that is not below `value`.
constexpr std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) {
    return quotient_up(value, multiple) * multiple;
}

} // namespace mfres
