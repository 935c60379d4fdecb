// SPDX-License-Identifier: MIT
// Tables of formatted cells, as text for a terminal or as Markdown.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mfres {

struct TableColumn {
    std::string group; ///< spans neighbouring columns of the same group; may be empty
    std::string title;
    bool right = true; ///< numbers are aligned to the right
};

class TextTable {
  public:
    explicit TextTable(std::vector<TableColumn> columns) : columns_(std::move(columns)) {}

    /// Precondition: one cell per column.
    void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
    /// A horizontal line before the next row, e.g. before a total.
    void rule() { rules_.push_back(rows_.size()); }

    /// Aligned text with two spaces between columns and the groups above the titles.
    std::string text() const;
    /// A Markdown table with column titles "group: title".
    std::string markdown() const;
    /// A table of HTML with the same titles.
    std::string html() const;

  private:
    std::vector<std::size_t> widths() const;
    std::string group_line(const std::vector<std::size_t>& widths) const;

    std::vector<TableColumn> columns_;
    std::vector<std::vector<std::string>> rows_;
    std::vector<std::size_t> rules_;
};

/// "1,234,567"
std::string grouped(std::int64_t value);
/// "1,234.57", with `decimals` decimals.
std::string grouped(double value, int decimals);
/// The same with a sign, "+0.412"; without one if the value rounds to zero.
std::string with_sign(double value, int decimals);
/// Wraps text at spaces to lines of at most `width` characters; lines after the first are indented by `indent`.
std::string wrapped(const std::string& words, std::size_t indent, std::size_t width = 120);

} // namespace mfres
