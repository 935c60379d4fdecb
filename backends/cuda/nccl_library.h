// SPDX-License-Identifier: MIT
// NCCL, loaded when several ranks first need it and not before: the library is a few hundred MB, only machines with
// several GPUs have a use for it, and one build runs with and without.
#pragma once

#include <nccl.h>

#include <cstdint>
#include <string>

namespace mfres::cuda {

/// The functions of the library that are used.
struct NcclLibrary {
    decltype(&ncclGetVersion) get_version;
    decltype(&ncclGetUniqueId) get_unique_id;
    decltype(&ncclCommInitRank) init_rank;
    decltype(&ncclAllReduce) all_reduce;
    decltype(&ncclCommGetAsyncError) async_error;
    decltype(&ncclCommDestroy) destroy;
    decltype(&ncclCommAbort) abort;
    decltype(&ncclGetErrorString) error_string;
    std::int64_t version; ///< e.g. 22809 for 2.28.9
};

/// Null if the library is not there, lacks a function, or is older than 2.9, from where on its work can be recorded.
/// The loader's usual places are searched, then the folder where the build found it.
const NcclLibrary* nccl_library();

/// "NCCL 2.28.9"
std::string nccl_name(std::int64_t version);

} // namespace mfres::cuda
