// SPDX-License-Identifier: MIT
// Tables of cells in Markdown that can be read as plain text.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace mfres {

/// Cells are padded. The first row is the head, the first `words` columns are text and the others numbers.
/// Precondition: a row, and equally many cells in each.
std::string markdown_table(const std::vector<std::vector<std::string>>& rows, std::size_t words);

} // namespace mfres
