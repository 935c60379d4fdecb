// SPDX-License-Identifier: MIT
#pragma once

#include <mfres/status.h>

#include <filesystem>

namespace mfres {

/// Follows the fields of a file's message, and those of the graph in it, without reading what they hold: a file that is
/// no ONNX is rejected before its bytes are. Errors: those of ReadableFile, memory_limit (more than max_onnx_bytes),
/// model_header_invalid.
Status check_onnx_layout(const std::filesystem::path& path);

} // namespace mfres
