// SPDX-License-Identifier: MIT
// Numbers of tables and pages.
#pragma once

#include "core/format.h"

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace mfres {

/// The value with so many decimals, or `absent` where there is none.
inline std::string decimal_text(const std::optional<double>& value, int decimals, std::string_view absent) {
    if (!value)
        return std::string(absent);
    std::array<char, 384> buffer{}; // the largest double has 309 digits
    print_classic(buffer.data(), buffer.size(), "%.*f", decimals, *value);
    return buffer.data();
}

} // namespace mfres
