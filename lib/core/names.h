// SPDX-License-Identifier: MIT
// The names of an enum, and from a name back to the value.
#pragma once

#include "core/try.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace mfres {

/// Whether the enum of `value` has an enumerator of that value. GCC and Clang spell such a value by its name, and any
/// other one as a cast, "(mfres::Precision)4".
template <auto value>
consteval bool is_enumerator() {
    return std::string_view(__PRETTY_FUNCTION__).find("value = (") == std::string_view::npos;
}

template <typename Enum>
struct EnumName {
    Enum value;
    std::string_view name;
};

/// The names of all `count` values of an enum, made by enum_names.
template <typename Enum, std::size_t count>
class EnumNames {
    static_assert(!is_enumerator<static_cast<Enum>(count)>(), "a value of the enum has no name");

  public:
    consteval explicit EnumNames(const EnumName<Enum> (&rows)[count]) {
        for (std::size_t i = 0; i < count; ++i) {
            if (rows[i].value != static_cast<Enum>(i))
                throw "the rows are not in the order of the enum";
            names_[i] = rows[i].name;
        }
    }

    constexpr std::string_view of(Enum value) const noexcept {
        const auto index = static_cast<std::size_t>(value);
        return index < count ? names_[index] : "unknown";
    }

    /// The value that is called `wanted`. `what` names the option in the message and is the error's place.
    /// Errors: invalid_argument, which lists the names.
    Result<Enum> parse(std::string_view what, std::string_view wanted) const {
        const auto found = std::find(names_.begin(), names_.end(), wanted);
        if (found != names_.end())
            return static_cast<Enum>(found - names_.begin());
        std::string known;
        for (const std::string_view name : names_)
            known += text(known.empty() ? "" : ", ", name);
        return Error{ErrorCode::invalid_argument, text(what, " '", wanted, "' is not known; there are: ", known),
                     std::string(what)};
    }

  private:
    std::array<std::string_view, count> names_{};
};

/// One row a value, in the order of the enum. A value without a row does not compile.
template <typename Enum, std::size_t count>
consteval EnumNames<Enum, count> enum_names(const EnumName<Enum> (&rows)[count]) {
    return EnumNames<Enum, count>(rows);
}

} // namespace mfres
