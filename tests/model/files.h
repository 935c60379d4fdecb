// SPDX-License-Identifier: MIT
// Safetensors files made by hand, byte by byte, independent of the library's writer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mfres::test {

inline std::vector<std::byte> to_bytes(std::string_view text) {
    std::vector<std::byte> bytes(text.size());
    std::transform(text.begin(), text.end(), bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
    return bytes;
}

inline std::string to_text(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Eight little-endian bytes.
inline std::string length_field(std::uint64_t length) {
    std::string field;
    for (unsigned i = 0; i < 8; ++i)
        field += static_cast<char>((length >> (8U * i)) & 0xFFU);
    return field;
}

/// Length, header, data.
inline std::string safetensors_text(std::string_view header, std::string_view data) {
    return length_field(header.size()).append(header).append(data);
}

} // namespace mfres::test
