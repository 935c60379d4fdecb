// SPDX-License-Identifier: MIT
#include "imaging/nifti/gzip.h"

#include "core/little_endian.h"
#include "core/parallel.h"
#include "core/thread_pool.h"
#include "core/try.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <new>
#include <utility>
#include <zlib.h>
#ifdef MFRES_WITH_LIBDEFLATE
#include <libdeflate.h>
#endif

namespace mfres {

namespace {

constexpr int largest_window_as_gzip = 15 + 16; // zlib: +16 selects the gzip format, and no other is accepted

/// zlib counts in unsigned int; longer buffers are passed in parts.
uInt zlib_size(std::size_t bytes) {
    return static_cast<uInt>(std::min<std::size_t>(bytes, std::numeric_limits<uInt>::max()));
}

Bytef* zlib_bytes(const std::byte* bytes) {
    // zlib declares its input pointer without const but never writes through it.
    return const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes));
}

} // namespace

struct GzipReader::State {
    std::string where;
    std::uint64_t size = 0; ///< of all compressed bytes
    std::uint64_t consumed = 0;
    std::span<const std::byte> piece; ///< bytes at hand that are not consumed
    Feed feed;                        ///< none if the piece is all there is
    std::vector<std::byte> buffer;    ///< that `feed` fills
    z_stream stream{};
    int members = 0;
    bool initialised = false;
    bool between = true; ///< before the first member, or after one whose trailer has been read and verified

    State(std::uint64_t bytes, std::string name) : where(std::move(name)), size(bytes) {
        initialised = inflateInit2(&stream, largest_window_as_gzip) == Z_OK;
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
        if (initialised)
            inflateEnd(&stream);
    }

    Error fail(ErrorCode code, const std::string& reason) const { return {code, text(where, " ", reason), where}; }

    Error truncated() const {
        return fail(ErrorCode::gzip_truncated, text("is a gzip file that ends after ", size,
                                                    " bytes, before its stream and trailer are complete"));
    }

    Error corrupt() const {
        const char* detail = stream.msg != nullptr ? stream.msg : "damaged block";
        return fail(ErrorCode::gzip_corrupt,
                    text("is a damaged gzip file: ", detail, " near byte ", consumed, " of ", size));
    }

    /// Has at least two bytes at hand, as many as a member's magic has, unless fewer are left.
    Status refill() {
        while (feed && piece.size() < 2) {
            std::copy(piece.begin(), piece.end(), buffer.begin());
            MFRES_TRY(const std::size_t got, feed(std::span(buffer).subspan(piece.size())));
            piece = std::span(buffer).first(piece.size() + got);
            if (got == 0)
                break;
        }
        return {};
    }

    /// Checks the first two bytes of a member. zlib reports a single wrong byte as truncation.
    Status check_member_magic() const {
        constexpr std::array<std::byte, 2> magic = {std::byte{0x1F}, std::byte{0x8B}};
        if (std::equal(magic.begin(), magic.begin() + std::min<std::ptrdiff_t>(2, std::ssize(piece)), piece.begin()))
            return {};
        return fail(ErrorCode::gzip_corrupt,
                    members == 0
                        ? "is not a gzip file: it does not begin with the bytes 1F 8B"
                        : text("has ", size - consumed, " bytes after its gzip stream that are not another one"));
    }

    /// One call of inflate() into `output`; returns the bytes written.
    Result<std::size_t> step(std::span<std::byte> output) {
        MFRES_CHECK(refill());
        const auto available_in = zlib_size(piece.size());
        const auto available_out = zlib_size(output.size());
        stream.next_in = zlib_bytes(piece.data());
        stream.avail_in = available_in;
        stream.next_out = reinterpret_cast<Bytef*>(output.data());
        stream.avail_out = available_out;
        const int code = inflate(&stream, Z_NO_FLUSH);
        consumed += available_in - stream.avail_in;
        piece = piece.subspan(available_in - stream.avail_in);
        const std::size_t written = available_out - stream.avail_out;
        switch (code) {
        case Z_OK: return written;
        case Z_STREAM_END:
            between = true;
            ++members;
            return written;
        case Z_BUF_ERROR: // no progress although there is space for output: the input is incomplete
            return truncated();
        case Z_MEM_ERROR: return fail(ErrorCode::memory_limit, "could not be inflated: out of memory");
        default: return corrupt();
        }
    }
};

GzipReader::GzipReader(std::span<const std::byte> compressed, std::string where)
    : state_(std::make_unique<State>(compressed.size(), std::move(where))) {
    state_->piece = compressed;
}
GzipReader::GzipReader(Feed feed, std::uint64_t size, std::string where)
    : state_(std::make_unique<State>(size, std::move(where))) {
    state_->buffer.resize(std::size_t{1} << 16U);
    state_->feed = std::move(feed);
}
GzipReader::GzipReader(GzipReader&&) noexcept = default;
GzipReader& GzipReader::operator=(GzipReader&&) noexcept = default;
GzipReader::~GzipReader() = default;

Result<std::size_t> GzipReader::read(std::span<std::byte> output) {
    State& state = *state_;
    if (!state.initialised)
        return state.fail(ErrorCode::memory_limit, "could not be inflated: out of memory");
    std::size_t done = 0;
    while (done < output.size()) {
        if (state.between) {
            MFRES_CHECK(state.refill());
            if (state.members > 0 && state.piece.empty())
                break;
            MFRES_CHECK(state.check_member_magic());
            inflateReset(&state.stream);
            state.between = false;
        }
        MFRES_TRY(const std::size_t written, state.step(output.subspan(done)));
        done += written;
    }
    return done;
}

#ifdef MFRES_WITH_LIBDEFLATE

bool inflate_whole(std::span<const std::byte> compressed, std::span<std::byte> content) noexcept {
    struct Free {
        void operator()(libdeflate_decompressor* memory) const { libdeflate_free_decompressor(memory); }
    };
    const std::unique_ptr<libdeflate_decompressor, Free> decompressor(libdeflate_alloc_decompressor());
    if (!decompressor)
        return false;
    do {
        // libdeflate does not verify the CRC-16 of a header, which zlib does.
        constexpr std::size_t flags = 3;
        constexpr auto header_crc = std::byte{2};
        if (compressed.size() <= flags || (compressed[flags] & header_crc) != std::byte{0})
            return false;
        std::size_t consumed = 0;
        std::size_t written = 0;
        if (libdeflate_gzip_decompress_ex(decompressor.get(), compressed.data(), compressed.size(), content.data(),
                                          content.size(), &consumed, &written) != LIBDEFLATE_SUCCESS)
            return false;
        compressed = compressed.subspan(consumed);
        content = content.subspan(written);
    } while (!compressed.empty());
    return content.empty();
}

#else

bool inflate_whole(std::span<const std::byte>, std::span<std::byte>) noexcept {
    return false;
}

#endif

Result<std::vector<std::byte>> gunzip(std::span<const std::byte> compressed, std::uint64_t cap,
                                      const std::string& where) {
    constexpr std::uint64_t first_guess = 1U << 16U;
    cap = std::min<std::uint64_t>(cap, std::numeric_limits<std::int64_t>::max());
    try {
        GzipReader reader(compressed, where);
        std::vector<std::byte> content;
        std::size_t filled = 0;
        while (true) {
            // One byte more than the cap is requested, to distinguish a stream that ends there from a longer one.
            const std::uint64_t wanted = std::max(first_guess, 2 * std::uint64_t{filled});
            content.resize(static_cast<std::size_t>(std::min(wanted, cap + 1)));
            MFRES_TRY(const std::size_t got, reader.read(std::span(content).subspan(filled)));
            filled += got;
            if (filled > cap)
                return Error{ErrorCode::nifti_too_large,
                             text(where, " inflates to more than the ", cap, " bytes allowed"), where};
            if (filled < content.size()) {
                content.resize(filled);
                return content;
            }
        }
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, text(where, " does not fit into memory when inflated"), where};
    }
}

namespace {

/// Of content. A part ends with a few bytes more than a member that is compressed in one go: 1 % of a label map.
constexpr std::size_t part_bytes = std::size_t{1} << 20U;
/// More would take memory and gain little.
constexpr int most_parts = 8;
constexpr std::size_t window_bytes = std::size_t{1} << 15U;

/// A part of a member's content, compressed apart from the others to whole bytes, so that threads share the work and the
/// file does not depend on how many there are.
class DeflatedPart {
  public:
    std::vector<std::byte> content;
    std::vector<std::byte> compressed;
    uLong crc = 0;

    DeflatedPart() = default;
    DeflatedPart(const DeflatedPart&) = delete;
    DeflatedPart& operator=(const DeflatedPart&) = delete;
    ~DeflatedPart() {
        if (initialised_)
            deflateEnd(&stream_);
    }

    /// Compresses the content, which may repeat what is in `window`. Throws std::bad_alloc.
    void deflate(int level, GzipMatches matches, std::span<const std::byte> window, bool last) {
        start(level, matches == GzipMatches::runs ? Z_RLE : Z_DEFAULT_STRATEGY);
        if (matches == GzipMatches::all && !window.empty())
            deflateSetDictionary(&stream_, zlib_bytes(window.data()), zlib_size(window.size()));
        stream_.next_in = zlib_bytes(content.data());
        stream_.avail_in = zlib_size(content.size());
        compressed.clear();
        do {
            std::array<std::byte, std::size_t{1} << 16U> made;
            stream_.next_out = reinterpret_cast<Bytef*>(made.data());
            stream_.avail_out = zlib_size(made.size());
            ::deflate(&stream_, last ? Z_FINISH : Z_SYNC_FLUSH); // cannot fail: there is room for what comes out
            compressed.insert(compressed.end(), made.begin(), made.end() - stream_.avail_out);
        } while (stream_.avail_out == 0);
        crc = crc32_z(0, zlib_bytes(content.data()), content.size());
    }

  private:
    void start(int level, int strategy) {
        constexpr int window_without_header = -15;
        constexpr int memory_level = 8;
        if (initialised_) {
            deflateReset(&stream_);
            return;
        }
        initialised_ = deflateInit2(&stream_, level, Z_DEFLATED, window_without_header, memory_level, strategy) == Z_OK;
        if (!initialised_)
            throw std::bad_alloc();
    }

    z_stream stream_{};
    bool initialised_ = false;
};

} // namespace

struct GzipWriter::State {
    int level = 0;
    GzipMatches matches = GzipMatches::all;
    Take take;
    std::vector<DeflatedPart> parts;
    std::size_t filled = 0;        ///< parts that wait to be compressed
    std::vector<std::byte> window; ///< the end of the content before the first of them
    bool begun = false;
    std::uint64_t bytes = 0; ///< of content that has been compressed, and its checksum
    uLong crc = 0;

    /// The header comes out with the first part.
    Status begin() {
        constexpr std::array<std::byte, 10> header = {
            std::byte{0x1F}, std::byte{0x8B}, std::byte{8}, {}, {}, {}, {}, {}, {},
            std::byte{255}}; // the system is "unknown"
        return std::exchange(begun, true) ? Status() : take(header);
    }

    Status append(std::span<const std::byte> content) {
        MFRES_CHECK(begin());
        while (!content.empty()) {
            std::vector<std::byte>& part = parts[filled].content;
            const std::size_t count = std::min(part_bytes - part.size(), content.size());
            part.insert(part.end(), content.begin(), content.begin() + static_cast<std::ptrdiff_t>(count));
            content = content.subspan(count);
            if (part.size() == part_bytes && ++filled == parts.size())
                MFRES_CHECK(compress(false));
        }
        return {};
    }

    /// Compresses the parts that are filled, and passes on what comes out. `last`: also the one after them, which ends the
    /// member.
    Status compress(bool last) {
        const std::size_t count = filled + (last ? 1 : 0);
        parallel_ranges(static_cast<std::int64_t>(count), static_cast<int>(count),
                        [&](std::int64_t first, std::int64_t end) {
                            for (auto n = static_cast<std::size_t>(first); n < static_cast<std::size_t>(end); ++n)
                                parts[n].deflate(level, matches, n == 0 ? window : end_of(parts[n - 1].content),
                                                 last && n + 1 == count);
                        });
        for (DeflatedPart& part : std::span(parts).first(count)) {
            MFRES_CHECK(take(part.compressed));
            crc = crc32_combine(crc, part.crc, static_cast<z_off_t>(part.content.size()));
            bytes += part.content.size();
        }
        if (count > 0) {
            const auto end = end_of(parts[count - 1].content);
            window.assign(end.begin(), end.end());
        }
        for (DeflatedPart& part : std::span(parts).first(count))
            part.content.clear();
        filled = 0;
        return {};
    }

    Status finish() {
        MFRES_CHECK(begin());
        MFRES_CHECK(compress(true));
        MFRES_CHECK(take(little_endian(static_cast<std::uint32_t>(crc))));
        return take(little_endian(static_cast<std::uint32_t>(bytes))); // modulo 2^32
    }

    static std::span<const std::byte> end_of(const std::vector<std::byte>& content) {
        return std::span(content).last(std::min(window_bytes, content.size()));
    }
};

GzipWriter::GzipWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
GzipWriter::GzipWriter(GzipWriter&&) noexcept = default;
GzipWriter& GzipWriter::operator=(GzipWriter&&) noexcept = default;
GzipWriter::~GzipWriter() = default;

std::int64_t GzipWriter::workspace_bytes(std::int64_t content, int threads) {
    constexpr std::int64_t zlib_bytes = 268
                                        << 10; // zconf.h: (1 << (windowBits + 2)) + (1 << (memLevel + 9)), and a few
    constexpr std::int64_t compressed_bytes = 64 << 10; // runs take less
    constexpr auto part = static_cast<std::int64_t>(part_bytes);
    const std::int64_t parts = std::min<std::int64_t>(std::clamp(threads, 1, most_parts), content / part + 1);
    return std::min(content, parts * part) + parts * (compressed_bytes + zlib_bytes);
}

Result<GzipWriter> GzipWriter::create(int level, GzipMatches matches, Take take) {
    if (level < 0 || level > 9)
        return Error{ErrorCode::invalid_argument, text("the gzip level must be 0 to 9, not ", level), ""};
    const ThreadPool* const pool = ThreadPool::current();
    auto state = std::make_unique<State>();
    state->level = level;
    state->matches = matches;
    state->take = std::move(take);
    state->parts =
        std::vector<DeflatedPart>(static_cast<std::size_t>(pool ? std::min(pool->threads(), most_parts) : 1));
    return GzipWriter(std::move(state));
}

namespace {

template <typename Body>
Status within_memory(const Body& body) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, "no memory to compress a file", ""};
    }
}

} // namespace

Status GzipWriter::append(std::span<const std::byte> content) {
    return within_memory([&] { return state_->append(content); });
}

Status GzipWriter::finish() {
    return within_memory([&] { return state_->finish(); });
}

Result<std::vector<std::byte>> gzip(std::span<const std::byte> content, int level, GzipMatches matches) {
    try {
        std::vector<std::byte> compressed;
        MFRES_TRY(GzipWriter writer,
                  GzipWriter::create(level, matches, [&](std::span<const std::byte> bytes) -> Status {
                      compressed.insert(compressed.end(), bytes.begin(), bytes.end());
                      return {};
                  }));
        MFRES_CHECK(writer.append(content));
        MFRES_CHECK(writer.finish());
        return compressed;
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit, text("no memory to compress ", content.size(), " bytes"), ""};
    }
}

} // namespace mfres
