// SPDX-License-Identifier: MIT
#include "metrics/csv_rows.h"

#include "core/try.h"

namespace mfres {

namespace {

Error invalid(const std::string& source, std::size_t line, const std::string& what) {
    return {ErrorCode::table_invalid, text(source, ", line ", line, ": ", what), source};
}

/// Splits text into rows of cells; empty lines are dropped.
class Splitter {
  public:
    Splitter(std::string_view csv, const std::string& source) : csv_(csv), source_(source) {}

    Result<std::vector<CsvRow>> rows() {
        std::vector<CsvRow> all;
        while (at_ < csv_.size()) {
            CsvRow row{{}, line_};
            MFRES_CHECK(read_row(row));
            if (row.cells.size() > 1 || !row.cells[0].empty())
                all.push_back(std::move(row));
        }
        return all;
    }

  private:
    Status read_row(CsvRow& row) {
        row.cells.emplace_back();
        while (at_ < csv_.size()) {
            const char c = csv_[at_++];
            if (c == '"' && row.cells.back().empty()) {
                MFRES_CHECK(read_quoted(row.cells.back()));
            } else if (c == ',') {
                row.cells.emplace_back();
            } else if (c == '\n') {
                ++line_;
                return {};
            } else if (c != '\r' || (at_ < csv_.size() && csv_[at_] != '\n')) {
                row.cells.back() += c;
            }
        }
        return {};
    }

    /// After the opening mark; two marks within are one.
    Status read_quoted(std::string& cell) {
        const std::size_t opened = line_;
        while (at_ < csv_.size()) {
            const char c = csv_[at_++];
            if (c == '\n')
                ++line_;
            if (c != '"') {
                cell += c;
            } else if (at_ < csv_.size() && csv_[at_] == '"') {
                cell += c;
                ++at_;
            } else {
                return {};
            }
        }
        return invalid(source_, opened, "a quotation mark is not closed");
    }

    std::string_view csv_;
    const std::string& source_;
    std::size_t at_ = 0;
    std::size_t line_ = 1;
};

} // namespace

Result<std::vector<CsvRow>> csv_rows(std::string_view csv, const std::string& source) {
    constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
    if (csv.starts_with(byte_order_mark))
        csv.remove_prefix(byte_order_mark.size());
    return Splitter(csv, source).rows();
}

} // namespace mfres
