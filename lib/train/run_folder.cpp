// SPDX-License-Identifier: MIT
#include "train/run_folder.h"

#include "core/file.h"
#include "core/try.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace mfres {

namespace {

namespace fs = std::filesystem;

/// Files of a run that was stopped before its first checkpoint.
bool from_a_run_that_never_began(const std::string& name) {
    for (const std::string_view own : {"train.mfcache", "val.mfcache", "recipe.json", "last.ckpt"})
        if (name.starts_with("." + std::string(own) + "."))
            return true;
    return name == "train.mfcache" || name == "val.mfcache";
}

/// Removes temporary files of runs that were killed. Precondition: the folder is locked.
void remove_leftovers(const fs::path& folder) {
    constexpr std::array<std::string_view, 8> own = {".recipe.json.", ".metrics.csv.",      ".validation.csv.",
                                                     ".curve.svg.",   ".curve.png.",        ".train.mfcache.",
                                                     ".val.mfcache.", ".model.safetensors."};
    remove_beginning_with(folder, own);
}

} // namespace

RunFolder::RunFolder(fs::path path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor), checkpoints_(path_) {}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)),
      checkpoints_(std::move(other.checkpoints_)) {}

RunFolder& RunFolder::operator=(RunFolder&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(checkpoints_, other.checkpoints_);
    return *this;
}

RunFolder::~RunFolder() {
    if (descriptor_ >= 0)
        ::close(descriptor_); // and with it the lock
}

Result<RunFolder> RunFolder::lock(const fs::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return Error{ErrorCode::file_write, text("cannot open folder ", path.string(), ": ", std::strerror(errno)),
                     path.string()};
    RunFolder folder(path, descriptor);
    // A file system without locks reports another error, which is ignored.
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return Error{ErrorCode::file_write, text("another process is training in ", path.string()), path.string()};
    return folder;
}

Result<RunFolder> RunFolder::claim_new(const fs::path& path) {
    std::error_code problem;
    fs::create_directories(path, problem);
    if (problem)
        return Error{ErrorCode::file_write, text("cannot make folder ", path.string(), ": ", problem.message()),
                     path.string()};
    MFRES_TRY(RunFolder folder, lock(path));
    MFRES_TRY(const auto entries, list_folder(path));
    for (const FolderEntry& entry : entries)
        if (const std::string name = entry.path.filename().string(); !from_a_run_that_never_began(name))
            return Error{ErrorCode::file_exists,
                         text("the folder ", path.string(), " is not empty (it holds ", name,
                              "); a new run needs a folder of its own, and --resume continues one"),
                         path.string()};
    folder.checkpoints().remove_leftovers();
    remove_leftovers(path);
    return folder;
}

Result<RunFolder> RunFolder::claim_existing(const fs::path& path) {
    std::error_code ignored;
    const CheckpointFolder checkpoints(path);
    if (!fs::exists(checkpoints.last(), ignored) && !fs::exists(checkpoints.previous(), ignored))
        return Error{
            ErrorCode::file_not_found,
            text("there is nothing to resume in ", path.string(), ": it holds neither last.ckpt nor previous.ckpt"),
            path.string()};
    MFRES_TRY(RunFolder folder, lock(path));
    folder.checkpoints().remove_leftovers();
    remove_leftovers(path);
    return folder;
}

} // namespace mfres
