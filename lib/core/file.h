// Whole-file access with clear errors, and writes that are either complete or absent.
#pragma once

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mfres {

/// All bytes of a file. Rejects files larger than `cap` bytes with `too_large_code` before reading them.
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
    friend class PendingWriter;
    PendingFile(std::filesystem::path path, std::string temporary);
    std::filesystem::path path_;
    std::string temporary_; ///< empty once there is nothing to remove
};

/// A PendingFile in the making, for content that is too large to hold: written piece by piece beside its target.
/// Without finish() it disappears with the object.
class PendingWriter {
  public:
    /// Errors: file_exists when the target exists and `overwrite` is false, file_write.
    static Result<PendingWriter> create(const std::filesystem::path& path, bool overwrite);

    PendingWriter(PendingWriter&& other) noexcept;
    PendingWriter& operator=(PendingWriter&& other) noexcept;
    ~PendingWriter();

    /// Writes at the end. Errors: file_write.
    Status append(std::span<const std::byte> bytes);
    /// Replaces bytes that were written before, `offset` bytes from the beginning. Errors: file_write.
    Status replace(std::uint64_t offset, std::span<const std::byte> bytes);
    /// Bytes appended so far.
    std::uint64_t size() const { return size_; }
    /// fsyncs and closes; the writer is used up. Errors: file_write.
    Result<PendingFile> finish() &&;

  private:
    PendingWriter(PendingFile file, int descriptor) : file_(std::move(file)), descriptor_(descriptor) {}
    PendingFile file_;
    int descriptor_; ///< -1 once closed
    std::uint64_t size_ = 0;
};

/// A file that is read in parts, also by several threads at once.
class ReadableFile {
  public:
    /// Errors: file_not_found, file_read (also for what is no regular file).
    static Result<ReadableFile> open(const std::filesystem::path& path);

    ReadableFile(ReadableFile&& other) noexcept;
    ReadableFile& operator=(ReadableFile&& other) noexcept;
    ~ReadableFile();

    const std::filesystem::path& path() const { return path_; }
    /// Bytes in the file when it was opened.
    std::uint64_t size() const { return size_; }
    /// Fills `bytes` from `offset` on. Errors: file_read, also when the file ends before.
    Status read_at(std::uint64_t offset, std::span<std::byte> bytes) const;

  private:
    ReadableFile(std::filesystem::path path, int descriptor, std::uint64_t size)
        : path_(std::move(path)), descriptor_(descriptor), size_(size) {}
    std::filesystem::path path_;
    int descriptor_;
    std::uint64_t size_;
};

/// A new folder in the system's temporary one, which only this user may enter; removed with all it holds.
class ScratchFolder {
  public:
    /// `purpose` becomes part of its name. Errors: file_write.
    static Result<ScratchFolder> create(std::string_view purpose);

    ScratchFolder(ScratchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
    ScratchFolder& operator=(ScratchFolder&&) = delete;
    ~ScratchFolder();

    const std::filesystem::path& path() const { return path_; }

  private:
    explicit ScratchFolder(std::filesystem::path path) : path_(std::move(path)) {}
    std::filesystem::path path_; ///< empty once moved from
};

/// Rejects before any work what could only fail at its end: an output that exists (file_exists, unless `overwrite`) or
/// has no folder (file_write). An empty path is no output.
Status check_output(const std::filesystem::path& path, bool overwrite);

/// PendingFile::write and commit in one: after a crash or a full disk the target holds either the old bytes or the new
/// ones. On an error no temporary file is left. Fails with `file_exists` when the target exists and `overwrite` is
/// false.
Status write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes,
                             bool overwrite = true);
Status write_file_atomically(const std::filesystem::path& path, std::string_view content, bool overwrite = true);

} // namespace mfres
