// SPDX-License-Identifier: MIT
// The bytes of a training cache file, version 1. All numbers are little-endian, nothing is aligned, and every byte
// belongs to one of three parts that follow each other without a gap:
//
// Header, 40 bytes
//   magic          8 bytes   "mfrcache"
//   version        u32       1
//   crc            u32       CRC-32 of the header with these four bytes 0, continued over the index
//   cases          u64
//   index_begin    u64       bytes from the beginning of the file
//   index_bytes    u64       the index ends the file
//
// Blocks, from byte 40 to index_begin: per case six zlib streams in the order T1, T1ce, T2, FLAIR, classes, brain. What
// they hold is described in block_codec.h.
//
// Index, per case
//   id_bytes       u16       1 to 1024
//   id             id_bytes  UTF-8
//   size           3 x u32   voxels of the box along x, y, z; each 1 to 1024
//   voxel_mm       3 x f64
//   class_voxels   4 x u64   voxels of each class in the box
//   brain_voxels   u64
//   modalities     4 x (u8 bytes per quantum: 1 or 2, plus 16 if the normalisation is zscore-brain-clipped, the same for
//                  all four; f32 scale; f32 offset). Without it the file does not tell whether intensities were clipped
//   blocks         6 x (u64 bytes; u32 CRC-32 of them)
//
// A block's place follows from the lengths of those before it, so blocks can neither overlap nor leave a gap. A block
// says nothing about its own size that is believed: it must inflate to exactly what box, brain_voxels and bytes per
// quantum make, and DEFLATE's largest ratio bounds those by the size of the file before anything is allocated.
#pragma once

#include <mfres/normalisation.h>
#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

inline constexpr std::string_view cache_magic = "mfrcache";
inline constexpr std::size_t cache_header_bytes = 40;
inline constexpr std::size_t cache_blocks = 6; ///< per case: four modalities, classes, brain
inline constexpr std::size_t classes_block = 4;
inline constexpr std::size_t brain_block = 5;
inline constexpr std::int64_t largest_box_edge = 1024;
inline constexpr std::size_t longest_case_id = 1024;

struct CacheBlock {
    std::uint64_t begin = 0; ///< in the file; not stored
    std::uint64_t bytes = 0;
    std::uint32_t crc = 0;
};

struct CacheModalityRecord {
    bool wide = false; ///< int16 instead of uint8
    float scale = 1.0F;
    float offset = 0.0F;
};

/// What the index holds of one case.
struct CacheRecord {
    std::string id;
    std::array<std::int64_t, 3> size{};
    std::array<double, 3> voxel_mm{};
    std::array<std::int64_t, 4> class_voxels{};
    std::int64_t brain_voxels = 0;
    std::array<CacheModalityRecord, 4> modalities;
    Normalisation normalisation = Normalisation::zscore_brain;
    std::array<CacheBlock, cache_blocks> blocks;

    std::int64_t voxels() const { return size[0] * size[1] * size[2]; }
    /// Bytes that a block inflates to.
    std::int64_t inflated_bytes(std::size_t block) const;
};

struct CacheHeader {
    std::uint32_t crc = 0;
    std::uint64_t cases = 0;
    std::uint64_t index_begin = 0;
    std::uint64_t index_bytes = 0;
};

/// The index's bytes.
std::vector<std::byte> encode_index(std::span<const CacheRecord> records);

/// The header's bytes for an index that begins at `index_begin`, checksum included.
std::array<std::byte, cache_header_bytes> encode_header(std::uint64_t cases, std::uint64_t index_begin,
                                                        std::span<const std::byte> index);

/// Reads a header. `bytes` are the first 40 of a file of `file_bytes`, or fewer if it has fewer; `where` names it.
/// Errors: cache_invalid (another magic or version), cache_damaged (cut off, or parts that do not fill the file).
Result<CacheHeader> decode_header(std::span<const std::byte> bytes, std::uint64_t file_bytes, const std::string& where);

/// Reads the index that belongs to a header, and places the blocks. Errors: cache_damaged (wrong CRC-32),
/// cache_invalid (right CRC-32, but contents that the format does not allow), dataset_empty.
Result<std::vector<CacheRecord>> decode_index(const CacheHeader& header, std::span<const std::byte> index,
                                              const std::string& where);

} // namespace mfres
