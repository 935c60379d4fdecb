// SPDX-License-Identifier: MIT
// Files of tensors are read up to a limit.
#pragma once

#include "core/file.h"
#include "core/try.h"
#include "model/safetensors.h"

#include <filesystem>

namespace mfres {

/// Errors: those of ReadableFile::open; memory_limit above max_safetensors_bytes.
inline Result<ReadableFile> open_tensor_file(const std::filesystem::path& path) {
    MFRES_TRY(ReadableFile file, ReadableFile::open(path));
    if (file.size() > max_safetensors_bytes)
        return Error{
            ErrorCode::memory_limit,
            text(path.string(), " has ", file.size(), " bytes, more than the ", max_safetensors_bytes, " allowed"),
            path.string()};
    return file;
}

} // namespace mfres
