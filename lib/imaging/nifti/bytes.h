// SPDX-License-Identifier: MIT
// The uncompressed bytes of a file, read from front to back.
#pragma once

#include "core/array_memory.h"
#include "core/file.h"
#include "imaging/nifti/gzip.h"

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace mfres::nifti {

/// Bytes that are read or converted at once. A multiple of every voxel size.
inline constexpr std::size_t chunk_bytes = std::size_t{1} << 18U;

/// Reads a file sequentially, a piece at a time. A file whose name ends in .gz is inflated on the way.
class ByteSource {
  public:
    /// Errors: those of ReadableFile; nifti_too_large if the file as stored has more than `cap` bytes.
    static Result<ByteSource> open(const std::filesystem::path& path, std::uint64_t cap);

    bool compressed() const { return gzip_.has_value(); }

    /// Inflates a compressed file at once if it makes `total` bytes, which read() then copies. Nothing changes where that
    /// is not possible, see inflate_whole(), and the bytes are inflated a piece at a time. Memory comes from `memory`, which
    /// has to outlive the source; null = that of the calling thread.
    void inflate_all(std::uint64_t total, ArrayMemory* memory = nullptr);
    /// What that takes as long as there is the source, and during it; 0 if the file was not inflated at once.
    std::uint64_t inflated_bytes() const { return total_ > 0 ? file_->size() + total_ : 0; }

    /// Upper bound of the uncompressed size in bytes.
    std::uint64_t most_bytes() const;

    /// Fills `output` as far as the file reaches and returns the number of bytes. Fewer than asked for mean the end of
    /// the file; the CRC-32 and the length of a gzip file have then been verified. Errors: those of GzipReader::read and
    /// ReadableFile::read_at.
    Result<std::size_t> read(std::span<std::byte> output);

    /// Skips `count` bytes and returns how many there were. A file that is not compressed is not read for it. Errors:
    /// those of read.
    Result<std::uint64_t> skip(std::uint64_t count);

  private:
    explicit ByteSource(std::shared_ptr<const ReadableFile> file) : file_(std::move(file)) {}
    std::shared_ptr<const ReadableFile> file_; // gzip_ reads from it, too
    std::optional<GzipReader> gzip_;
    std::uint64_t position_ = 0; ///< of the next uncompressed byte
    ArrayBlock inflated_;        ///< the whole file, if it was inflated at once
    std::uint64_t total_ = 0;    ///< bytes of that, else 0
};

} // namespace mfres::nifti
