// SPDX-License-Identifier: MIT
// Regular expressions over tensor names, matched in time linear in the length of the name.
#pragma once

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mfres {

/// A regular expression that matches whole names. The syntax is that part of ECMAScript's which needs no backtracking:
///   characters, "." (any but a line break), \d \D \w \W \s \S, \t \n \r \f \v, and \ before any other punctuation,
///   [abc] [a-z] [^...] with these escapes, (groups), (?:groups that are not numbered), a|b,
///   * + ? {n} {n,} {n,m} and their lazy forms (*? and so on), ^ and $ at the ends of a name.
/// Back references (\1), look-ahead and \b are rejected. Groups get the characters that a backtracking matcher gives
/// them: of all ways to match, the first one in the order of preference counts.
///
/// The matcher follows all ways at once (Thompson 1968, "Regular expression search algorithm"; with groups: Cox 2009,
/// "Regular expression matching: the virtual machine approach"). Its time is at most length of the name x size of the
/// program, which max_instructions bounds, whatever the expression is.
class NamePattern {
  public:
    static constexpr std::size_t max_instructions = 1024;
    static constexpr std::size_t max_groups = 32;

    /// Errors: invalid_argument, with the position in the expression.
    static Result<NamePattern> parse(std::string_view expression);

    /// Begin and end of the whole name and of each group in it; a group that takes no part is (npos, npos).
    using Groups = std::vector<std::pair<std::size_t, std::size_t>>;
    std::optional<Groups> match(std::string_view name) const;

  private:
    friend class NamePatternCompiler;
    enum class Code : std::uint8_t {
        characters, ///< one character of `sets[first]`
        split,      ///< go on at `first`, or if that fails at `second`
        jump,       ///< go on at `first`
        save,       ///< the position becomes bound `first` of the groups
        forget,     ///< bounds from `first` to below `second` are unset: a loop begins another round
        begin,      ///< only at the beginning of the name
        end,        ///< only at its end
        done
    };
    struct Instruction {
        Code code = Code::done;
        std::uint32_t first = 0, second = 0;
    };
    /// Which of the 256 characters; a name's bytes beyond ASCII are characters of their own.
    using Set = std::vector<bool>;

    std::vector<Instruction> program_;
    std::vector<Set> sets_;
    std::size_t groups_ = 1; ///< the whole name included
};

/// `replacement` with $1 ... $99 replaced by groups, $& by the whole name and $$ by a dollar. A group that took no part
/// is empty; a $ before anything else stays.
std::string expand(std::string_view replacement, std::string_view name, const NamePattern::Groups& groups);

} // namespace mfres
