// SPDX-License-Identifier: MIT
// Writing tables of cells with commas between.
#pragma once

#include <string>

namespace mfres {

/// A cell as RFC 4180 has it: in quotation marks where it needs them.
std::string csv_cell(const std::string& content);

} // namespace mfres
