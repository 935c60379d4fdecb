// SPDX-License-Identifier: MIT
// A recipe as the user gives it: a file, and options on top of it.
#pragma once

#include "core/json_value.h"

#include <mfres/status.h>

#include <filesystem>
#include <string>

namespace mfres::cli {

/// JSON of the recipe in `file` (none if the path is empty) with the keys of `changes` in place of its own; a length in
/// steps replaces one in epochs and the other way round. Text that is no recipe is left for its reader to reject.
/// Errors: those of read_file, recipe_invalid (changes to what is no JSON object).
Result<std::string> recipe_text(const std::filesystem::path& file, const Json& changes);

} // namespace mfres::cli
