// SPDX-License-Identifier: MIT
// Export of plain::Program to ONNX.
#pragma once

#include "exchange/onnx.h"
#include "graph/plain.h"

namespace mfres {

/// The bytes of an ONNX model of a program, one node per step (a sum with factors: one Mul per input and the sum).
/// With `dynamic`, the axes from the third on are dynamic. Errors: operation_unsupported, memory_limit; see
/// encode_onnx.
Result<std::vector<std::byte>> encode_onnx_program(const plain::Program& program, const OnnxText& about, bool dynamic);

} // namespace mfres
