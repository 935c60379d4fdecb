// SPDX-License-Identifier: MIT
// Tables as text: rows of cells with commas between, quoted as RFC 4180 has it.
#pragma once

#include <mfres/status.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

struct CsvRow {
    std::vector<std::string> cells;
    std::size_t line = 0; ///< where it starts, from 1
};

/// Splits text into rows of cells; empty lines and a byte order mark are dropped. `source` is named in errors.
/// Errors: table_invalid (a quotation mark that is not closed).
Result<std::vector<CsvRow>> csv_rows(std::string_view csv, const std::string& source);

/// A cell as it is written: in quotation marks where it needs them.
std::string csv_cell(const std::string& content);

} // namespace mfres
