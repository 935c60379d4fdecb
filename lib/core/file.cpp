// SPDX-License-Identifier: MIT
#include "core/file.h"

#include "core/checked.h"
#include "core/platform.h"
#include "core/try.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <new>
#include <utility>

namespace mfres {

namespace {

Error system_error(ErrorCode code, std::string_view action, const std::filesystem::path& path,
                   const std::error_code& problem) {
    return {code, text("cannot ", action, " ", path.string(), ": ", problem.message()), path.string()};
}

} // namespace

Result<ReadableFile> ReadableFile::open(const std::filesystem::path& path) {
    platform::OpenFile file;
    platform::FileInfo info;
    const std::error_code problem = platform::open_to_read(path, file, info);
    std::error_code ignored;
    if (problem == std::errc::no_such_file_or_directory && std::filesystem::is_symlink(path, ignored))
        return Error{ErrorCode::file_not_found,
                     text(path.string(), " is a link to ", std::filesystem::read_symlink(path, ignored).string(),
                          ", which does not exist; fetch that file, or correct the link"),
                     path.string()};
    if (problem)
        return system_error(problem == std::errc::no_such_file_or_directory || problem == std::errc::not_a_directory
                                ? ErrorCode::file_not_found
                                : ErrorCode::file_read,
                            "open", path, problem);
    if (!info.regular)
        return Error{ErrorCode::file_read, text(path.string(), " is not a regular file"), path.string()};
    return ReadableFile(path, std::move(file), info.size);
}

Status ReadableFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
    std::size_t got = 0;
    if (const std::error_code problem = platform::read_at(file_, offset, bytes, got))
        return system_error(ErrorCode::file_read, "read", path_, problem);
    if (got < bytes.size())
        return Error{ErrorCode::file_read,
                     text(path_.string(), " ends at byte ", offset + got, ", before byte ", offset + bytes.size(),
                          "; it had ", size_, " bytes when it was opened"),
                     path_.string()};
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
        bytes.resize(array_size<std::byte>(static_cast<std::int64_t>(size)));
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

/// So often another name is tried where one is taken.
constexpr int attempts = 100;

/// 16 random digits; zeros where the system has no random numbers.
std::string random_digits() {
    std::array<unsigned char, 8> random{};
    if (!platform::random_bytes(random))
        random.fill(0);
    constexpr std::string_view digits = "0123456789abcdef";
    std::string name;
    for (const unsigned char byte : random)
        name.append({digits[byte >> 4U], digits[byte & 0xFU]});
    return name;
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
    static std::atomic<unsigned> counter{0};
    return text('.', target, '.', platform::process_id(), '-', counter++, '-', random_digits());
}

/// Opens a new file beside the target, whose path becomes `temporary` when it is there. The system applies the umask:
/// reading it would mean to change it, for all threads of the process.
Result<platform::OpenFile> create_temporary(const std::filesystem::path& target, std::optional<unsigned> permissions,
                                            std::filesystem::path& temporary) {
    std::error_code problem;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        std::filesystem::path path = folder_of(target) / temporary_name(target.filename().string());
        platform::OpenFile file;
        problem = platform::create_file(path, permissions, file);
        if (!problem) {
            temporary = std::move(path);
            return file;
        }
        if (problem != std::errc::file_exists)
            break;
    }
    return system_error(ErrorCode::file_write, "write into folder", folder_of(target), problem);
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
        platform::remove_file(temporary_);
}

Result<PendingFile> PendingFile::write(const std::filesystem::path& path, std::span<const std::byte> bytes,
                                       bool overwrite) {
    MFRES_TRY(PendingWriter writer, PendingWriter::create(path, overwrite));
    MFRES_CHECK(writer.append(bytes));
    return std::move(writer).finish();
}

Result<PendingWriter> PendingWriter::create(const std::filesystem::path& path, bool overwrite) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        return Error{ErrorCode::file_write, text("cannot write ", path.string(), ": it is a folder"), path.string()};
    if (!overwrite && std::filesystem::exists(path, ignored))
        return exists_already(path);
    const std::optional<unsigned> permissions = overwrite ? platform::permissions_of(path) : std::nullopt;
    PendingFile pending(path, overwrite); // before there is a file that it must remove
    MFRES_TRY(platform::OpenFile file, create_temporary(path, permissions, pending.temporary_));
    if (permissions) // the umask took bits off at creation
        if (const std::error_code problem = platform::set_permissions(file, *permissions))
            return system_error(ErrorCode::file_write, "give the old permissions to", path, problem);
    return PendingWriter(std::move(pending), std::move(file));
}

Status PendingWriter::append(std::span<const std::byte> bytes) {
    MFRES_CHECK(replace(size_, bytes));
    size_ += bytes.size();
    return {};
}

Status PendingWriter::replace(std::uint64_t offset, std::span<const std::byte> bytes) {
    if (const std::error_code problem = platform::write_at(opened_, offset, bytes))
        return system_error(ErrorCode::file_write, "write", file_.path_, problem);
    return {};
}

Result<PendingFile> PendingWriter::finish() && {
    platform::OpenFile file = std::move(opened_);
    std::error_code problem = platform::sync(file);
    if (!problem)
        problem = file.close();
    if (problem)
        return system_error(ErrorCode::file_write, "flush", file_.path_, problem);
    return std::move(file_);
}

Status PendingFile::commit() {
    const std::filesystem::path folder = folder_of(path_); // what takes memory stands before the file does
    const std::error_code problem =
        overwrite_ ? platform::rename_over(temporary_, path_) : platform::rename_exclusively(temporary_, path_);
    if (problem && !overwrite_ && problem == std::errc::file_exists)
        return exists_already(path_);
    if (problem)
        return system_error(ErrorCode::file_write, "put in place", path_, problem);
    temporary_.clear();
    platform::sync_folder(folder);
    return {};
}

Result<ScratchFolder> ScratchFolder::create(std::string_view purpose) {
    std::error_code problem;
    const std::filesystem::path base = std::filesystem::temp_directory_path(problem);
    if (problem)
        return Error{ErrorCode::file_write, text("there is no temporary folder: ", problem.message()), base.string()};
    for (int attempt = 0; attempt < attempts; ++attempt) {
        std::filesystem::path path = base / text("mfres-", purpose, "-", random_digits());
        problem = platform::make_private_folder(path);
        if (!problem)
            return ScratchFolder(std::move(path));
        if (problem != std::errc::file_exists)
            break;
    }
    return system_error(ErrorCode::file_write, "make a folder in", base, problem);
}

namespace {

/// As far as it goes: without memory for a name something stays.
void remove_tree(const std::filesystem::path& folder) {
    if (const auto entries = list_folder(folder))
        for (const FolderEntry& entry : *entries)
            if (!platform::remove_file(entry.path) && entry.is_folder) // a link to a folder is unlinked, not followed
                remove_tree(entry.path);
    platform::remove_folder(folder);
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
    std::vector<FolderEntry> entries;
    const std::error_code problem = platform::list(folder, entries);
    if (problem == std::errc::no_such_file_or_directory)
        return Error{ErrorCode::file_not_found, text("there is no folder ", folder.string()), folder.string()};
    if (problem == std::errc::not_a_directory)
        return Error{ErrorCode::invalid_argument, text(folder.string(), " is not a folder"), folder.string()};
    if (problem)
        return system_error(ErrorCode::file_read, "list", folder, problem);
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
