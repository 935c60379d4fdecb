// SPDX-License-Identifier: MIT
#include "data/cache_format.h"

#include "core/checked.h"
#include "core/try.h"
#include "data/block_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <string_view>

namespace mfres {

namespace {

constexpr std::uint32_t version = 1;
/// Added to the bytes per quantum of a contrast whose intensities were clipped for its z-score.
constexpr std::uint8_t clipped_flag = 16;
/// id_bytes, size, voxel_mm, class_voxels, brain_voxels, modalities, blocks.
constexpr std::uint64_t smallest_record = 2 + 3 * 4 + 3 * 8 + 4 * 8 + 8 + 4 * 9 + cache_blocks * 12;
/// DEFLATE expands two bits to at most 258 bytes; a zlib stream has 6 more bytes.
constexpr std::int64_t max_expansion = 1032;

class ByteWriter {
  public:
    template <typename T>
    void number(T value) {
        for (std::size_t i = 0; i < sizeof(T); ++i)
            bytes.push_back(static_cast<std::byte>((value >> (8U * i)) & 0xFFU));
    }
    void real(float value) { number(std::bit_cast<std::uint32_t>(value)); }
    void real(double value) { number(std::bit_cast<std::uint64_t>(value)); }
    void characters(std::string_view value) {
        for (const char c : value) // insert() makes GCC 12 warn at -O3 of a memmove that cannot happen
            bytes.push_back(static_cast<std::byte>(c));
    }

    std::vector<std::byte> bytes;
};

/// Reads numbers one after the other; past the end it returns zeros and remembers that it did.
class ByteReader {
  public:
    explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    template <typename T>
    T number() {
        T value = 0;
        const auto raw = take(sizeof(T));
        for (std::size_t i = 0; i < raw.size(); ++i)
            value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(raw[i]) << (8U * i)));
        return value;
    }
    float real32() { return std::bit_cast<float>(number<std::uint32_t>()); }
    double real64() { return std::bit_cast<double>(number<std::uint64_t>()); }
    std::string characters(std::size_t count) {
        const auto raw = take(count);
        return {reinterpret_cast<const char*>(raw.data()), raw.size()};
    }
    bool overran() const { return overran_; }
    std::size_t left() const { return bytes_.size(); }

  private:
    std::span<const std::byte> take(std::size_t count) {
        if (count > bytes_.size()) {
            overran_ = true;
            return {};
        }
        const auto taken = bytes_.first(count);
        bytes_ = bytes_.subspan(count);
        return taken;
    }

    std::span<const std::byte> bytes_;
    bool overran_ = false;
};

ByteWriter header_fields(std::uint32_t crc, std::uint64_t cases, std::uint64_t index_begin, std::uint64_t index_bytes) {
    ByteWriter writer;
    writer.characters(cache_magic);
    writer.number(version);
    writer.number(crc);
    writer.number(cases);
    writer.number(index_begin);
    writer.number(index_bytes);
    return writer;
}

std::uint32_t header_crc(std::uint64_t cases, std::uint64_t index_begin, std::span<const std::byte> index) {
    const ByteWriter header = header_fields(0, cases, index_begin, index.size());
    return crc32_of(index, crc32_of(header.bytes));
}

Error damaged(const std::string& where, const std::string& what) {
    return {ErrorCode::cache_damaged, text(where, " is a damaged training cache: ", what), where};
}

Error invalid(const std::string& where, const std::string& what) {
    return {ErrorCode::cache_invalid, text(where, " is no valid training cache: ", what), where};
}

CacheRecord read_record(ByteReader& reader) {
    CacheRecord record;
    record.id = reader.characters(reader.number<std::uint16_t>());
    for (auto& extent : record.size)
        extent = reader.number<std::uint32_t>();
    for (auto& mm : record.voxel_mm)
        mm = reader.real64();
    for (auto& voxels : record.class_voxels)
        voxels = static_cast<std::int64_t>(reader.number<std::uint64_t>());
    record.brain_voxels = static_cast<std::int64_t>(reader.number<std::uint64_t>());
    return record;
}

/// The rest of a record; returns what is wrong with it, or nothing.
std::string read_modalities_and_blocks(ByteReader& reader, CacheRecord& record) {
    std::size_t clipped = 0;
    for (auto& modality : record.modalities) {
        auto bytes_per_quantum = reader.number<std::uint8_t>();
        if ((bytes_per_quantum & clipped_flag) != 0) {
            bytes_per_quantum = static_cast<std::uint8_t>(bytes_per_quantum & ~clipped_flag);
            ++clipped;
        }
        modality.wide = bytes_per_quantum == 2;
        modality.scale = reader.real32();
        modality.offset = reader.real32();
        if (bytes_per_quantum != 1 && bytes_per_quantum != 2)
            return text(static_cast<int>(bytes_per_quantum), " bytes per quantum");
        if (!std::isfinite(modality.scale) || !std::isfinite(modality.offset))
            return "a scale or offset that is not finite";
    }
    if (clipped != 0 && clipped != record.modalities.size())
        return text(clipped, " of the contrasts clipped");
    if (clipped != 0)
        record.normalisation = Normalisation::zscore_brain_clipped;
    for (auto& block : record.blocks) {
        block.bytes = reader.number<std::uint64_t>();
        block.crc = reader.number<std::uint32_t>();
    }
    return {};
}

/// What contradicts itself in a record; nothing if all is well.
std::string complaint(const CacheRecord& record) {
    if (record.id.empty() || record.id.size() > longest_case_id)
        return text("an id of ", record.id.size(), " bytes");
    for (const auto extent : record.size)
        if (extent < 1 || extent > largest_box_edge)
            return text("a box of ", record.size[0], "x", record.size[1], "x", record.size[2], " voxels");
    for (const double mm : record.voxel_mm)
        if (!std::isfinite(mm) || mm <= 0.0)
            return text("a voxel size of ", mm, " mm");
    const std::int64_t voxels = record.voxels();
    std::int64_t counted = 0;
    for (const auto count : record.class_voxels) {
        if (count < 0 || count > voxels)
            return text(count, " voxels of a class in a box of ", voxels);
        counted += count;
    }
    if (counted != voxels)
        return text("classes of ", counted, " voxels in a box of ", voxels);
    if (record.brain_voxels < 1 || record.brain_voxels > voxels)
        return text(record.brain_voxels, " brain voxels in a box of ", voxels);
    for (std::size_t b = 0; b < cache_blocks; ++b) {
        const auto inflated = record.inflated_bytes(b);
        const auto bytes = record.blocks[b].bytes;
        // Stored DEFLATE blocks cost 5 bytes in 16383 or more, so even incompressible data stays below this.
        const auto most = static_cast<std::uint64_t>(inflated + inflated / 256 + 1024);
        if (bytes > most || inflated / max_expansion > static_cast<std::int64_t>(bytes))
            return text("block ", b, " of ", bytes, " bytes, which cannot hold ", inflated);
    }
    return {};
}

} // namespace

std::int64_t CacheRecord::inflated_bytes(std::size_t block) const {
    if (block >= modalities.size())
        return voxels();
    return modalities[block].wide ? 2 * brain_voxels : brain_voxels;
}

std::vector<std::byte> encode_index(std::span<const CacheRecord> records) {
    ByteWriter writer;
    for (const auto& record : records) {
        writer.number(static_cast<std::uint16_t>(record.id.size()));
        writer.characters(record.id);
        for (const auto extent : record.size)
            writer.number(static_cast<std::uint32_t>(extent));
        for (const double mm : record.voxel_mm)
            writer.real(mm);
        for (const auto voxels : record.class_voxels)
            writer.number(static_cast<std::uint64_t>(voxels));
        writer.number(static_cast<std::uint64_t>(record.brain_voxels));
        const int flag = record.normalisation == Normalisation::zscore_brain_clipped ? clipped_flag : 0;
        for (const auto& modality : record.modalities) {
            writer.number(static_cast<std::uint8_t>((modality.wide ? 2 : 1) + flag));
            writer.real(modality.scale);
            writer.real(modality.offset);
        }
        for (const auto& block : record.blocks) {
            writer.number(block.bytes);
            writer.number(block.crc);
        }
    }
    return std::move(writer.bytes);
}

std::array<std::byte, cache_header_bytes> encode_header(std::uint64_t cases, std::uint64_t index_begin,
                                                        std::span<const std::byte> index) {
    const ByteWriter writer = header_fields(header_crc(cases, index_begin, index), cases, index_begin, index.size());
    std::array<std::byte, cache_header_bytes> header{};
    std::copy(writer.bytes.begin(), writer.bytes.end(), header.begin());
    return header;
}

Result<CacheHeader> decode_header(std::span<const std::byte> bytes, std::uint64_t file_bytes,
                                  const std::string& where) {
    ByteReader reader(bytes);
    const std::size_t known = std::min(bytes.size(), cache_magic.size());
    if (bytes.empty() || reader.characters(known) != cache_magic.substr(0, known))
        return invalid(where, text("it does not begin with \"", cache_magic, "\""));
    if (bytes.size() < cache_header_bytes)
        return damaged(where, text("it ends after ", bytes.size(), " bytes, within its header"));
    const auto stated_version = reader.number<std::uint32_t>();
    if (stated_version != version)
        return invalid(where, text("its format version is ", stated_version, ", and this program reads ", version));
    CacheHeader header;
    header.crc = reader.number<std::uint32_t>();
    header.cases = reader.number<std::uint64_t>();
    header.index_begin = reader.number<std::uint64_t>();
    header.index_bytes = reader.number<std::uint64_t>();
    if (header.index_begin < cache_header_bytes || header.index_begin > file_bytes ||
        header.index_bytes != file_bytes - header.index_begin)
        return damaged(where, text("it has ", file_bytes, " bytes, but its header places an index of ",
                                   header.index_bytes, " bytes at byte ", header.index_begin));
    return header;
}

Result<std::vector<CacheRecord>> decode_index(const CacheHeader& header, std::span<const std::byte> index,
                                              const std::string& where) {
    if (header_crc(header.cases, header.index_begin, index) != header.crc)
        return damaged(where, "its header and index do not have the CRC-32 that was recorded");
    if (header.cases == 0)
        return Error{ErrorCode::dataset_empty, text(where, " holds no case"), where};
    if (header.cases > index.size() / smallest_record)
        return invalid(where, text(header.cases, " cases in an index of ", index.size(), " bytes"));
    ByteReader reader(index);
    std::vector<CacheRecord> records;
    records.reserve(static_cast<std::size_t>(header.cases));
    std::uint64_t position = cache_header_bytes;
    for (std::uint64_t n = 0; n < header.cases; ++n) {
        CacheRecord record = read_record(reader);
        std::string problem = read_modalities_and_blocks(reader, record);
        if (reader.overran())
            return invalid(where, text("its index ends within case ", n + 1, " of ", header.cases));
        if (problem.empty())
            problem = complaint(record);
        if (!problem.empty())
            return invalid(where, text("case ", n + 1, " (", record.id, ") has ", problem));
        for (auto& block : record.blocks) {
            block.begin = position;
            if (block.bytes > header.index_begin - position)
                return invalid(where, text("the blocks of case ", n + 1, " (", record.id, ") reach into the index"));
            position += block.bytes;
        }
        records.push_back(std::move(record));
    }
    if (reader.left() != 0 || position != header.index_begin)
        return invalid(where, text(reader.left(), " bytes of its index and ", header.index_begin - position,
                                   " bytes of its blocks belong to no case"));
    return records;
}

} // namespace mfres
