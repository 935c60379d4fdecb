// SPDX-License-Identifier: MIT
#include "data/block_codec.h"

#include "core/try.h"

#include <algorithm>
#include <limits>
#include <new>
#include <type_traits>
#include <zlib.h>

namespace mfres {

namespace {

Result<std::vector<std::byte>> deflate_bytes(std::span<const std::uint8_t> content, int strategy) {
    const Error no_memory{
        ErrorCode::memory_limit, text("there is no memory to compress ", content.size(), " bytes"), {}};
    z_stream stream{};
    if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS, MAX_MEM_LEVEL, strategy) != Z_OK)
        return no_memory;
    std::vector<std::byte> packed;
    try {
        packed.resize(deflateBound(&stream, static_cast<uLong>(content.size())));
    } catch (const std::bad_alloc&) {
        deflateEnd(&stream);
        return no_memory;
    }
    // A box has at most 2^30 voxels of two bytes, which fits zlib's 32-bit counts.
    stream.next_in = const_cast<Bytef*>(content.data());
    stream.avail_in = static_cast<uInt>(content.size());
    stream.next_out = reinterpret_cast<Bytef*>(packed.data());
    stream.avail_out = static_cast<uInt>(packed.size());
    const int code = deflate(&stream, Z_FINISH);
    packed.resize(packed.size() - stream.avail_out);
    deflateEnd(&stream);
    if (code != Z_STREAM_END)
        return Error{ErrorCode::internal, text("zlib stopped compressing with code ", code), {}};
    return packed;
}

/// Inflates into exactly `content`; a stream that would hold more or less is rejected, so its size is bounded.
Status inflate_bytes(std::span<const std::byte> packed, std::span<std::uint8_t> content, const std::string& where) {
    std::uint8_t nothing = 0; // zlib rejects a null pointer even for no bytes at all
    uLongf written = static_cast<uLongf>(content.size());
    uLong taken = static_cast<uLong>(packed.size());
    const int code = uncompress2(content.empty() ? &nothing : content.data(), &written,
                                 reinterpret_cast<const Bytef*>(packed.data()), &taken);
    if (code == Z_MEM_ERROR)
        return Error{ErrorCode::memory_limit, text("there is no memory to inflate ", where), where};
    if (code != Z_OK || written != content.size() || taken != packed.size())
        return Error{ErrorCode::cache_damaged,
                     text(where, " does not inflate to the ", content.size(), " bytes it should hold"), where};
    return {};
}

/// Calls visit(index, prediction) for every brain voxel, in the order of the array; `quanta` must hold the right
/// values at all earlier voxels when visit is called, and 0 outside the brain.
template <typename T, typename Visit>
void visit_predictions(const T* quanta, std::span<const std::uint8_t> brain, const BoxSize& size, const Visit& visit) {
    const std::vector<T> nothing(static_cast<std::size_t>(size[2]), T{0});
    const std::int64_t plane = size[1] * size[2];
    for (std::int64_t x = 0; x < size[0]; ++x)
        for (std::int64_t y = 0; y < size[1]; ++y) {
            const std::int64_t first = x * plane + y * size[2];
            const T* const row_a = x > 0 ? quanta + first - plane : nothing.data();
            const T* const row_b = y > 0 ? quanta + first - size[2] : nothing.data();
            const T* const row_ab = x > 0 && y > 0 ? quanta + first - plane - size[2] : nothing.data();
            for (std::int64_t z = 0; z < size[2]; ++z) {
                if (brain[static_cast<std::size_t>(first + z)] == 0)
                    continue;
                const int a = row_a[z];
                const int b = row_b[z];
                const int c = z > 0 ? quanta[first + z - 1] : 0;
                const int ac = z > 0 ? row_a[z - 1] : 0;
                const int bc = z > 0 ? row_b[z - 1] : 0;
                const int p = a + b - row_ab[z];
                const int q = a + c - ac;
                const int r = b + c - bc;
                visit(first + z, std::max(std::min(p, q), std::min(std::max(p, q), r)));
            }
        }
}

std::uint16_t fold(std::uint16_t difference) {
    const bool negative = (difference & 0x8000U) != 0;
    return static_cast<std::uint16_t>((difference << 1U) ^ (negative ? 0xFFFFU : 0U));
}

std::uint16_t unfold(std::uint16_t folded) {
    return static_cast<std::uint16_t>((folded >> 1U) ^ ((folded & 1U) != 0 ? 0xFFFFU : 0U));
}

std::size_t count_brain(std::span<const std::uint8_t> brain) {
    return brain.size() - static_cast<std::size_t>(std::count(brain.begin(), brain.end(), std::uint8_t{0}));
}

template <typename T>
Result<std::vector<std::byte>> pack(std::span<const T> quanta, std::span<const std::uint8_t> brain,
                                    const BoxSize& size) {
    const std::size_t voxels = count_brain(brain);
    std::vector<std::uint8_t> residuals(voxels * sizeof(T));
    std::size_t n = 0;
    visit_predictions(quanta.data(), brain, size, [&](std::int64_t index, int prediction) {
        const int difference = quanta[static_cast<std::size_t>(index)] - prediction;
        if constexpr (sizeof(T) == 1) {
            residuals[n++] = static_cast<std::uint8_t>(difference);
        } else {
            const std::uint16_t folded = fold(static_cast<std::uint16_t>(difference));
            residuals[n] = static_cast<std::uint8_t>(folded & 0xFFU);
            residuals[voxels + n++] = static_cast<std::uint8_t>(folded >> 8U);
        }
    });
    return deflate_bytes(residuals, Z_HUFFMAN_ONLY);
}

template <typename T>
Status unpack(std::span<const std::byte> packed, std::span<const std::uint8_t> brain, const BoxSize& size,
              std::span<T> quanta, const std::string& where) {
    const std::size_t voxels = count_brain(brain);
    std::vector<std::uint8_t> residuals(voxels * sizeof(T));
    MFRES_CHECK(inflate_bytes(packed, residuals, where));
    std::fill(quanta.begin(), quanta.end(), T{0});
    std::size_t n = 0;
    visit_predictions(quanta.data(), brain, size, [&](std::int64_t index, int prediction) {
        using Unsigned = std::make_unsigned_t<T>;
        std::uint16_t difference = residuals[n];
        if constexpr (sizeof(T) == 2)
            difference = unfold(static_cast<std::uint16_t>(difference | (residuals[voxels + n] << 8U)));
        ++n;
        quanta[static_cast<std::size_t>(index)] =
            static_cast<T>(static_cast<Unsigned>(static_cast<unsigned>(prediction) + difference));
    });
    return {};
}

} // namespace

Result<std::vector<std::byte>> pack_quanta(std::span<const std::uint8_t> quanta, std::span<const std::uint8_t> brain,
                                           const BoxSize& size) {
    return pack(quanta, brain, size);
}

Result<std::vector<std::byte>> pack_quanta(std::span<const std::int16_t> quanta, std::span<const std::uint8_t> brain,
                                           const BoxSize& size) {
    return pack(quanta, brain, size);
}

Status unpack_quanta(std::span<const std::byte> packed, std::span<const std::uint8_t> brain, const BoxSize& size,
                     std::span<std::uint8_t> quanta, const std::string& where) {
    return unpack(packed, brain, size, quanta, where);
}

Status unpack_quanta(std::span<const std::byte> packed, std::span<const std::uint8_t> brain, const BoxSize& size,
                     std::span<std::int16_t> quanta, const std::string& where) {
    return unpack(packed, brain, size, quanta, where);
}

Result<std::vector<std::byte>> pack_labels(std::span<const std::uint8_t> labels) {
    return deflate_bytes(labels, Z_DEFAULT_STRATEGY);
}

Status unpack_labels(std::span<const std::byte> packed, std::span<std::uint8_t> labels, const std::string& where) {
    return inflate_bytes(packed, labels, where);
}

std::uint32_t crc32_of(std::span<const std::byte> bytes, std::uint32_t crc) {
    return static_cast<std::uint32_t>(crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

} // namespace mfres
