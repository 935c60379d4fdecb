// SPDX-License-Identifier: MIT
#include "core/file.h"

#include "core/try.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace mfres {

namespace {

/// Owns a file descriptor; close errors on the write path are checked by calling close() explicitly.
class Descriptor {
  public:
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (fd_ >= 0)
            ::close(fd_);
    }
    int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }
    bool close() {
        const int fd = fd_;
        fd_ = -1;
        return ::close(fd) == 0;
    }

  private:
    int fd_;
};

Error system_error(ErrorCode code, std::string_view action, const std::filesystem::path& path) {
    const int reason = errno;
    return {code, text("cannot ", action, " ", path.string(), ": ", std::strerror(reason)), path.string()};
}

} // namespace

ReadableFile::ReadableFile(ReadableFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

ReadableFile& ReadableFile::operator=(ReadableFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(size_, other.size_);
    return *this;
}

ReadableFile::~ReadableFile() {
    if (descriptor_ >= 0)
        ::close(descriptor_);
}

Result<ReadableFile> ReadableFile::open(const std::filesystem::path& path) {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0)
        return system_error(errno == ENOENT || errno == ENOTDIR ? ErrorCode::file_not_found : ErrorCode::file_read,
                            "open", path);
    struct stat info {};
    if (::fstat(file.get(), &info) != 0)
        return system_error(ErrorCode::file_read, "inspect", path);
    if (!S_ISREG(info.st_mode))
        return Error{ErrorCode::file_read, text(path.string(), " is not a regular file"), path.string()};
    return ReadableFile(path, file.release(), static_cast<std::uint64_t>(info.st_size));
}

Status ReadableFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
    std::size_t done = 0;
    while (done < bytes.size()) {
        const auto got =
            ::pread(descriptor_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return system_error(ErrorCode::file_read, "read", path_);
        if (got == 0)
            return Error{ErrorCode::file_read,
                         text(path_.string(), " ends at byte ", offset + done, ", before byte ", offset + bytes.size(),
                              "; it had ", size_, " bytes when it was opened"),
                         path_.string()};
        done += static_cast<std::size_t>(got);
    }
    return {};
}

Result<std::vector<std::byte>> read_file(const std::filesystem::path& path, std::uint64_t cap,
                                         ErrorCode too_large_code) {
    MFRES_TRY(const ReadableFile file, ReadableFile::open(path));
    const std::uint64_t size = file.size();
    if (size > cap)
        return Error{too_large_code, text(path.string(), " has ", size, " bytes, more than the ", cap, " allowed"),
                     path.string()};

    std::vector<std::byte> bytes(size);
    MFRES_CHECK(file.read_at(0, bytes));
    return bytes;
}

namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
    return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

/// write(2) until all is written.
bool write_all(int file, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto put = ::write(file, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return false;
        bytes = bytes.subspan(static_cast<std::size_t>(put));
    }
    return true;
}

} // namespace

PendingFile::PendingFile(std::filesystem::path path, std::string temporary)
    : path_(std::move(path)), temporary_(std::move(temporary)) {}

PendingFile::PendingFile(PendingFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, {})) {}

PendingFile& PendingFile::operator=(PendingFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(temporary_, other.temporary_);
    return *this;
}

PendingFile::~PendingFile() {
    if (!temporary_.empty())
        ::unlink(temporary_.c_str());
}

Result<PendingFile> PendingFile::write(const std::filesystem::path& path, std::span<const std::byte> bytes,
                                       bool overwrite) {
    MFRES_TRY(PendingWriter writer, PendingWriter::create(path, overwrite));
    MFRES_CHECK(writer.append(bytes));
    return std::move(writer).finish();
}

PendingWriter::PendingWriter(PendingWriter&& other) noexcept
    : file_(std::move(other.file_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

PendingWriter& PendingWriter::operator=(PendingWriter&& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(size_, other.size_);
    return *this;
}

PendingWriter::~PendingWriter() {
    if (descriptor_ >= 0)
        ::close(descriptor_);
}

Result<PendingWriter> PendingWriter::create(const std::filesystem::path& path, bool overwrite) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        return Error{ErrorCode::file_write, text("cannot write ", path.string(), ": it is a folder"), path.string()};
    if (!overwrite && std::filesystem::exists(path, ignored))
        return Error{ErrorCode::file_exists, text(path.string(), " exists already; nothing was written"),
                     path.string()};

    std::string temporary = (folder_of(path) / ("." + path.filename().string() + ".XXXXXX")).string();
    Descriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
    if (file.get() < 0)
        return system_error(ErrorCode::file_write, "write into folder", folder_of(path));
    return PendingWriter(PendingFile(path, std::move(temporary)), file.release());
}

Status PendingWriter::append(std::span<const std::byte> bytes) {
    if (!write_all(descriptor_, bytes))
        return system_error(ErrorCode::file_write, "write", file_.path_);
    size_ += bytes.size();
    return {};
}

Status PendingWriter::replace(std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto put = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return system_error(ErrorCode::file_write, "write", file_.path_);
        bytes = bytes.subspan(static_cast<std::size_t>(put));
        offset += static_cast<std::uint64_t>(put);
    }
    return {};
}

Result<PendingFile> PendingWriter::finish() && {
    Descriptor file(std::exchange(descriptor_, -1));
    const mode_t mask = ::umask(0);
    ::umask(mask);
    if (::fchmod(file.get(), 0666 & ~mask) != 0 || ::fsync(file.get()) != 0 || !file.close())
        return system_error(ErrorCode::file_write, "flush", file_.path_);
    return std::move(file_);
}

Status PendingFile::commit() {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
        return system_error(ErrorCode::file_write, "put in place", path_);
    temporary_.clear();
    const Descriptor parent(::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (parent.get() >= 0)
        ::fsync(parent.get()); // some file systems cannot fsync a folder; the file itself has been synced
    return {};
}

Result<ScratchFolder> ScratchFolder::create(std::string_view purpose) {
    std::error_code problem;
    const std::filesystem::path base = std::filesystem::temp_directory_path(problem);
    if (problem)
        return Error{ErrorCode::file_write, text("there is no temporary folder: ", problem.message()), base.string()};
    std::string pattern = (base / text("mfres-", purpose, "-XXXXXX")).string();
    if (::mkdtemp(pattern.data()) == nullptr)
        return system_error(ErrorCode::file_write, "make a folder in", base);
    return ScratchFolder(pattern);
}

ScratchFolder::~ScratchFolder() {
    std::error_code ignored;
    if (!path_.empty())
        std::filesystem::remove_all(path_, ignored);
}

Status check_output(const std::filesystem::path& path, bool overwrite) {
    std::error_code ignored;
    if (path.empty())
        return {};
    if (!overwrite && std::filesystem::exists(path, ignored))
        return Error{ErrorCode::file_exists,
                     text(path.string(), " exists already; nothing was written (--force overwrites)"), path.string()};
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    if (!std::filesystem::is_directory(folder, ignored))
        return Error{ErrorCode::file_write,
                     text("cannot write ", path.string(), ": there is no folder ", folder.string()), path.string()};
    return {};
}

Status write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes, bool overwrite) {
    MFRES_TRY(PendingFile pending, PendingFile::write(path, bytes, overwrite));
    return pending.commit();
}

Status write_file_atomically(const std::filesystem::path& path, std::string_view content, bool overwrite) {
    return write_file_atomically(path, std::as_bytes(std::span(content.data(), content.size())), overwrite);
}

} // namespace mfres
