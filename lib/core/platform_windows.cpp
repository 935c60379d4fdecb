// SPDX-License-Identifier: MIT
#ifdef _WIN32

#include "core/file.h"
#include "core/memory_usage.h"
#include "core/platform.h"
#include "core/processors.h"
#include "core/shared_library.h"
#include "core/try.h"

#include <algorithm>
#include <bit>
#include <clocale>
#include <limits>
#include <new>

#ifndef NOMINMAX
#define NOMINMAX
#endif
#define WIN32_LEAN_AND_MEAN
#include <locale.h> // _configthreadlocale
#include <windows.h>
// after windows.h
#include <bcrypt.h>
#include <psapi.h>
#include <shellapi.h>

namespace mfres {

namespace platform {

namespace {

namespace fs = std::filesystem;

/// The system's error, as the condition of POSIX where callers ask for that.
std::error_code last_error() {
    switch (const DWORD number = ::GetLastError()) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
    case ERROR_INVALID_NAME: return std::make_error_code(std::errc::no_such_file_or_directory);
    case ERROR_FILE_EXISTS:
    case ERROR_ALREADY_EXISTS: return std::make_error_code(std::errc::file_exists);
    case ERROR_DIRECTORY: return std::make_error_code(std::errc::not_a_directory);
    case ERROR_SHARING_VIOLATION:
    case ERROR_LOCK_VIOLATION: return std::make_error_code(std::errc::device_or_resource_busy);
    case ERROR_DISK_FULL:
    case ERROR_HANDLE_DISK_FULL: return std::make_error_code(std::errc::no_space_on_device);
    default: return {static_cast<int>(number), std::system_category()};
    }
}

HANDLE handle_of(const OpenFile& file) {
    return reinterpret_cast<HANDLE>(file.handle());
}

OpenFile open_as(const fs::path& path, DWORD access, DWORD share, DWORD disposition, DWORD flags) {
    return OpenFile(reinterpret_cast<OpenFile::Handle>(
        ::CreateFileW(path.c_str(), access, share, nullptr, disposition, flags, nullptr)));
}

/// Others may read, replace and remove a file while it is open, as on other systems.
constexpr DWORD share_all = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

constexpr std::size_t most_at_once = std::size_t{1} << 30; // ReadFile and WriteFile take 32-bit counts

OVERLAPPED at_offset(std::uint64_t offset) {
    OVERLAPPED place{};
    place.Offset = static_cast<DWORD>(offset & 0xFFFFFFFFU);
    place.OffsetHigh = static_cast<DWORD>(offset >> 32U);
    return place;
}

std::error_code moved(const fs::path& from, const fs::path& to, DWORD flags) {
    return ::MoveFileExW(from.c_str(), to.c_str(), flags | MOVEFILE_WRITE_THROUGH) != 0 ? std::error_code()
                                                                                        : last_error();
}

constexpr const char* lock_name = ".lock";

} // namespace

OpenFile::~OpenFile() {
    if (handle_ != none)
        ::CloseHandle(handle_of(*this));
}

std::error_code OpenFile::close() {
    return ::CloseHandle(reinterpret_cast<HANDLE>(std::exchange(handle_, none))) != 0 ? std::error_code()
                                                                                      : last_error();
}

std::error_code open_to_read(const fs::path& path, OpenFile& file, FileInfo& info) {
    // With FILE_FLAG_BACKUP_SEMANTICS folders are opened, too, and then told apart from files.
    file = open_as(path, GENERIC_READ, share_all, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL | FILE_FLAG_BACKUP_SEMANTICS);
    BY_HANDLE_FILE_INFORMATION found{};
    if (!file)
        return last_error();
    info.regular = ::GetFileType(handle_of(file)) == FILE_TYPE_DISK;
    if (!info.regular)
        return {};
    if (::GetFileInformationByHandle(handle_of(file), &found) == 0)
        return last_error();
    info.regular = (found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) == 0;
    info.size = (static_cast<std::uint64_t>(found.nFileSizeHigh) << 32U) | found.nFileSizeLow;
    return {};
}

std::optional<unsigned> permissions_of(const fs::path&) {
    return {}; // a file has those of its folder
}

std::error_code create_file(const fs::path& path, std::optional<unsigned>, OpenFile& file) {
    file = open_as(path, GENERIC_READ | GENERIC_WRITE, share_all, CREATE_NEW, FILE_ATTRIBUTE_NORMAL);
    return file ? std::error_code() : last_error();
}

std::error_code set_permissions(const OpenFile&, unsigned) {
    return {};
}

std::error_code read_at(const OpenFile& file, std::uint64_t offset, std::span<std::byte> bytes, std::size_t& got) {
    got = 0;
    while (got < bytes.size()) {
        OVERLAPPED place = at_offset(offset + got);
        DWORD part = 0;
        const auto wanted = static_cast<DWORD>(std::min(bytes.size() - got, most_at_once));
        if (::ReadFile(handle_of(file), bytes.data() + got, wanted, &part, &place) == 0) {
            if (::GetLastError() == ERROR_HANDLE_EOF)
                break;
            return last_error();
        }
        if (part == 0)
            break;
        got += part;
    }
    return {};
}

std::error_code write_at(const OpenFile& file, std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        OVERLAPPED place = at_offset(offset);
        DWORD put = 0;
        const auto wanted = static_cast<DWORD>(std::min(bytes.size(), most_at_once));
        if (::WriteFile(handle_of(file), bytes.data(), wanted, &put, &place) == 0)
            return last_error();
        bytes = bytes.subspan(put);
        offset += put;
    }
    return {};
}

std::error_code sync(const OpenFile& file) {
    return ::FlushFileBuffers(handle_of(file)) != 0 ? std::error_code() : last_error();
}

void sync_folder(const fs::path&) {} // MOVEFILE_WRITE_THROUGH has done so

std::error_code rename_over(const fs::path& from, const fs::path& to) {
    return moved(from, to, MOVEFILE_REPLACE_EXISTING);
}

std::error_code rename_exclusively(const fs::path& from, const fs::path& to) {
    return moved(from, to, 0);
}

bool remove_file(const fs::path& path) noexcept {
    return ::DeleteFileW(path.c_str()) != 0;
}

bool remove_folder(const fs::path& path) noexcept {
    return ::RemoveDirectoryW(path.c_str()) != 0;
}

std::error_code make_private_folder(const fs::path& path) {
    // The temporary folder, in which it lies, is the user's own.
    return ::CreateDirectoryW(path.c_str(), nullptr) != 0 ? std::error_code() : last_error();
}

std::error_code list(const fs::path& folder, std::vector<FolderEntry>& entries) {
    std::error_code problem;
    if (!fs::exists(folder, problem))
        return std::make_error_code(std::errc::no_such_file_or_directory);
    if (!fs::is_directory(folder, problem))
        return std::make_error_code(std::errc::not_a_directory);
    for (fs::directory_iterator entry(folder, problem); !problem && entry != fs::directory_iterator();
         entry.increment(problem)) {
        std::error_code unknown;
        const fs::file_status status = entry->status(unknown);
        entries.push_back({entry->path(), fs::is_directory(status), fs::is_regular_file(status), !fs::exists(status)});
    }
    return problem;
}

std::error_code lock_folder(const fs::path& folder, OpenFile& lock) {
    // Nobody else can open the file while it is open, and it disappears with the process.
    lock =
        open_as(folder / lock_name, GENERIC_WRITE, 0, OPEN_ALWAYS, FILE_ATTRIBUTE_HIDDEN | FILE_FLAG_DELETE_ON_CLOSE);
    return lock ? std::error_code() : last_error();
}

bool is_lock_file(const std::string& name) {
    return name == lock_name;
}

bool random_bytes(std::span<unsigned char> bytes) {
    return ::BCryptGenRandom(nullptr, bytes.data(), static_cast<ULONG>(bytes.size()),
                             BCRYPT_USE_SYSTEM_PREFERRED_RNG) == 0;
}

std::uint64_t process_id() {
    return ::GetCurrentProcessId();
}

bool uses_pages(std::size_t bytes) {
    return bytes >= std::size_t{1} << 20;
}

void* take_pages(std::size_t bytes, bool) {
    void* const pages = ::VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (pages == nullptr)
        throw std::bad_alloc();
    return pages;
}

void give_back_pages(void* pages, std::size_t) noexcept {
    ::VirtualFree(pages, 0, MEM_RELEASE);
}

void reserve_pages(void* pages, std::size_t bytes) noexcept {
    give_back_pages(pages, bytes);
}

void give_back_reserved_pages() noexcept {}

PagesMayBeReserved::PagesMayBeReserved() = default;
PagesMayBeReserved::~PagesMayBeReserved() = default;

ClassicNumbers::ClassicNumbers()
    : before_(::_configthreadlocale(_ENABLE_PER_THREAD_LOCALE)), name_(std::setlocale(LC_NUMERIC, nullptr)) {
    std::setlocale(LC_NUMERIC, "C");
}

ClassicNumbers::~ClassicNumbers() {
    std::setlocale(LC_NUMERIC, name_.c_str());
    ::_configthreadlocale(static_cast<int>(before_));
}

bool errors_go_to_terminal() {
    DWORD mode = 0;
    return ::GetConsoleMode(::GetStdHandle(STD_ERROR_HANDLE), &mode) != 0;
}

bool prepare_program() {
    ::SetConsoleOutputCP(CP_UTF8);
    // Lines of progress are rewritten by escape sequences.
    DWORD mode = 0;
    if (HANDLE const errors = ::GetStdHandle(STD_ERROR_HANDLE); ::GetConsoleMode(errors, &mode) != 0)
        ::SetConsoleMode(errors, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
    return true;
}

std::vector<std::string> arguments(int, char**) {
    int count = 0;
    std::vector<std::string> words;
    LPWSTR* const wide = ::CommandLineToArgvW(::GetCommandLineW(), &count);
    if (wide == nullptr)
        throw std::bad_alloc();
    for (int i = 1; i < count; ++i) {
        const int size = ::WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, nullptr, 0, nullptr, nullptr);
        std::string word(static_cast<std::size_t>(std::max(size, 1)), '\0');
        ::WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, word.data(), size, nullptr, nullptr);
        word.pop_back(); // the zero at its end
        words.push_back(std::move(word));
    }
    ::LocalFree(wide);
    return words;
}

namespace {

/// The file of a module; of the program for null.
fs::path file_of(HMODULE module) {
    std::wstring name(32768, L'\0'); // no path is longer
    const DWORD size = ::GetModuleFileNameW(module, name.data(), static_cast<DWORD>(name.size()));
    name.resize(size);
    return name;
}

PROCESS_MEMORY_COUNTERS memory_counters() {
    PROCESS_MEMORY_COUNTERS counters{};
    counters.cb = sizeof counters;
    ::GetProcessMemoryInfo(::GetCurrentProcess(), &counters, sizeof counters);
    return counters;
}

/// The processors of this process as bits.
DWORD_PTR allowed_bits() {
    DWORD_PTR process = 0;
    DWORD_PTR machine = 0;
    return ::GetProcessAffinityMask(::GetCurrentProcess(), &process, &machine) != 0 ? process : 0;
}

} // namespace

} // namespace platform

// processors.h

std::vector<int> allowed_processors() {
    std::vector<int> processors;
    const DWORD_PTR bits = platform::allowed_bits();
    for (int n = 0; n < std::numeric_limits<DWORD_PTR>::digits; ++n)
        if ((bits >> n & 1U) != 0)
            processors.push_back(n);
    return processors;
}

int allowed_processor_count() {
    return std::popcount(platform::allowed_bits());
}

int current_processor() {
    return static_cast<int>(::GetCurrentProcessorNumber());
}

void pin_this_thread(const std::vector<int>& processors) {
    DWORD_PTR bits = 0;
    for (const int n : processors)
        bits |= n < std::numeric_limits<DWORD_PTR>::digits ? DWORD_PTR{1} << n : 0;
    ::SetThreadAffinityMask(::GetCurrentThread(), bits);
}

// memory_usage.h

std::int64_t resident_bytes() {
    return static_cast<std::int64_t>(platform::memory_counters().WorkingSetSize);
}

std::int64_t peak_resident_bytes() {
    return static_cast<std::int64_t>(platform::memory_counters().PeakWorkingSetSize);
}

bool reset_peak_resident() {
    return false;
}

std::int64_t free_memory_of_machine() {
    MEMORYSTATUSEX status{};
    status.dwLength = sizeof status;
    return ::GlobalMemoryStatusEx(&status) != 0 ? static_cast<std::int64_t>(status.ullAvailPhys) : 0;
}

// shared_library.h

#ifndef MFRES_OPENS_NO_LIBRARIES

Result<SharedLibrary> SharedLibrary::open(const std::string& file) {
    if (HMODULE const handle = ::LoadLibraryW(std::filesystem::path(file).c_str()))
        return SharedLibrary(handle);
    return Error{ErrorCode::backend_unavailable, text("cannot load ", file, ": ", platform::last_error().message()),
                 file};
}

void SharedLibrary::close() {
    ::FreeLibrary(static_cast<HMODULE>(handle_));
}

void* SharedLibrary::address(const char* name) const {
    return reinterpret_cast<void*>(::GetProcAddress(static_cast<HMODULE>(handle_), name));
}

#endif

std::filesystem::path own_folder() {
    HMODULE module = nullptr;
    if (::GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                             reinterpret_cast<LPCWSTR>(&own_folder), &module) == 0)
        return {};
    return platform::file_of(module).parent_path();
}

std::filesystem::path program_folder() {
    return platform::file_of(nullptr).parent_path();
}

} // namespace mfres

#endif // _WIN32
