// SPDX-License-Identifier: MIT
// Reading tables of cells with commas between, quoted as RFC 4180 has it; core/csv.h writes them.
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

} // namespace mfres
