// SPDX-License-Identifier: MIT
// ONNX as the library sees it: the module libmfres_onnx.so, opened when a file is read or written.
#include "core/file.h"
#include "core/guard.h"
#include "core/module.h"
#include "exchange/onnx_functions.h"
#include "exchange/onnx_layout.h"

namespace mfres {

namespace {

#ifdef MFRES_WITH_ONNX

Result<const OnnxFunctions*> opened() {
    static const auto functions = open_module_as<OnnxFunctions>("onnx");
    return functions;
}

#else

Result<const OnnxFunctions*> opened() {
    return Error{
        ErrorCode::operation_unsupported,
        "this build of mfres has no ONNX (MFRES_WITH_ONNX=OFF); build it with the ONNX protobuf messages (Debian: "
        "libonnx-dev and libprotobuf-dev)",
        "ONNX"};
}

#endif

/// The error names the file, as those of the functions do.
Result<const OnnxFunctions*> opened_for(const std::string& path) {
    auto functions = opened();
    if (!functions)
        return Error{functions.error().code, text(path, ": ", functions.error().message), path};
    return functions;
}

} // namespace

Result<std::vector<std::byte>> encode_onnx_program(const plain::Program& program, const OnnxText& about, bool dynamic) {
    return guarded("ONNX", [&]() -> Result<std::vector<std::byte>> {
        MFRES_TRY(const OnnxFunctions* onnx, opened());
        return onnx->encode_program(program, about, dynamic);
    });
}

Result<OnnxNetwork> decode_onnx(std::span<const std::byte> bytes, const std::string& path, const Axes& size) {
    return guarded(path, [&]() -> Result<OnnxNetwork> {
        MFRES_TRY(const OnnxFunctions* onnx, opened_for(path));
        return onnx->decode_bytes(bytes, path, size);
    });
}

Result<OnnxNetwork> decode_onnx(const std::filesystem::path& path, const Axes& size) {
    return guarded(path, [&]() -> Result<OnnxNetwork> {
        MFRES_CHECK(check_onnx_layout(path));
        MFRES_TRY(const OnnxFunctions* onnx, opened_for(path.string()));
        return onnx->decode_file(path, size);
    });
}

Result<ComplexityReport> count_onnx(std::span<const std::byte> bytes, const std::string& path,
                                    const OnnxComplexityOptions& options) {
    return guarded(path, [&]() -> Result<ComplexityReport> {
        MFRES_TRY(const OnnxFunctions* onnx, opened_for(path));
        return onnx->count(bytes, path, options);
    });
}

Result<ComplexityReport> onnx_complexity(const std::filesystem::path& path, const OnnxComplexityOptions& options) {
    return guarded(path, [&]() -> Result<ComplexityReport> {
        MFRES_CHECK(check_onnx_layout(path));
        MFRES_TRY(const OnnxFunctions* onnx, opened_for(path.string()));
        MFRES_TRY(const std::vector<std::byte> bytes, read_file(path, max_onnx_bytes));
        return onnx->count(bytes, path.string(), options);
    });
}

Result<Model> import_onnx(std::span<const std::byte> bytes, const std::string& path, const Variant* variant) {
    return guarded(path, [&]() -> Result<Model> {
        MFRES_TRY(const OnnxFunctions* onnx, opened_for(path));
        return onnx->import_bytes(bytes, path, variant);
    });
}

Result<Model> import_onnx(const std::filesystem::path& path, const Variant* variant) {
    return guarded(path, [&]() -> Result<Model> {
        MFRES_CHECK(check_onnx_layout(path));
        MFRES_TRY(const OnnxFunctions* onnx, opened_for(path.string()));
        return onnx->import_file(path, variant);
    });
}

} // namespace mfres
