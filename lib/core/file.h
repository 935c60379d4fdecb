// Whole-file access with clear errors, and writes that are either complete or absent.
#pragma once

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// All bytes of a file. Refuses files larger than `cap` bytes with `too_large_code` before reading them.
Result<std::vector<std::byte>> read_file(const std::filesystem::path& path, std::uint64_t cap,
                                         ErrorCode too_large_code = ErrorCode::memory_limit);

/// Writes beside the target, fsyncs, renames over it and fsyncs the folder: after a crash or a full disk the target
/// holds either the old bytes or the new ones. On an error no temporary file is left. Fails with `file_exists` when
/// the target exists and `overwrite` is false.
Status write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes,
                             bool overwrite = true);
Status write_file_atomically(const std::filesystem::path& path, std::string_view content, bool overwrite = true);

} // namespace mfres
