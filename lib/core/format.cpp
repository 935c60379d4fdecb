// SPDX-License-Identifier: MIT
#include "core/format.h"

#include <clocale>
#include <cstdarg>
#include <cstdio>
#ifdef __APPLE__
#include <xlocale.h>
#endif

namespace mfres {

namespace {

/// The calling thread uses the "C" locale for numbers during its lifetime; other threads are not concerned.
class ClassicNumbers {
  public:
    ClassicNumbers() {
        static const locale_t classic = ::newlocale(LC_ALL_MASK, "C", static_cast<locale_t>(nullptr));
        if (classic != static_cast<locale_t>(nullptr))
            before_ = ::uselocale(classic);
    }
    ClassicNumbers(const ClassicNumbers&) = delete;
    ClassicNumbers& operator=(const ClassicNumbers&) = delete;
    ~ClassicNumbers() {
        if (before_ != static_cast<locale_t>(nullptr))
            ::uselocale(before_);
    }

  private:
    locale_t before_ = static_cast<locale_t>(nullptr);
};

} // namespace

std::string counted(std::uint64_t count, std::string_view noun) {
    std::string words = std::to_string(count);
    return words.append(" ").append(noun).append(count == 1 ? "" : "s");
}

int print_classic(char* buffer, std::size_t size, const char* pattern, ...) {
    const ClassicNumbers guard;
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
