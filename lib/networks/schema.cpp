// SPDX-License-Identifier: MIT
#include "networks/schema.h"

#include "core/try.h"

#include <algorithm>
#include <optional>
#include <set>

namespace mfres {

using nlohmann::json;

namespace {

constexpr std::size_t max_text = std::size_t{64} << 10U;
constexpr std::size_t max_depth = 8;

/// A value for a message: its JSON, truncated to 60 bytes.
std::string shown(const json& value) {
    std::string dumped = value.dump(-1, ' ', true, json::error_handler_t::replace);
    if (dumped.size() > 60)
        dumped = dumped.substr(0, 57) + "...";
    return dumped;
}

/// A key as a token of a JSON pointer (RFC 6901).
std::string pointer_token(const std::string& key) {
    std::string token;
    for (const char c : key)
        token += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    return token;
}

std::string between(std::int64_t least, std::int64_t most) {
    return text(least, " to ", most);
}

/// "line 3, column 7" of a byte offset; offsets start at 1.
std::string position(std::string_view source, std::size_t offset) {
    const std::string_view before = source.substr(0, std::min(source.size(), offset == 0 ? 0 : offset - 1));
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const std::size_t start = before.rfind('\n');
    const std::size_t column = start == std::string_view::npos ? before.size() + 1 : before.size() - start;
    return text("line ", line, ", column ", column);
}

/// SAX handler that checks the text before any value is built, and stops at the first violation.
class StrictReader final : public nlohmann::json_sax<json> {
  public:
    StrictReader(std::string_view source, std::string_view what) : source_(source), what_(what) {}
    const std::optional<Error>& error() const { return error_; }

    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_array(std::size_t) override { return open(); }
    bool end_array() override { return close(); }
    bool start_object(std::size_t) override { return open(); }
    bool end_object() override { return close(); }

    bool key(string_t& name) override {
        if (keys_.back().insert(name).second)
            return true;
        const std::string token = "/" + pointer_token(name);
        error_ = Error{ErrorCode::json_invalid,
                       text("key ", shown(name), " occurs more than once in the same object of the ", what_), token};
        return false;
    }

    bool parse_error(std::size_t offset, const std::string& token, const nlohmann::detail::exception&) override {
        error_ =
            Error{ErrorCode::json_invalid,
                  text("the ", what_, " is not JSON: unexpected ", shown(token), " at ", position(source_, offset)),
                  position(source_, offset)};
        return false;
    }

  private:
    bool open() {
        keys_.emplace_back();
        if (keys_.size() <= max_depth)
            return true;
        error_ = Error{
            ErrorCode::json_invalid, text("the ", what_, "'s JSON is nested deeper than ", max_depth, " levels"), {}};
        return false;
    }
    bool close() {
        keys_.pop_back();
        return true;
    }

    std::string_view source_;
    std::string_view what_;
    std::vector<std::set<std::string>> keys_; ///< of every object or array that is open
    std::optional<Error> error_;
};

Status check_integer(const json& value, const std::string& path, const Option& option) {
    if (!value.is_number_integer())
        return violation(path, value, text("is not ", option.allowed()));
    const bool too_large =
        value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX);
    if (too_large || value.get<std::int64_t>() < option.least || value.get<std::int64_t>() > option.most)
        return violation(path, value, text("is outside ", between(option.least, option.most)));
    return {};
}

Status check_flag(const json& value, const std::string& path) {
    return value.is_boolean() ? Status{} : violation(path, value, "is not true or false");
}

template <typename CheckEntry>
Status check_list(const json& value, const std::string& path, const Option& option, const CheckEntry& check_entry) {
    if (!value.is_array())
        return violation(path, value, text("is not ", option.allowed()));
    if (value.size() < option.fewest || value.size() > option.longest)
        return violation(path, value, text("has ", value.size(), " entries; allowed is ", option.allowed()));
    for (std::size_t i = 0; i < value.size(); ++i)
        MFRES_CHECK(check_entry(value[i], text(path, "/", i)));
    return {};
}

Status check_choice(const json& value, const std::string& path, const Option& option) {
    if (value.is_string())
        for (const std::string& allowed : option.choices)
            if (value.get_ref<const std::string&>() == allowed)
                return {};
    return violation(path, value, text("is not ", option.allowed()));
}

Status check_value(const json& value, const Option& option) {
    const std::string path = "/" + option.key;
    switch (option.kind) {
    case Option::Kind::integer: return check_integer(value, path, option);
    case Option::Kind::integers:
        return check_list(value, path, option, [&](const json& entry, const std::string& entry_path) {
            return check_integer(entry, entry_path, integer("", 0, {option.least, option.most}, ""));
        });
    case Option::Kind::flag: return check_flag(value, path);
    case Option::Kind::flags: return check_list(value, path, option, check_flag);
    case Option::Kind::choice: return check_choice(value, path, option);
    }
    return {};
}

} // namespace

std::string Option::allowed() const {
    const std::string length = fewest == longest
                                   ? text(fewest)
                                   : between(static_cast<std::int64_t>(fewest), static_cast<std::int64_t>(longest));
    switch (kind) {
    case Kind::integer: return text("an integer from ", between(least, most));
    case Kind::integers: return text("a list of ", length, " integers from ", between(least, most));
    case Kind::flag: return "true or false";
    case Kind::flags: return text("a list of ", length, " values true or false");
    case Kind::choice: {
        std::string list = "one of ";
        for (std::size_t i = 0; i < choices.size(); ++i)
            list += (i == 0 ? "" : ", ") + choices[i];
        return list;
    }
    }
    return {};
}

Option integer(std::string key, std::int64_t standard, Range range, std::string help) {
    Option option;
    option.key = std::move(key);
    option.help = std::move(help);
    option.standard = standard;
    option.least = range.least;
    option.most = range.most;
    return option;
}

Option integers(std::string key, std::vector<std::int64_t> standard, Range length, Range range, std::string help) {
    Option option = integer(std::move(key), 0, range, std::move(help));
    option.kind = Option::Kind::integers;
    option.standard = std::move(standard);
    option.fewest = static_cast<std::size_t>(length.least);
    option.longest = static_cast<std::size_t>(length.most);
    return option;
}

Option flag(std::string key, bool standard, std::string help) {
    Option option = integer(std::move(key), 0, {}, std::move(help));
    option.kind = Option::Kind::flag;
    option.standard = standard;
    return option;
}

Option flags(std::string key, std::vector<bool> standard, Range length, std::string help) {
    Option option = integers(std::move(key), {}, length, {}, std::move(help));
    option.kind = Option::Kind::flags;
    option.standard = std::move(standard);
    return option;
}

Option choice(std::string key, std::string standard, std::vector<std::string> choices, std::string help) {
    Option option = integer(std::move(key), 0, {}, std::move(help));
    option.kind = Option::Kind::choice;
    option.standard = std::move(standard);
    option.choices = std::move(choices);
    return option;
}

Error violation(const std::string& path, const json& value, const std::string& problem) {
    return {ErrorCode::variant_invalid, text(path, ": ", shown(value), " ", problem), path};
}

Result<json> parse_strict(std::string_view source, std::string_view what) {
    if (source.size() > max_text)
        return Error{ErrorCode::json_invalid,
                     text("the ", what, "'s JSON has ", source.size(), " bytes, more than the ", max_text, " allowed"),
                     {}};
    // The parser takes a NUL byte for the end of the text and would ignore the rest.
    if (const std::size_t nul = source.find('\0'); nul != std::string_view::npos)
        return Error{ErrorCode::json_invalid,
                     text("the ", what, " is not JSON: there is a NUL byte at ", position(source, nul + 1)),
                     position(source, nul + 1)};
    StrictReader reader(source, what);
    if (!json::sax_parse(source.begin(), source.end(), &reader))
        return reader.error().value_or(Error{ErrorCode::json_invalid, text("the ", what, " is not JSON"), {}});
    json value = json::parse(source.begin(), source.end(), nullptr, false);
    if (!value.is_object())
        return violation("/", value, text("is not an object; a ", what, " is {\"network\": \"<name>\", ...}"));
    return value;
}

Result<Settings> read_settings(const json& object, const std::vector<Option>& options,
                               const std::vector<std::string>& reserved) {
    json values = json::object();
    std::string known;
    for (const Option& option : options) {
        values[option.key] = option.standard;
        known += ", " + option.key;
    }
    for (const auto& entry : object.items()) {
        const std::string& key = entry.key();
        const json& value = entry.value();
        if (std::find(reserved.begin(), reserved.end(), key) != reserved.end())
            continue;
        const auto option =
            std::find_if(options.begin(), options.end(), [&](const Option& candidate) { return candidate.key == key; });
        if (option == options.end())
            return violation("/" + pointer_token(key), value,
                             text("has an unknown key; allowed keys are network, name", known));
        MFRES_CHECK(check_value(value, *option));
        values[key] = value;
    }
    return Settings(std::move(values));
}

Status check_multiples(const Settings& settings, std::string_view key, std::string_view divisor, std::size_t count) {
    const auto entries = settings.integers(key);
    const std::int64_t factor = settings.integer(divisor);
    for (std::size_t i = 0; i < std::min(count, entries.size()); ++i)
        if (entries[i] % factor != 0)
            return violation(text("/", key, "/", i), entries[i],
                             text("is not a multiple of ", divisor, " (", factor, ")"));
    return {};
}

Status check_length(const Settings& settings, std::string_view key, std::string_view like, std::size_t shorter_by) {
    const json& list = settings.json().at(std::string(key));
    const std::size_t expected = settings.json().at(std::string(like)).size() - shorter_by;
    if (list.size() == expected)
        return {};
    return violation(text("/", key), list,
                     text("has ", list.size(), " entries; with this ", like, " it needs ", expected));
}

} // namespace mfres
