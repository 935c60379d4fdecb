// SPDX-License-Identifier: MIT
#include "exchange/name_pattern.h"

#include "core/try.h"

#include <algorithm>

namespace mfres {

namespace {

constexpr std::size_t npos = std::string_view::npos;
constexpr std::uint32_t unlimited = ~std::uint32_t{0};

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_word(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

} // namespace

/// Turns an expression into a program, by recursive descent of bounded depth.
class NamePatternCompiler {
  public:
    explicit NamePatternCompiler(std::string_view expression) : text_(expression) {}

    Result<NamePattern> run() {
        emit(Code::save, 0);
        alternatives();
        if (!problem_ && at_ < text_.size())
            reject("a ) that opens nothing");
        emit(Code::save, 1);
        emit(Code::done);
        if (problem_)
            return *problem_;
        return std::move(pattern_);
    }

  private:
    using Code = NamePattern::Code;
    using Instruction = NamePattern::Instruction;
    using Set = NamePattern::Set;

    bool more() const { return !problem_ && at_ < text_.size(); }
    bool next_is(char c) const { return more() && text_[at_] == c; }
    bool take(char c) {
        if (!next_is(c))
            return false;
        ++at_;
        return true;
    }

    void reject(std::string_view what) {
        if (!problem_)
            problem_ = Error{ErrorCode::invalid_argument, text(what, " at character ", at_ + 1), {}};
    }

    std::uint32_t here() const { return static_cast<std::uint32_t>(pattern_.program_.size()); }
    std::uint32_t emit(Code code, std::size_t first = 0, std::size_t second = 0) {
        const std::uint32_t place = here();
        if (place >= NamePattern::max_instructions)
            reject(text("an expression of more than ", NamePattern::max_instructions, " steps (repeated repetitions)"));
        else
            pattern_.program_.push_back({code, static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(second)});
        return place;
    }
    void set_second(std::uint32_t place, std::uint32_t target) {
        if (!problem_)
            pattern_.program_[place].second = target;
    }
    void set_first(std::uint32_t place, std::uint32_t target) {
        if (!problem_)
            pattern_.program_[place].first = target;
    }

    void alternatives() {
        const std::uint32_t start = here();
        sequence();
        std::vector<std::uint32_t> exits;
        std::uint32_t branch = start;
        while (take('|')) {
            // What stands since `branch` moves by one to make place for the choice.
            insert(branch, {Code::split, branch + 1, 0});
            for (std::uint32_t& exit : exits)
                exit += exit >= branch ? 1 : 0;
            exits.push_back(emit(Code::jump));
            set_second(branch, here());
            branch = here();
            sequence();
        }
        for (const std::uint32_t exit : exits)
            set_first(exit, here());
    }

    void sequence() {
        while (more() && text_[at_] != '|' && text_[at_] != ')') {
            const std::uint32_t start = here();
            const std::size_t groups_before = pattern_.groups_;
            if (assertion())
                continue;
            atom();
            quantifier(start, groups_before);
        }
    }

    bool assertion() {
        if (take('^'))
            emit(Code::begin);
        else if (take('$'))
            emit(Code::end);
        else
            return false;
        if (next_is('*') || next_is('+') || next_is('?') || next_is('{'))
            reject("a repetition of an end of the name");
        return true;
    }

    void atom() {
        if (take('('))
            return group();
        Set set(256, false);
        if (take('[')) {
            set_of_class(set);
        } else if (take('.')) {
            set.assign(256, true);
            set['\n'] = set['\r'] = false;
        } else if (take('\\')) {
            escape(set);
        } else if (next_is('*') || next_is('+') || next_is('?') || next_is('{')) {
            return reject("a repetition of nothing");
        } else if (next_is('}') || next_is(']')) {
            return reject("a bracket that closes nothing");
        } else {
            add(set, text_[at_++]);
        }
        const auto known = std::find(pattern_.sets_.begin(), pattern_.sets_.end(), set);
        const auto index = static_cast<std::size_t>(known - pattern_.sets_.begin());
        if (known == pattern_.sets_.end())
            pattern_.sets_.push_back(std::move(set));
        emit(Code::characters, index);
    }

    void group() {
        constexpr int most_deep = 64;
        if (++depth_ > most_deep)
            return reject(text("groups deeper than ", most_deep));
        const std::size_t opened = at_;
        std::size_t number = 0;
        if (take('?')) {
            if (!take(':'))
                return reject("a look-ahead, which is not supported,");
        } else {
            number = pattern_.groups_++;
            if (pattern_.groups_ > NamePattern::max_groups)
                return reject(text("more than ", NamePattern::max_groups - 1, " groups"));
            emit(Code::save, 2 * number);
        }
        alternatives();
        if (!take(')')) {
            at_ = opened - 1;
            return reject("a ( that is not closed");
        }
        if (number > 0)
            emit(Code::save, 2 * number + 1);
        --depth_;
    }

    static void add(Set& set, char c) { set[static_cast<unsigned char>(c)] = true; }

    /// What stands behind a backslash; its single character, or none for a class like \d.
    std::optional<char> escape(Set& set) {
        if (!more()) {
            reject("a \\ before nothing");
            return std::nullopt;
        }
        const char c = text_[at_++];
        constexpr std::string_view letters = "tnrfv", meanings = "\t\n\r\f\v";
        if (const std::size_t found = letters.find(c); found != npos) {
            add(set, meanings[found]);
            return meanings[found];
        }
        const auto add_if = [&](auto&& wanted, bool negated) {
            for (int i = 0; i < 256; ++i)
                if (wanted(static_cast<char>(i)) != negated)
                    set[static_cast<std::size_t>(i)] = true;
        };
        const auto is_space = [](char s) { return std::string_view(" \t\n\r\f\v").find(s) != npos; };
        if (c == 'd' || c == 'D') {
            add_if(is_digit, c == 'D');
        } else if (c == 'w' || c == 'W') {
            add_if(is_word, c == 'W');
        } else if (c == 's' || c == 'S') {
            add_if(is_space, c == 'S');
        } else if (is_word(c)) {
            --at_;
            reject(text("\\", c, ", which is not supported,"));
        } else {
            add(set, c);
            return c;
        }
        return std::nullopt;
    }

    void set_of_class(Set& set) {
        const bool negated = take('^');
        while (more() && text_[at_] != ']') {
            const std::optional<char> from = class_character(set);
            const bool range = from && next_is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']';
            if (!range)
                continue;
            ++at_;
            const std::optional<char> to = class_character(set);
            if (problem_)
                return;
            if (!to || static_cast<unsigned char>(*to) < static_cast<unsigned char>(*from))
                return reject("a range that ends before it begins");
            for (int i = static_cast<unsigned char>(*from); i <= static_cast<unsigned char>(*to); ++i)
                set[static_cast<std::size_t>(i)] = true;
        }
        if (!take(']'))
            return reject("a [ that is not closed");
        if (negated)
            set.flip();
    }

    std::optional<char> class_character(Set& set) {
        if (take('\\'))
            return escape(set);
        if (!more())
            return std::nullopt;
        const char c = text_[at_++];
        add(set, c);
        return c;
    }

    std::uint32_t number() {
        std::uint32_t value = 0;
        if (!more() || !is_digit(text_[at_]))
            reject("no number");
        while (more() && is_digit(text_[at_]) && value < 100'000)
            value = 10 * value + static_cast<std::uint32_t>(text_[at_++] - '0');
        return value;
    }

    /// The repetition behind what stands since `start`, if there is one.
    void quantifier(std::uint32_t start, std::size_t groups_before) {
        std::uint32_t least = 1, most = 1;
        if (take('*')) {
            least = 0;
            most = unlimited;
        } else if (take('+')) {
            most = unlimited;
        } else if (take('?')) {
            least = 0;
        } else if (take('{')) {
            least = most = number();
            if (take(','))
                most = next_is('}') ? unlimited : number();
            if (!take('}'))
                return reject("a { that is not closed");
            if (most < least)
                return reject("a repetition of more times than at most");
        } else {
            return;
        }
        const bool lazy = take('?');
        if (next_is('*') || next_is('+') || next_is('?') || next_is('{'))
            return reject("a repetition of a repetition");
        if (!problem_)
            repeat(start, {least, most}, lazy, groups_before);
    }

    /// Replaces the instructions since `start` by so many copies of them.
    void repeat(std::uint32_t start, std::pair<std::uint32_t, std::uint32_t> times, bool lazy,
                std::size_t groups_before) {
        const std::vector<Instruction> body(pattern_.program_.begin() + start, pattern_.program_.end());
        pattern_.program_.resize(start);
        const auto once = [&] {
            if (pattern_.groups_ > groups_before)
                emit(Code::forget, 2 * groups_before, 2 * pattern_.groups_);
            const std::uint32_t moved = here() - start;
            for (const Instruction& step : body) {
                const bool first_moves = step.code == Code::split || step.code == Code::jump;
                const bool second_moves = step.code == Code::split;
                emit(step.code, step.first + (first_moves ? moved : 0), step.second + (second_moves ? moved : 0));
            }
        };
        const auto choice = [&] { return emit(Code::split); };
        const auto decide = [&](std::uint32_t place, std::uint32_t into, std::uint32_t past) {
            set_first(place, lazy ? past : into);
            set_second(place, lazy ? into : past);
        };
        for (std::uint32_t i = 0; i < times.first && !problem_; ++i)
            once();
        if (times.second == unlimited) {
            const std::uint32_t loop = choice();
            once();
            emit(Code::jump, loop);
            return decide(loop, loop + 1, here());
        }
        std::vector<std::uint32_t> choices;
        for (std::uint32_t i = times.first; i < times.second && !problem_; ++i) {
            choices.push_back(choice());
            once();
        }
        for (const std::uint32_t place : choices)
            decide(place, place + 1, here());
    }

    /// Puts an instruction in front of `place`; targets behind it move along.
    void insert(std::uint32_t place, Instruction instruction) {
        if (problem_)
            return;
        if (here() >= NamePattern::max_instructions)
            return reject("an expression of too many steps");
        for (std::uint32_t i = place; i < here(); ++i) {
            Instruction& step = pattern_.program_[i];
            if (step.code == Code::split || step.code == Code::jump)
                ++step.first;
            if (step.code == Code::split)
                ++step.second;
        }
        pattern_.program_.insert(pattern_.program_.begin() + place, instruction);
    }

    std::string_view text_;
    std::size_t at_ = 0;
    int depth_ = 0;
    std::optional<Error> problem_;
    NamePattern pattern_;
};

Result<NamePattern> NamePattern::parse(std::string_view expression) {
    return NamePatternCompiler(expression).run();
}

std::optional<NamePattern::Groups> NamePattern::match(std::string_view name) const {
    using Bounds = std::vector<std::size_t>;
    /// Ways that are alive, the preferred one first, each at an instruction that reads a character or is the end.
    struct Ways {
        std::vector<std::pair<std::uint32_t, Bounds>> list;
        std::vector<bool> seen; ///< by instruction: a way that comes later has no other future
    };
    const auto follow = [&](Ways& ways, std::uint32_t from, Bounds bounds, std::size_t at) {
        std::vector<std::pair<std::uint32_t, Bounds>> open;
        open.emplace_back(from, std::move(bounds));
        while (!open.empty()) {
            auto [place, here] = std::move(open.back());
            open.pop_back();
            if (ways.seen[place])
                continue;
            ways.seen[place] = true;
            const Instruction& step = program_[place];
            switch (step.code) {
            case Code::characters:
            case Code::done: ways.list.emplace_back(place, std::move(here)); break;
            case Code::split:
                open.emplace_back(step.second, here);
                open.emplace_back(step.first, std::move(here));
                break;
            case Code::jump: open.emplace_back(step.first, std::move(here)); break;
            case Code::save:
                here[step.first] = at;
                open.emplace_back(place + 1, std::move(here));
                break;
            case Code::forget:
                std::fill(here.begin() + step.first, here.begin() + step.second, npos);
                open.emplace_back(place + 1, std::move(here));
                break;
            case Code::begin:
                if (at == 0)
                    open.emplace_back(place + 1, std::move(here));
                break;
            case Code::end:
                if (at == name.size())
                    open.emplace_back(place + 1, std::move(here));
                break;
            }
        }
    };
    const auto none = [&] { return Ways{{}, std::vector<bool>(program_.size(), false)}; };
    Ways now = none();
    follow(now, 0, Bounds(2 * groups_, npos), 0);
    for (std::size_t at = 0; at < name.size() && !now.list.empty(); ++at) {
        Ways next = none();
        for (auto& [place, bounds] : now.list) {
            const Instruction& step = program_[place];
            if (step.code == Code::characters && sets_[step.first][static_cast<unsigned char>(name[at])])
                follow(next, place + 1, std::move(bounds), at + 1);
        }
        now = std::move(next);
    }
    for (const auto& [place, bounds] : now.list) {
        if (program_[place].code != Code::done)
            continue;
        Groups groups;
        for (std::size_t group = 0; group < groups_; ++group)
            groups.emplace_back(bounds[2 * group], bounds[2 * group + 1]);
        return groups;
    }
    return std::nullopt;
}

std::string expand(std::string_view replacement, std::string_view name, const NamePattern::Groups& groups) {
    const auto part = [&](std::size_t group) {
        const auto [begin, end] = groups[group];
        return begin == npos || end == npos ? std::string_view() : name.substr(begin, end - begin);
    };
    std::string expanded;
    for (std::size_t at = 0; at < replacement.size(); ++at) {
        const std::string_view rest = replacement.substr(at + 1);
        if (replacement[at] != '$' || rest.empty()) {
            expanded += replacement[at];
        } else if (rest[0] == '$' || rest[0] == '&') {
            expanded += rest[0] == '$' ? std::string_view("$") : part(0);
            ++at;
        } else if (is_digit(rest[0])) {
            std::size_t group = static_cast<std::size_t>(rest[0] - '0');
            ++at;
            if (rest.size() > 1 && is_digit(rest[1]) &&
                10 * group + static_cast<std::size_t>(rest[1] - '0') < groups.size()) {
                group = 10 * group + static_cast<std::size_t>(rest[1] - '0');
                ++at;
            }
            expanded += group < groups.size() ? part(group) : std::string_view();
        } else {
            expanded += '$';
        }
    }
    return expanded;
}

} // namespace mfres
