// SPDX-License-Identifier: MIT
// What the module libmfres_onnx.so provides.
#pragma once

#include "exchange/onnx.h"
#include "exchange/onnx_complexity.h"
#include "exchange/onnx_program.h"

namespace mfres {

struct OnnxFunctions {
    decltype(&encode_onnx_program) encode_program;
    Result<OnnxNetwork> (*decode_file)(const std::filesystem::path& path, const Axes& size);
    Result<OnnxNetwork> (*decode_bytes)(std::span<const std::byte> bytes, const std::string& path, const Axes& size);
    decltype(&count_onnx) count;
    Result<Model> (*import_file)(const std::filesystem::path& path, const Variant* variant);
    Result<Model> (*import_bytes)(std::span<const std::byte> bytes, const std::string& path, const Variant* variant);
};

} // namespace mfres
