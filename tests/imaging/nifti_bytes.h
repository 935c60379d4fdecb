// SPDX-License-Identifier: MIT
// NIfTI files put together byte by byte from the field offsets of the two standards, so that tests of the reader do
// not rest on the writer, and can be wrong wherever they want to be.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace mfres::test {

using Bytes = std::vector<std::byte>;

template <typename T>
void put(Bytes& bytes, std::size_t offset, T value, bool big_endian) {
    std::array<std::byte, sizeof(T)> raw;
    std::memcpy(raw.data(), &value, sizeof value);
    if (big_endian != (std::endian::native == std::endian::big))
        std::reverse(raw.begin(), raw.end());
    std::copy(raw.begin(), raw.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
}

/// One NIfTI file; everything may be changed before file() is called. The default is a valid 4x5x6 float32 volume in
/// L-P-S order with 1 mm voxels whose values are 1, 2, 3, ...
struct Recipe {
    int version = 1;
    bool big_endian = false;
    std::int32_t sizeof_hdr = 0; // 0: 348 or 540
    std::string magic;           // empty: that of a single file
    std::array<std::int64_t, 8> dim = {3, 4, 5, 6, 1, 1, 1, 1};
    int datatype = 16;
    int bitpix = 32;
    std::array<double, 8> pixdim = {1, 1, 1, 1, 1, 1, 1, 1};
    double vox_offset = -1; // -1: right behind the header
    double slope = 0;
    double inter = 0;
    int units = 2;
    int qform_code = 0;
    int sform_code = 1;
    std::array<double, 3> quatern{};
    std::array<double, 3> qoffset{};
    std::array<double, 12> srow = {-1, 0, 0, 0, 0, -1, 0, 4, 0, 0, 1, 0};
    std::vector<double> values; // empty: 1, 2, 3, ... for every voxel of dim[1..3]

    std::size_t header_size() const { return version == 1 ? 348 : 540; }

    std::int64_t voxels() const { return dim[1] * dim[2] * dim[3]; }

    Bytes header() const {
        Bytes bytes(header_size() + 4);
        put<std::int32_t>(bytes, 0, sizeof_hdr != 0 ? sizeof_hdr : version == 1 ? 348 : 540, big_endian);
        version == 1 ? fill1(bytes) : fill2(bytes);
        return bytes;
    }

    Bytes data() const {
        std::vector<double> all = values;
        if (all.empty())
            for (std::int64_t i = 0; i < voxels(); ++i)
                all.push_back(static_cast<double>(i + 1));
        Bytes bytes(all.size() * static_cast<std::size_t>(bitpix / 8));
        for (std::size_t i = 0; i < all.size(); ++i)
            put_voxel(bytes, i * static_cast<std::size_t>(bitpix / 8), all[i]);
        return bytes;
    }

    Bytes file() const {
        Bytes bytes = header();
        if (vox_offset > static_cast<double>(bytes.size()) && vox_offset < 1e6)
            bytes.resize(static_cast<std::size_t>(vox_offset), std::byte{0x5A});
        const Bytes voxels_stored = data();
        bytes.insert(bytes.end(), voxels_stored.begin(), voxels_stored.end());
        return bytes;
    }

  private:
    void put_voxel(Bytes& bytes, std::size_t offset, double value) const {
        switch (datatype) {
        case 2: return put(bytes, offset, static_cast<std::uint8_t>(value), big_endian);
        case 4: return put(bytes, offset, static_cast<std::int16_t>(value), big_endian);
        case 8: return put(bytes, offset, static_cast<std::int32_t>(value), big_endian);
        case 16: return put(bytes, offset, static_cast<float>(value), big_endian);
        case 64: return put(bytes, offset, value, big_endian);
        case 256: return put(bytes, offset, static_cast<std::int8_t>(value), big_endian);
        case 512: return put(bytes, offset, static_cast<std::uint16_t>(value), big_endian);
        case 768: return put(bytes, offset, static_cast<std::uint32_t>(value), big_endian);
        case 1024: return put(bytes, offset, static_cast<std::int64_t>(value), big_endian);
        case 1280: return put(bytes, offset, static_cast<std::uint64_t>(value), big_endian);
        default: // types the reader rejects: zeros
            return;
        }
    }

    void put_magic(Bytes& bytes, std::size_t offset, std::string_view standard) const {
        const std::string_view chosen = magic.empty() ? standard : std::string_view(magic);
        std::memcpy(bytes.data() + offset, chosen.data(), chosen.size());
    }

    template <typename Real>
    void put_all(Bytes& bytes, std::size_t offset, const double* numbers, std::size_t count) const {
        for (std::size_t i = 0; i < count; ++i)
            put(bytes, offset + i * sizeof(Real), static_cast<Real>(numbers[i]), big_endian);
    }

    double offset_or_default() const { return vox_offset == -1 ? static_cast<double>(header_size() + 4) : vox_offset; }

    void fill1(Bytes& bytes) const {
        for (std::size_t i = 0; i < 8; ++i)
            put(bytes, 40 + 2 * i, static_cast<std::int16_t>(dim[i]), big_endian);
        put(bytes, 70, static_cast<std::int16_t>(datatype), big_endian);
        put(bytes, 72, static_cast<std::int16_t>(bitpix), big_endian);
        put_all<float>(bytes, 76, pixdim.data(), 8);
        put(bytes, 108, static_cast<float>(offset_or_default()), big_endian);
        put(bytes, 112, static_cast<float>(slope), big_endian);
        put(bytes, 116, static_cast<float>(inter), big_endian);
        bytes[123] = static_cast<std::byte>(units);
        put(bytes, 252, static_cast<std::int16_t>(qform_code), big_endian);
        put(bytes, 254, static_cast<std::int16_t>(sform_code), big_endian);
        put_all<float>(bytes, 256, quatern.data(), 3);
        put_all<float>(bytes, 268, qoffset.data(), 3);
        put_all<float>(bytes, 280, srow.data(), 12);
        put_magic(bytes, 344, std::string_view("n+1\0", 4));
    }

    void fill2(Bytes& bytes) const {
        put_magic(bytes, 4, std::string_view("n+2\0\r\n\032\n", 8));
        put(bytes, 12, static_cast<std::int16_t>(datatype), big_endian);
        put(bytes, 14, static_cast<std::int16_t>(bitpix), big_endian);
        for (std::size_t i = 0; i < 8; ++i)
            put(bytes, 16 + 8 * i, dim[i], big_endian);
        put_all<double>(bytes, 104, pixdim.data(), 8);
        put(bytes, 168, static_cast<std::int64_t>(offset_or_default()), big_endian);
        put(bytes, 176, slope, big_endian);
        put(bytes, 184, inter, big_endian);
        put(bytes, 344, static_cast<std::int32_t>(qform_code), big_endian);
        put(bytes, 348, static_cast<std::int32_t>(sform_code), big_endian);
        put_all<double>(bytes, 352, quatern.data(), 3);
        put_all<double>(bytes, 376, qoffset.data(), 3);
        put_all<double>(bytes, 400, srow.data(), 12);
        put(bytes, 500, static_cast<std::int32_t>(units), big_endian);
    }
};

inline void save(const std::filesystem::path& path, const Bytes& bytes) {
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

} // namespace mfres::test
