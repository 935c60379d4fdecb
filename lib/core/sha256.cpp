// SPDX-License-Identifier: MIT
#include "core/sha256.h"

#include "core/little_endian.h"

#include <algorithm>
#include <bit>

namespace mfres {

namespace {

/// First 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2).
constexpr std::array<std::uint32_t, 64> round_constants = {
    0x428A2F98U, 0x71374491U, 0xB5C0FBCFU, 0xE9B5DBA5U, 0x3956C25BU, 0x59F111F1U, 0x923F82A4U, 0xAB1C5ED5U,
    0xD807AA98U, 0x12835B01U, 0x243185BEU, 0x550C7DC3U, 0x72BE5D74U, 0x80DEB1FEU, 0x9BDC06A7U, 0xC19BF174U,
    0xE49B69C1U, 0xEFBE4786U, 0x0FC19DC6U, 0x240CA1CCU, 0x2DE92C6FU, 0x4A7484AAU, 0x5CB0A9DCU, 0x76F988DAU,
    0x983E5152U, 0xA831C66DU, 0xB00327C8U, 0xBF597FC7U, 0xC6E00BF3U, 0xD5A79147U, 0x06CA6351U, 0x14292967U,
    0x27B70A85U, 0x2E1B2138U, 0x4D2C6DFCU, 0x53380D13U, 0x650A7354U, 0x766A0ABBU, 0x81C2C92EU, 0x92722C85U,
    0xA2BFE8A1U, 0xA81A664BU, 0xC24B8B70U, 0xC76C51A3U, 0xD192E819U, 0xD6990624U, 0xF40E3585U, 0x106AA070U,
    0x19A4C116U, 0x1E376C08U, 0x2748774CU, 0x34B0BCB5U, 0x391C0CB3U, 0x4ED8AA4AU, 0x5B9CCA4FU, 0x682E6FF3U,
    0x748F82EEU, 0x78A5636FU, 0x84C87814U, 0x8CC70208U, 0x90BEFFFAU, 0xA4506CEBU, 0xBEF9A3F7U, 0xC67178F2U};

std::uint32_t big_endian_word(const std::byte* bytes) {
    std::uint32_t word = 0;
    for (int i = 0; i < 4; ++i)
        word = (word << 8U) | std::to_integer<std::uint32_t>(bytes[i]);
    return word;
}

/// The message schedule W_0..W_63 (FIPS 180-4, 6.2.2 step 1).
std::array<std::uint32_t, 64> message_schedule(const std::byte* block) {
    std::array<std::uint32_t, 64> w{};
    for (std::size_t t = 0; t < 16; ++t)
        w[t] = big_endian_word(block + 4 * t);
    for (std::size_t t = 16; t < 64; ++t) {
        const std::uint32_t s0 = std::rotr(w[t - 15], 7) ^ std::rotr(w[t - 15], 18) ^ (w[t - 15] >> 3U);
        const std::uint32_t s1 = std::rotr(w[t - 2], 17) ^ std::rotr(w[t - 2], 19) ^ (w[t - 2] >> 10U);
        w[t] = s1 + w[t - 7] + s0 + w[t - 16];
    }
    return w;
}

} // namespace

void Sha256::compress(const std::byte* block) {
    const auto w = message_schedule(block);
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t t = 0; t < 64; ++t) {
        const std::uint32_t sum1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
        const std::uint32_t choice = (e & f) ^ (~e & g);
        const std::uint32_t t1 = h + sum1 + choice + round_constants[t] + w[t];
        const std::uint32_t sum0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
        const std::uint32_t majority = (a & b) ^ (a & c) ^ (b & c);
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + sum0 + majority;
    }
    const std::array<std::uint32_t, 8> mixed{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < state_.size(); ++i)
        state_[i] += mixed[i];
}

void Sha256::update(std::span<const std::byte> bytes) {
    length_ += bytes.size();
    if (pending_size_ > 0) {
        const std::size_t taken = std::min(bytes.size(), pending_.size() - pending_size_);
        std::copy_n(bytes.begin(), taken, pending_.begin() + static_cast<std::ptrdiff_t>(pending_size_));
        pending_size_ += taken;
        bytes = bytes.subspan(taken);
        if (pending_size_ < pending_.size())
            return;
        compress(pending_.data());
        pending_size_ = 0;
    }
    for (; bytes.size() >= pending_.size(); bytes = bytes.subspan(pending_.size()))
        compress(bytes.data());
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
