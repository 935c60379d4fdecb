// SPDX-License-Identifier: MIT
#include "core/html.h"

namespace mfres {

std::string html_text(std::string_view words) {
    std::string escaped;
    for (const char c : words)
        switch (c) {
        case '&': escaped += "&amp;"; break;
        case '<': escaped += "&lt;"; break;
        case '>': escaped += "&gt;"; break;
        case '"': escaped += "&quot;"; break;
        case '\'': escaped += "&#39;"; break;
        default: escaped += c;
        }
    return escaped;
}

} // namespace mfres
