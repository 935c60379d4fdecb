// SPDX-License-Identifier: MIT
#include "core/format.h"
#include "core/number.h"
#include "support/catch.h"

#include <cmath>
#include <random>
#include <sstream>

using namespace mfres;

TEST_CASE("numbers at the beginning of a text are read as far as they go") {
    const auto check = [](const char* text, double value, std::size_t length) {
        INFO(text);
        const ReadNumber read = read_number(text);
        CHECK(read.value == value);
        CHECK(read.length == length);
    };
    check("0", 0.0, 1);
    check("-1.5", -1.5, 4);
    check("10m", 10.0, 2);
    check(".5", 0.5, 2);
    check("5.", 5.0, 2);
    check("2e3", 2000.0, 3);
    check("2E-3x", 0.002, 4);
    check("2e", 2.0, 1);
    check("2e+", 2.0, 1);
    check("1.2.3", 1.2, 3);
    check("1,5", 1.0, 1);
    check("0x10", 0.0, 1);
    for (const char* none : {"", "-", ".", "+1", " 1", "e5", "-.e1", "nan", "inf", "-inf", "1e999", "-1e999"})
        check(none, 0.0, 0);
}

TEST_CASE("a printed number is read with all its bits") {
    std::mt19937_64 random(5);
    for (int n = 0; n < 2000; ++n) {
        const double value = std::ldexp(static_cast<double>(random() >> 11U), static_cast<int>(random() % 200) - 150);
        std::ostringstream printed;
        printed.precision(17);
        printed << value;
        const ReadNumber read = read_number(printed.str());
        REQUIRE(read.length == printed.str().size());
        REQUIRE(read.value == value);
    }
}

TEST_CASE("a counted noun is singular for one thing only") {
    CHECK(counted(0, "case") == "0 cases");
    CHECK(counted(1, "thread") == "1 thread");
    CHECK(counted(21, "step") == "21 steps");
}
