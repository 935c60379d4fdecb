// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace mfres {

/// Text for HTML: & < > " ' as entities.
std::string html_text(std::string_view words);

} // namespace mfres
