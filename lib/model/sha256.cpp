// SPDX-License-Identifier: MIT
#include "model/sha256.h"

#include "core/little_endian.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>

namespace mfres {

namespace {

/// The bytes of the values, the least significant first: as they lie in memory on most processors.
void update_values(Sha256& hash, std::span<const float> values) {
    if constexpr (std::endian::native == std::endian::little)
        return hash.update(std::as_bytes(values));
    std::array<std::byte, 4096> buffer{};
    constexpr std::size_t per_buffer = buffer.size() / sizeof(float);
    while (!values.empty()) {
        const auto part = values.first(std::min(values.size(), per_buffer));
        for (std::size_t i = 0; i < part.size(); ++i) {
            const auto bytes = little_endian(std::bit_cast<std::uint32_t>(part[i]));
            std::copy(bytes.begin(), bytes.end(), buffer.begin() + static_cast<std::ptrdiff_t>(4 * i));
        }
        hash.update(std::span<const std::byte>(buffer).first(part.size() * sizeof(float)));
        values = values.subspan(part.size());
    }
}

} // namespace

std::string weights_sha256(const Weights& weights) {
    Sha256 hash;
    for (const auto& [name, tensor] : weights) {
        hash.update(little_endian(std::uint64_t{name.size()}));
        hash.update(name);
        hash.update(little_endian(static_cast<std::uint64_t>(tensor.shape().rank())));
        for (const std::int64_t extent : tensor.shape())
            hash.update(little_endian(static_cast<std::uint64_t>(extent)));
        update_values(hash, tensor.values());
    }
    return to_hex(hash.finish());
}

} // namespace mfres
