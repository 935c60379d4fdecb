// SPDX-License-Identifier: MIT
// What differs between operating systems: files, locks, pages of memory, the terminal. platform_posix.cpp and
// platform_windows.cpp implement it, and what processors.h, memory_usage.h and shared_library.h ask the system for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace mfres {
struct FolderEntry;
}

/// Errors are those of the system, so that their messages are its words; conditions named below compare with std::errc.
namespace mfres::platform {

/// An opened file or folder, closed with the object.
class OpenFile {
  public:
    using Handle = std::intptr_t; ///< a file descriptor; on Windows a HANDLE

    OpenFile() = default;
    explicit OpenFile(Handle handle) : handle_(handle) {}
    OpenFile(OpenFile&& other) noexcept : handle_(std::exchange(other.handle_, none)) {}
    OpenFile& operator=(OpenFile&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~OpenFile();

    explicit operator bool() const { return handle_ != none; }
    Handle handle() const { return handle_; }
    /// Reports what the destructor does not: an error that writing earlier has led to.
    std::error_code close();

  private:
    static constexpr Handle none = -1;
    Handle handle_ = none;
};

struct FileInfo {
    bool regular = false;
    std::uint64_t size = 0; ///< in bytes
};

/// Opens a file for reading and never waits: a pipe or a device is opened, too, and is not `regular`. Conditions:
/// no_such_file_or_directory, not_a_directory.
std::error_code open_to_read(const std::filesystem::path& path, OpenFile& file, FileInfo& info);

/// What a file is readable, writable and executable by, as the system stores it; nothing if there is no regular file.
std::optional<unsigned> permissions_of(const std::filesystem::path& path);

/// Opens a file that did not exist for writing, with the permissions that the process's defaults leave (umask). Condition:
/// file_exists.
std::error_code create_file(const std::filesystem::path& path, std::optional<unsigned> permissions, OpenFile& file);

/// Gives a file exactly these permissions.
std::error_code set_permissions(const OpenFile& file, unsigned permissions);

/// Reads up to so many bytes at an offset; fewer only at the end of the file. Several threads may read at once.
std::error_code read_at(const OpenFile& file, std::uint64_t offset, std::span<std::byte> bytes, std::size_t& got);

/// Writes all bytes at an offset. A limit on the size of files is an error, and does not end the process.
std::error_code write_at(const OpenFile& file, std::uint64_t offset, std::span<const std::byte> bytes);

/// Returns once the file's bytes have reached the disk.
std::error_code sync(const OpenFile& file);

/// The same for names in a folder, as far as the file system can.
void sync_folder(const std::filesystem::path& folder);

/// Gives a file another name, which no other process sees missing if a file has it already.
std::error_code rename_over(const std::filesystem::path& from, const std::filesystem::path& to);

/// Gives a file another name if that is free. Condition: file_exists.
std::error_code rename_exclusively(const std::filesystem::path& from, const std::filesystem::path& to);

/// Removes a file, or a link but not what it leads to. False if it could not.
bool remove_file(const std::filesystem::path& path) noexcept;

/// Removes an empty folder.
bool remove_folder(const std::filesystem::path& path) noexcept;

/// Makes a folder that only this user may look into. Condition: file_exists.
std::error_code make_private_folder(const std::filesystem::path& path);

/// Appends the entries of a folder, in any order. Conditions: no_such_file_or_directory, not_a_directory. Throws
/// std::bad_alloc.
std::error_code list(const std::filesystem::path& folder, std::vector<FolderEntry>& entries);

/// Locks a folder for as long as the lock is open. Condition: device_or_resource_busy (another process has the lock). A file
/// system without locks gives one all the same.
std::error_code lock_folder(const std::filesystem::path& folder, OpenFile& lock);

/// Whether an entry of a locked folder is there for the lock only.
bool is_lock_file(const std::string& name);

/// Fills bytes with random ones. False if the system has none.
bool random_bytes(std::span<unsigned char> bytes);

/// Tells this process from others that run.
std::uint64_t process_id();

/// Whether so much memory is better taken as pages than from the C++ library.
bool uses_pages(std::size_t bytes);
/// Arrays of so many bytes are asked for in pages of 2 MiB: a page fault costs more than reading the page, and large arrays
/// are filled whole.
inline constexpr std::size_t large_pages_from = std::size_t{1} << 22;
/// Pages filled with 0. `large`: in large pages, if they can be had; they may hold anything. Throws std::bad_alloc.
void* take_pages(std::size_t bytes, bool large);
void give_back_pages(void* pages, std::size_t bytes) noexcept;
/// Gives pages back, or keeps them: the next large pages that are taken are these, as far as they go. New ones have to be
/// cleared by the system, and in a virtual machine may have to be found by the system around it.
void reserve_pages(void* pages, std::size_t bytes) noexcept;
void give_back_reserved_pages() noexcept;
/// Pages are kept during its lifetime only.
class PagesMayBeReserved {
  public:
    PagesMayBeReserved();
    PagesMayBeReserved(const PagesMayBeReserved&) = delete;
    PagesMayBeReserved& operator=(const PagesMayBeReserved&) = delete;
    ~PagesMayBeReserved();
};

/// The calling thread uses the "C" locale for numbers during its lifetime; other threads are not concerned.
class ClassicNumbers {
  public:
    ClassicNumbers();
    ClassicNumbers(const ClassicNumbers&) = delete;
    ClassicNumbers& operator=(const ClassicNumbers&) = delete;
    ~ClassicNumbers();

  private:
    std::intptr_t before_ = 0;
    std::string name_; ///< of the locale before, where a number does not tell
};

/// Whether standard error is a terminal.
bool errors_go_to_terminal();

/// Prepares the process of a program: standard streams that are closed stay unused by other files, a limit on the size of
/// files does not end the process, and a terminal shows UTF-8. False if a stream cannot be occupied.
bool prepare_program();

/// The arguments of the program in UTF-8, without its name.
std::vector<std::string> arguments(int count, char** words);

} // namespace mfres::platform
