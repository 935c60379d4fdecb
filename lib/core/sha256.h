// SPDX-License-Identifier: MIT
// SHA-256 (NIST FIPS 180-4) and HMAC-SHA-256 (RFC 2104).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mfres {

/// SHA-256 of bytes that arrive in pieces; the pieces' borders do not matter.
class Sha256 {
  public:
    using Digest = std::array<std::uint8_t, 32>;

    void update(std::span<const std::byte> bytes);
    void update(std::string_view text);
    /// The digest of everything so far. Call once; the object is used up.
    Digest finish();

  private:
    std::array<std::uint32_t, 8> state_{0x6A09E667U, 0xBB67AE85U, 0x3C6EF372U, 0xA54FF53AU,
                                        0x510E527FU, 0x9B05688CU, 0x1F83D9ABU, 0x5BE0CD19U};
    std::array<std::byte, 64> pending_{};
    std::size_t pending_size_ = 0;
    std::uint64_t length_ = 0; ///< bytes so far
};

/// The authentication code of a message under a secret key of any length (RFC 2104, RFC 4231).
Sha256::Digest hmac_sha256(std::span<const std::byte> key, std::span<const std::byte> message);

/// 64 lower-case hexadecimal digits.
std::string to_hex(const Sha256::Digest& digest);

} // namespace mfres
