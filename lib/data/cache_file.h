// SPDX-License-Identifier: MIT
// Training cache files: their indices, and blocks that are read or copied without unpacking. Cases of several files can
// form one cache.
#pragma once

#include "core/file.h"
#include "data/cache.h"
#include "data/cache_format.h"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mfres {

/// An opened file whose header and index are sound. Safe to use from several threads.
class CacheFile {
  public:
    /// Errors: as Cache::open.
    static Result<std::shared_ptr<const CacheFile>> open(const std::filesystem::path& path);

    CacheFile(ReadableFile file, std::vector<CacheRecord> records)
        : file_(std::move(file)), records_(std::move(records)) {}

    const std::filesystem::path& path() const { return file_.path(); }
    const std::vector<CacheRecord>& records() const { return records_; }

    /// The packed bytes of a block, their checksum verified. Errors: file_read, cache_damaged. Precondition: both
    /// exist.
    Result<std::vector<std::byte>> read_block(std::size_t index, std::size_t block) const;

    /// "the T1 block of case BraTS19_CBICA_AAB_1 in train.mfcache", for messages.
    std::string place(std::size_t index, std::size_t block) const;

    /// An error that names the block and what is wrong with it.
    Error damaged(std::size_t index, std::size_t block, const std::string& what) const;

  private:
    ReadableFile file_;
    std::vector<CacheRecord> records_;
};

/// A case of a cache file.
struct CacheCase {
    std::shared_ptr<const CacheFile> file;
    std::size_t index = 0; ///< in the file

    const CacheRecord& record() const { return file->records()[index]; }
};

/// Where the case is stored, if that is a cache file; else null.
const CacheCase* stored_case(const CaseSet::Entry& entry);

/// Every case of a file, in its order.
std::vector<CacheCase> cases_of(const std::shared_ptr<const CacheFile>& file);

/// The fingerprint of a cache file that holds these cases in this order and was not packed again: SHA-256 of its header
/// and index, which hold the checksum of every block.
std::string fingerprint_of(std::span<const CacheRecord> records);

/// The cases as one cache, in their order; all of a file's cases are what Cache::open gives. Its fingerprint is that of
/// the file into which write_cache copies them. Errors: dataset_empty, memory_limit.
Result<std::shared_ptr<const Cache>> open_cases(std::vector<CacheCase> cases);

} // namespace mfres
