// SPDX-License-Identifier: MIT
#include "model/safetensors.h"

#include "core/checked.h"
#include "core/file.h"
#include "core/format.h"
#include "core/guard.h"
#include "core/half.h"
#include "core/json_value.h"
#include "core/little_endian.h"
#include "core/try.h"
#include "model/tensor_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

namespace mfres {

namespace {

constexpr std::size_t length_bytes = 8;
constexpr std::string_view metadata_key = "__metadata__";

struct DtypeEntry {
    Dtype dtype;
    std::string_view name;
    std::int64_t bytes;
};

constexpr std::array<DtypeEntry, 15> dtypes = {{
    {Dtype::boolean, "BOOL", 1},
    {Dtype::u8, "U8", 1},
    {Dtype::i8, "I8", 1},
    {Dtype::f8_e5m2, "F8_E5M2", 1},
    {Dtype::f8_e4m3, "F8_E4M3", 1},
    {Dtype::i16, "I16", 2},
    {Dtype::u16, "U16", 2},
    {Dtype::f16, "F16", 2},
    {Dtype::bf16, "BF16", 2},
    {Dtype::i32, "I32", 4},
    {Dtype::u32, "U32", 4},
    {Dtype::f32, "F32", 4},
    {Dtype::i64, "I64", 8},
    {Dtype::u64, "U64", 8},
    {Dtype::f64, "F64", 8},
}};

/// One entry of the header; only its structure has been checked.
struct HeaderTensor {
    std::optional<std::string> dtype;
    std::optional<std::vector<std::uint64_t>> shape;
    std::optional<std::vector<std::uint64_t>> offsets;
};

struct Header {
    std::map<std::string, HeaderTensor, std::less<>> tensors;
    std::map<std::string, std::string, std::less<>> metadata;
};

/// SAX handler that stops at the first event that the format does not allow. A document tree would hide repeated keys.
class HeaderReader : public nlohmann::json_sax<Json> {
  public:
    Header header;
    std::string problem;

    bool null() override { return unexpected("null"); }
    bool boolean(bool) override { return unexpected("a boolean"); }
    bool number_integer(number_integer_t value) override { return unexpected(text("the number ", value)); }
    bool number_float(number_float_t, const string_t& digits) override {
        return unexpected(text("the number ", printable(digits)));
    }
    bool binary(binary_t&) override { return unexpected("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (place_ == Place::shape)
            tensor_->shape->push_back(value);
        else if (place_ == Place::offsets)
            tensor_->offsets->push_back(value);
        else
            return unexpected(text("the number ", value));
        return true;
    }

    bool string(string_t& value) override {
        if (place_ == Place::metadata) {
            header.metadata[key_] = std::move(value);
            return true;
        }
        if (place_ == Place::tensor && key_ == "dtype") {
            tensor_->dtype = std::move(value);
            return true;
        }
        return unexpected("a string");
    }

    bool start_object(std::size_t) override {
        if (place_ == Place::outside)
            place_ = Place::root;
        else if (place_ == Place::root && key_ == metadata_key)
            place_ = Place::metadata;
        else if (place_ == Place::root)
            place_ = Place::tensor;
        else
            return unexpected("an object");
        return true;
    }

    bool key(string_t& value) override {
        key_ = std::move(value);
        if (place_ == Place::metadata)
            return header.metadata.count(key_) == 0 || repeated();
        if (place_ == Place::tensor)
            return field_is_new();
        if (key_ == metadata_key) {
            const bool first = !has_metadata_;
            has_metadata_ = true;
            return first || repeated();
        }
        tensor_name_ = key_;
        const auto [position, added] = header.tensors.try_emplace(key_);
        tensor_ = &position->second;
        return added || repeated();
    }

    bool end_object() override {
        if (place_ == Place::tensor && !(tensor_->dtype && tensor_->shape && tensor_->offsets))
            return reject(text(here(), " lacks a field; it needs dtype, shape and data_offsets"));
        place_ = place_ == Place::root ? Place::outside : Place::root;
        return true;
    }

    bool start_array(std::size_t) override {
        if (place_ == Place::tensor && key_ == "shape") {
            place_ = Place::shape;
            tensor_->shape.emplace();
        } else if (place_ == Place::tensor && key_ == "data_offsets") {
            place_ = Place::offsets;
            tensor_->offsets.emplace();
        } else {
            return unexpected("an array");
        }
        return true;
    }

    bool end_array() override {
        if (place_ == Place::offsets && tensor_->offsets->size() != 2)
            return reject(text(here(), " has ", tensor_->offsets->size(), " data_offsets instead of 2"));
        place_ = Place::tensor;
        return true;
    }

    bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
        return reject(text("the header is not JSON at its byte ", position));
    }

  private:
    enum class Place : std::uint8_t { outside, root, metadata, tensor, shape, offsets };

    std::string here() const {
        switch (place_) {
        case Place::outside:
        case Place::root: return "the header";
        case Place::metadata: return "__metadata__";
        case Place::tensor:
        case Place::shape:
        case Place::offsets: return text("tensor '", printable(tensor_name_), "'");
        }
        return {};
    }

    bool reject(std::string message) {
        problem = std::move(message);
        return false;
    }
    bool repeated() { return reject(text(here(), " has the key '", printable(key_), "' twice")); }
    bool unexpected(const std::string& what) {
        return reject(text(here(), " holds ", what, " where the format has none, at key '", printable(key_), "'"));
    }
    bool field_is_new() {
        const bool known = key_ == "dtype" || key_ == "shape" || key_ == "data_offsets";
        if (!known)
            return reject(text(here(), " has the unknown field '", printable(key_), "'"));
        const bool present = (key_ == "dtype" && tensor_->dtype) || (key_ == "shape" && tensor_->shape) ||
                             (key_ == "data_offsets" && tensor_->offsets);
        return !present || repeated();
    }

    Place place_ = Place::outside;
    std::string key_;
    std::string tensor_name_;
    HeaderTensor* tensor_ = nullptr;
    bool has_metadata_ = false;
};

template <typename T>
void append_little_endian(std::vector<std::byte>& bytes, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
        bytes.push_back(static_cast<std::byte>((value >> (8U * i)) & 0xFFU));
}

/// Judges the header of one file, without its data: every error names the file.
class Parser {
  public:
    Parser(std::string path, std::uint64_t file_bytes) : file_bytes_(file_bytes) { file_.path = std::move(path); }

    /// Length of the length field and the header. Precondition: `first` holds the first 8 bytes, or all there are.
    Result<std::size_t> header_end(std::span<const std::byte> first) const {
        if (file_bytes_ < length_bytes)
            return error(ErrorCode::model_truncated,
                         text("the file has ", file_bytes_, " bytes, a safetensors file starts with ", length_bytes));
        const auto length = from_little_endian<std::uint64_t>(first.data());
        if (length > max_header_bytes)
            return error(ErrorCode::model_header_too_large,
                         text("the first 8 bytes announce a header of ", length, " bytes, more than the ",
                              max_header_bytes, " allowed; is this a safetensors file?"));
        if (length > file_bytes_ - length_bytes)
            return error(ErrorCode::model_truncated, text("the header has ", length, " bytes, the file only ",
                                                          file_bytes_ - length_bytes, " after its length"));
        return length_bytes + static_cast<std::size_t>(length);
    }

    /// All of the file but its bytes. Precondition: `head` reaches at least to header_end.
    Result<SafetensorsFile> run(std::span<const std::byte> head) {
        MFRES_TRY(file_.data_begin, header_end(head));
        const std::string_view json(reinterpret_cast<const char*>(head.data()) + length_bytes,
                                    file_.data_begin - length_bytes);
        MFRES_TRY(Header header, read_header(json));
        for (const auto& [tensor_name, entry] : header.tensors) {
            MFRES_TRY(StoredTensor tensor, check_tensor(tensor_name, entry));
            file_.tensors.emplace(tensor_name, std::move(tensor));
        }
        MFRES_CHECK(check_layout());
        file_.metadata = std::move(header.metadata);
        return std::move(file_);
    }

  private:
    Error error(ErrorCode code, const std::string& message) const {
        return {code, text(file_.path, ": ", message), file_.path};
    }

    Result<Header> read_header(std::string_view json) const {
        if (json.empty() || json.front() != '{')
            return error(ErrorCode::model_header_invalid, "the header does not start with '{'");
        // The JSON parser takes a zero byte for the end of its input and would ignore the rest.
        if (const auto zero = json.find('\0'); zero != std::string_view::npos)
            return error(ErrorCode::model_header_invalid, text("the header has a zero byte at ", zero));
        HeaderReader reader;
        if (!Json::sax_parse(json, &reader))
            return error(ErrorCode::model_header_invalid, reader.problem);
        return std::move(reader.header);
    }

    Result<StoredTensor> check_tensor(const std::string& tensor_name, const HeaderTensor& entry) const {
        const std::string who = text("tensor '", printable(tensor_name), "'");
        const auto row = std::find_if(dtypes.begin(), dtypes.end(),
                                      [&](const DtypeEntry& candidate) { return candidate.name == *entry.dtype; });
        if (row == dtypes.end())
            return error(ErrorCode::model_dtype_unsupported,
                         text(who, " has the unknown dtype '", printable(*entry.dtype), "'"));

        constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
        const std::uint64_t begin = (*entry.offsets)[0];
        const std::uint64_t end = (*entry.offsets)[1];
        if (begin > end || end > most)
            return error(ErrorCode::model_offsets_invalid,
                         text(who, " has the impossible byte range ", begin, " to ", end));
        StoredTensor tensor{row->dtype, {}, static_cast<std::size_t>(begin), static_cast<std::size_t>(end)};
        for (const std::uint64_t extent : *entry.shape) {
            if (extent > most)
                return error(ErrorCode::model_tensor_size, text(who, " has an axis of ", extent, " elements"));
            tensor.shape.push_back(static_cast<std::int64_t>(extent));
        }
        const auto elements = checked_product(tensor.shape);
        const auto bytes = elements ? checked_multiply(*elements, row->bytes) : std::nullopt;
        if (!bytes)
            return error(ErrorCode::model_tensor_size, text(who, " has a shape of more than 2^63 bytes"));
        if (*bytes != tensor.bytes())
            return error(ErrorCode::model_tensor_size,
                         text(who, " needs ", *bytes, " bytes (", *elements, " elements of ", row->name,
                              "), its data_offsets span ", tensor.bytes()));
        return tensor;
    }

    Status check_layout() const {
        std::vector<std::pair<const StoredTensor*, std::string_view>> order;
        for (const auto& [tensor_name, tensor] : file_.tensors)
            order.emplace_back(&tensor, tensor_name);
        std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
            return std::pair(a.first->begin, a.first->end) < std::pair(b.first->begin, b.first->end);
        });
        std::size_t covered = 0;
        for (const auto& [tensor, tensor_name] : order) {
            if (tensor->begin != covered)
                return error(ErrorCode::model_offsets_invalid,
                             text("tensor '", printable(tensor_name), "' starts at byte ", tensor->begin,
                                  " of the data, the tensors before it end at ", covered,
                                  tensor->begin < covered ? ": they overlap" : ": there is a gap"));
            covered = tensor->end;
        }
        const std::uint64_t available = file_bytes_ - file_.data_begin;
        if (covered > available)
            return error(ErrorCode::model_truncated,
                         text("the tensors need ", covered, " bytes of data, the file has ", available));
        if (covered < available)
            return error(ErrorCode::model_offsets_invalid,
                         text("the file has ", available - covered, " bytes after the last tensor"));
        return {};
    }

    std::uint64_t file_bytes_;
    SafetensorsFile file_;
};

bool is_weight_dtype(Dtype dtype) {
    return dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16 || dtype == Dtype::i8;
}

/// Precondition: is_weight_dtype(dtype).
void decode_elements(Dtype dtype, const std::byte* bytes, std::span<float> values) {
    if (dtype == Dtype::f16)
        return read_f16(bytes, values);
    if (dtype == Dtype::bf16)
        return read_bf16(bytes, values);
    if (dtype == Dtype::i8) {
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<float>(std::bit_cast<std::int8_t>(bytes[i]));
        return;
    }
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = std::bit_cast<float>(from_little_endian<std::uint32_t>(bytes + 4 * i));
}

Status check_finite(std::span<const float> values, std::string_view who, const std::string& where) {
    if (all_finite(values))
        return {};
    const auto is_wrong = [](float value) { return !std::isfinite(value); };
    const auto count = std::count_if(values.begin(), values.end(), is_wrong);
    const auto first = std::find_if(values.begin(), values.end(), is_wrong);
    return Error{ErrorCode::model_not_finite,
                 text(who, " has ", count, " of ", values.size(), " values that are NaN or infinite, the first is ",
                      *first, " at index ", first - values.begin()),
                 where};
}

Status append_values(std::vector<std::byte>& bytes, const std::string& tensor_name, const TensorToWrite& tensor) {
    const std::string who = text("tensor '", printable(tensor_name), "'");
    MFRES_CHECK(check_finite(tensor.values->values(), who, tensor_name));
    if (tensor.dtype == Dtype::f32) {
        for (const float value : tensor.values->values())
            append_little_endian(bytes, std::bit_cast<std::uint32_t>(value));
        return {};
    }
    if (tensor.dtype == Dtype::i8) {
        for (std::int64_t i = 0; i < tensor.values->elements(); ++i) {
            const float value = (*tensor.values)[i];
            if (value != std::nearbyint(value) || value < -128.0F || value > 127.0F)
                return Error{ErrorCode::model_not_finite,
                             text(who, " has ", value, " at index ", i, ", which is not an 8-bit integer"),
                             tensor_name};
            bytes.push_back(std::bit_cast<std::byte>(static_cast<std::int8_t>(value)));
        }
        return {};
    }
    for (std::int64_t i = 0; i < tensor.values->elements(); ++i) {
        const float value = (*tensor.values)[i];
        const std::uint16_t bits = tensor.dtype == Dtype::f16 ? f32_to_f16(value) : f32_to_bf16(value);
        const float stored = tensor.dtype == Dtype::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
        if (!std::isfinite(stored))
            return Error{ErrorCode::model_not_finite,
                         text(who, " has ", value, " at index ", i, ", too large for ", name(tensor.dtype)),
                         tensor_name};
        append_little_endian(bytes, bits);
    }
    return {};
}

using Entry = std::map<std::string, TensorToWrite, std::less<>>::value_type;

/// Wider dtypes first, then by name: every tensor starts at a multiple of its element size.
std::vector<const Entry*> data_order(const std::map<std::string, TensorToWrite, std::less<>>& tensors) {
    std::vector<const Entry*> order;
    order.reserve(tensors.size());
    for (const Entry& entry : tensors)
        order.push_back(&entry);
    std::stable_sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
        return element_bytes(a->second.dtype) > element_bytes(b->second.dtype);
    });
    return order;
}

Result<std::string> header_json(const std::vector<const Entry*>& order,
                                const std::map<std::string, std::string, std::less<>>& metadata) {
    OrderedJson header = OrderedJson::object();
    if (!metadata.empty()) {
        OrderedJson& strings = header[metadata_key] = OrderedJson::object();
        for (const auto& [key, value] : metadata)
            strings[key] = value;
    }
    std::int64_t offset = 0;
    for (const Entry* entry : order) {
        const auto& [tensor_name, tensor] = *entry;
        const std::int64_t end = offset + tensor.values->elements() * element_bytes(tensor.dtype);
        OrderedJson fields = OrderedJson::object();
        fields["dtype"] = name(tensor.dtype);
        fields["shape"] = std::vector(tensor.values->shape().begin(), tensor.values->shape().end());
        fields["data_offsets"] = {offset, end};
        header[tensor_name] = std::move(fields);
        offset = end;
    }
    std::string json = header.dump(-1, ' ', false, Json::error_handler_t::replace);
    // dump() replaced text that is not UTF-8, so that it differs after parsing.
    if (OrderedJson::parse(json, nullptr, false) != header)
        return Error{ErrorCode::model_header_invalid, "a tensor's name or the metadata is not UTF-8", {}};
    json.append((length_bytes - json.size() % length_bytes) % length_bytes, ' ');
    if (json.size() > max_header_bytes)
        return Error{
            ErrorCode::model_header_too_large,
            text("the header would have ", json.size(), " bytes, more than the ", max_header_bytes, " allowed"),
            {}};
    return json;
}

} // namespace

std::string_view name(Dtype dtype) noexcept {
    return dtypes[static_cast<std::size_t>(dtype)].name;
}

std::int64_t element_bytes(Dtype dtype) noexcept {
    return dtypes[static_cast<std::size_t>(dtype)].bytes;
}

std::string printable(std::string_view raw, std::size_t limit) {
    std::size_t length = std::min(raw.size(), limit);
    while (length > 0 && length < raw.size() && (static_cast<unsigned char>(raw[length]) & 0xC0U) == 0x80U)
        --length; // do not cut a UTF-8 sequence
    return escape_controls(raw.substr(0, length)) + (length < raw.size() ? "..." : "");
}

Result<SafetensorsFile> parse_safetensors(std::vector<std::byte> bytes, std::string path) {
    MFRES_TRY(SafetensorsFile file, Parser(std::move(path), bytes.size()).run(bytes));
    file.bytes = std::move(bytes);
    return file;
}

Result<SafetensorsFile> read_safetensors(const std::filesystem::path& path, const HeaderCheck& check) {
    MFRES_TRY(const ReadableFile source, open_tensor_file(path));
    Parser parser(path.string(), source.size());
    std::vector<std::byte> bytes(static_cast<std::size_t>(std::min<std::uint64_t>(source.size(), length_bytes)));
    MFRES_CHECK(source.read_at(0, bytes));
    MFRES_TRY(const std::size_t head, parser.header_end(bytes));
    bytes.resize(head);
    MFRES_CHECK(source.read_at(0, bytes));
    MFRES_TRY(SafetensorsFile file, parser.run(bytes));
    if (check)
        MFRES_CHECK(check(file, source.size() - head));
    MFRES_CHECK(guarded(path, [&]() -> Status {
        bytes.resize(static_cast<std::size_t>(source.size()));
        return {};
    }));
    MFRES_CHECK(source.read_at(head, std::span(bytes).subspan(head)));
    file.bytes = std::move(bytes);
    return file;
}

Result<Tensor> decode_tensor(const SafetensorsFile& file, std::string_view tensor_name) {
    const std::string who = text(file.path, ": tensor '", printable(tensor_name), "'");
    const auto found = file.tensors.find(tensor_name);
    if (found == file.tensors.end())
        return Error{ErrorCode::model_tensor_missing, text(who, " is not in the file"), file.path};
    const StoredTensor& stored = found->second;
    if (!is_weight_dtype(stored.dtype))
        return Error{ErrorCode::model_dtype_unsupported,
                     text(who, " is ", name(stored.dtype), "; weights must be F32, F16, BF16 or I8"), file.path};
    if (stored.shape.size() > Shape::max_rank)
        return Error{ErrorCode::model_tensor_shape,
                     text(who, " has ", stored.shape.size(), " axes, more than ", Shape::max_rank), file.path};

    Tensor tensor{Shape(std::span(stored.shape))};
    decode_elements(stored.dtype, file.data(stored).data(), tensor.values());
    MFRES_CHECK(check_finite(tensor.values(), who, file.path));
    return tensor;
}

Result<Weights> decode_tensors(const SafetensorsFile& file) {
    Weights weights;
    for (const auto& entry : file.tensors) {
        MFRES_TRY(Tensor tensor, decode_tensor(file, entry.first));
        weights.emplace(entry.first, std::move(tensor));
    }
    return weights;
}

Result<std::vector<std::byte>> encode_safetensors(const std::map<std::string, TensorToWrite, std::less<>>& tensors,
                                                  const std::map<std::string, std::string, std::less<>>& metadata) {
    for (const auto& [tensor_name, tensor] : tensors) {
        if (!is_weight_dtype(tensor.dtype))
            return Error{ErrorCode::model_dtype_unsupported,
                         text("tensor '", printable(tensor_name), "' cannot be written as ", name(tensor.dtype),
                              "; F32, F16, BF16 and I8 can"),
                         tensor_name};
        if (tensor_name == metadata_key)
            return Error{ErrorCode::model_header_invalid,
                         "a tensor cannot be called '__metadata__', the format reserves that name", tensor_name};
    }
    const auto order = data_order(tensors);
    MFRES_TRY(const std::string header, header_json(order, metadata));
    std::vector<std::byte> bytes;
    append_little_endian(bytes, std::uint64_t{header.size()});
    const auto header_bytes = std::as_bytes(std::span(header));
    bytes.insert(bytes.end(), header_bytes.begin(), header_bytes.end());
    for (const Entry* entry : order)
        MFRES_CHECK(append_values(bytes, entry->first, entry->second));
    return bytes;
}

} // namespace mfres
