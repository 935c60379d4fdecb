// SPDX-License-Identifier: MIT
// The reader of JSON that comes from outside, and numbers as text in host programs with other locales.
#include "core/format.h"
#include "core/json.h"
#include "core/try.h"
#include "support/catch.h"
#include "support/paths.h"

#include <array>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <locale>

using namespace mfres;

TEST_CASE("deep nesting is an error before a value is built, whatever it is made of") {
    for (const std::string opening : {"[", "{\"a\":", "[{\"a\":"}) {
        std::string deep;
        for (int i = 0; i < 100'000; ++i)
            deep += opening;
        INFO(opening);
        for (const JsonLimits& limits : {JsonLimits{}, JsonLimits{1U << 30U, 8}, record_limits}) {
            const auto parsed = parse_json(deep, "variant", limits);
            REQUIRE_CODE(parsed, json_invalid);
        }
    }
    const std::string eight = "[[[[[[[[1]]]]]]]]";
    REQUIRE_OK(parse_json(eight, "x"));
    const auto nine = parse_json("[" + eight + "]", "variant");
    REQUIRE_CODE(nine, json_invalid);
    CHECK(nine.error().message == "the variant's JSON is nested deeper than 8 levels");
    REQUIRE_OK(parse_json("[" + eight + "]", "x", {100, 9}));
    REQUIRE_CODE(parse_json(eight, "x", {10, 8}), json_invalid);
}

TEST_CASE("what is no JSON, ends early or repeats a key is an error with its place") {
    REQUIRE_OK(parse_json("7", "x"));
    REQUIRE_CODE(parse_json("", "x"), json_invalid);
    REQUIRE_CODE(parse_json("[1", "x"), json_invalid);
    REQUIRE_CODE(parse_json(std::string_view("[1]\0", 4), "x"), json_invalid);
    CHECK(parse_json("{\n  \"a\": }", "recipe").error().where == "line 2, column 8");
    CHECK(parse_json(R"({"a/b": 1, "a/b": 2})", "x").error().where == "/a~1b");
}

namespace {

/// Decimal commas and points between thousands.
struct CommaNumbers : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
};

/// A host program's global locale during a test.
class GlobalLocale {
  public:
    explicit GlobalLocale(const std::locale& locale) : before_(std::locale::global(locale)) {}
    GlobalLocale(const GlobalLocale&) = delete;
    GlobalLocale& operator=(const GlobalLocale&) = delete;
    ~GlobalLocale() { std::locale::global(before_); }

  private:
    std::locale before_;
};

} // namespace

TEST_CASE("a host's locale of C++ with decimal commas changes no message") {
    const GlobalLocale german(std::locale(std::locale::classic(), new CommaNumbers));
    CHECK(text(1234567, " ", 0.5, " ", std::size_t{1000}) == "1234567 0.5 1000");
}

TEST_CASE("a host's locale of C with decimal commas changes no printed number") {
    const test::TemporaryFolder folder;
    const std::string made = (folder / "de_DE.UTF-8").string();
    if (std::system(("localedef -i de_DE -f UTF-8 '" + made + "' >/dev/null 2>&1").c_str()) != 0) {
        std::printf("SKIPPED: localedef cannot make a German locale here\n");
        return;
    }
    REQUIRE(::setenv("LOCPATH", folder.path().c_str(), 1) == 0);
    const bool set = std::setlocale(LC_ALL, "de_DE.UTF-8") != nullptr;
    std::array<char, 32> host{}, ours{};
    std::snprintf(host.data(), host.size(), "%.2f", 92.5);
    const int length = print_classic(ours.data(), ours.size(), "%.2f", 92.5);
    const auto parsed = parse_json("[0.5]", "x");
    std::setlocale(LC_ALL, "C");
    ::unsetenv("LOCPATH");
    REQUIRE(set);
    CHECK(std::string(host.data()) == "92,50");
    CHECK(std::string(ours.data()) == "92.50");
    CHECK(length == 5);
    REQUIRE_OK(parsed);
    CHECK((*parsed)[0] == 0.5);
}
