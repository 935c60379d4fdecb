#include "core/file.h"

#include "core/try.h"

#include <cerrno>
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

Result<std::vector<std::byte>> read_file(const std::filesystem::path& path, std::uint64_t cap,
                                         ErrorCode too_large_code) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0)
        return system_error(errno == ENOENT || errno == ENOTDIR ? ErrorCode::file_not_found : ErrorCode::file_read,
                            "open", path);
    struct stat info {};
    if (::fstat(file.get(), &info) != 0)
        return system_error(ErrorCode::file_read, "inspect", path);
    if (!S_ISREG(info.st_mode))
        return Error{ErrorCode::file_read, text(path.string(), " is not a regular file"), path.string()};
    const auto size = static_cast<std::uint64_t>(info.st_size);
    if (size > cap)
        return Error{too_large_code, text(path.string(), " has ", size, " bytes, more than the ", cap, " allowed"),
                     path.string()};

    std::vector<std::byte> bytes(size);
    std::size_t done = 0;
    while (done < bytes.size()) {
        const auto got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return system_error(ErrorCode::file_read, "read", path);
        if (got == 0)
            return Error{ErrorCode::file_read,
                         text(path.string(), " shrank while it was read: ", done, " of ", size, " bytes"),
                         path.string()};
        done += static_cast<std::size_t>(got);
    }
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
    PendingFile pending(path, std::move(temporary));
    if (!write_all(file.get(), bytes))
        return system_error(ErrorCode::file_write, "write", path);
    const mode_t mask = ::umask(0);
    ::umask(mask);
    if (::fchmod(file.get(), 0666 & ~mask) != 0 || ::fsync(file.get()) != 0 || !file.close())
        return system_error(ErrorCode::file_write, "flush", path);
    return pending;
}

Status PendingFile::commit() {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
        return system_error(ErrorCode::file_write, "put in place", path_);
    temporary_.clear();
    const Descriptor parent(::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (parent.get() >= 0)
        ::fsync(parent.get()); // some file systems cannot fsync a folder; the data itself is safe already
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
