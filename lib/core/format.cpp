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

int print_classic(char* buffer, std::size_t size, const char* pattern, ...) {
    const ClassicNumbers guard;
    std::va_list values;
    va_start(values, pattern);
    const int length = std::vsnprintf(buffer, size, pattern, values);
    va_end(values);
    return length;
}

} // namespace mfres
