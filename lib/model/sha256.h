// SPDX-License-Identifier: MIT
// SHA-256 (NIST FIPS 180-4) and the hash that identifies a set of weights.
#pragma once

#include "graph/graph.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mfres {

/// Incremental SHA-256.
class Sha256 {
  public:
    using Digest = std::array<std::uint8_t, 32>;

    void update(std::span<const std::byte> bytes);
    void update(std::string_view text);
    /// The digest of all bytes so far. The object cannot be used afterwards.
    Digest finish();

  private:
    void compress(const std::byte* block);

    std::array<std::uint32_t, 8> state_{0x6A09E667U, 0xBB67AE85U, 0x3C6EF372U, 0xA54FF53AU,
                                        0x510E527FU, 0x9B05688CU, 0x1F83D9ABU, 0x5BE0CD19U};
    std::array<std::byte, 64> pending_{};
    std::size_t pending_size_ = 0;
    std::uint64_t length_ = 0; ///< bytes so far
};

/// 64 lower-case hexadecimal digits.
std::string to_hex(const Sha256::Digest& digest);

/// Identifies weights by their values, independently of stored dtype and order. It is the SHA-256 of the concatenation,
/// for every tensor in ascending byte order of the names, of:
///   the length of the name in bytes, the name in UTF-8, the number of axes, each extent, and every value as IEEE 754
///   binary32, last axis fastest;
/// lengths, axes and extents are unsigned 64-bit integers, and all numbers are little-endian.
/// Returns 64 lower-case hexadecimal digits.
std::string weights_sha256(const Weights& weights);

} // namespace mfres
