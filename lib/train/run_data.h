// SPDX-License-Identifier: MIT
// The cases of a training run: found in folders and caches, split, and recorded so that a resumed run finds the same.
#pragma once

#include "core/json_value.h"
#include "data/cache.h"

#include <mfres/metrics.h>
#include <mfres/trainer.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace mfres {

/// What a checkpoint remembers of the cases besides their fingerprints. Empty in files from before there was one.
struct RunData {
    /// What is trained on, or what is validated on.
    struct Side {
        std::vector<std::string> caches; ///< absolute paths; names alone are files in the run's folder
        std::string files_sha256;        ///< fingerprint_of_files of the cases that the run made a cache of
        friend bool operator==(const Side&, const Side&) = default;
    };
    Side train;      ///< with a fold: all cases, of which the fold is left out
    Side validation; ///< empty with a fold
    std::string fold;
    std::vector<std::vector<std::string>> same_patient;
    SiteTable sites; ///< of the cases that are validated on
    friend bool operator==(const RunData&, const RunData&) = default;
};

Json to_json(const RunData& data);

/// The inverse. Throws Json::exception where the object is no such record.
RunData run_data_from(const Json& object);

/// Why the cases of a run are opened.
enum class DataUse : std::uint8_t {
    begin,  ///< a new run: caches of folders are made, and patients on both sides rejected
    resume, ///< a run that resumes: the cases that `recorded` names, or those of the options if they are the same
    join,   ///< another rank of a run: what is trained on, from caches that rank 0 has made
};

struct OpenedData {
    std::shared_ptr<const Cache> train;
    std::shared_ptr<const Cache> validation; ///< null without
    RunData record;
    std::string warning;                    ///< for the user, or empty
    std::vector<std::string> label_notes{}; ///< what the labels of folders are read as, and on what evidence
};

/// Opens the cases of the options, or those `recorded` where the options name none. Cases of folders are packed into
/// train.mfcache and val.mfcache in the run's folder `run`, unless these were made of the same files,
/// with z-scores of `normalisation`. The caller
/// compares fingerprints with those recorded: they show whether a resumed run has the same cases.
/// Errors: those of CaseSet::find, write_cache, in_fold, Patients::read and read_sites; invalid_argument (no data; a
/// fold beside validation cases; a patient on both sides), checkpoint_mismatch (another fold than the recorded one).
Result<OpenedData> open_run_data(const TrainerOptions& options, const std::filesystem::path& run, DataUse use,
                                 const RunData& recorded, Normalisation normalisation, const CacheProgress& progress);

/// "a, b and c", for messages; "what the run recorded" where there is none.
std::string source_words(const DataSources& sources);

} // namespace mfres
