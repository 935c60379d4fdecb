// SPDX-License-Identifier: MIT
// PyTorch checkpoints as the library sees them: the module libmfres_torch.so, opened when one is read.
#include "core/guard.h"
#include "core/module.h"
#include "exchange/torch_functions.h"

namespace mfres {

namespace {

/// The error names the file, as those of the functions do.
Result<const TorchFunctions*> opened_for(const std::string& path) {
#ifdef MFRES_WITH_TORCH
    static const auto functions = open_module_as<TorchFunctions>("torch");
    if (!functions)
        return Error{functions.error().code, text(path, ": ", functions.error().message), path};
    return functions;
#else
    return Error{ErrorCode::operation_unsupported,
                 text(path,
                      ": this build of mfres cannot read PyTorch checkpoints (MFRES_WITH_TORCH=OFF); build it with "
                      "libzip (Debian: libzip-dev)"),
                 path};
#endif
}

} // namespace

Result<StateDict> read_torch_state(const std::filesystem::path& path, std::string_view prefix) {
    return guarded(path, [&]() -> Result<StateDict> {
        MFRES_TRY(const TorchFunctions* torch, opened_for(path.string()));
        return torch->read_file(path, prefix);
    });
}

Result<StateDict> read_torch_state(std::span<const std::byte> bytes, const std::string& path, std::string_view prefix) {
    return guarded(path, [&]() -> Result<StateDict> {
        MFRES_TRY(const TorchFunctions* torch, opened_for(path));
        return torch->read_bytes(bytes, path, prefix);
    });
}

} // namespace mfres
