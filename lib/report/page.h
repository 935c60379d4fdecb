// SPDX-License-Identifier: MIT
// A report of headings, facts, tables and paragraphs, as text for a terminal, as Markdown or as a page of HTML.
#pragma once

#include "report/text_table.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace mfres {

enum class PageStyle : std::uint8_t { text, markdown, html };

/// Names with values.
using Facts = std::vector<std::pair<std::string, std::string>>;

class Page {
  public:
    explicit Page(PageStyle style) : style_(style) {}

    void heading(const std::string& words);
    /// One line a fact, in one column after the longest name.
    void facts(const Facts& facts);
    void table(const TextTable& table);
    void paragraph(const std::string& words);
    /// A picture. Text and Markdown have none of it.
    void svg(const std::string& picture);

    /// All of it. HTML is one file without references to others.
    std::string finish() const;

  private:
    /// An empty line, but not at the beginning.
    void gap();

    PageStyle style_;
    std::string title_;
    std::string content_;
};

/// Text with the characters that HTML gives a meaning replaced.
std::string html_text(const std::string& words);

} // namespace mfres
