// SPDX-License-Identifier: MIT
// Functions shared by the readers of ONNX files, in the module libmfres_onnx.so.
#pragma once

#include "core/try.h"
#include "exchange/onnx.h"

#include <onnx/onnx_pb.h>

namespace mfres {

/// Parses the protobuf message. Errors: memory_limit, model_header_invalid.
Result<onnx::ModelProto> parse_onnx(std::span<const std::byte> bytes, const std::string& path);

/// What a graph's outputs are: as the file says, or the logits where it ends in a Softmax.
enum class OnnxEnds : std::uint8_t { as_they_are, before_softmax };

/// decode_onnx for a message that was parsed already.
Result<OnnxNetwork> read_onnx_graph(const onnx::ModelProto& model, const std::string& path, const Axes& size,
                                    OnnxEnds ends = OnnxEnds::as_they_are);

} // namespace mfres
