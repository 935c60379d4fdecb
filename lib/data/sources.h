// SPDX-License-Identifier: MIT
// A data set that lies in several places: folders of cases and training caches, taken together.
#pragma once

#include "data/cache.h"
#include "data/cache_file.h"

#include <mfres/case.h>
#include <mfres/status.h>

#include <filesystem>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace mfres {

/// Where a case is taken from: its images, or a cache that holds it.
using CaseSource = std::variant<CaseFiles, CacheCase>;

const std::string& id_of(const CaseSource& source);

/// A case of a data set.
struct DataCase {
    CaseSource content;
    std::string source; ///< name of the folder, or of the cache file without its extension, that it was found in

    const std::string& id() const { return id_of(content); }
};

/// The name of a source in DataCase: "cohort" of "/data/cohort/" and of "/data/cohort.mfcache".
std::string source_name(const std::filesystem::path& source);

/// All cases of the sources, each of them a folder (find_cases) or a training cache. The cases of one source keep its
/// order; those of several are sorted by id, so that the order of naming sources does not matter.
/// The label scheme of each folder is chosen by itself (choose_labels with `labels`); `told` gets the sentences.
/// Errors: those of find_cases, choose_labels and CacheFile::open; invalid_argument (a case id that occurs twice: names
/// it and both places), dataset_empty (no source).
Result<std::vector<DataCase>> find_data(std::span<const std::filesystem::path> sources, const std::string& labels = {},
                                        std::vector<std::string>* told = nullptr);

/// SHA-256 over ids, bytes and unusual label schemes of all files of these cases, wherever they lie: what tells whether a folder still holds
/// what a cache was made of. 64 hexadecimal digits. Errors: file_not_found, file_read, memory_limit.
Result<std::string> fingerprint_of_files(std::span<const CaseFiles> cases);

/// Makes a cache of cases from folders and from other caches. Images are packed as by the other write_cache; blocks of
/// caches are copied as they are, byte for byte, whatever `levels` says. Errors: also those of CacheFile::read_block,
/// invalid_argument (the file to write is one of the caches).
Status write_cache(const std::filesystem::path& path, std::span<const CaseSource> cases, const CacheOptions& options,
                   const CacheProgress& progress);

} // namespace mfres
