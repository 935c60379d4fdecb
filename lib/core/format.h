// SPDX-License-Identifier: MIT
// Numbers as text, the same in every host program.
#pragma once

#include <cstddef>

namespace mfres {

/// std::snprintf with the decimal point of the "C" locale: a host that calls setlocale or std::locale::global with a
/// locale of decimal commas changes no byte of a picture, a table or a report.
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
int print_classic(char* buffer, std::size_t size, const char* pattern, ...);

} // namespace mfres
