// SPDX-License-Identifier: MIT
// The one place that names Catch2's headers, of version 2 or 3 (MFRES_CATCH2_3, from tests/CMakeLists.txt).
#pragma once

#ifdef MFRES_CATCH2_3
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif

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
