// SPDX-License-Identifier: MIT
// Whether this installation computes what it should: after an update, on a new machine, or before a study.
//
//   auto report = mfres::run_selftest({});
//   std::cout << mfres::to_text(*report);
//   if (report->first_failure() != nullptr) { ... }
#pragma once

#include <mfres/compute.h>
#include <mfres/export.h>
#include <mfres/predictor.h>
#include <mfres/status.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mfres {

struct SelftestOptions {
    /// A name of available_backends(), or "auto": all of them that work here.
    std::string backend = "auto";
    /// Model files, or names of weights that come with mfres; empty = all that come with mfres.
    std::vector<std::filesystem::path> models{};
    int threads = 0; ///< 0 to 4096; 0 = all CPUs this process may use
};

/// One thing that was checked.
struct SelftestCheck {
    std::string name;             ///< e.g. "ops: onednn"
    std::string found;            ///< what was measured; empty where it failed before
    std::optional<Error> failure; ///< nothing = passed
    double milliseconds = 0.0;
};

struct SelftestReport {
    std::vector<SelftestCheck> checks;
    std::vector<std::string> not_run; ///< backends of this build that cannot work here, each with the reason

    /// The first check that failed; null where all passed.
    const SelftestCheck* first_failure() const {
        for (const SelftestCheck& check : checks)
            if (check.failure)
                return &check;
        return nullptr;
    }
};

/// Checks, each of them whatever became of the others:
///   golden      SHA-256, a NIfTI file, a damaged one, Dice and HD95, and every op on the reference backend against values
///               that other programs computed
///   ops         every op case on every backend against the reference backend (squared error at most 1e-10 of the values'
///               squares)
///   weights     every model file is intact, and its weights are those of its record
///   phantom     labels of the synthetic case, by every model on the first backend and by the smallest model on the
///               others, but for the reference where there is another: Dice within 0.002 of the model's record, voxels of
///               each label within 0.2 % and 5
/// The record of m.safetensors is m.selftest.json beside it. A check that fails is part of the report and no error of the
/// call. Errors: invalid_argument (threads), backend_unknown, backend_unavailable, interrupted.
MFRES_EXPORT Result<SelftestReport> run_selftest(const SelftestOptions& options, const Progress& progress = {});

/// Makes the record of a model, a file or a name, by segmenting the synthetic case on this machine; returns its path.
/// `options.models` is not used. Errors: those of Predictor::open and predict, file_exists (unless `overwrite`),
/// file_write.
MFRES_EXPORT Result<std::filesystem::path> record_selftest(const std::filesystem::path& model,
                                                           const SelftestOptions& options, bool overwrite = false,
                                                           const Progress& progress = {});

/// The report as a JSON object, and as text with a line for each check.
MFRES_EXPORT std::string to_json(const SelftestReport& report);
MFRES_EXPORT std::string to_text(const SelftestReport& report);

} // namespace mfres
