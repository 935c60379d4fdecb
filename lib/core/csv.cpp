// SPDX-License-Identifier: MIT
#include "core/csv.h"

namespace mfres {

std::string csv_cell(const std::string& content) {
    if (content.find_first_of(",\"\r\n") == std::string::npos)
        return content;
    std::string result = "\"";
    for (const char c : content)
        result += c == '"' ? std::string("\"\"") : std::string(1, c);
    return result + '"';
}

} // namespace mfres
