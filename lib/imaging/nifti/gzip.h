// gzip (RFC 1952) in memory. Every stream is inflated to its end, so that CRC-32 and length are always verified:
// zlib's own gzread accepts a file that has lost its trailer.
#pragma once

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mfres {

/// Inflates a gzip file piece by piece, one member after the other, without ever holding the whole output.
class GzipReader {
  public:
    /// The largest number of bytes that one byte of DEFLATE data can stand for: 258 bytes from two bits.
    static constexpr std::uint64_t max_expansion = 1032;

    /// `compressed` must outlive the reader; `where` names the file in error messages.
    GzipReader(std::span<const std::byte> compressed, std::string where);
    GzipReader(GzipReader&&) noexcept;
    GzipReader& operator=(GzipReader&&) noexcept;
    ~GzipReader();

    /// Fills `output` and returns how many bytes were written. Fewer than asked for means that every member has ended
    /// with the right CRC-32 and length and that nothing follows. Errors: gzip_truncated, gzip_corrupt (bad header,
    /// block, CRC-32 or length, or bytes that are no further member), memory_limit.
    Result<std::size_t> read(std::span<std::byte> output);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// The whole content of a gzip file held in `compressed`. Grows its buffer with the output, so that a promise of
/// gigabytes costs nothing. Errors: those of GzipReader::read, and nifti_too_large beyond `cap` bytes.
Result<std::vector<std::byte>> gunzip(std::span<const std::byte> compressed, std::uint64_t cap,
                                      const std::string& where);

/// `content` as one gzip member with time 0, no name and "unknown" as operating system, so that equal content gives
/// equal files. `level` is zlib's, 0 (stored) to 9. Errors: invalid_argument, memory_limit.
Result<std::vector<std::byte>> gzip(std::span<const std::byte> content, int level = 6);

} // namespace mfres
