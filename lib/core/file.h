// SPDX-License-Identifier: MIT
// Reading files, and writing them atomically.
#pragma once

#include "core/platform.h"

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

/// All bytes of a file. Rejects files larger than `cap` bytes with `too_large_code` before reading them. Errors: those
/// of ReadableFile, and memory_limit where there is no memory for the bytes.
Result<std::vector<std::byte>> read_file(const std::filesystem::path& path, std::uint64_t cap,
                                         ErrorCode too_large_code = ErrorCode::memory_limit);

/// read_file for a format whose files begin with `magic`, which is judged before the rest is read. A file that begins
/// otherwise, or is larger than `cap` bytes, is rejected with `code`.
Result<std::vector<std::byte>> read_file_with_magic(const std::filesystem::path& path, std::string_view magic,
                                                    std::uint64_t cap, ErrorCode code);

/// A complete temporary file beside its target, renamed by commit(). Several files are written this way before the first
/// one is committed. The destructor removes a file that was not committed.
class PendingFile {
  public:
    /// Writes beside the target and fsyncs. Errors: file_exists when the target exists and `overwrite` is false,
    /// file_write (no temporary file is left).
    static Result<PendingFile> write(const std::filesystem::path& path, std::span<const std::byte> bytes,
                                     bool overwrite);

    PendingFile(PendingFile&& other) noexcept;
    PendingFile& operator=(PendingFile&& other) noexcept;
    ~PendingFile();

    /// Gives the file its name and fsyncs the folder: after a crash the target holds the old bytes or the new ones.
    /// Without `overwrite` that is exclusive: of several processes with one target exactly one succeeds. Errors:
    /// file_exists (the target has appeared since write(), and `overwrite` is false), file_write.
    Status commit();
    const std::filesystem::path& path() const { return path_; }

  private:
    friend class PendingWriter;
    PendingFile(std::filesystem::path path, bool overwrite);
    std::filesystem::path path_;
    std::filesystem::path temporary_; ///< empty once there is nothing to remove
    bool overwrite_;
};

/// Writes a PendingFile in parts, for content that does not fit into memory. The destructor removes a file that was not
/// finished.
class PendingWriter {
  public:
    /// A new file has the permissions that the process's umask leaves, one that replaces another has those of the other.
    /// Errors: file_exists when the target exists and `overwrite` is false, file_write.
    static Result<PendingWriter> create(const std::filesystem::path& path, bool overwrite);

    /// Writes at the end. Errors: file_write.
    Status append(std::span<const std::byte> bytes);
    /// Replaces bytes that were written before, `offset` bytes from the beginning. Errors: file_write.
    Status replace(std::uint64_t offset, std::span<const std::byte> bytes);
    /// Bytes appended so far.
    std::uint64_t size() const { return size_; }
    /// fsyncs and closes. The writer cannot be used afterwards. Errors: file_write.
    Result<PendingFile> finish() &&;

  private:
    PendingWriter(PendingFile file, platform::OpenFile opened) : file_(std::move(file)), opened_(std::move(opened)) {}
    PendingFile file_;
    platform::OpenFile opened_; // destroyed first: an open file cannot be removed everywhere
    std::uint64_t size_ = 0;
};

/// A file for random access; several threads may read at once.
class ReadableFile {
  public:
    /// Never waits: a pipe or a device is rejected at once. Errors: file_not_found, file_read (also for what is not a
    /// regular file).
    static Result<ReadableFile> open(const std::filesystem::path& path);

    const std::filesystem::path& path() const { return path_; }
    /// Size in bytes when the file was opened.
    std::uint64_t size() const { return size_; }
    /// Fills `bytes` from `offset` on. Errors: file_read, also if the file is too short.
    Status read_at(std::uint64_t offset, std::span<std::byte> bytes) const;

  private:
    ReadableFile(std::filesystem::path path, platform::OpenFile file, std::uint64_t size)
        : path_(std::move(path)), file_(std::move(file)), size_(size) {}
    std::filesystem::path path_;
    platform::OpenFile file_;
    std::uint64_t size_;
};

/// What a folder holds.
struct FolderEntry {
    std::filesystem::path path;
    bool is_folder = false; ///< of what a link leads to
    bool is_file = false;   ///< a regular one
    bool is_broken = false; ///< a link that leads to nothing
};

/// The entries of a folder in the order of their names, those that begin with a dot included. The directory iterators of
/// the standard library are not used for it: those of GCC end the process where there is no memory for a name.
/// Errors: file_not_found, invalid_argument (not a folder), file_read.
Result<std::vector<FolderEntry>> list_folder(const std::filesystem::path& folder);

/// Removes the files of a folder whose names begin with one of these: temporary files of a process that was killed. What
/// cannot be listed or removed stays.
void remove_beginning_with(const std::filesystem::path& folder, std::span<const std::string_view> beginnings);

/// A new folder in the system's temporary folder, accessible to this user only; removed with its content.
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

/// Checks an output path before the computation whose result it will hold. Errors: file_exists (unless `overwrite`),
/// file_write (the folder does not exist). An empty path means no output and is accepted.
Status check_output(const std::filesystem::path& path, bool overwrite);

/// A file to be written.
struct OutputFile {
    std::string_view what;      ///< for messages: "label map"
    std::filesystem::path path; ///< empty = none
};

/// Checks before anything is read that no two outputs are one file, and that none is an input: files that exist are
/// compared by device and inode, so that links count, others by folder and name. Errors: invalid_argument, also where
/// overwriting is allowed.
Status check_outputs_apart(std::span<const OutputFile> outputs, std::span<const std::filesystem::path> inputs);

/// Files that lie complete on the disk, committed one after the other. Where one fails the message says which have
/// their names already. Null pointers are skipped.
Status commit_all(std::span<PendingFile* const> files);

/// PendingFile::write and commit. After a crash or on a full disk the target holds either the old bytes or the new
/// ones. On an error no temporary file is left. Errors: file_exists when the target exists and `overwrite` is false,
/// file_write.
Status write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes,
                             bool overwrite = true);
Status write_file_atomically(const std::filesystem::path& path, std::string_view content, bool overwrite = true);

} // namespace mfres
