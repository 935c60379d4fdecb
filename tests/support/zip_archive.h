// SPDX-License-Identifier: MIT
// Zip archives put together byte by byte, as torch.save writes them or with lies in them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>
#include <zlib.h>

namespace mfres::test {

template <typename Number>
void put(std::string& out, Number value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// A zip archive of stored entries; `method` and `size_added` lie about every entry.
inline std::string archive(const std::vector<std::pair<std::string, std::string>>& entries, std::uint16_t method = 0,
                           std::uint32_t size_added = 0, bool wrong_checksum = false) {
    std::string out;
    std::string directory;
    for (const auto& [name, content] : entries) {
        const auto offset = static_cast<std::uint32_t>(out.size());
        const auto crc = static_cast<std::uint32_t>(
            crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size())));
        std::string common;
        put<std::uint16_t>(common, 20); // version needed
        put<std::uint16_t>(common, 0);
        put(common, method);
        put<std::uint32_t>(common, 0x21); // 1980-01-01
        put<std::uint32_t>(common, wrong_checksum ? crc + 1 : crc);
        put(common, static_cast<std::uint32_t>(content.size()));
        put(common, static_cast<std::uint32_t>(content.size()) + size_added);
        put(common, static_cast<std::uint16_t>(name.size()));
        put<std::uint16_t>(common, 0);
        put<std::uint32_t>(out, 0x04034B50);
        out += common + name + content;
        put<std::uint32_t>(directory, 0x02014B50);
        put<std::uint16_t>(directory, 20);
        directory += common;
        directory.append(2 + 2 + 2 + 4, '\0');
        put(directory, offset);
        directory += name;
    }
    const auto begin = static_cast<std::uint32_t>(out.size());
    out += directory;
    put<std::uint32_t>(out, 0x06054B50);
    put<std::uint32_t>(out, 0);
    put(out, static_cast<std::uint16_t>(entries.size()));
    put(out, static_cast<std::uint16_t>(entries.size()));
    put(out, static_cast<std::uint32_t>(directory.size()));
    put(out, begin);
    put<std::uint16_t>(out, 0);
    return out;
}

} // namespace mfres::test
