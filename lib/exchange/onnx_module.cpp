// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "core/module.h"
#include "core/try.h"
#include "exchange/onnx_functions.h"

namespace {

/// The module has a reserve of memory of its own (core/json_value.h). No part of it can be given to the library, which
/// would destroy it, so that a model that came to be with its help is none.
template <typename From, typename... Rest>
mfres::Result<mfres::Model> import(const From& from, const Rest&... rest) {
    auto model = mfres::import_onnx(from, rest...);
    if (mfres::json_memory::reserve_in_use())
        return mfres::Error{mfres::ErrorCode::memory_limit, "out of memory", {}};
    return model;
}

mfres::Result<mfres::Model> import_file(const std::filesystem::path& path, const mfres::Variant* variant) {
    return import(path, variant);
}

mfres::Result<mfres::Model> import_bytes(std::span<const std::byte> bytes, const std::string& path,
                                         const mfres::Variant* variant) {
    return import(bytes, path, variant);
}

constexpr mfres::OnnxFunctions functions = {&mfres::encode_onnx_program, &mfres::decode_onnx, &mfres::decode_onnx,
                                            &mfres::count_onnx,          &import_file,        &import_bytes};

} // namespace

MFRES_MODULE(functions)
