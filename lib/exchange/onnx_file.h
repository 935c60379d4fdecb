// SPDX-License-Identifier: MIT
// Functions shared by the readers of ONNX files.
#pragma once

#include "core/try.h"
#include "exchange/onnx.h"

#ifdef MFRES_WITH_ONNX

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

#endif

namespace mfres {

/// Follows the fields of a file's message, and those of the graph in it, without reading what they hold: a file that is
/// no ONNX is rejected before its bytes are. Errors: those of ReadableFile, memory_limit (more than max_onnx_bytes),
/// model_header_invalid.
Status check_onnx_layout(const std::filesystem::path& path);

/// The error of every function here in a build without ONNX.
inline Error no_onnx_here(const std::string& path) {
    return {ErrorCode::operation_unsupported,
            text(path, ": this build of mfres has no ONNX; it was made without the ONNX protobuf messages (Debian: "
                       "libonnx-dev)"),
            path};
}

} // namespace mfres
