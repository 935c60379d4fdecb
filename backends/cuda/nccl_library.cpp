// SPDX-License-Identifier: MIT
#include "backends/cuda/nccl_library.h"

#include "core/shared_library.h"
#include "core/try.h"

#include <optional>

namespace mfres::cuda {

namespace {

std::optional<NcclLibrary> load() {
    constexpr int oldest = 20900;
    for (const char* name : {"libnccl.so.2", MFRES_NCCL_LIBRARY}) {
        if (*name == '\0')
            continue;
        auto library = SharedLibrary::open(name);
        if (!library)
            continue;
        NcclLibrary found{};
        int version = 0;
        if (library->find("ncclGetVersion", found.get_version) &&
            library->find("ncclGetUniqueId", found.get_unique_id) &&
            library->find("ncclCommInitRank", found.init_rank) && library->find("ncclAllReduce", found.all_reduce) &&
            library->find("ncclCommGetAsyncError", found.async_error) &&
            library->find("ncclCommDestroy", found.destroy) && library->find("ncclCommAbort", found.abort) &&
            library->find("ncclGetErrorString", found.error_string) && found.get_version(&version) == ncclSuccess &&
            version >= oldest) {
            found.version = version;
            return found; // stays loaded to the end of the process
        }
        library->close();
        return std::nullopt;
    }
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
