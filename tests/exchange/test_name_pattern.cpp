// SPDX-License-Identifier: MIT
// Regular expressions over tensor names: compared with the standard library's, and bounded in time where that is not.
#include "core/random.h"
#include "exchange/name_pattern.h"
#include "exchange/state_dict.h"
#include "support/catch.h"

#include <chrono>
#include <regex>

using namespace mfres;

namespace {

/// The groups of a match as text, "-" for one that takes no part, or "no match".
std::string found(const std::string& expression, const std::string& name) {
    const auto pattern = NamePattern::parse(expression);
    REQUIRE_OK(pattern);
    const auto groups = pattern->match(name);
    if (!groups)
        return "no match";
    std::string all;
    for (const auto& [begin, end] : *groups)
        all += begin == std::string::npos ? "[-]" : "[" + name.substr(begin, end - begin) + "]";
    return all;
}

std::string found_by_the_library(const std::string& expression, const std::string& name) {
    std::smatch match;
    if (!std::regex_match(name, match, std::regex(expression)))
        return "no match";
    std::string all;
    for (const auto& group : match)
        all += group.matched ? "[" + group.str() + "]" : "[-]";
    return all;
}

/// A random expression of a few levels over the characters a, b and a dot.
std::string random_expression(Random& random, int depth) {
    std::string expression;
    const auto parts = 1 + random.below(3);
    for (std::uint64_t i = 0; i < parts; ++i) {
        const auto kind = random.below(depth > 0 ? 9 : 6);
        std::string atom =
            kind == 0   ? "a"
            : kind == 1 ? "b"
            : kind == 2 ? "."
            : kind == 3 ? "\\."
            : kind == 4 ? "[ab]"
            : kind == 5 ? "[^a]"
            : kind == 6 ? "(" + random_expression(random, depth - 1) + ")"
            : kind == 7 ? "(?:" + random_expression(random, depth - 1) + ")"
                        : "(" + random_expression(random, depth - 1) + "|" + random_expression(random, depth - 1) + ")";
        constexpr std::array<const char*, 10> repetitions = {"", "", "", "*", "+", "?", "{2}", "{1,2}", "*?", "+?"};
        expression += atom + repetitions[random.below(repetitions.size())];
    }
    return expression;
}

} // namespace

TEST_CASE("expressions of name mappings match and capture as in ECMAScript") {
    CHECK(found("module\\.(.*)", "module.a.b") == "[module.a.b][a.b]");
    CHECK(found("(\\w+)\\.(\\d+)\\.(weight|bias)", "conv.12.bias") == "[conv.12.bias][conv][12][bias]");
    CHECK(found("a|ab", "ab") == "[ab]");
    CHECK(found("(a|ab)(c|bcd)?", "abcd") == "[abcd][a][bcd]");
    CHECK(found("(a*)(a*)", "aaa") == "[aaa][aaa][]");
    CHECK(found("(a*?)(a*)", "aaa") == "[aaa][][aaa]");
    CHECK(found("(?:(a)|b)*", "ab") == "[ab][-]"); // a group is forgotten when its loop begins another round
    CHECK(found("(a){2,3}", "aaaa") == "no match");
    CHECK(found("(a){2,}", "aaaa") == "[aaaa][a]");
    CHECK(found("[^.]+\\.[a-c_\\d-]*", "layer.a_7-c") == "[layer.a_7-c]");
    CHECK(found("^a$", "a") == "[a]");
    CHECK(found("a^b", "ab") == "no match");
    CHECK(found("", "") == "[]");
    CHECK(found("(|a)b", "b") == "[b][]");
    CHECK(found("\\(\\[\\$", "([$") == "[([$]");
    CHECK(found("\xC3\xA4.*", "\xC3\xA4rm") == "[\xC3\xA4rm]");
}

TEST_CASE("random expressions match as those of the standard library do") {
    Random random(5);
    int matched = 0;
    for (int i = 0; i < 3000; ++i) {
        const std::string expression = random_expression(random, 1); // nested more deeply, the library runs for ever
        // Where a round of a loop can be empty the two disagree on groups, not on whether a name matches.
        for (int j = 0; j < 8; ++j) {
            std::string name;
            const auto length = random.below(6);
            for (std::uint64_t k = 0; k < length; ++k)
                name += "ab."[random.below(3)];
            INFO(expression << " on " << name);
            const bool ours = found(expression, name) != "no match";
            CHECK(ours == (found_by_the_library(expression, name) != "no match"));
            matched += ours ? 1 : 0;
        }
    }
    CHECK(matched > 1000);
}

TEST_CASE("expressions that make a backtracking matcher run for ever take no time") {
    const auto begin = std::chrono::steady_clock::now();
    const std::string name(256, 'a');
    for (const std::string expression : {"(a*)*!", "(a+)+!", "(a|a)*!", "(a|aa)+!", "(.*)*.*(.*)*!", "((a?){9}){9}.*a!",
                                         "(((a*)*)*)*!", "(a*a*a*a*a*)*!"}) {
        INFO(expression);
        CHECK(found(expression, name) == "no match");
        CHECK(found(expression, name + "!") != "no match");
    }
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
    const auto mapping = NameMapping::parse(R"json({"rules": [{"match": "(a*)*!", "name": "$1"}]})json");
    REQUIRE_OK(mapping);
    REQUIRE_OK(mapping->apply({{std::string(40, 'a'), Tensor(Shape{1}, 1.0F)}}, "x.pth"));
}

TEST_CASE("what the matcher does not know is rejected with its place") {
    for (const std::string expression : {"(",
                                         ")",
                                         "a)",
                                         "(a",
                                         "[a",
                                         "a**",
                                         "*a",
                                         "a{2",
                                         "a{3,2}",
                                         "a{x}",
                                         "(?=a)",
                                         "(?!a)",
                                         "(a)\\1",
                                         "\\ba",
                                         "a\\",
                                         "[b-a]",
                                         "a{1000}{1000}",
                                         "^*",
                                         "]",
                                         "}",
                                         "((a{100}){100}){100}",
                                         "(?:a{999999999}){2}"}) {
        INFO(expression);
        REQUIRE_CODE(NamePattern::parse(expression), invalid_argument);
    }
    CHECK(NamePattern::parse("ab(c").error().message == "a ( that is not closed at character 3");
    REQUIRE_CODE(NamePattern::parse(std::string(100'000, '(')), invalid_argument);
}

TEST_CASE("replacements name groups, the whole and dollars") {
    const auto pattern = NamePattern::parse("(a)(b)?(c)");
    REQUIRE_OK(pattern);
    const auto groups = pattern->match("ac");
    REQUIRE(groups);
    CHECK(expand("$3.$1.$2.$&.$$.$", "ac", *groups) == "c.a..ac.$.$");
    CHECK(expand("$9$12$x", "ac", *groups) == "a2$x");
}

TEST_CASE("a deeply nested mapping is an error") {
    REQUIRE_CODE(NameMapping::parse(std::string(100'000, '[')), json_invalid);
    std::string deep = R"({"rules": )";
    for (int i = 0; i < 100'000; ++i)
        deep += "[";
    REQUIRE_CODE(NameMapping::parse(deep), json_invalid);
}
