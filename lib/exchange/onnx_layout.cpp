// SPDX-License-Identifier: MIT
// The outline of an ONNX file, which is a protobuf message (https://protobuf.dev/programming-guides/encoding).
#include "exchange/onnx_layout.h"

#include "core/file.h"
#include "core/try.h"
#include "exchange/onnx.h"

#include <algorithm>
#include <array>

namespace mfres {

namespace {

constexpr std::int64_t max_fields = 1'000'000; // of all messages that are followed

/// Reads single bytes of a file through a small buffer.
class Bytes {
  public:
    explicit Bytes(const ReadableFile& file) : file_(file) {}

    Result<std::uint8_t> at(std::uint64_t offset) {
        if (offset < begin_ || offset >= begin_ + held_) {
            begin_ = offset;
            held_ = static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), file_.size() - offset));
            MFRES_CHECK(file_.read_at(offset, std::span(buffer_).first(held_)));
        }
        return std::to_integer<std::uint8_t>(buffer_[static_cast<std::size_t>(offset - begin_)]);
    }

  private:
    const ReadableFile& file_;
    std::array<std::byte, 4096> buffer_{};
    std::uint64_t begin_ = 0;
    std::size_t held_ = 0;
};

class Outline {
  public:
    explicit Outline(const ReadableFile& file) : file_(file), bytes_(file) {}

    /// The fields from `at` to `end`, and those of the message in field `inner`.
    Status follow(std::uint64_t at, std::uint64_t end, std::uint64_t inner) {
        while (at < end) {
            const std::uint64_t start = at;
            if (++fields_ > max_fields)
                return damaged(start, text("more than ", max_fields, " fields"));
            MFRES_TRY(const std::uint64_t tag, varint(at, end));
            const std::uint64_t field = tag >> 3U;
            if (field == 0 || field >= (std::uint64_t{1} << 29U))
                return damaged(start, text("no field has the number ", field));
            std::uint64_t length = 0;
            switch (tag & 7U) {
            case 0: { // a number
                MFRES_CHECK(varint(at, end));
                break;
            }
            case 1: length = 8; break;
            case 5: length = 4; break;
            case 2: { // bytes, text or a message
                MFRES_TRY(length, varint(at, end));
                break;
            }
            case 3: // groups of the first versions of protobuf, which ONNX never had
            case 4:
            case 6:
            case 7: return damaged(start, text("no field is of type ", tag & 7U));
            }
            if (length > end - at)
                return damaged(start, text("field ", field, " has ", length, " bytes, ", end - at, " are left"));
            if ((tag & 7U) == 2 && field == inner)
                MFRES_CHECK(follow(at, at + length, 0));
            at += length;
        }
        return {};
    }

    Status model() {
        constexpr std::uint64_t graph = 7; // of ModelProto
        return follow(0, file_.size(), graph);
    }

  private:
    Error damaged(std::uint64_t offset, const std::string& problem) const {
        return {ErrorCode::model_header_invalid,
                text(file_.path().string(), ": no ONNX file, or one that is damaged or cut off: ", problem,
                     " (at byte ", offset, ")"),
                file_.path().string()};
    }

    Result<std::uint64_t> varint(std::uint64_t& at, std::uint64_t end) {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            if (at >= end)
                return damaged(at, "a number is cut off");
            MFRES_TRY(const std::uint8_t byte, bytes_.at(at++));
            value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
            if (byte < 0x80U)
                return value;
        }
        return damaged(at, "a number has more than 64 bits");
    }

    const ReadableFile& file_;
    Bytes bytes_;
    std::int64_t fields_ = 0;
};

} // namespace

Status check_onnx_layout(const std::filesystem::path& path) {
    MFRES_TRY(const ReadableFile file, ReadableFile::open(path));
    if (file.size() > max_onnx_bytes)
        return Error{ErrorCode::memory_limit,
                     text(path.string(), " has ", file.size(), " bytes, more than the ", max_onnx_bytes, " allowed"),
                     path.string()};
    return Outline(file).model();
}

} // namespace mfres
