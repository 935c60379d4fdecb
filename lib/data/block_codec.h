// SPDX-License-Identifier: MIT
// Lossless packing of one array of a cached case into bytes that zlib compresses well, and back.
//
// Intensities. Only brain voxels are stored. Each is predicted from its neighbours at lower x, y and z, and the
// difference is kept, modulo 2^8 or 2^16: with a, b, c the neighbours one step back along x, y, z and ab, ac, bc those
// one step back along two axes, the prediction is the median of a + b - ab, a + c - ac and b + c - bc: each continues
// the plane through three neighbours, and the median drops the one that an edge in the image led astray. Voxels outside
// the brain or the box count as 0. 16-bit differences d are folded to unsigned numbers (0, -1, 1, -2, ... become
// 0, 1, 2, 3, ...) and all their low bytes precede all their high bytes. Such differences hardly repeat in runs, so
// DEFLATE uses Huffman codes only, which is smaller here than with string matching, and several times faster.
//
// Classes and the brain mask are stored as they are, one byte a voxel, for DEFLATE at its best.
#pragma once

#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mfres {

using BoxSize = std::array<std::int64_t, 3>;

/// Compressed residuals of `quanta` [x][y][z] at the voxels where `brain` is not 0. Errors: memory_limit.
Result<std::vector<std::byte>> pack_quanta(std::span<const std::uint8_t> quanta, std::span<const std::uint8_t> brain,
                                           const BoxSize& size);
Result<std::vector<std::byte>> pack_quanta(std::span<const std::int16_t> quanta, std::span<const std::uint8_t> brain,
                                           const BoxSize& size);

/// The inverse; `quanta` is filled, with 0 outside the brain. `where` names the block in errors.
/// Errors: cache_damaged (not a zlib stream, or not of exactly as many residuals as the brain has voxels).
Status unpack_quanta(std::span<const std::byte> packed, std::span<const std::uint8_t> brain, const BoxSize& size,
                     std::span<std::uint8_t> quanta, const std::string& where);
Status unpack_quanta(std::span<const std::byte> packed, std::span<const std::uint8_t> brain, const BoxSize& size,
                     std::span<std::int16_t> quanta, const std::string& where);

/// Compressed classes or mask. Errors: memory_limit.
Result<std::vector<std::byte>> pack_labels(std::span<const std::uint8_t> labels);

/// The inverse, into exactly as many labels. Errors: cache_damaged.
Status unpack_labels(std::span<const std::byte> packed, std::span<std::uint8_t> labels, const std::string& where);

/// CRC-32 (ISO-HDLC, the one of zlib, gzip and PNG) of `bytes`, continued from `crc`.
std::uint32_t crc32_of(std::span<const std::byte> bytes, std::uint32_t crc = 0);

} // namespace mfres
