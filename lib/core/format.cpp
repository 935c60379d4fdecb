// SPDX-License-Identifier: MIT
#include "core/format.h"

#include "core/platform.h"

#include <cstdarg>
#include <cstdio>

namespace mfres {

std::string counted(std::uint64_t count, std::string_view noun) {
    std::string words = std::to_string(count);
    return words.append(" ").append(noun).append(count == 1 ? "" : "s");
}

int print_classic(char* buffer, std::size_t size, const char* pattern, ...) {
    const platform::ClassicNumbers guard;
    std::va_list values;
    va_start(values, pattern);
    const int length = std::vsnprintf(buffer, size, pattern, values);
    va_end(values);
    return length;
}

std::string escape_controls(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string shown;
    const auto escape = [&](unsigned char byte) {
        shown += "\\x";
        shown += digits[byte >> 4U];
        shown += digits[byte & 15U];
    };
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const bool c1 = byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) >= 0x80 &&
                        static_cast<unsigned char>(text[i + 1]) < 0xA0;
        if (c1)
            escape(static_cast<unsigned char>(text[++i]));
        else if (byte < 0x20 || byte == 0x7F)
            escape(byte);
        else
            shown += text[i];
    }
    return shown;
}

} // namespace mfres
