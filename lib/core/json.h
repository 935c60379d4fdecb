// SPDX-License-Identifier: MIT
// The one reader of JSON that comes from outside: files, options and metadata.
#pragma once

#include "core/json_value.h"

#include <mfres/status.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace mfres {

/// What a text may be. Values are destroyed, copied and written by recursion, so that their depth is bounded before the
/// first one is built.
struct JsonLimits {
    std::size_t bytes = std::size_t{64} << 10U;
    std::size_t depth = 8; ///< arrays and objects within each other
};

/// Limits of files that this program wrote: records of experiments, sections of checkpoints.
inline constexpr JsonLimits record_limits{std::size_t{64} << 20U, 32};

/// Parses one JSON value without repeated keys; `what` names it in messages. Errors: json_invalid, `where` is line and
/// column, the path of a repeated key, or empty where a limit is exceeded.
Result<Json> parse_json(std::string_view source, std::string_view what, const JsonLimits& limits = {});

/// A value as it appears in a message: its JSON, cut after 60 bytes.
std::string json_excerpt(const Json& value);

/// A key as a token of a JSON pointer (RFC 6901).
std::string json_pointer_token(const std::string& key);

} // namespace mfres
