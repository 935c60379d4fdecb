// SPDX-License-Identifier: MIT
// Values and nodes of ONNX graphs, as the counter reads them.
#include "core/checked.h"
#include "core/half.h"
#include "exchange/onnx_shapes.h"
#include "model/safetensors.h"

#include <algorithm>
#include <cstring>

namespace mfres::onnx_count {

namespace {

using Type = onnx::TensorProto_DataType;

bool is_real(int type) {
    return type == Type::TensorProto_DataType_FLOAT || type == Type::TensorProto_DataType_DOUBLE ||
           type == Type::TensorProto_DataType_FLOAT16 || type == Type::TensorProto_DataType_BFLOAT16;
}

template <typename T>
Number number_of(T value) {
    if constexpr (std::is_floating_point_v<T>)
        return {0, static_cast<double>(value)};
    else
        return {static_cast<std::int64_t>(value), static_cast<double>(value)};
}

template <typename T>
bool read_raw(const std::string& raw, std::vector<Number>& content) {
    if (raw.size() != content.size() * sizeof(T))
        return false;
    for (std::size_t i = 0; i < content.size(); ++i) {
        T value{};
        std::memcpy(&value, raw.data() + i * sizeof(T), sizeof(T));
        content[i] = number_of(value);
    }
    return true;
}

template <typename List>
bool read_list(const List& list, std::vector<Number>& content) {
    if (static_cast<std::size_t>(list.size()) != content.size())
        return false;
    for (std::size_t i = 0; i < content.size(); ++i)
        content[i] = number_of(list[static_cast<int>(i)]);
    return true;
}

/// False where the tensor has another number of bytes than its extents need. Types that shapes are not computed from
/// give nothing.
bool read_content(const onnx::TensorProto& tensor, std::vector<Number>& content, bool& readable) {
    const bool raw = tensor.has_raw_data();
    readable = true;
    switch (tensor.data_type()) {
    case Type::TensorProto_DataType_FLOAT:
        return raw ? read_raw<float>(tensor.raw_data(), content) : read_list(tensor.float_data(), content);
    case Type::TensorProto_DataType_DOUBLE:
        return raw ? read_raw<double>(tensor.raw_data(), content) : read_list(tensor.double_data(), content);
    case Type::TensorProto_DataType_INT64:
        return raw ? read_raw<std::int64_t>(tensor.raw_data(), content) : read_list(tensor.int64_data(), content);
    case Type::TensorProto_DataType_INT32:
        return raw ? read_raw<std::int32_t>(tensor.raw_data(), content) : read_list(tensor.int32_data(), content);
    case Type::TensorProto_DataType_BOOL:
        return raw ? read_raw<std::uint8_t>(tensor.raw_data(), content) : read_list(tensor.int32_data(), content);
    default: readable = false; return true;
    }
}

std::string type_words(int type) {
    return onnx::TensorProto_DataType_IsValid(type) ? onnx::TensorProto_DataType_Name(static_cast<Type>(type))
                                                    : text("type ", type);
}

} // namespace

std::int64_t element_bytes(int type) {
    switch (type) {
    case Type::TensorProto_DataType_DOUBLE:
    case Type::TensorProto_DataType_INT64:
    case Type::TensorProto_DataType_UINT64:
    case Type::TensorProto_DataType_COMPLEX64: return 8;
    case Type::TensorProto_DataType_COMPLEX128: return 16;
    case Type::TensorProto_DataType_FLOAT:
    case Type::TensorProto_DataType_INT32:
    case Type::TensorProto_DataType_UINT32: return 4;
    case Type::TensorProto_DataType_FLOAT16:
    case Type::TensorProto_DataType_BFLOAT16:
    case Type::TensorProto_DataType_INT16:
    case Type::TensorProto_DataType_UINT16: return 2;
    case Type::TensorProto_DataType_UNDEFINED:
    case Type::TensorProto_DataType_STRING: return 0;
    default: return type > 0 && type < 64 ? 1 : 0; // integers and floats of 8 bits and fewer
    }
}

bool Value::real() const {
    return is_real(type);
}

std::int64_t Value::elements() const {
    return checked_product(shape).value_or(0);
}

std::int64_t Value::bytes() const {
    return elements() * element_bytes(type);
}

Status check_extents(const Extents& shape, int type) {
    if (shape.size() > max_axes)
        return Error{
            ErrorCode::operation_unsupported, text("a value of ", shape.size(), " axes, the most are ", max_axes), {}};
    if (element_bytes(type) == 0)
        return Error{ErrorCode::operation_unsupported, text("a value of the element type ", type_words(type)), {}};
    for (const std::int64_t extent : shape)
        if (extent < 0)
            return Error{ErrorCode::model_header_invalid, text("a value with the extent ", extent), {}};
    // Distances between elements have to fit as well where an extent is 0.
    std::optional<std::int64_t> bytes = 16;
    for (const std::int64_t extent : shape)
        bytes = bytes ? checked_multiply(*bytes, std::max<std::int64_t>(extent, 1)) : bytes;
    if (!bytes)
        return Error{ErrorCode::size_overflow, "a value whose size exceeds 64 bits", {}};
    return {};
}

Result<Value> value_of(const onnx::TensorProto& tensor) {
    Value value;
    value.constant = true;
    value.type = tensor.data_type();
    value.shape.assign(tensor.dims().begin(), tensor.dims().end());
    if (const auto checked = check_extents(value.shape, value.type); !checked)
        return Error{
            checked.error().code, text("tensor ", printable(tensor.name()), " is ", checked.error().message), {}};
    const bool elsewhere = tensor.data_location() == onnx::TensorProto_DataLocation_EXTERNAL;
    if (elsewhere || value.elements() > max_content)
        return value;
    std::vector<Number> content(static_cast<std::size_t>(value.elements()));
    bool readable = false;
    if (!read_content(tensor, content, readable))
        return Error{
            ErrorCode::model_tensor_size,
            text("tensor ", printable(tensor.name()), " has another number of bytes or values than its extents need"),
            {}};
    if (readable)
        value.content = std::make_shared<const std::vector<Number>>(std::move(content));
    return value;
}

Result<const Value*> NodeReader::input(std::size_t index) const {
    if (has(index))
        return inputs_[index];
    return invalid(text("has no input ", index));
}

Result<Extents> NodeReader::integers(std::size_t index) const {
    MFRES_TRY(const Value* value, input(index));
    if (!value->content || value->real())
        return unsupported(
            text("takes integers from input ", index, ", whose content is known only when the network runs"));
    Extents numbers;
    for (const Number& number : *value->content)
        numbers.push_back(number.integer);
    return numbers;
}

const onnx::AttributeProto* NodeReader::attribute(std::string_view name) const {
    for (const onnx::AttributeProto& found : node_.attribute())
        if (found.name() == name)
            return &found;
    return nullptr;
}

std::int64_t NodeReader::integer(std::string_view name, std::int64_t standard) const {
    const auto* found = attribute(name);
    return found != nullptr ? found->i() : standard;
}

double NodeReader::real(std::string_view name, double standard) const {
    const auto* found = attribute(name);
    return found != nullptr ? double{found->f()} : standard;
}

std::string NodeReader::word(std::string_view name, std::string standard) const {
    const auto* found = attribute(name);
    return found != nullptr ? found->s() : std::move(standard);
}

std::optional<Extents> NodeReader::list(std::string_view name) const {
    const auto* found = attribute(name);
    if (found == nullptr)
        return std::nullopt;
    return Extents(found->ints().begin(), found->ints().end());
}

Result<std::optional<Extents>> NodeReader::list(std::string_view name, std::size_t index) const {
    if (has(index)) {
        MFRES_TRY(Extents numbers, integers(index));
        return std::optional(std::move(numbers));
    }
    return list(name);
}

Error NodeReader::invalid(const std::string& problem) const {
    return {ErrorCode::model_header_invalid,
            text("node ", printable(node_.name()), " (", printable(node_.op_type()), ") ", problem),
            printable(node_.name())};
}

Error NodeReader::unsupported(const std::string& problem) const {
    return {ErrorCode::operation_unsupported,
            text("node ", printable(node_.name()), " (", printable(node_.op_type()), ") ", problem),
            printable(node_.name())};
}

} // namespace mfres::onnx_count
