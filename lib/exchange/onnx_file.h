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

/// decode_onnx for a message that has been parsed.
Result<OnnxNetwork> read_onnx_graph(const onnx::ModelProto& model, const std::string& path, const Axes& size);

} // namespace mfres

#endif

namespace mfres {

/// The error of every function here in a build without ONNX.
inline Error no_onnx_here(const std::string& path) {
    return {ErrorCode::operation_unsupported,
            text(path, ": this build of mfres has no ONNX; it was made without the ONNX protobuf messages (Debian: "
                       "libonnx-dev)"),
            path};
}

} // namespace mfres
