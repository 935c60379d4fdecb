// SPDX-License-Identifier: MIT
// Propagation of errors: MFRES_TRY(auto x, call()) binds the value or returns the error;
// MFRES_CHECK(call()) does the same for a call without a value.
#pragma once

#include <mfres/status.h>

#include <locale>
#include <sstream>
#include <utility>

#define MFRES_CONCAT_IMPL(a, b) a##b
#define MFRES_CONCAT(a, b) MFRES_CONCAT_IMPL(a, b)

#define MFRES_TRY_IMPL(temporary, declaration, ...)                                                                    \
    auto temporary = (__VA_ARGS__);                                                                                    \
    if (!temporary)                                                                                                    \
        return std::move(temporary).error();                                                                           \
    declaration = std::move(temporary).value()

#define MFRES_TRY(declaration, ...) MFRES_TRY_IMPL(MFRES_CONCAT(mfres_result_, __LINE__), declaration, __VA_ARGS__)

#define MFRES_CHECK(...)                                                                                               \
    do {                                                                                                               \
        auto mfres_status = (__VA_ARGS__);                                                                             \
        if (!mfres_status)                                                                                             \
            return std::move(mfres_status).error();                                                                    \
    } while (false)

namespace mfres {

/// Streams catch what is thrown while they write or read, above all std::bad_alloc, and go on with less text. This one
/// passes it on.
template <typename Stream>
void pass_exceptions(Stream& stream) {
    stream.exceptions(std::ios_base::badbit);
}

/// Concatenates its arguments by operator<<: text("grid is ", 240, " voxels wide"). Numbers look the same in every host:
/// the classic locale is used, whatever the global one is.
template <typename... Parts>
std::string text(const Parts&... parts) {
    std::ostringstream stream;
    pass_exceptions(stream);
    stream.imbue(std::locale::classic());
    stream.precision(10);
    (stream << ... << parts);
    return std::move(stream).str();
}

} // namespace mfres
