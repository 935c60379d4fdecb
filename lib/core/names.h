// SPDX-License-Identifier: MIT
// From the names of an enum back to its values.
#pragma once

#include "core/try.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace mfres {

/// The one of `values` whose to_string is `wanted`. `what` names the option in the message and is the error's place.
/// Errors: invalid_argument, which lists the names.
template <typename Values>
Result<typename Values::value_type> parse_name(std::string_view what, const Values& values, std::string_view wanted) {
    const auto found = std::find_if(values.begin(), values.end(), [&](auto one) { return to_string(one) == wanted; });
    if (found != values.end())
        return *found;
    std::string known;
    for (const auto one : values)
        known += text(known.empty() ? "" : ", ", to_string(one));
    return Error{ErrorCode::invalid_argument, text(what, " '", wanted, "' is not known; there are: ", known),
                 std::string(what)};
}

} // namespace mfres
