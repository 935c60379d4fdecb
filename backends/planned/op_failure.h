// SPDX-License-Identifier: MIT
// An error inside code that reports errors by exceptions: ops of an engine, which run between functions that return
// errors. It never leaves the backend.
#pragma once

#include <mfres/status.h>

#include <utility>

namespace mfres {

/// The guarded() of an engine returns `error` unchanged.
struct OpFailure {
    Error error;
};

/// Throws OpFailure if `status` is an error.
inline void require(Status status) {
    if (!status)
        throw OpFailure{std::move(status).error()};
}

} // namespace mfres
