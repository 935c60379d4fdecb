// SPDX-License-Identifier: MIT
// The folder of a training run: one process at a time, and never another run's files.
#pragma once

#include "core/platform.h"
#include "train/checkpoint.h"

#include <mfres/status.h>
#include <mfres/trainer.h>

#include <filesystem>
#include <string>

namespace mfres {

/// A folder that this process has locked, by claim_new() or claim_existing(). The lock ends with the object, or with
/// the process.
class RunFolder {
  public:
    /// Makes the folder for a new run. Errors: file_exists (it holds anything but the caches of a run that never
    /// began), file_write (it cannot be made; another process trains there).
    static Result<RunFolder> claim_new(const std::filesystem::path& path);

    /// Errors: file_not_found (no folder, or no checkpoint in it), file_write (another process trains there).
    static Result<RunFolder> claim_existing(const std::filesystem::path& path);

    /// The folder without a lock, for a process that writes nothing there.
    static RunFolder of_another(const std::filesystem::path& path) { return {path, {}}; }

    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path operator/(const char* name) const { return path_ / name; }
    CheckpointFolder& checkpoints() { return checkpoints_; }

  private:
    RunFolder(std::filesystem::path path, platform::OpenFile lock);
    static Result<RunFolder> lock(const std::filesystem::path& path);

    std::filesystem::path path_;
    platform::OpenFile lock_;
    CheckpointFolder checkpoints_;
};

} // namespace mfres
