// SPDX-License-Identifier: MIT
#include "backends/cuda/nccl_library.h"

#include "core/try.h"

#include <dlfcn.h>

#include <optional>

namespace mfres::cuda {

namespace {

template <typename Function>
bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function != nullptr;
}

std::optional<NcclLibrary> load() {
    void* library = nullptr;
    for (const char* name : {"libnccl.so.2", MFRES_NCCL_LIBRARY}) {
        if (library == nullptr && *name != '\0')
            library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr)
        return std::nullopt;
    NcclLibrary found{};
    int version = 0;
    constexpr int oldest = 20900;
    if (find(library, "ncclGetVersion", found.get_version) && find(library, "ncclGetUniqueId", found.get_unique_id) &&
        find(library, "ncclCommInitRank", found.init_rank) && find(library, "ncclAllReduce", found.all_reduce) &&
        find(library, "ncclCommGetAsyncError", found.async_error) && find(library, "ncclCommDestroy", found.destroy) &&
        find(library, "ncclCommAbort", found.abort) && find(library, "ncclGetErrorString", found.error_string) &&
        found.get_version(&version) == ncclSuccess && version >= oldest) {
        found.version = version;
        return found; // stays loaded to the end of the process
    }
    dlclose(library);
    return std::nullopt;
}

} // namespace

const NcclLibrary* nccl_library() {
    static const std::optional<NcclLibrary> library = load();
    return library ? &*library : nullptr;
}

std::string nccl_name(std::int64_t version) {
    return text("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

} // namespace mfres::cuda
