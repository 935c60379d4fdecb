// SPDX-License-Identifier: MIT
// Files of an experiment.
#pragma once

#include "core/json_value.h"

#include <mfres/status.h>

#include <filesystem>

namespace mfres {

/// Whether a file or folder of that name exists; false if the system reports an error.
bool is_there(const std::filesystem::path& path);

/// The content of a JSON file of at most 64 MiB. Errors: file_not_found, file_read, json_invalid, memory_limit.
Result<Json> read_json(const std::filesystem::path& path);

} // namespace mfres
