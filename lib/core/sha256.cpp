// SPDX-License-Identifier: MIT
#include "core/sha256.h"

#include "core/little_endian.h"
#include "core/sha256_blocks.h"

#include <algorithm>

namespace mfres {

void Sha256::update(std::span<const std::byte> bytes) {
    const auto compress = sha256_blocks().front().compress;
    length_ += bytes.size();
    if (pending_size_ > 0) {
        const std::size_t taken = std::min(bytes.size(), pending_.size() - pending_size_);
        std::copy_n(bytes.begin(), taken, pending_.begin() + static_cast<std::ptrdiff_t>(pending_size_));
        pending_size_ += taken;
        bytes = bytes.subspan(taken);
        if (pending_size_ < pending_.size())
            return;
        compress(state_, pending_.data(), 1);
        pending_size_ = 0;
    }
    const std::size_t blocks = bytes.size() / pending_.size();
    compress(state_, bytes.data(), blocks);
    bytes = bytes.subspan(blocks * pending_.size());
    std::copy(bytes.begin(), bytes.end(), pending_.begin());
    pending_size_ = bytes.size();
}

void Sha256::update(std::string_view text) {
    update(std::as_bytes(std::span(text.data(), text.size())));
}

Sha256::Digest Sha256::finish() {
    const std::uint64_t bits = 8 * length_;
    const std::array<std::byte, 64> padding{std::byte{0x80}};
    // A one bit, then zeros up to 8 bytes before the end of a block (FIPS 180-4, 5.1.1).
    const std::size_t zeros_and_one = pending_size_ < 56 ? 56 - pending_size_ : 120 - pending_size_;
    update(std::span<const std::byte>(padding).first(zeros_and_one));
    auto length = little_endian(bits);
    std::reverse(length.begin(), length.end());
    update(length);

    Digest digest{};
    for (std::size_t i = 0; i < digest.size(); ++i)
        digest[i] = static_cast<std::uint8_t>(state_[i / 4] >> (8U * (3U - i % 4U)));
    return digest;
}

std::string to_hex(const Sha256::Digest& digest) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string hex;
    hex.reserve(2 * digest.size());
    for (const std::uint8_t byte : digest) {
        hex += digits[byte >> 4U];
        hex += digits[byte & 0xFU];
    }
    return hex;
}

Sha256::Digest hmac_sha256(std::span<const std::byte> key, std::span<const std::byte> message) {
    std::array<std::byte, 64> block{}; // the key, padded with zeros
    if (key.size() > block.size()) {
        Sha256 hash;
        hash.update(key);
        const auto digest = hash.finish();
        std::copy_n(std::as_bytes(std::span(digest)).begin(), digest.size(), block.begin());
    } else {
        std::copy(key.begin(), key.end(), block.begin());
    }
    const auto padded = [&](std::byte pad) {
        auto mixed = block;
        for (std::byte& byte : mixed)
            byte ^= pad;
        return mixed;
    };
    Sha256 inner;
    inner.update(std::span<const std::byte>(padded(std::byte{0x36})));
    inner.update(message);
    const auto inner_digest = inner.finish();
    Sha256 outer;
    outer.update(std::span<const std::byte>(padded(std::byte{0x5C})));
    outer.update(std::as_bytes(std::span(inner_digest)));
    return outer.finish();
}

} // namespace mfres
