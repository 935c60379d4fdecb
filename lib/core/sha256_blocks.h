// SPDX-License-Identifier: MIT
// The compression function of SHA-256 (FIPS 180-4, 6.2.2), portable and by the instructions of the processor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace mfres {

using Sha256State = std::array<std::uint32_t, 8>;

/// Compresses `blocks` blocks of 64 bytes.
struct Sha256Blocks {
    const char* name;
    void (*compress)(Sha256State& state, const std::byte* bytes, std::size_t blocks);
};

/// The implementations that work on this processor, the fastest first. The last one is portable.
std::span<const Sha256Blocks> sha256_blocks();

} // namespace mfres
