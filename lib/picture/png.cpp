// SPDX-License-Identifier: MIT
#include "picture/png.h"

#include "core/try.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>
#include <zlib.h>

namespace mfres {

namespace {

constexpr std::size_t channels = 3;

void put_number(std::vector<std::byte>& file, std::uint32_t value) {
    for (const unsigned shift : {24U, 16U, 8U, 0U})
        file.push_back(static_cast<std::byte>(value >> shift & 0xFFU));
}

/// Length, name, content, and the checksum over the last two.
void put_chunk(std::vector<std::byte>& file, std::string_view name, std::span<const std::byte> content) {
    put_number(file, static_cast<std::uint32_t>(content.size()));
    const std::size_t start = file.size();
    const auto letters = std::as_bytes(std::span(name));
    file.insert(file.end(), letters.begin(), letters.end());
    file.insert(file.end(), content.begin(), content.end());
    const auto* checked = reinterpret_cast<const Bytef*>(file.data() + start);
    put_number(file, static_cast<std::uint32_t>(crc32_z(0, checked, file.size() - start)));
}

std::vector<std::byte> header_of(const RgbImage& image) {
    std::vector<std::byte> header;
    put_number(header, static_cast<std::uint32_t>(image.width));
    put_number(header, static_cast<std::uint32_t>(image.height));
    constexpr std::array<unsigned char, 5> kind = {8, 2, 0, 0,
                                                   0}; // bits, colour without palette, deflate, not interlaced
    for (const unsigned char value : kind)
        header.push_back(static_cast<std::byte>(value));
    return header;
}

/// What a filter predicts from the bytes to the left, above, and above left (section 9 of the standard).
int predicted(int filter, int left, int above, int corner) {
    if (filter < 4)
        return filter == 0 ? 0 : filter == 1 ? left : filter == 2 ? above : (left + above) / 2;
    const int estimate = left + above - corner;
    const int to_left = std::abs(estimate - left);
    const int to_above = std::abs(estimate - above);
    const int to_corner = std::abs(estimate - corner);
    return to_left <= to_above && to_left <= to_corner ? left : to_above <= to_corner ? above : corner;
}

/// The number of the filter and what it leaves of the row. `above` is empty for the first row.
std::vector<Bytef> filtered(int filter, std::span<const std::uint8_t> row, std::span<const std::uint8_t> above) {
    std::vector<Bytef> left_over = {static_cast<Bytef>(filter)};
    left_over.reserve(row.size() + 1);
    for (std::size_t n = 0; n < row.size(); ++n) {
        const int left = n < channels ? 0 : row[n - channels];
        const int up = above.empty() ? 0 : above[n];
        const int corner = n < channels || above.empty() ? 0 : above[n - channels];
        left_over.push_back(static_cast<Bytef>(row[n] - predicted(filter, left, up, corner)));
    }
    return left_over;
}

/// The filter that leaves the smallest sum of absolute values, which usually packs best.
std::vector<Bytef> best_filtered(std::span<const std::uint8_t> row, std::span<const std::uint8_t> above) {
    std::vector<Bytef> best;
    long least = std::numeric_limits<long>::max();
    for (int filter = 0; filter <= 4; ++filter) {
        std::vector<Bytef> candidate = filtered(filter, row, above);
        long sum = 0;
        for (std::size_t n = 1; n < candidate.size(); ++n)
            sum += candidate[n] < 128 ? candidate[n] : 256 - candidate[n];
        if (sum < least) {
            least = sum;
            best = std::move(candidate);
        }
    }
    return best;
}

std::vector<Bytef> filtered_rows(const RgbImage& image) {
    const std::size_t length = channels * static_cast<std::size_t>(image.width);
    std::vector<Bytef> rows;
    rows.reserve((length + 1) * static_cast<std::size_t>(image.height));
    std::span<const std::uint8_t> above;
    for (std::size_t y = 0; y < static_cast<std::size_t>(image.height); ++y) {
        const auto row = std::span(image.rgb).subspan(y * length, length);
        const std::vector<Bytef> best = best_filtered(row, above);
        rows.insert(rows.end(), best.begin(), best.end());
        above = row;
    }
    return rows;
}

} // namespace

Result<std::vector<std::byte>> encode_png(const RgbImage& image) {
    if (image.rgb.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
        return Error{
            ErrorCode::invalid_argument,
            text("a PNG of ", image.width, " x ", image.height, " pixels would have more than 2 GiB; make it smaller"),
            "PNG"};
    try {
        const std::vector<Bytef> rows = filtered_rows(image);
        uLongf size = compressBound(static_cast<uLong>(rows.size()));
        std::vector<std::byte> packed(size);
        if (compress2(reinterpret_cast<Bytef*>(packed.data()), &size, rows.data(), static_cast<uLong>(rows.size()),
                      Z_DEFAULT_COMPRESSION) != Z_OK)
            return Error{ErrorCode::memory_limit, "no memory was left to pack a PNG", "PNG"};
        packed.resize(size);
        constexpr std::array<unsigned char, 8> signature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
        const auto start = std::as_bytes(std::span(signature));
        std::vector<std::byte> file(start.begin(), start.end());
        put_chunk(file, "IHDR", header_of(image));
        put_chunk(file, "IDAT", packed);
        put_chunk(file, "IEND", {});
        return file;
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, "no memory was left for a PNG", "PNG"};
    }
}

} // namespace mfres
