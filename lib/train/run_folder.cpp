// SPDX-License-Identifier: MIT
#include "train/run_folder.h"

#include "core/file.h"
#include "core/try.h"

#include <array>
#include <utility>

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

RunFolder::RunFolder(fs::path path, platform::OpenFile lock)
    : path_(std::move(path)), lock_(std::move(lock)), checkpoints_(path_) {}

Result<RunFolder> RunFolder::lock(const fs::path& path) {
    platform::OpenFile lock;
    const std::error_code problem = platform::lock_folder(path, lock);
    if (problem == std::errc::device_or_resource_busy)
        return Error{ErrorCode::file_write, text("another process is training in ", path.string()), path.string()};
    if (problem)
        return Error{ErrorCode::file_write, text("cannot open folder ", path.string(), ": ", problem.message()),
                     path.string()};
    return RunFolder(path, std::move(lock));
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
        if (const std::string name = entry.path.filename().string();
            !from_a_run_that_never_began(name) && !platform::is_lock_file(name))
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
