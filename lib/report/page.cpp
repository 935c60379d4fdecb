// SPDX-License-Identifier: MIT
#include "report/page.h"

#include <algorithm>

namespace mfres {

namespace {

constexpr const char* html_head = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>)";
constexpr const char* html_style = R"(</title><style>
body { font: 15px/1.4 sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { padding: 2px 10px; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { text-align: left; border-bottom: 2px solid #888; } td.n, th.n { text-align: right; }
dt { font-weight: bold; float: left; clear: left; width: 9em; } dd { margin-left: 10em; }
</style></head><body>
)";

} // namespace

std::string html_text(const std::string& words) {
    std::string all;
    for (const char letter : words) {
        switch (letter) {
        case '&': all += "&amp;"; break;
        case '<': all += "&lt;"; break;
        case '>': all += "&gt;"; break;
        case '"': all += "&quot;"; break;
        default: all += letter;
        }
    }
    return all;
}

void Page::gap() {
    if (!content_.empty())
        content_ += '\n';
}

void Page::heading(const std::string& words) {
    if (title_.empty())
        title_ = words;
    gap();
    switch (style_) {
    case PageStyle::text: content_ += words + '\n'; break;
    case PageStyle::markdown: content_ += "## " + words + '\n'; break;
    case PageStyle::html: content_ += "<h2>" + html_text(words) + "</h2>\n"; break;
    }
}

void Page::facts(const Facts& facts) {
    std::size_t longest = 0;
    for (const auto& [name, value] : facts)
        longest = std::max(longest, name.size());
    if (style_ == PageStyle::markdown)
        gap();
    if (style_ == PageStyle::html)
        content_ += "<dl>\n";
    for (const auto& [name, value] : facts) {
        switch (style_) {
        case PageStyle::text:
            content_ += "  " + name + std::string(longest + 2 - name.size(), ' ') + wrapped(value, longest + 4) + '\n';
            break;
        case PageStyle::markdown: content_ += "- " + name + ": " + value + '\n'; break;
        case PageStyle::html: content_ += "<dt>" + html_text(name) + "</dt><dd>" + html_text(value) + "</dd>\n"; break;
        }
    }
    if (style_ == PageStyle::html)
        content_ += "</dl>\n";
}

void Page::table(const TextTable& table) {
    gap();
    switch (style_) {
    case PageStyle::text: content_ += table.text(); break;
    case PageStyle::markdown: content_ += table.markdown(); break;
    case PageStyle::html: content_ += table.html(); break;
    }
}

void Page::paragraph(const std::string& words) {
    gap();
    switch (style_) {
    case PageStyle::text: content_ += wrapped(words, 0) + '\n'; break;
    case PageStyle::markdown: content_ += words + '\n'; break;
    case PageStyle::html: content_ += "<p>" + html_text(words) + "</p>\n"; break;
    }
}

void Page::svg(const std::string& picture) {
    if (style_ == PageStyle::html)
        content_ += picture.substr(std::min(picture.find("<svg"), picture.size())) + '\n';
}

std::string Page::finish() const {
    if (style_ != PageStyle::html)
        return content_;
    return html_head + html_text(title_) + html_style + content_ + "</body></html>\n";
}

} // namespace mfres
