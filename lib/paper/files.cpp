// SPDX-License-Identifier: MIT
#include "paper/files.h"

#include "core/file.h"
#include "core/json.h"
#include "core/try.h"

namespace mfres {

bool is_there(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
}

Result<Json> read_json(const std::filesystem::path& path) {
    MFRES_TRY(const auto bytes, read_file(path, std::uint64_t{64} << 20U));
    auto object = parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "record", record_limits);
    if (!object)
        return Error{ErrorCode::json_invalid, text(path.string(), ": ", object.error().message), path.string()};
    return object;
}

} // namespace mfres
