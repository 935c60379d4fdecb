// SPDX-License-Identifier: MIT
// gzip (RFC 1952). Every stream is inflated to its end, so that CRC-32 and length are always verified; zlib's
// gzread accepts a file without its trailer.
#pragma once

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mfres {

/// Inflates a gzip file incrementally, one member after the other.
class GzipReader {
  public:
    /// The largest expansion of one byte of DEFLATE data: two bits can encode 258 bytes.
    static constexpr std::uint64_t max_expansion = 1032;

    /// Fills a buffer with the next compressed bytes and returns how many; 0 at the end.
    using Feed = std::function<Result<std::size_t>(std::span<std::byte>)>;

    /// `compressed` must outlive the reader; `where` names the file in error messages.
    GzipReader(std::span<const std::byte> compressed, std::string where);
    /// The same for `size` compressed bytes that are read a piece at a time. Errors of `feed` are passed on by read().
    GzipReader(Feed feed, std::uint64_t size, std::string where);
    GzipReader(GzipReader&&) noexcept;
    GzipReader& operator=(GzipReader&&) noexcept;
    ~GzipReader();

    /// Fills `output` and returns the number of bytes written. Fewer than requested mean that all members have ended,
    /// each with the right CRC-32 and length, and that no bytes follow. Errors: gzip_truncated, gzip_corrupt (bad
    /// header, block, CRC-32 or length, or trailing bytes that are not a member), memory_limit.
    Result<std::size_t> read(std::span<std::byte> output);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Inflates all members of a gzip file at once, three to four times as fast as a GzipReader, with libdeflate. False where
/// they do not make exactly `content`, where anything is damaged, without libdeflate or without memory: `content` is
/// undefined then, and a GzipReader tells the reason.
bool inflate_whole(std::span<const std::byte> compressed, std::span<std::byte> content) noexcept;

/// The whole content of a gzip file held in `compressed`. The buffer grows with the output, so that a small
/// file cannot allocate gigabytes. Errors: those of GzipReader::read, and nifti_too_large beyond `cap` bytes.
Result<std::vector<std::byte>> gunzip(std::span<const std::byte> compressed, std::uint64_t cap,
                                      const std::string& where);

/// Which repetitions are looked for.
enum class GzipMatches : std::uint8_t {
    all,  ///< of any bytes before
    runs, ///< of the byte before: label maps get as small in half the time
};

/// Compresses a gzip member that comes in parts. The parts' borders do not matter. Works on the ThreadPool of the thread that
/// creates it, if it has one; the bytes do not depend on it.
class GzipWriter {
  public:
    /// Takes the next compressed bytes. Its errors are passed on.
    using Take = std::function<Status(std::span<const std::byte>)>;

    /// As gzip() below. Errors: invalid_argument, memory_limit.
    static Result<GzipWriter> create(int level, GzipMatches matches, Take take);
    /// Memory that it takes for a label map of `content` bytes on so many threads.
    static std::int64_t workspace_bytes(std::int64_t content, int threads);
    GzipWriter(GzipWriter&&) noexcept;
    GzipWriter& operator=(GzipWriter&&) noexcept;
    ~GzipWriter();

    /// Errors: memory_limit, those of `take`. After one the member cannot be completed.
    Status append(std::span<const std::byte> content);
    /// The member's end. Call once, after the last part. Errors: likewise.
    Status finish();

  private:
    struct State;
    explicit GzipWriter(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// `content` as one gzip member with time 0, no name and "unknown" as operating system, so that equal content gives
/// equal files. `level` is zlib's, 0 (stored) to 9. Errors: invalid_argument, memory_limit.
Result<std::vector<std::byte>> gzip(std::span<const std::byte> content, int level = 6,
                                    GzipMatches matches = GzipMatches::all);

} // namespace mfres
