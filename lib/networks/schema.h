// SPDX-License-Identifier: MIT
// Strict reading of JSON objects: keys with types, ranges and defaults; errors name path and value.
#pragma once

#include "core/json_value.h"

#include <mfres/status.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// One key of a network's JSON: its type, range and default value.
struct Option {
    enum class Kind : std::uint8_t { integer, integers, flag, flags, choice };

    std::string key;
    std::string help;
    Kind kind = Kind::integer;
    Json standard;                    ///< the default value
    std::int64_t least = 0;           ///< of an integer, or of each entry of a list
    std::int64_t most = 0;            ///< as above
    std::size_t fewest = 1;           ///< entries of a list
    std::size_t longest = 1;          ///< as above
    std::vector<std::string> choices; ///< of a choice

    /// The allowed values, for messages and listings: "an integer from 1 to 16", "one of batch, instance".
    std::string allowed() const;
};

/// Closed range of an integer or of a list's length.
struct Range {
    std::int64_t least, most;
};

Option integer(std::string key, std::int64_t standard, Range range, std::string help);
Option integers(std::string key, std::vector<std::int64_t> standard, Range length, Range range, std::string help);
Option flag(std::string key, bool standard, std::string help);
Option flags(std::string key, std::vector<bool> standard, Range length, std::string help);
Option choice(std::string key, std::string standard, std::vector<std::string> choices, std::string help);

/// Values checked by `read_settings`: every key is present with its type, so access cannot fail.
/// Precondition of all accessors: `key` is an option of the network, of that kind.
class Settings {
  public:
    explicit Settings(Json values) : values_(std::move(values)) {}

    std::int64_t integer(std::string_view key) const { return at(key).get<std::int64_t>(); }
    std::vector<std::int64_t> integers(std::string_view key) const { return at(key).get<std::vector<std::int64_t>>(); }
    bool flag(std::string_view key) const { return at(key).get<bool>(); }
    std::vector<bool> flags(std::string_view key) const { return at(key).get<std::vector<bool>>(); }
    std::string choice(std::string_view key) const { return at(key).get<std::string>(); }
    const Json& json() const { return values_; }

  private:
    const Json& at(std::string_view key) const { return *values_.find(std::string(key)); }
    Json values_;
};

/// Parses one JSON object of at most 64 KiB, 8 levels deep, without repeated keys. `what` names it in messages.
/// Errors: json_invalid (with line and column, path of a repeated key, or the cap), variant_invalid if it is not an
/// object.
Result<Json> parse_strict(std::string_view text, std::string_view what = "variant");

/// The options' defaults overridden by `object`. Keys in `reserved` are skipped.
/// Errors: variant_invalid for unknown keys, wrong types, and values or lengths out of range.
Result<Settings> read_settings(const Json& object, const std::vector<Option>& options,
                               const std::vector<std::string>& reserved);

/// The variant_invalid error "<path>: <value> <problem>".
Error violation(const std::string& path, const Json& value, const std::string& problem);

/// Every entry of the list `key` must be a multiple of the integer `divisor` (another key); `count` restricts the check
/// to the first entries. Error: variant_invalid, e.g. "/widths/2: 113 is not a multiple of splits (4)".
Status check_multiples(const Settings& settings, std::string_view key, std::string_view divisor,
                       std::size_t count = static_cast<std::size_t>(-1));

/// The lists `key` and `like` must have equal lengths, or `key` `shorter_by` entries fewer. Error: variant_invalid.
Status check_length(const Settings& settings, std::string_view key, std::string_view like, std::size_t shorter_by = 0);

} // namespace mfres
