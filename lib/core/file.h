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

/// A file that lies complete on the disk beside its target and waits to be put in place, so that several files can
/// appear together or not at all. Without commit() it disappears with the object.
class PendingFile {
  public:
    /// Writes beside the target and fsyncs. Errors: file_exists when the target exists and `overwrite` is false,
    /// file_write (no temporary file is left).
    static Result<PendingFile> write(const std::filesystem::path& path, std::span<const std::byte> bytes,
                                     bool overwrite);

    PendingFile(PendingFile&& other) noexcept;
    PendingFile& operator=(PendingFile&& other) noexcept;
    ~PendingFile();

    /// Renames over the target and fsyncs the folder: after a crash the target holds the old bytes or the new ones.
    Status commit();

  private:
    PendingFile(std::filesystem::path path, std::string temporary);
    std::filesystem::path path_;
    std::string temporary_; ///< empty once there is nothing to remove
};

/// PendingFile::write and commit in one: after a crash or a full disk the target holds either the old bytes or the new
/// ones. On an error no temporary file is left. Fails with `file_exists` when the target exists and `overwrite` is
/// false.
Status write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes,
                             bool overwrite = true);
Status write_file_atomically(const std::filesystem::path& path, std::string_view content, bool overwrite = true);

} // namespace mfres
