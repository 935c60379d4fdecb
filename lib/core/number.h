// SPDX-License-Identifier: MIT
// Decimal numbers in text, read in the same way by every standard library and in every locale.
#pragma once

#include <cstddef>
#include <string_view>

namespace mfres {

struct ReadNumber {
    double value = 0.0;
    std::size_t length = 0; ///< of the number at the beginning of the text; 0 = there is none, or none that is finite
};

/// The decimal number that the text begins with: digits with at most one point, and an exponent; a minus, but no plus and
/// no spaces, in front. The nearest double.
ReadNumber read_number(std::string_view text);

} // namespace mfres
