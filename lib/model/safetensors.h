// SPDX-License-Identifier: MIT
// Reading and writing safetensors, the tensor file format of the PyTorch ecosystem
// (https://github.com/huggingface/safetensors, "Format").
//
// A file consists of three parts:
//   1. eight bytes: the length N of the header, an unsigned little-endian integer;
//   2. N bytes: the header, a JSON object in UTF-8 that starts with '{' and may end in spaces;
//   3. the data, to the end of the file.
// Each key of the header names a tensor; its value is an object of exactly three fields:
//   "dtype"         "F32", "F16", "BF16", "I8", ... (see Dtype);
//   "shape"         an array of extents, empty for a scalar;
//   "data_offsets"  [begin, end): the tensor's bytes, counted from the start of the data.
// The key "__metadata__" is not a tensor but an object of strings. Values are little-endian, last axis contiguous.
// The tensors' byte ranges cover the data exactly: no overlap, no gap, nothing after the last one.
//
// The reader rejects any deviation from that, and headers longer than max_header_bytes. The writer pads the header with
// spaces so that the data starts at a multiple of 8, and orders tensors by decreasing element size and then by name.
// Every tensor is therefore aligned to its element size, and equal tensors give equal files.
#pragma once

#include "core/tensor.h"
#include "graph/graph.h"

#include <mfres/status.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Longest header that is read or written, in bytes. The format's own limit is 100 MB; the networks of this project
/// need tens of kilobytes.
inline constexpr std::uint64_t max_header_bytes = 1'000'000;

/// Largest file that is read, in bytes.
inline constexpr std::uint64_t max_safetensors_bytes = std::uint64_t{4} << 30U;

/// Element types of the format. Weights may be f32, f16, bf16 or i8; the others can be listed but not decoded.
enum class Dtype : std::uint8_t {
    boolean,
    u8,
    i8,
    f8_e5m2,
    f8_e4m3,
    i16,
    u16,
    f16,
    bf16,
    i32,
    u32,
    f32,
    i64,
    u64,
    f64,
};

/// The format's name of a dtype: "F32", "BF16", "I8", "BOOL", ...
std::string_view name(Dtype dtype) noexcept;

/// Bytes of one element.
std::int64_t element_bytes(Dtype dtype) noexcept;

/// A tensor as the header describes it. shape may have any number of axes; begin and end count bytes of the data.
struct StoredTensor {
    Dtype dtype = Dtype::f32;
    std::vector<std::int64_t> shape;
    std::size_t begin = 0;
    std::size_t end = 0;

    std::int64_t bytes() const { return static_cast<std::int64_t>(end - begin); }
    std::int64_t elements() const { return bytes() / element_bytes(dtype); }
};

/// A file whose header describes its data completely.
struct SafetensorsFile {
    std::string path; ///< for messages
    std::map<std::string, StoredTensor, std::less<>> tensors;
    std::map<std::string, std::string, std::less<>> metadata;
    std::vector<std::byte> bytes; ///< length, header and data
    std::size_t data_begin = 0;

    /// The little-endian bytes of one of `tensors`.
    std::span<const std::byte> data(const StoredTensor& tensor) const {
        return std::span(bytes).subspan(data_begin + tensor.begin, tensor.end - tensor.begin);
    }
};

/// Checks the bytes of a file; `path` is used in messages only, and is the `where` of every error.
/// Errors: model_header_too_large, model_truncated (the file ends before the header or the data does),
/// model_header_invalid (not JSON, another structure, repeated or unknown keys, numbers that are not integers),
/// model_dtype_unsupported (a dtype outside the list above), model_tensor_size (dtype x shape overflows 64 bits or
/// differs from the byte range), model_offsets_invalid (overlap, gap, reversed range, bytes after the last tensor).
Result<SafetensorsFile> parse_safetensors(std::vector<std::byte> bytes, std::string path);

/// Reads and checks a file. Errors: those of read_file (memory_limit above max_safetensors_bytes) and
/// parse_safetensors.
Result<SafetensorsFile> read_safetensors(const std::filesystem::path& path);

/// One tensor as floats: f32, f16 and bf16 exactly, i8 as integers. Errors, `where` is the file's path:
/// model_tensor_missing, model_dtype_unsupported, model_tensor_shape (more than five axes), model_not_finite (a NaN or
/// infinity; the message names the first index and the count).
Result<Tensor> decode_tensor(const SafetensorsFile& file, std::string_view tensor_name);

/// All tensors of the file as floats. Errors: those of decode_tensor.
Result<Weights> decode_tensors(const SafetensorsFile& file);

/// A tensor to be written as f32, f16 or bf16 (rounded to nearest, ties to even) or i8 (integers -128..127).
struct TensorToWrite {
    const Tensor* values = nullptr;
    Dtype dtype = Dtype::f32;
};

/// The bytes of a file; the same input gives the same bytes. Errors: model_dtype_unsupported (a dtype other than those
/// four), model_not_finite (a value is NaN or infinite, or not representable as i8), model_header_too_large,
/// model_header_invalid (a tensor called "__metadata__", text that is not UTF-8).
Result<std::vector<std::byte>> encode_safetensors(const std::map<std::string, TensorToWrite, std::less<>>& tensors,
                                                  const std::map<std::string, std::string, std::less<>>& metadata);

/// `raw` with control characters escaped as \xNN, truncated with "..." to `limit` bytes. Text from a file is passed
/// through it before it is put into a message.
std::string printable(std::string_view raw, std::size_t limit = 120);

} // namespace mfres
