// SPDX-License-Identifier: MIT
// Data sets for training: labelled cases split by patient, and packed into one file.
//
//   auto split = mfres::split_cases({.data = "BraTS2019/Training", .fold = "2/5"});
//   auto fingerprint = mfres::pack_cases("train.mfcache", split->train, {});
#pragma once

#include <mfres/case.h>
#include <mfres/export.h>
#include <mfres/normalisation.h>
#include <mfres/plausibility.h>
#include <mfres/status.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mfres {

struct DataSplitOptions {
    DataSources data;                     ///< folders of segmented cases, and training caches
    DataSources validation{};             ///< the cases to hold out; empty = a part of `data`
    std::string fold{};                   ///< "2/5": that part of the patients is held out; empty = every fifth patient
    std::filesystem::path same_patient{}; ///< which ids are of one patient, as TrainerOptions::same_patient
    std::string label_scheme{};           ///< of the segmentations: as `wanted` of choose_labels, for each folder
};

/// All scans of a patient are on one side.
struct DataSplit {
    CaseSet train;
    CaseSet held_out;
    std::string rule; ///< in words
    std::vector<std::string> warnings;
    std::vector<std::string> label_notes; ///< what the labels are read as, and on what evidence
};

/// Splits cases by a rule that depends on nothing but their ids. Errors: those of CaseSet::find; file_not_found (cases without a segmentation, all of them named), file_read (the list of patients), dataset_empty (too
/// few patients), invalid_argument (a patient on both sides, the fold, the list of patients).
MFRES_EXPORT Result<DataSplit> split_cases(const DataSplitOptions& options);

struct PackOptions {
    int threads = 1; ///< 0 = all processors this process may use
    bool overwrite = false;
    AcceptedChecks accept{}; ///< checks that do not reject a case
    /// Of the z-scores. Cases that come from a cache keep theirs.
    Normalisation normalisation = Normalisation::zscore_brain;
};

/// Called with the number of cases done and in all; return false to stop.
using PackProgress = std::function<bool(std::size_t done, std::size_t total)>;

/// Packs cases that have a segmentation into a training cache, complete or absent, which Trainer takes as data; those of
/// other caches are copied. The same cases give the same bytes. Returns the cache's fingerprint, 64 hexadecimal digits that change with any content.
/// Errors: those of a case that is rejected; dataset_empty, interrupted, file_exists, file_write, memory_limit.
MFRES_EXPORT Result<std::string> pack_cases(const std::filesystem::path& cache, const CaseSet& cases,
                                            const PackOptions& options, const PackProgress& progress = {});

/// The fingerprint of a training cache. Errors: file_not_found, file_read, cache_invalid, cache_damaged, dataset_empty,
/// memory_limit.
MFRES_EXPORT Result<std::string> cache_fingerprint(const std::filesystem::path& cache);

} // namespace mfres
