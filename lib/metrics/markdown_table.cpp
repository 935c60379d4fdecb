// SPDX-License-Identifier: MIT
#include "metrics/markdown_table.h"

#include <algorithm>

namespace mfres {

namespace {

/// Characters of UTF-8, which a terminal gives a column each.
std::size_t width_of(const std::string& cell) {
    return static_cast<std::size_t>(std::count_if(
        cell.begin(), cell.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

} // namespace

std::string markdown_table(const std::vector<std::vector<std::string>>& rows, std::size_t words) {
    std::vector<std::size_t> widths(rows[0].size(), 3);
    for (const auto& row : rows)
        for (std::size_t c = 0; c < row.size(); ++c)
            widths[c] = std::max(widths[c], width_of(row[c]));
    std::string all;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        for (std::size_t c = 0; c < rows[r].size(); ++c) {
            const std::string space(widths[c] - width_of(rows[r][c]), ' ');
            all += "| " + (c < words ? rows[r][c] + space : space + rows[r][c]) + ' ';
        }
        all += "|\n";
        if (r == 0) {
            for (std::size_t c = 0; c < widths.size(); ++c)
                all += c < words ? '|' + std::string(widths[c] + 2, '-') : '|' + std::string(widths[c] + 1, '-') + ':';
            all += "|\n";
        }
    }
    return all;
}

} // namespace mfres
