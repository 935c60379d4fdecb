// SPDX-License-Identifier: MIT
#include "core/file.h"

#include "core/try.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <exception>
#include <fcntl.h>
#include <memory>
#include <new>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace mfres {

namespace {

/// While a size limit (ulimit -f) makes writing fail, the signal that comes with it would end the process. It goes to the
/// writing thread, which holds it back here and takes it off, so that write(2) returns EFBIG; the disposition of signals
/// in the process stays as it is.
class NoSizeSignal {
  public:
    NoSizeSignal() {
        sigemptyset(&signal_);
        sigaddset(&signal_, SIGXFSZ);
        was_pending_ = pending();
        blocked_ = pthread_sigmask(SIG_BLOCK, &signal_, &before_) == 0;
    }
    NoSizeSignal(const NoSizeSignal&) = delete;
    NoSizeSignal& operator=(const NoSizeSignal&) = delete;
    ~NoSizeSignal() {
        if (!blocked_)
            return;
        const int reason = errno;
        int taken = 0;
        if (!was_pending_ && pending())
            sigwait(&signal_, &taken);
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
        errno = reason;
    }

  private:
    static bool pending() {
        sigset_t waiting;
        sigemptyset(&waiting);
        return sigpending(&waiting) == 0 && sigismember(&waiting, SIGXFSZ) == 1;
    }
    sigset_t signal_{}, before_{};
    bool was_pending_ = false;
    bool blocked_ = false;
};

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
    // Without O_NONBLOCK a pipe that nobody writes into would be waited for.
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    const int problem = errno;
    std::error_code ignored;
    if (file.get() < 0 && problem == ENOENT && std::filesystem::is_symlink(path, ignored))
        return Error{ErrorCode::file_not_found,
                     text(path.string(), " is a link to ", std::filesystem::read_symlink(path, ignored).string(),
                          ", which does not exist; fetch that file, or correct the link"),
                     path.string()};
    errno = problem;
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

namespace {

/// All bytes of an opened file.
Result<std::vector<std::byte>> read_all(const ReadableFile& file, std::uint64_t cap, ErrorCode too_large_code) {
    const std::filesystem::path& path = file.path();
    const std::uint64_t size = file.size();
    if (size > cap)
        return Error{too_large_code, text(path.string(), " has ", size, " bytes, more than the ", cap, " allowed"),
                     path.string()};

    std::vector<std::byte> bytes;
    try {
        bytes.resize(size);
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, text("there is no memory for the ", size, " bytes of ", path.string()),
                     path.string()};
    }
    MFRES_CHECK(file.read_at(0, bytes));
    return bytes;
}

} // namespace

Result<std::vector<std::byte>> read_file(const std::filesystem::path& path, std::uint64_t cap,
                                         ErrorCode too_large_code) {
    MFRES_TRY(const ReadableFile file, ReadableFile::open(path));
    return read_all(file, cap, too_large_code);
}

Result<std::vector<std::byte>> read_file_with_magic(const std::filesystem::path& path, std::string_view magic,
                                                    std::uint64_t cap, ErrorCode code) {
    MFRES_TRY(const ReadableFile file, ReadableFile::open(path));
    std::string first(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), magic.size())), '\0');
    MFRES_CHECK(file.read_at(0, std::as_writable_bytes(std::span(first))));
    if (first != magic)
        return Error{code, text(path.string(), " does not begin with ", magic, ", as its format does"), path.string()};
    return read_all(file, cap, code);
}

namespace {

Error exists_already(const std::filesystem::path& path) {
    return {ErrorCode::file_exists, text(path.string(), " exists already; nothing was written"), path.string()};
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
    return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

/// ".<target>.<random>", which tells what a file is that a killed process left. The target's own name may be as long as
/// the file system allows, so it is cut.
std::string temporary_name(std::string target) {
    constexpr std::size_t most = 200;
    if (target.size() > most) {
        target.resize(most);
        while (!target.empty() && (static_cast<unsigned char>(target.back()) & 0x80U) != 0)
            target.pop_back(); // never a part of a UTF-8 sequence
    }
    std::array<unsigned char, 8> random{};
    if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
        std::memset(random.data(), 0, random.size()); // names that are taken are tried again
    static std::atomic<unsigned> counter{0};
    std::string name = text('.', target, '.', ::getpid(), '-', counter++, '-');
    constexpr std::string_view digits = "0123456789abcdef";
    for (const unsigned char byte : random)
        name.append({digits[byte >> 4U], digits[byte & 0xFU]});
    return name;
}

/// Opens a new file beside the target, whose path becomes `temporary` when it is there. The system applies the umask:
/// reading it would mean to change it, for all threads of the process.
Result<int> create_temporary(const std::filesystem::path& target, mode_t mode, std::string& temporary) {
    constexpr int attempts = 100;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        std::string path = (folder_of(target) / temporary_name(target.filename().string())).string();
        const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (file >= 0) {
            temporary = std::move(path);
            return file;
        }
        if (errno != EEXIST)
            break;
    }
    return system_error(ErrorCode::file_write, "write into folder", folder_of(target));
}

/// Gives a file another name if that is free; errno is EEXIST if it is taken.
bool rename_exclusively(const std::string& from, const std::filesystem::path& to) {
    const auto unsupported = [] { return errno == EINVAL || errno == ENOSYS || errno == ENOTSUP || errno == EPERM; };
#ifdef RENAME_NOREPLACE
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0)
        return true;
    if (!unsupported())
        return false;
#endif
    if (::link(from.c_str(), to.c_str()) == 0) {
        ::unlink(from.c_str());
        return true;
    }
    if (!unsupported())
        return false;
    // A file system without both: whoever creates the name owns it, and replaces its own empty file.
    const Descriptor claimed(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    return claimed.get() >= 0 && ::rename(from.c_str(), to.c_str()) == 0;
}

/// write(2) until all is written.
bool write_all(int file, std::span<const std::byte> bytes) {
    const NoSizeSignal quiet;
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

PendingFile::PendingFile(std::filesystem::path path, bool overwrite) : path_(std::move(path)), overwrite_(overwrite) {}

PendingFile::PendingFile(PendingFile&& other) noexcept
    : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, {})), overwrite_(other.overwrite_) {}

PendingFile& PendingFile::operator=(PendingFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(temporary_, other.temporary_);
    std::swap(overwrite_, other.overwrite_);
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
        return exists_already(path);
    struct stat old {};
    const bool replaces = overwrite && ::stat(path.c_str(), &old) == 0 && S_ISREG(old.st_mode);
    const mode_t mode = replaces ? old.st_mode & 0777U : 0666U;
    PendingFile pending(path, overwrite); // before there is a file that it must remove
    MFRES_TRY(const int opened, create_temporary(path, mode, pending.temporary_));
    Descriptor file(opened);
    if (replaces && ::fchmod(file.get(), mode) != 0) // the umask took bits off at creation
        return system_error(ErrorCode::file_write, "give the old permissions to", path);
    return PendingWriter(std::move(pending), file.release());
}

Status PendingWriter::append(std::span<const std::byte> bytes) {
    if (!write_all(descriptor_, bytes))
        return system_error(ErrorCode::file_write, "write", file_.path_);
    size_ += bytes.size();
    return {};
}

Status PendingWriter::replace(std::uint64_t offset, std::span<const std::byte> bytes) {
    const NoSizeSignal quiet;
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
    if (::fsync(file.get()) != 0 || !file.close())
        return system_error(ErrorCode::file_write, "flush", file_.path_);
    return std::move(file_);
}

Status PendingFile::commit() {
    const std::filesystem::path folder = folder_of(path_); // what takes memory stands before the file does
    const bool placed =
        overwrite_ ? ::rename(temporary_.c_str(), path_.c_str()) == 0 : rename_exclusively(temporary_, path_);
    if (!placed && !overwrite_ && errno == EEXIST)
        return exists_already(path_);
    if (!placed)
        return system_error(ErrorCode::file_write, "put in place", path_);
    temporary_.clear();
    const Descriptor parent(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
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

namespace {

/// As far as it goes: without memory for a name something stays.
void remove_tree(const std::filesystem::path& folder) {
    if (const auto entries = list_folder(folder))
        for (const FolderEntry& entry : *entries)
            if (::unlink(entry.path.c_str()) != 0 && entry.is_folder) // a link to a folder is unlinked, not followed
                remove_tree(entry.path);
    ::rmdir(folder.c_str());
}

} // namespace

ScratchFolder::~ScratchFolder() {
    try {
        if (!path_.empty())
            remove_tree(path_);
    } catch (const std::exception&) { // std::bad_alloc
    }
}

Result<std::vector<FolderEntry>> list_folder(const std::filesystem::path& folder) {
    const auto release = [](DIR* opened) { ::closedir(opened); };
    const std::unique_ptr<DIR, decltype(release)> opened(::opendir(folder.c_str()), release);
    if (!opened && errno == ENOENT)
        return Error{ErrorCode::file_not_found, text("there is no folder ", folder.string()), folder.string()};
    if (!opened && errno == ENOTDIR)
        return Error{ErrorCode::invalid_argument, text(folder.string(), " is not a folder"), folder.string()};
    if (!opened && errno == ENOMEM)
        throw std::bad_alloc();
    if (!opened)
        return system_error(ErrorCode::file_read, "list", folder);
    std::vector<FolderEntry> entries;
    for (errno = 0; const dirent* const entry = ::readdir(opened.get()); errno = 0) {
        const std::string_view name = entry->d_name;
        if (name == "." || name == "..")
            continue;
        struct stat info {};
        const bool known = ::fstatat(::dirfd(opened.get()), entry->d_name, &info, 0) == 0;
        entries.push_back({folder / name, known && S_ISDIR(info.st_mode), known && S_ISREG(info.st_mode), !known});
    }
    if (errno != 0)
        return system_error(ErrorCode::file_read, "list", folder);
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    return entries;
}

void remove_beginning_with(const std::filesystem::path& folder, std::span<const std::string_view> beginnings) {
    const auto entries = list_folder(folder);
    if (!entries)
        return;
    std::error_code ignored;
    for (const FolderEntry& entry : *entries) {
        const std::string name = entry.path.filename().string();
        if (std::any_of(beginnings.begin(), beginnings.end(),
                        [&](auto beginning) { return name.starts_with(beginning); }))
            std::filesystem::remove(entry.path, ignored);
    }
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

namespace {

/// Whether two paths name one file, which need not exist.
bool same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
    std::error_code problem;
    if (std::filesystem::exists(a, problem) && std::filesystem::exists(b, problem))
        return std::filesystem::equivalent(a, b, problem) && !problem;
    return std::filesystem::weakly_canonical(a, problem) == std::filesystem::weakly_canonical(b, problem) && !problem;
}

} // namespace

Status check_outputs_apart(std::span<const OutputFile> outputs, std::span<const std::filesystem::path> inputs) {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const auto& [what, path] = outputs[i];
        if (path.empty())
            continue;
        for (std::size_t j = 0; j < i; ++j)
            if (!outputs[j].path.empty() && same_file(path, outputs[j].path))
                return Error{ErrorCode::invalid_argument,
                             text(path.string(), " cannot hold both the ", outputs[j].what, " and the ", what,
                                  "; give each a name of its own"),
                             path.string()};
        for (const std::filesystem::path& input : inputs)
            if (!input.empty() && same_file(path, input))
                return Error{ErrorCode::invalid_argument,
                             text("the ", what, " cannot be written to ", path.string(), ": that is the input ",
                                  input.string(), "; give it another name"),
                             path.string()};
    }
    return {};
}

Status commit_all(std::span<PendingFile* const> files) {
    std::string written;
    for (PendingFile* const file : files) {
        if (file == nullptr)
            continue;
        const auto status = file->commit();
        if (!status)
            return Error{status.error().code,
                         text(status.error().message, "; ",
                              written.empty() ? "nothing was written" : "written before it: " + written),
                         status.error().where};
        written += text(written.empty() ? "" : ", ", file->path().string());
    }
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
