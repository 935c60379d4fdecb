// SPDX-License-Identifier: MIT
// Counting any ONNX graph: shapes of its values by onnx_shapes.h, then operations, bytes and memory of every node.
#pragma once

#include <mfres/complexity.h>

#include <cstddef>
#include <span>
#include <string>

namespace mfres {

/// onnx_complexity for bytes in memory. `path` is for messages and the report. Allocations are bounded by the size of
/// the file, and by 64 MiB for the content of small tensors.
Result<ComplexityReport> count_onnx(std::span<const std::byte> bytes, const std::string& path,
                                    const OnnxComplexityOptions& options);

} // namespace mfres
