// SPDX-License-Identifier: MIT
// The boundary of the library: what is thrown inside comes out as an error.
#pragma once

#include "core/try.h"

#include <exception>
#include <new>
#include <string>

namespace mfres {

namespace boundary {

template <typename Where>
std::string words(const Where& where) {
    if constexpr (requires { where.string(); })
        return where.string(); // a path
    else
        return std::string(where);
}

/// An error with a sentence, or with two words that take no memory where there is none left for the sentence.
template <typename Where>
Error error_at(ErrorCode code, const Where& where, const char* problem) noexcept {
    try {
        const std::string place = words(where);
        return {code, place.empty() ? problem : text(place, ": ", problem), place};
    } catch (const std::exception&) {
        return {code, code == ErrorCode::memory_limit ? "out of memory" : "internal error", {}};
    }
}

} // namespace boundary

/// body(), which gives a Result or Status, with what it throws as an error about `where`: a path or a name. Every public
/// function that can fail is one call of this. Errors: memory_limit for std::bad_alloc, internal for other exceptions.
template <typename Where, typename Body>
auto guarded(const Where& where, const Body& body) -> decltype(body()) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return boundary::error_at(ErrorCode::memory_limit, where, "this needs more memory than the system gives");
    } catch (const std::exception& error) {
        return boundary::error_at(ErrorCode::internal, where, error.what());
    }
}

} // namespace mfres
