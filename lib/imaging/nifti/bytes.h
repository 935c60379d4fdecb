// SPDX-License-Identifier: MIT
// The uncompressed bytes of a file, read from front to back.
#pragma once

#include "imaging/nifti/gzip.h"

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

namespace mfres::nifti {

/// Bytes that are read or converted at once. A multiple of every voxel size.
inline constexpr std::size_t chunk_bytes = std::size_t{1} << 18U;

/// Reads a file sequentially. A file whose name ends in .gz is inflated on the way; the file is held as stored.
class ByteSource {
  public:
    /// Errors: those of read_file; nifti_too_large if the file as stored has more than `cap` bytes.
    static Result<ByteSource> open(const std::filesystem::path& path, std::uint64_t cap);

    bool compressed() const { return gzip_.has_value(); }

    /// Upper bound of the uncompressed size in bytes.
    std::uint64_t most_bytes() const;

    /// Fills `output` as far as the file reaches and returns the number of bytes. Fewer than asked for mean the end of
    /// the file; the CRC-32 and the length of a gzip file have then been verified. Errors: those of GzipReader::read.
    Result<std::size_t> read(std::span<std::byte> output);

    /// Skips `count` bytes and returns how many there were. Errors: those of read.
    Result<std::uint64_t> skip(std::uint64_t count);

  private:
    ByteSource() = default;
    std::vector<std::byte> bytes_; // gzip_ points into it; moving the vector does not move its bytes
    std::optional<GzipReader> gzip_;
    std::size_t position_ = 0;
};

} // namespace mfres::nifti
