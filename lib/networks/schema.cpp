// SPDX-License-Identifier: MIT
#include "networks/schema.h"

#include "core/json.h"
#include "core/try.h"

#include <algorithm>

namespace mfres {

namespace {

std::string between(std::int64_t least, std::int64_t most) {
    return text(least, " to ", most);
}

Status check_integer(const Json& value, const std::string& path, const Option& option) {
    if (!value.is_number_integer())
        return violation(path, value, text("is not ", option.allowed()));
    const bool too_large =
        value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX);
    if (too_large || value.get<std::int64_t>() < option.least || value.get<std::int64_t>() > option.most)
        return violation(path, value, text("is outside ", between(option.least, option.most)));
    return {};
}

Status check_flag(const Json& value, const std::string& path) {
    return value.is_boolean() ? Status{} : violation(path, value, "is not true or false");
}

template <typename CheckEntry>
Status check_list(const Json& value, const std::string& path, const Option& option, const CheckEntry& check_entry) {
    if (!value.is_array())
        return violation(path, value, text("is not ", option.allowed()));
    if (value.size() < option.fewest || value.size() > option.longest)
        return violation(path, value, text("has ", value.size(), " entries; allowed is ", option.allowed()));
    for (std::size_t i = 0; i < value.size(); ++i)
        MFRES_CHECK(check_entry(value[i], text(path, "/", i)));
    return {};
}

Status check_choice(const Json& value, const std::string& path, const Option& option) {
    if (value.is_string())
        for (const std::string& allowed : option.choices)
            if (value.get_ref<const std::string&>() == allowed)
                return {};
    return violation(path, value, text("is not ", option.allowed()));
}

Status check_value(const Json& value, const Option& option) {
    const std::string path = "/" + option.key;
    switch (option.kind) {
    case Option::Kind::integer: return check_integer(value, path, option);
    case Option::Kind::integers:
        return check_list(value, path, option, [&](const Json& entry, const std::string& entry_path) {
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

Error violation(const std::string& path, const Json& value, const std::string& problem) {
    return {ErrorCode::variant_invalid, text(path, ": ", json_excerpt(value), " ", problem), path};
}

Result<Json> parse_strict(std::string_view source, std::string_view what) {
    MFRES_TRY(Json value, parse_json(source, what));
    if (!value.is_object())
        return violation("/", value, text("is not an object; a ", what, " is {\"network\": \"<name>\", ...}"));
    return value;
}

Result<Settings> read_settings(const Json& object, const std::vector<Option>& options,
                               const std::vector<std::string>& reserved) {
    Json values = Json::object();
    std::string known;
    for (const Option& option : options) {
        values[option.key] = option.standard;
        known += ", " + option.key;
    }
    for (const auto& entry : object.items()) {
        const std::string& key = entry.key();
        const Json& value = entry.value();
        if (std::find(reserved.begin(), reserved.end(), key) != reserved.end())
            continue;
        const auto option =
            std::find_if(options.begin(), options.end(), [&](const Option& candidate) { return candidate.key == key; });
        if (option == options.end())
            return violation("/" + json_pointer_token(key), value,
                             text("stands under an unknown key; allowed keys are network, name, outputs", known));
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
    const Json& list = settings.json().at(std::string(key));
    const std::size_t expected = settings.json().at(std::string(like)).size() - shorter_by;
    if (list.size() == expected)
        return {};
    return violation(text("/", key), list,
                     text("has ", list.size(), " entries; with this ", like, " it needs ", expected));
}

} // namespace mfres
