// SPDX-License-Identifier: MIT
#include "report/text_table.h"

#include "core/decimal_text.h"
#include "core/try.h"
#include "report/page.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace mfres {

namespace {

std::string padded(const std::string& cell, std::size_t width, bool right) {
    const std::string space(width > cell.size() ? width - cell.size() : 0, ' ');
    return right ? space + cell : cell + space;
}

/// Removes trailing spaces and appends a line feed.
std::string line(std::string cells) {
    cells.erase(cells.find_last_not_of(' ') + 1);
    return cells + '\n';
}

std::string with_separators(const std::string& digits) {
    std::string result;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i > 0 && (digits.size() - i) % 3 == 0)
            result += ',';
        result += digits[i];
    }
    return result;
}

} // namespace

std::vector<std::size_t> TextTable::widths() const {
    std::vector<std::size_t> widths;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
        std::size_t width = columns_[c].title.size();
        for (const auto& cells : rows_)
            width = std::max(width, cells[c].size());
        widths.push_back(width);
    }
    // If the heading of a group is wider than its columns, its first column is widened.
    for (std::size_t c = 0; c < columns_.size();) {
        std::size_t end = c + 1;
        std::size_t span = widths[c];
        for (; end < columns_.size() && columns_[end].group == columns_[c].group; ++end)
            span += 2 + widths[end];
        if (columns_[c].group.size() > span)
            widths[c] += columns_[c].group.size() - span;
        c = end;
    }
    return widths;
}

std::string TextTable::group_line(const std::vector<std::size_t>& widths) const {
    std::string cells;
    for (std::size_t c = 0; c < columns_.size();) {
        std::size_t end = c + 1;
        std::size_t span = widths[c];
        for (; end < columns_.size() && columns_[end].group == columns_[c].group; ++end)
            span += 2 + widths[end];
        const std::string& group = columns_[c].group;
        const std::size_t fill = span > group.size() + 1 ? span - group.size() - 1 : 0;
        std::string heading = group;
        if (!group.empty() && fill > 0)
            heading = std::string(fill, '-') + ' ' + group;
        cells += (c == 0 ? "" : "  ") + padded(heading, span, true);
        c = end;
    }
    return line(cells);
}

std::string TextTable::text() const {
    const auto width = widths();
    const auto render = [&](const auto& cell_of) {
        std::string cells;
        for (std::size_t c = 0; c < columns_.size(); ++c)
            cells += (c == 0 ? "" : "  ") + padded(cell_of(c), width[c], columns_[c].right);
        return line(cells);
    };
    const bool has_groups =
        std::any_of(columns_.begin(), columns_.end(), [](const TableColumn& column) { return !column.group.empty(); });
    const std::string rule = render([&](std::size_t c) { return std::string(width[c], '-'); });
    std::string all = has_groups ? group_line(width) : std::string();
    all += render([&](std::size_t c) { return columns_[c].title; }) + rule;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
        if (std::find(rules_.begin(), rules_.end(), r) != rules_.end())
            all += rule;
        all += render([&](std::size_t c) { return rows_[r][c]; });
    }
    return all;
}

std::string TextTable::markdown() const {
    std::string head = "|";
    std::string rule = "|";
    for (const TableColumn& column : columns_) {
        head += ' ' + (column.group.empty() ? "" : column.group + ": ") + column.title + " |";
        rule += column.right ? "---:|" : "---|";
    }
    std::string all = head + '\n' + rule + '\n';
    for (const auto& cells : rows_) {
        all += '|';
        for (const std::string& cell : cells)
            all += ' ' + cell + " |";
        all += '\n';
    }
    return all;
}

std::string TextTable::html() const {
    const auto cells = [&](const char* tag, const auto& content_of) {
        std::string line = "<tr>";
        for (std::size_t c = 0; c < columns_.size(); ++c)
            line += std::string("<") + tag + (columns_[c].right ? " class=\"n\">" : ">") + html_text(content_of(c)) +
                    "</" + tag + ">";
        return line + "</tr>\n";
    };
    std::string all = "<table>\n" + cells("th", [&](std::size_t c) {
                          return (columns_[c].group.empty() ? "" : columns_[c].group + ": ") + columns_[c].title;
                      });
    for (const auto& row : rows_)
        all += cells("td", [&](std::size_t c) { return row[c]; });
    return all + "</table>\n";
}

std::string grouped(std::int64_t value) {
    const std::string digits = std::to_string(value);
    return value < 0 ? '-' + with_separators(digits.substr(1)) : with_separators(digits);
}

std::string grouped(double value, int decimals) {
    const std::string number = decimal_text(std::abs(value), decimals, "");
    const std::size_t point = std::min(number.find('.'), number.size());
    const bool zero = number.find_first_not_of("0.") == std::string::npos;
    return (value < 0 && !zero ? "-" : "") + with_separators(number.substr(0, point)) + number.substr(point);
}

std::string with_sign(double value, int decimals) {
    const std::string number = grouped(value, decimals);
    const bool zero = number.find_first_not_of("0.,") == std::string::npos;
    return value > 0 && !zero ? '+' + number : number;
}

std::string wrapped(const std::string& words, std::size_t indent, std::size_t width) {
    std::istringstream stream(words);
    pass_exceptions(stream);
    std::string all;
    std::string word;
    std::size_t column = indent;
    while (stream >> word) {
        if (column > indent && column + 1 + word.size() > width) {
            all += '\n' + std::string(indent, ' ');
            column = indent;
        } else if (column > indent) {
            all += ' ';
            ++column;
        }
        all += word;
        column += word.size();
    }
    return all;
}

} // namespace mfres
