// SPDX-License-Identifier: MIT
#include "imaging/nifti/gzip.h"

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

struct GzipWriter::State {
    z_stream stream{};
    gz_header header{};
    std::vector<std::byte> buffer;
    Take take;
    bool initialised = false;

    ~State() {
        if (initialised)
            deflateEnd(&stream);
    }

    /// Compresses what the stream has to, and passes on what comes out.
    Status step(int flush) {
        int code = Z_OK;
        do {
            stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
            stream.avail_out = zlib_size(buffer.size());
            code = deflate(&stream, flush);
            if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
                return Error{ErrorCode::internal, text("zlib stopped compressing with code ", code), ""};
            if (const auto made = std::span(buffer).first(buffer.size() - stream.avail_out); !made.empty())
                MFRES_CHECK(take(made));
        } while (flush == Z_FINISH ? code != Z_STREAM_END : stream.avail_out == 0);
        return {};
    }
};

GzipWriter::GzipWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
GzipWriter::GzipWriter(GzipWriter&&) noexcept = default;
GzipWriter& GzipWriter::operator=(GzipWriter&&) noexcept = default;
GzipWriter::~GzipWriter() = default;

Result<GzipWriter> GzipWriter::create(int level, GzipMatches matches, Take take) {
    if (level < 0 || level > 9)
        return Error{ErrorCode::invalid_argument, text("the gzip level must be 0 to 9, not ", level), ""};
    auto state = std::make_unique<State>();
    state->buffer.resize(std::size_t{1} << 16U);
    state->take = std::move(take);
    const int strategy = matches == GzipMatches::runs ? Z_RLE : Z_DEFAULT_STRATEGY;
    state->initialised = deflateInit2(&state->stream, level, Z_DEFLATED, largest_window_as_gzip, 8, strategy) == Z_OK;
    if (!state->initialised)
        return Error{ErrorCode::memory_limit, "no memory to compress a file", ""};
    state->header.os = 255; // "unknown"; by default zlib writes the system it was built for
    deflateSetHeader(&state->stream, &state->header);
    return GzipWriter(std::move(state));
}

Status GzipWriter::append(std::span<const std::byte> content) {
    while (!content.empty()) {
        const auto part = content.first(zlib_size(content.size()));
        state_->stream.next_in = zlib_bytes(part.data());
        state_->stream.avail_in = static_cast<uInt>(part.size());
        MFRES_CHECK(state_->step(Z_NO_FLUSH));
        content = content.subspan(part.size());
    }
    return {};
}

Status GzipWriter::finish() {
    return state_->step(Z_FINISH);
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
