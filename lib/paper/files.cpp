// SPDX-License-Identifier: MIT
#include "paper/files.h"

#include "core/file.h"
#include "core/try.h"

namespace mfres {

bool is_there(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
}

Result<nlohmann::json> read_json(const std::filesystem::path& path) {
    MFRES_TRY(const auto bytes, read_file(path, std::uint64_t{64} << 20U));
    nlohmann::json object =
        nlohmann::json::parse(reinterpret_cast<const char*>(bytes.data()),
                              reinterpret_cast<const char*>(bytes.data()) + bytes.size(), nullptr, false);
    if (object.is_discarded())
        return Error{ErrorCode::json_invalid, text(path.string(), " is not JSON"), path.string()};
    return object;
}

} // namespace mfres
