// SPDX-License-Identifier: MIT
// What the module libmfres_torch.so provides.
#pragma once

#include "exchange/state_dict.h"

namespace mfres {

struct TorchFunctions {
    Result<StateDict> (*read_file)(const std::filesystem::path& path, std::string_view prefix);
    Result<StateDict> (*read_bytes)(std::span<const std::byte> bytes, const std::string& path, std::string_view prefix);
};

} // namespace mfres
