// SPDX-License-Identifier: MIT
// Numbers as text, the same in every host program; names as text that does nothing but show.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mfres {

/// std::snprintf with the decimal point of the "C" locale: a host that calls setlocale or std::locale::global with a
/// locale of decimal commas changes no byte of a picture, a table or a report.
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
int print_classic(char* buffer, std::size_t size, const char* pattern, ...);

/// What print_classic prints; at most 255 characters.
template <typename... Values>
std::string format_classic(const char* pattern, Values... values) {
    std::array<char, 256> buffer{};
    print_classic(buffer.data(), buffer.size(), pattern, values...);
    return buffer.data();
}

/// "1 case", "2 cases": the count and the noun, which gets an s where the count is not 1.
std::string counted(std::uint64_t count, std::string_view noun);

/// Text for a terminal or a log: control characters (C0, DEL and, in UTF-8, C1) as \x1b, so that a file's name
/// can neither begin a line of its own nor command the terminal.
std::string escape_controls(std::string_view text);

} // namespace mfres
