// SPDX-License-Identifier: MIT
#include "core/number.h"

#include <charconv>
#include <cmath>

#ifndef __cpp_lib_to_chars
#include <locale>
#include <sstream>
#include <string>
#endif

namespace mfres {

namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

std::size_t digits_at(std::string_view text, std::size_t at) {
    std::size_t count = 0;
    while (at + count < text.size() && is_digit(text[at + count]))
        ++count;
    return count;
}

/// The length of the longest number that the text begins with; 0 if there is none.
std::size_t number_length(std::string_view text) {
    std::size_t at = text.starts_with('-') ? 1 : 0;
    std::size_t digits = digits_at(text, at);
    at += digits;
    if (at < text.size() && text[at] == '.') {
        const std::size_t behind = digits_at(text, at + 1);
        digits += behind;
        at += 1 + behind;
    }
    if (digits == 0)
        return 0;
    if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
        const bool sign = at + 1 < text.size() && (text[at + 1] == '+' || text[at + 1] == '-');
        const std::size_t first = at + (sign ? 2 : 1);
        if (const std::size_t exponent = digits_at(text, first); exponent > 0)
            at = first + exponent;
    }
    return at;
}

/// The value of a number that number_length() has recognised; infinite if it has none.
double value_of(std::string_view number) {
    double value = HUGE_VAL;
#ifdef __cpp_lib_to_chars
    const auto read = std::from_chars(number.data(), number.data() + number.size(), value);
    return read.ec == std::errc() ? value : HUGE_VAL;
#else // libc++ has from_chars for whole numbers only
    std::istringstream stream{std::string(number)};
    stream.imbue(std::locale::classic());
    return stream >> value ? value : HUGE_VAL;
#endif
}

} // namespace

ReadNumber read_number(std::string_view text) {
    const std::size_t length = number_length(text);
    if (length == 0)
        return {};
    const double value = value_of(text.substr(0, length));
    return std::isfinite(value) ? ReadNumber{value, length} : ReadNumber{};
}

} // namespace mfres
