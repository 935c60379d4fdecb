// SPDX-License-Identifier: MIT
// The one place that names Catch2's header; see tests/CMakeLists.txt for how to move to Catch2 v3.
#pragma once

#include <catch2/catch.hpp>

#include <mfres/status.h>

/// Requires success of a Result and shows the error's sentence when it fails.
#define REQUIRE_OK(result)                                                                                             \
    do {                                                                                                               \
        if (!(result).ok())                                                                                            \
            FAIL("expected success, got " << ::mfres::name((result).error().code) << ": "                              \
                                          << (result).error().message);                                                \
    } while (false)

/// Requires an error with exactly this code and a sentence that is not empty.
#define REQUIRE_CODE(result, expected)                                                                                 \
    do {                                                                                                               \
        const auto& mfres_result = (result);                                                                           \
        REQUIRE_FALSE(mfres_result.ok());                                                                              \
        INFO(mfres_result.error().message);                                                                            \
        REQUIRE(::mfres::name(mfres_result.error().code) == ::mfres::name(::mfres::ErrorCode::expected));              \
        REQUIRE_FALSE(mfres_result.error().message.empty());                                                           \
    } while (false)
