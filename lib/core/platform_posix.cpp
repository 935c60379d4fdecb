// SPDX-License-Identifier: MIT
#ifndef _WIN32

// Files of 2 GiB and more where addresses have 32 bits; before any header. With 64 bits it would only make the calls
// open64, pwrite64 and so on, which the tests of failing calls do not replace.
#ifndef __LP64__
#define _FILE_OFFSET_BITS 64
#endif

#include "core/file.h"
#include "core/memory_usage.h"
#include "core/platform.h"
#include "core/processors.h"
#include "core/shared_library.h"
#include "core/try.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <memory>
#include <mutex>
#include <new>
#include <string_view>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif
#ifdef __linux__
#include <sched.h>
#include <sys/auxv.h>
#endif

namespace mfres {

namespace platform {

namespace {

std::error_code last_error() {
    return {errno, std::generic_category()};
}

int descriptor(const OpenFile& file) {
    return static_cast<int>(file.handle());
}

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
        int taken = 0;
        if (!was_pending_ && pending())
            sigwait(&signal_, &taken);
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
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

} // namespace

OpenFile::~OpenFile() {
    if (handle_ != none)
        ::close(static_cast<int>(handle_));
}

std::error_code OpenFile::close() {
    return ::close(static_cast<int>(std::exchange(handle_, none))) == 0 ? std::error_code() : last_error();
}

std::error_code open_to_read(const std::filesystem::path& path, OpenFile& file, FileInfo& info) {
    // Without O_NONBLOCK a pipe that nobody writes into would be waited for.
    file = OpenFile(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat found {};
    if (!file || ::fstat(descriptor(file), &found) != 0)
        return last_error();
    info = {S_ISREG(found.st_mode), static_cast<std::uint64_t>(found.st_size)};
    return {};
}

std::optional<unsigned> permissions_of(const std::filesystem::path& path) {
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0 || !S_ISREG(found.st_mode))
        return {};
    return static_cast<unsigned>(found.st_mode) & 0777U;
}

std::error_code create_file(const std::filesystem::path& path, std::optional<unsigned> permissions, OpenFile& file) {
    file = OpenFile(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, permissions.value_or(0666U)));
    return file ? std::error_code() : last_error();
}

std::error_code set_permissions(const OpenFile& file, unsigned permissions) {
    return ::fchmod(descriptor(file), permissions) == 0 ? std::error_code() : last_error();
}

std::error_code read_at(const OpenFile& file, std::uint64_t offset, std::span<std::byte> bytes, std::size_t& got) {
    got = 0;
    while (got < bytes.size()) {
        const auto part =
            ::pread(descriptor(file), bytes.data() + got, bytes.size() - got, static_cast<off_t>(offset + got));
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            return last_error();
        if (part == 0)
            break;
        got += static_cast<std::size_t>(part);
    }
    return {};
}

std::error_code write_at(const OpenFile& file, std::uint64_t offset, std::span<const std::byte> bytes) {
    const NoSizeSignal quiet;
    while (!bytes.empty()) {
        const auto put = ::pwrite(descriptor(file), bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return last_error();
        bytes = bytes.subspan(static_cast<std::size_t>(put));
        offset += static_cast<std::uint64_t>(put);
    }
    return {};
}

std::error_code sync(const OpenFile& file) {
    return ::fsync(descriptor(file)) == 0 ? std::error_code() : last_error();
}

void sync_folder(const std::filesystem::path& folder) {
    const OpenFile opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (opened)
        ::fsync(descriptor(opened)); // some file systems cannot fsync a folder
}

std::error_code rename_over(const std::filesystem::path& from, const std::filesystem::path& to) {
    return ::rename(from.c_str(), to.c_str()) == 0 ? std::error_code() : last_error();
}

std::error_code rename_exclusively(const std::filesystem::path& from, const std::filesystem::path& to) {
    const auto unsupported = [] { return errno == EINVAL || errno == ENOSYS || errno == ENOTSUP || errno == EPERM; };
#ifdef RENAME_NOREPLACE
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0)
        return {};
    if (!unsupported())
        return last_error();
#endif
    if (::link(from.c_str(), to.c_str()) == 0) {
        ::unlink(from.c_str());
        return {};
    }
    if (!unsupported())
        return last_error();
    // A file system without both: whoever creates the name owns it, and replaces its own empty file.
    const OpenFile claimed(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    return claimed ? rename_over(from, to) : last_error();
}

bool remove_file(const std::filesystem::path& path) noexcept {
    return ::unlink(path.c_str()) == 0;
}

bool remove_folder(const std::filesystem::path& path) noexcept {
    return ::rmdir(path.c_str()) == 0;
}

std::error_code make_private_folder(const std::filesystem::path& path) {
    return ::mkdir(path.c_str(), 0700) == 0 ? std::error_code() : last_error();
}

std::error_code list(const std::filesystem::path& folder, std::vector<FolderEntry>& entries) {
    const auto release = [](DIR* opened) { ::closedir(opened); };
    const std::unique_ptr<DIR, decltype(release)> opened(::opendir(folder.c_str()), release);
    if (!opened && errno == ENOMEM)
        throw std::bad_alloc();
    if (!opened)
        return last_error();
    for (errno = 0; const dirent* const entry = ::readdir(opened.get()); errno = 0) {
        const std::string_view name = entry->d_name;
        if (name == "." || name == "..")
            continue;
        struct stat found {};
        const bool known = ::fstatat(::dirfd(opened.get()), entry->d_name, &found, 0) == 0;
        entries.push_back({folder / name, known && S_ISDIR(found.st_mode), known && S_ISREG(found.st_mode), !known});
    }
    return errno == 0 ? std::error_code() : last_error();
}

std::error_code lock_folder(const std::filesystem::path& folder, OpenFile& lock) {
    lock = OpenFile(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!lock)
        return last_error();
    if (::flock(descriptor(lock), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return std::make_error_code(std::errc::device_or_resource_busy);
    return {};
}

bool is_lock_file(const std::string&) {
    return false; // the folder itself is locked
}

bool random_bytes(std::span<unsigned char> bytes) {
    return ::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
}

std::uint64_t process_id() {
    return static_cast<std::uint64_t>(::getpid());
}

bool uses_pages(std::size_t bytes) {
#ifdef __linux__
    return bytes >= std::size_t{1} << 20;
#else
    (void)bytes;
    return false;
#endif
}

namespace {

void* map(void* where, std::size_t bytes, int flags) {
    return ::mmap(where, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

} // namespace

#ifdef MADV_HUGEPAGE

namespace {

constexpr std::size_t large_page = std::size_t{2} << 20;

/// Pages that are kept for the next large array, whole large ones. Thread-safe.
class PageReserve {
  public:
    void add(std::byte* pages, std::size_t bytes) {
        const std::lock_guard lock(lock_);
        const Block kept = scopes_ > 0 && count_ < blocks_.size() ? whole_pages(pages, bytes) : Block{pages, 0};
        std::byte* const behind = kept.pages + kept.bytes;
        if (kept.bytes > 0)
            blocks_[count_++] = kept;
        if (kept.pages > pages)
            ::munmap(pages, static_cast<std::size_t>(kept.pages - pages));
        if (behind < pages + bytes)
            ::munmap(behind, static_cast<std::size_t>(pages + bytes - behind));
    }

    /// Moves as many as fit in place of those of an array that nobody has used. False if the array has lost pages for want
    /// of memory.
    bool move_to(std::byte* array, std::size_t bytes) {
        const std::lock_guard lock(lock_);
        Block to = whole_pages(array, bytes);
        while (count_ > 0 && to.bytes > 0) {
            Block& last = blocks_[count_ - 1];
            const std::size_t moved = std::min(last.bytes, to.bytes);
            std::byte* const from = last.pages + (last.bytes - moved);
            if (::mremap(from, moved, moved, MREMAP_MAYMOVE | MREMAP_FIXED, to.pages) == MAP_FAILED)
                return map(to.pages, moved, MAP_FIXED) != MAP_FAILED; // it may have unmapped what was there
            last.bytes -= moved;
            count_ -= last.bytes == 0 ? 1 : 0;
            to = {to.pages + moved, to.bytes - moved};
        }
        return true;
    }

    void give_back() {
        const std::lock_guard lock(lock_);
        give_back_all();
    }

    void begin() {
        const std::lock_guard lock(lock_);
        ++scopes_;
    }

    void end() {
        const std::lock_guard lock(lock_);
        if (--scopes_ == 0)
            give_back_all();
    }

  private:
    struct Block {
        std::byte* pages = nullptr; ///< at a multiple of large pages
        std::size_t bytes = 0;
    };

    /// The large pages that lie within an array as a whole.
    static Block whole_pages(std::byte* array, std::size_t bytes) {
        const std::size_t before = (large_page - reinterpret_cast<std::uintptr_t>(array) % large_page) % large_page;
        return before < bytes ? Block{array + before, (bytes - before) / large_page * large_page} : Block{array, 0};
    }

    void give_back_all() {
        while (count_ > 0) {
            --count_;
            ::munmap(blocks_[count_].pages, blocks_[count_].bytes);
        }
    }

    std::mutex lock_;
    std::array<Block, 4> blocks_;
    std::size_t count_ = 0;
    int scopes_ = 0; ///< in which pages are kept
};

PageReserve& page_reserve() {
    static PageReserve reserve;
    return reserve;
}

} // namespace

#endif

void* take_pages(std::size_t bytes, [[maybe_unused]] bool large) {
    void* const pages = map(nullptr, bytes, 0);
    if (pages == MAP_FAILED)
        throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    // Where the system put them: on arrays that begin at a multiple of large pages oneDNN was measured to be 5 % slower.
    if (large) {
        (void)::madvise(pages, bytes, MADV_HUGEPAGE); // only advice: it may fail
        if (!page_reserve().move_to(static_cast<std::byte*>(pages), bytes)) {
            give_back_pages(pages, bytes);
            throw std::bad_alloc();
        }
    }
#endif
    return pages;
}

void give_back_pages(void* pages, std::size_t bytes) noexcept {
    ::munmap(pages, bytes);
}

void reserve_pages(void* pages, std::size_t bytes) noexcept {
#ifdef MADV_HUGEPAGE
    page_reserve().add(static_cast<std::byte*>(pages), bytes);
#else
    give_back_pages(pages, bytes);
#endif
}

void give_back_reserved_pages() noexcept {
#ifdef MADV_HUGEPAGE
    page_reserve().give_back();
#endif
}

PagesMayBeReserved::PagesMayBeReserved() {
#ifdef MADV_HUGEPAGE
    page_reserve().begin();
#endif
}

PagesMayBeReserved::~PagesMayBeReserved() {
#ifdef MADV_HUGEPAGE
    page_reserve().end();
#endif
}

ClassicNumbers::ClassicNumbers() {
    static const locale_t classic = ::newlocale(LC_ALL_MASK, "C", static_cast<locale_t>(nullptr));
    if (classic != static_cast<locale_t>(nullptr))
        before_ = reinterpret_cast<std::intptr_t>(::uselocale(classic));
}

ClassicNumbers::~ClassicNumbers() {
    if (before_ != 0)
        ::uselocale(reinterpret_cast<locale_t>(before_));
}

bool errors_go_to_terminal() {
    return ::isatty(STDERR_FILENO) != 0;
}

/// A standard stream that is closed would give its number to the next file that is opened: what is printed would end up
/// in a model. Standard output is put in place so that writing to it fails.
bool prepare_program() {
    std::signal(SIGXFSZ, SIG_IGN); // a limit on the size of files is an error of the write
    for (const auto& [number, access] :
         {std::pair{STDIN_FILENO, O_RDONLY}, {STDOUT_FILENO, O_RDONLY}, {STDERR_FILENO, O_WRONLY}})
        if (::fcntl(number, F_GETFD) == -1 && ::open("/dev/null", access) != number)
            return false;
    return true;
}

std::vector<std::string> arguments(int count, char** words) {
    return {words + 1, words + count};
}

} // namespace platform

// processors.h

#ifdef __linux__

namespace {

/// The affinity mask, because containers and `taskset` restrict a process to fewer CPUs than the machine has.
bool affinity(cpu_set_t& allowed) {
    CPU_ZERO(&allowed);
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0;
}

} // namespace

std::vector<int> allowed_processors() {
    cpu_set_t allowed;
    std::vector<int> processors;
    if (affinity(allowed))
        for (int processor = 0; processor < CPU_SETSIZE; ++processor)
            if (CPU_ISSET(processor, &allowed))
                processors.push_back(processor);
    return processors;
}

int allowed_processor_count() {
    cpu_set_t allowed;
    return affinity(allowed) ? CPU_COUNT(&allowed) : 0;
}

int current_processor() {
    return sched_getcpu();
}

void pin_this_thread(const std::vector<int>& processors) {
    cpu_set_t wanted;
    CPU_ZERO(&wanted);
    for (const int processor : processors)
        CPU_SET(processor, &wanted);
    sched_setaffinity(0, sizeof wanted, &wanted);
}

#else

std::vector<int> allowed_processors() {
    return {};
}

int allowed_processor_count() {
    return 0;
}

int current_processor() {
    return -1;
}

void pin_this_thread(const std::vector<int>&) {}

#endif

// memory_usage.h

namespace {

/// A "<field>: <number> kB" line of a file of Linux's /proc, in bytes; 0 without it. Takes no memory, since it is read for
/// every case.
std::int64_t proc_field(const char* file, std::string_view field) {
    const int descriptor = ::open(file, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    std::array<char, 8192> content{}; // both files have less than 3000 bytes
    std::size_t size = 0;
    for (ssize_t read = 0; size < content.size(); size += static_cast<std::size_t>(read))
        if ((read = ::read(descriptor, content.data() + size, content.size() - size)) <= 0)
            break;
    ::close(descriptor);
    std::string_view rest(content.data(), size);
    while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        if (!line.starts_with(field) || line.substr(field.size(), 1) != ":")
            continue;
        const std::size_t digits = line.find_first_of("0123456789");
        std::int64_t kilobytes = 0;
        if (digits != line.npos)
            std::from_chars(line.data() + digits, line.data() + line.size(), kilobytes);
        return kilobytes * 1024;
    }
    return 0;
}

} // namespace

std::int64_t resident_bytes() {
    return proc_field("/proc/self/status", "VmRSS");
}

std::int64_t peak_resident_bytes() {
    return proc_field("/proc/self/status", "VmHWM");
}

bool reset_peak_resident() {
    const int descriptor =
        ::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC); // "5" resets VmHWM to VmRSS, see proc(5)
    if (descriptor < 0)
        return false;
    const bool written = ::write(descriptor, "5", 1) == 1;
    ::close(descriptor);
    return written;
}

std::int64_t free_memory_of_machine() {
    return proc_field("/proc/meminfo", "MemAvailable");
}

// shared_library.h

#ifndef MFRES_OPENS_NO_LIBRARIES

Result<SharedLibrary> SharedLibrary::open(const std::string& file) {
    if (void* const handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL))
        return SharedLibrary(handle);
    const char* const reason = ::dlerror();
    return Error{ErrorCode::backend_unavailable,
                 text("cannot load ", file, ": ", reason != nullptr ? reason : "the system gives no reason"), file};
}

void SharedLibrary::close() {
    ::dlclose(handle_);
}

void* SharedLibrary::address(const char* name) const {
    return ::dlsym(handle_, name);
}

#endif

std::filesystem::path own_folder() {
    Dl_info found{};
    if (::dladdr(reinterpret_cast<const void*>(&own_folder), &found) == 0 || found.dli_fname == nullptr)
        return {};
    const std::filesystem::path file = found.dli_fname;
    if (!file.has_parent_path()) // of a program this is the name that it was called by
        return program_folder();
    std::error_code ignored;
    return std::filesystem::absolute(file, ignored).parent_path();
}

std::filesystem::path program_folder() {
    std::error_code ignored;
    auto file = std::filesystem::read_symlink("/proc/self/exe", ignored);
#ifdef __linux__
    if (file.empty()) // there is no /proc in some containers
        if (const auto* const called = reinterpret_cast<const char*>(::getauxval(AT_EXECFN)))
            file = std::filesystem::weakly_canonical(called, ignored);
#endif
    return file.parent_path();
}

} // namespace mfres

#endif // _WIN32
