// SPDX-License-Identifier: MIT
// Shape inference of ONNX's operators (https://onnx.ai/onnx/operators), one function a form of operator.
#include "exchange/onnx_shapes.h"

#include "core/checked.h"
#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>

namespace mfres::onnx_count {

namespace {

using Values = Result<std::vector<Value>>;
constexpr int int64_type = onnx::TensorProto_DataType_INT64;
constexpr int bool_type = onnx::TensorProto_DataType_BOOL;
constexpr int float_type = onnx::TensorProto_DataType_FLOAT;
constexpr double most_real_integer = 9007199254740992.0; // 2^53

// ---- small parts ----------------------------------------------------------------------------------------------------

Values one(Value value) {
    std::vector<Value> all;
    all.push_back(std::move(value));
    return all;
}

Value value(Extents shape, int type) {
    Value result;
    result.shape = std::move(shape);
    result.type = type;
    return result;
}

Content content_of(std::vector<Number> numbers) {
    return std::make_shared<const std::vector<Number>>(std::move(numbers));
}

/// Whether the content of a value of these extents is computed.
bool small(const Extents& shape) {
    const auto count = checked_product(shape);
    return count && *count <= max_content && shape.size() <= max_axes;
}

Result<std::size_t> axis_of(const NodeReader& node, std::int64_t axis, std::size_t rank, bool end_allowed = false) {
    const auto most = static_cast<std::int64_t>(rank) + (end_allowed ? 1 : 0);
    const std::int64_t at = axis < 0 ? axis + most : axis;
    if (at < 0 || at >= most)
        return node.invalid(text("names axis ", axis, " of ", rank));
    return static_cast<std::size_t>(at);
}

/// Row-major distances between elements along each axis.
Extents strides_of(const Extents& shape) {
    Extents strides(shape.size(), 1);
    for (std::size_t axis = shape.size(); axis-- > 1;)
        strides[axis - 1] = strides[axis] * shape[axis];
    return strides;
}

/// Calls visit(position of the element in the operand) for all elements of a result whose element [i, j, ...] is that at
/// begin + i * strides[0] + j * strides[1] + ... of an operand.
template <typename Visit>
void for_each_position(const Extents& shape, const Extents& strides, std::int64_t begin, const Visit& visit) {
    const std::int64_t count = checked_product(shape).value_or(0);
    Extents index(shape.size(), 0);
    std::int64_t position = begin;
    for (std::int64_t i = 0; i < count; ++i) {
        visit(position);
        for (std::size_t axis = shape.size(); axis-- > 0;) {
            position += strides[axis];
            if (++index[axis] < shape[axis])
                break;
            position -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}

/// A small result that is a view of a small operand with other strides.
Content viewed(const Value& from, const Extents& shape, const Extents& strides, std::int64_t begin) {
    if (!from.content || !small(shape))
        return {};
    std::vector<Number> numbers;
    for_each_position(shape, strides, begin, [&](std::int64_t position) {
        numbers.push_back((*from.content)[static_cast<std::size_t>(position)]);
    });
    return content_of(std::move(numbers));
}

/// Extents after broadcasting. Errors: model_header_invalid.
Result<Extents> broadcast(const NodeReader& node, const Extents& a, const Extents& b) {
    Extents result(std::max(a.size(), b.size()), 1);
    for (std::size_t i = 0; i < result.size(); ++i) {
        const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
        const std::int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
        if (x != y && x != 1 && y != 1)
            return node.invalid(text("combines extents ", x, " and ", y));
        result[result.size() - 1 - i] = x == 1 ? y : x;
    }
    return result;
}

/// Strides with which a value is read where it is broadcast to `shape`.
Extents broadcast_strides(const Extents& from, const Extents& shape) {
    const Extents own = strides_of(from);
    Extents strides(shape.size(), 0);
    for (std::size_t i = 0; i < from.size(); ++i)
        if (from[from.size() - 1 - i] != 1)
            strides[shape.size() - 1 - i] = own[from.size() - 1 - i];
    return strides;
}

Content broadcast_content(const Value& from, const Extents& shape) {
    return viewed(from, shape, broadcast_strides(from.shape, shape), 0);
}

/// The sizes of an optional list of one value per spatial axis.
Result<Extents> spatial_list(const NodeReader& node, std::string_view name, std::size_t axes, std::int64_t standard) {
    const auto found = node.list(name);
    if (!found || found->empty())
        return Extents(axes, standard);
    if (found->size() != axes)
        return node.invalid(text(name, " has ", found->size(), " values for ", axes, " axes"));
    for (const std::int64_t entry : *found)
        if (entry < 0 || entry > std::numeric_limits<std::int32_t>::max())
            return node.invalid(text(name, " has the value ", entry));
    return *found;
}

// ---- elementwise ----------------------------------------------------------------------------------------------------

Values same(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    return one(value(x->shape, x->type));
}

/// A result of the operand's shape, and further ones that are of the same (Dropout's mask).
Values identity(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    std::vector<Value> all;
    all.push_back(value(x->shape, x->type));
    all[0].content = x->content;
    for (int i = 1; i < node.node().output_size(); ++i)
        all.push_back(value(x->shape, bool_type));
    return all;
}

std::optional<Number> unary_number(std::string_view type, const Number& x, bool real) {
    const auto of_real = [](double result) { return Number{0, result}; };
    if (real) {
        if (type == "Floor")
            return of_real(std::floor(x.real));
        if (type == "Ceil")
            return of_real(std::ceil(x.real));
        if (type == "Round")
            return of_real(std::nearbyint(x.real));
        if (type == "Sqrt")
            return of_real(std::sqrt(x.real));
        if (type == "Neg")
            return of_real(-x.real);
        if (type == "Abs")
            return of_real(std::abs(x.real));
        return std::nullopt;
    }
    if (type == "Not")
        return Number{x.integer == 0 ? 1 : 0, x.integer == 0 ? 1.0 : 0.0};
    if (x.integer == std::numeric_limits<std::int64_t>::min())
        return std::nullopt;
    const std::int64_t result = type == "Neg" ? -x.integer : type == "Abs" ? std::abs(x.integer) : x.integer;
    return type == "Neg" || type == "Abs" ? std::optional(Number{result, static_cast<double>(result)}) : std::nullopt;
}

template <typename Function>
Content mapped(const Content& from, const Function& function) {
    if (!from)
        return {};
    std::vector<Number> numbers;
    for (const Number& x : *from) {
        const std::optional<Number> y = function(x);
        if (!y)
            return {};
        numbers.push_back(*y);
    }
    return content_of(std::move(numbers));
}

Values unary(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    Value result = value(x->shape, x->type);
    result.content =
        mapped(x->content, [&](const Number& n) { return unary_number(node.node().op_type(), n, x->real()); });
    return one(std::move(result));
}

Values cast(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    std::int64_t to = node.integer("to", float_type);
    if (node.node().op_type() == "CastLike") {
        MFRES_TRY(const Value* like, node.input(1));
        to = like->type;
    }
    if (to < 0 || to > 63)
        return node.invalid(text("casts to the type ", to));
    Value result = value(x->shape, static_cast<int>(to));
    const bool from_real = x->real();
    result.content = mapped(x->content, [&](const Number& n) -> std::optional<Number> {
        if (result.real())
            return Number{0, from_real ? n.real : static_cast<double>(n.integer)};
        if (from_real && !(std::abs(n.real) < most_real_integer))
            return std::nullopt;
        const std::int64_t whole = from_real ? static_cast<std::int64_t>(n.real) : n.integer;
        if (to == bool_type) {
            const bool set = from_real ? n.real != 0.0 : whole != 0;
            return Number{set ? 1 : 0, set ? 1.0 : 0.0};
        }
        return Number{whole, static_cast<double>(whole)};
    });
    return one(std::move(result));
}

bool compares(std::string_view type) {
    return type == "Equal" || type == "Less" || type == "LessOrEqual" || type == "Greater" ||
           type == "GreaterOrEqual" || type == "And" || type == "Or" || type == "Xor";
}

template <typename T>
bool comparison(std::string_view type, T a, T b) {
    if (type == "Equal")
        return a == b;
    if (type == "Less")
        return a < b;
    if (type == "LessOrEqual")
        return a <= b;
    if (type == "Greater")
        return a > b;
    if (type == "GreaterOrEqual")
        return a >= b;
    if (type == "And")
        return a != 0 && b != 0;
    if (type == "Or")
        return a != 0 || b != 0;
    return (a != 0) != (b != 0);
}

std::optional<Number> real_result(std::string_view type, double a, double b) {
    double result = 0.0;
    if (type == "Add" || type == "Sum")
        result = a + b;
    else if (type == "Sub")
        result = a - b;
    else if (type == "Mul")
        result = a * b;
    else if (type == "Div")
        result = a / b;
    else if (type == "Pow")
        result = std::pow(a, b);
    else if (type == "Min")
        result = std::min(a, b);
    else if (type == "Max")
        result = std::max(a, b);
    else
        return std::nullopt;
    return std::isfinite(result) ? std::optional(Number{0, result}) : std::nullopt;
}

std::optional<Number> integer_result(std::string_view type, std::int64_t a, std::int64_t b, bool c_modulo) {
    std::int64_t result = 0;
    bool overflow = false;
    const bool divisible = b != 0 && !(b == -1 && a == std::numeric_limits<std::int64_t>::min());
    if (type == "Add" || type == "Sum")
        overflow = __builtin_add_overflow(a, b, &result);
    else if (type == "Sub")
        overflow = __builtin_sub_overflow(a, b, &result);
    else if (type == "Mul")
        overflow = __builtin_mul_overflow(a, b, &result);
    else if (type == "Div" && divisible)
        result = a / b;
    else if (type == "Mod" && divisible)
        result = !c_modulo && a % b != 0 && (a < 0) != (b < 0) ? a % b + b : a % b;
    else if (type == "Min")
        result = std::min(a, b);
    else if (type == "Max")
        result = std::max(a, b);
    else
        return std::nullopt;
    return overflow ? std::nullopt : std::optional(Number{result, static_cast<double>(result)});
}

std::optional<Number> binary_number(const NodeReader& node, const Number& a, const Number& b, bool real) {
    const std::string& type = node.node().op_type();
    if (compares(type)) {
        const bool holds = real ? comparison(type, a.real, b.real) : comparison(type, a.integer, b.integer);
        return Number{holds ? 1 : 0, holds ? 1.0 : 0.0};
    }
    return real ? real_result(type, a.real, b.real)
                : integer_result(type, a.integer, b.integer, node.integer("fmod", 0) != 0);
}

/// Add, Mul, Equal, ...: two operands, or any number of them, broadcast.
Values combined(const NodeReader& node) {
    MFRES_TRY(const Value* first, node.input(0));
    Value result = *first;
    for (std::size_t i = 1; i < node.inputs(); ++i) {
        MFRES_TRY(const Value* next, node.input(i));
        MFRES_TRY(Extents shape, broadcast(node, result.shape, next->shape));
        const Content a = small(shape) ? broadcast_content(result, shape) : nullptr;
        const Content b = small(shape) ? broadcast_content(*next, shape) : nullptr;
        std::vector<Number> numbers;
        for (std::size_t at = 0; a && b && at < a->size(); ++at)
            if (const auto number = binary_number(node, (*a)[at], (*b)[at], result.real()))
                numbers.push_back(*number);
        const bool complete = a && b && numbers.size() == a->size();
        result.shape = std::move(shape);
        result.content = complete ? content_of(std::move(numbers)) : nullptr;
    }
    result.constant = false;
    if (compares(node.node().op_type()))
        result.type = bool_type;
    return one(std::move(result));
}

Values where(const NodeReader& node) {
    MFRES_TRY(const Value* condition, node.input(0));
    MFRES_TRY(const Value* a, node.input(1));
    MFRES_TRY(const Value* b, node.input(2));
    MFRES_TRY(Extents shape, broadcast(node, a->shape, b->shape));
    MFRES_TRY(shape, broadcast(node, condition->shape, shape));
    Value result = value(shape, a->type);
    const Content c = broadcast_content(*condition, shape);
    const Content x = broadcast_content(*a, shape);
    const Content y = broadcast_content(*b, shape);
    if (c && x && y) {
        std::vector<Number> numbers;
        for (std::size_t i = 0; i < c->size(); ++i)
            numbers.push_back((*c)[i].integer != 0 ? (*x)[i] : (*y)[i]);
        result.content = content_of(std::move(numbers));
    }
    return one(std::move(result));
}

// ---- convolutions and pooling ---------------------------------------------------------------------------------------

struct Window {
    Extents kernel, stride, dilation, before, after;
    std::string automatic;
};

Result<Window> window_of(const NodeReader& node, const Extents& kernel) {
    const std::size_t axes = kernel.size();
    Window window;
    window.kernel = kernel;
    MFRES_TRY(window.stride, spatial_list(node, "strides", axes, 1));
    MFRES_TRY(window.dilation, spatial_list(node, "dilations", axes, 1));
    MFRES_TRY(const Extents pads, spatial_list(node, "pads", 2 * axes, 0));
    window.before.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(axes));
    window.after.assign(pads.begin() + static_cast<std::ptrdiff_t>(axes), pads.end());
    window.automatic = node.word("auto_pad", "NOTSET");
    for (std::size_t axis = 0; axis < axes; ++axis)
        if (window.kernel[axis] < 1 || window.stride[axis] < 1 || window.dilation[axis] < 1 ||
            window.kernel[axis] > std::numeric_limits<std::int32_t>::max())
            return node.invalid("has a kernel, stride or dilation below 1, or too large");
    return window;
}

/// Number of windows along an axis of `extent`.
Result<std::int64_t> windows(const NodeReader& node, const Window& window, std::size_t axis, std::int64_t extent) {
    const std::int64_t stride = window.stride[axis];
    if (window.automatic == "SAME_UPPER" || window.automatic == "SAME_LOWER")
        return (extent + stride - 1) / stride;
    const std::int64_t reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
    const bool padded = window.automatic != "VALID";
    const std::int64_t room = extent + (padded ? window.before[axis] + window.after[axis] : 0) - reach;
    if (room < 0)
        return node.invalid(text("has a window of ", reach, " on an extent of ", extent));
    const bool up = node.integer("ceil_mode", 0) != 0;
    std::int64_t count = (up ? room + stride - 1 : room) / stride + 1;
    // A window that would begin in the padding at the end is left out.
    if (up && (count - 1) * stride >= extent + window.before[axis])
        --count;
    return count;
}

Result<Extents> spatial_of(const NodeReader& node, const Value& x) {
    if (x.shape.size() < 3)
        return node.invalid(text("reads a value of ", x.shape.size(), " axes"));
    for (const std::int64_t extent : x.shape)
        if (extent > std::int64_t{1} << 40U)
            return node.invalid(text("reads a value of extent ", extent));
    return Extents(x.shape.begin() + 2, x.shape.end());
}

Result<Extents> kernel_of(const NodeReader& node, const Value& weight, std::size_t axes) {
    if (weight.shape.size() != axes + 2)
        return node.invalid(text("has a weight of ", weight.shape.size(), " axes for ", axes, " spatial axes"));
    Extents kernel(weight.shape.begin() + 2, weight.shape.end());
    MFRES_TRY(const Extents said, spatial_list(node, "kernel_shape", axes, 0));
    if (node.attribute("kernel_shape") != nullptr && said != kernel)
        return node.invalid("has a kernel_shape that is not its weight's");
    return kernel;
}

Result<std::int64_t> groups_of(const NodeReader& node, std::int64_t in, std::int64_t weight_in) {
    const std::int64_t groups = node.integer("group", 1);
    const auto fits = groups >= 1 ? checked_multiply(weight_in, groups) : std::nullopt;
    if (!fits || *fits != in)
        return node.invalid(text("has ", groups, " groups of ", weight_in, " channels, and reads ", in));
    return groups;
}

/// `shape`, of batch and channels, with how many windows there are along each spatial axis.
Result<Extents> grid_of_windows(const NodeReader& node, const Window& window, Extents shape, const Extents& from) {
    for (std::size_t axis = 0; axis < from.size(); ++axis) {
        MFRES_TRY(shape.emplace_back(), windows(node, window, axis, from[axis]));
    }
    return shape;
}

/// `weight`: which operand it is.
Values convolved(const NodeReader& node, std::size_t weight, int type) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Value* w, node.input(weight));
    MFRES_TRY(const Extents from, spatial_of(node, *x));
    MFRES_TRY(const Extents kernel, kernel_of(node, *w, from.size()));
    MFRES_TRY(const Window window, window_of(node, kernel));
    MFRES_CHECK(groups_of(node, x->shape[1], w->shape[1]));
    MFRES_TRY(Extents shape, grid_of_windows(node, window, {x->shape[0], w->shape[0]}, from));
    return one(value(std::move(shape), type < 0 ? x->type : type));
}

Values conv(const NodeReader& node) {
    return convolved(node, 1, -1);
}

Values conv_integer(const NodeReader& node) {
    return convolved(node, 1, onnx::TensorProto_DataType_INT32);
}

Values quantized_conv(const NodeReader& node) {
    return convolved(node, 3, -1);
}

Values transposed_conv(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Value* w, node.input(1));
    MFRES_TRY(const Extents from, spatial_of(node, *x));
    MFRES_TRY(const Extents kernel, kernel_of(node, *w, from.size()));
    MFRES_TRY(const Window window, window_of(node, kernel));
    MFRES_TRY(const Extents more, spatial_list(node, "output_padding", from.size(), 0));
    const std::int64_t groups = node.integer("group", 1);
    const auto channels = groups >= 1 ? checked_multiply(w->shape[1], groups) : std::nullopt;
    if (!channels || w->shape[0] != x->shape[1] || x->shape[1] % groups != 0)
        return node.invalid(
            text("has a weight for ", w->shape[0], " channels in ", groups, " groups, and reads ", x->shape[1]));
    MFRES_TRY(const Extents wanted, spatial_list(node, "output_shape", from.size(), -1));
    const bool automatic = window.automatic == "SAME_UPPER" || window.automatic == "SAME_LOWER";
    Extents shape{x->shape[0], *channels};
    for (std::size_t axis = 0; axis < from.size(); ++axis) {
        const std::int64_t reach = window.dilation[axis] * (kernel[axis] - 1) + 1;
        const std::int64_t padding = window.before[axis] + window.after[axis];
        const auto apart = checked_multiply(window.stride[axis], std::max<std::int64_t>(from[axis] - 1, 0));
        const auto same_size = checked_multiply(window.stride[axis], from[axis]);
        if (!apart || !same_size || *apart > std::int64_t{1} << 61U)
            return node.invalid("has a result whose size exceeds 64 bits");
        const std::int64_t full = *apart + more[axis] + reach - padding;
        shape.push_back(wanted[axis] >= 0 ? wanted[axis] : automatic ? *same_size : full);
    }
    return one(value(std::move(shape), x->type));
}

Values pooled(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Extents from, spatial_of(node, *x));
    MFRES_TRY(const Extents kernel, spatial_list(node, "kernel_shape", from.size(), 0));
    MFRES_TRY(const Window window, window_of(node, kernel));
    MFRES_TRY(const Extents shape, grid_of_windows(node, window, {x->shape[0], x->shape[1]}, from));
    std::vector<Value> all;
    all.push_back(value(shape, x->type));
    if (node.node().output_size() > 1)
        all.push_back(value(shape, int64_type)); // positions of the maxima
    return all;
}

Values pooled_to_one(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_CHECK(spatial_of(node, *x));
    Extents shape(x->shape.size(), 1);
    shape[0] = x->shape[0];
    shape[1] = x->shape[1];
    return one(value(std::move(shape), x->type));
}

// ---- products -------------------------------------------------------------------------------------------------------

Result<Extents> product_extents(const NodeReader& node, Extents a, Extents b) {
    if (a.empty() || b.empty())
        return node.invalid("multiplies a scalar");
    const bool row = a.size() == 1;
    const bool column = b.size() == 1;
    if (row)
        a.insert(a.begin(), 1);
    if (column)
        b.push_back(1);
    if (a.back() != b[b.size() - 2])
        return node.invalid(text("multiplies rows of ", a.back(), " with columns of ", b[b.size() - 2]));
    MFRES_TRY(Extents shape, broadcast(node, Extents(a.begin(), a.end() - 2), Extents(b.begin(), b.end() - 2)));
    if (!row)
        shape.push_back(a[a.size() - 2]);
    if (!column)
        shape.push_back(b.back());
    return shape;
}

Values multiplied(const NodeReader& node, std::size_t second, int type) {
    MFRES_TRY(const Value* a, node.input(0));
    MFRES_TRY(const Value* b, node.input(second));
    MFRES_TRY(Extents shape, product_extents(node, a->shape, b->shape));
    return one(value(std::move(shape), type < 0 ? a->type : type));
}

Values matmul(const NodeReader& node) {
    return multiplied(node, 1, -1);
}

Values matmul_integer(const NodeReader& node) {
    return multiplied(node, 1, onnx::TensorProto_DataType_INT32);
}

Values quantized_matmul(const NodeReader& node) {
    return multiplied(node, 3, -1);
}

Values gemm(const NodeReader& node) {
    MFRES_TRY(const Value* a, node.input(0));
    MFRES_TRY(const Value* b, node.input(1));
    if (a->shape.size() != 2 || b->shape.size() != 2)
        return node.invalid("multiplies values that are no matrices");
    const bool turn_a = node.integer("transA", 0) != 0;
    const bool turn_b = node.integer("transB", 0) != 0;
    if (a->shape[turn_a ? 0 : 1] != b->shape[turn_b ? 1 : 0])
        return node.invalid(
            text("multiplies rows of ", a->shape[turn_a ? 0 : 1], " with columns of ", b->shape[turn_b ? 1 : 0]));
    return one(value({a->shape[turn_a ? 1 : 0], b->shape[turn_b ? 0 : 1]}, a->type));
}

Values einsum(const NodeReader& node) {
    MFRES_TRY(const EinsumExtents extents, einsum_extents(node));
    MFRES_TRY(const Value* x, node.input(0));
    return one(value(extents.result, x->type));
}

/// Attention of opset 23: queries, keys and values of [batch, heads, length, size] or [batch, length, heads * size].
Values attention(const NodeReader& node) {
    MFRES_TRY(const Value* q, node.input(0));
    MFRES_TRY(const Value* k, node.input(1));
    MFRES_TRY(const Value* v, node.input(2));
    if (node.has(4) || node.has(5) || node.node().output_size() > 1)
        return node.unsupported("has past or present keys and values, which are not counted");
    const std::size_t rank = q->shape.size();
    if ((rank != 3 && rank != 4) || k->shape.size() != rank || v->shape.size() != rank)
        return node.invalid(text("has queries of ", rank, " axes"));
    Extents shape = q->shape;
    if (rank == 4) {
        shape[3] = v->shape[3];
        return one(value(std::move(shape), q->type));
    }
    const std::int64_t heads = node.integer("q_num_heads", 0);
    const std::int64_t kv_heads = node.integer("kv_num_heads", 0);
    if (heads < 1 || kv_heads < 1 || q->shape[2] % heads != 0 || v->shape[2] % kv_heads != 0)
        return node.invalid(text("has ", heads, " and ", kv_heads, " heads"));
    const auto width = checked_multiply(heads, v->shape[2] / kv_heads);
    if (!width)
        return node.invalid("has a result whose size exceeds 64 bits");
    shape[2] = *width;
    return one(value(std::move(shape), q->type));
}

// ---- shapes ---------------------------------------------------------------------------------------------------------

Values constant(const NodeReader& node) {
    const auto numbers = [](const auto& list, int type, bool scalar) {
        std::vector<Number> all;
        for (const auto entry : list)
            all.push_back({type == int64_type ? static_cast<std::int64_t>(entry) : 0, static_cast<double>(entry)});
        Value result = value(scalar ? Extents{} : Extents{static_cast<std::int64_t>(all.size())}, type);
        if (static_cast<std::int64_t>(all.size()) <= max_content)
            result.content = content_of(std::move(all));
        return result;
    };
    if (const auto* tensor = node.attribute("value"); tensor != nullptr && tensor->has_t()) {
        MFRES_TRY(Value result, value_of(tensor->t()));
        return one(std::move(result));
    }
    if (const auto* found = node.attribute("value_int"); found != nullptr)
        return one(numbers(std::array{found->i()}, int64_type, true));
    if (const auto* found = node.attribute("value_ints"); found != nullptr)
        return one(numbers(found->ints(), int64_type, false));
    if (const auto* found = node.attribute("value_float"); found != nullptr)
        return one(numbers(std::array{found->f()}, float_type, true));
    if (const auto* found = node.attribute("value_floats"); found != nullptr)
        return one(numbers(found->floats(), float_type, false));
    return node.unsupported("is a constant that is neither a tensor nor numbers");
}

Values shape(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    const auto rank = static_cast<std::int64_t>(x->shape.size());
    const auto at = [&](std::int64_t axis) { return std::clamp<std::int64_t>(axis < 0 ? axis + rank : axis, 0, rank); };
    std::vector<Number> numbers;
    const bool size = node.node().op_type() == "Size";
    for (std::int64_t axis = at(node.integer("start", 0)); !size && axis < at(node.integer("end", rank)); ++axis) {
        const std::int64_t extent = x->shape[static_cast<std::size_t>(axis)];
        numbers.push_back({extent, static_cast<double>(extent)});
    }
    if (size)
        numbers.push_back({x->elements(), static_cast<double>(x->elements())});
    Value result = value(size ? Extents{} : Extents{static_cast<std::int64_t>(numbers.size())}, int64_type);
    result.content = content_of(std::move(numbers));
    return one(std::move(result));
}

Values constant_of_shape(const NodeReader& node) {
    MFRES_TRY(Extents extents, node.integers(0));
    Number filled{};
    int type = float_type;
    bool known = true;
    if (const auto* tensor = node.attribute("value"); tensor != nullptr && tensor->has_t()) {
        MFRES_TRY(const Value content, value_of(tensor->t()));
        type = content.type;
        known = content.content && content.content->size() == 1;
        filled = known ? content.content->front() : Number{};
    }
    Value result = value(std::move(extents), type);
    if (known && small(result.shape))
        result.content = content_of(std::vector<Number>(static_cast<std::size_t>(result.elements()), filled));
    return one(std::move(result));
}

Values range(const NodeReader& node) {
    std::array<Number, 3> ends{};
    int type = int64_type;
    for (std::size_t i = 0; i < 3; ++i) {
        MFRES_TRY(const Value* end, node.input(i));
        if (!end->content || end->content->size() != 1)
            return node.unsupported(
                text("counts from numbers that are known only when the network runs (input ", i, ")"));
        type = end->type;
        ends[i] = end->content->front();
        if (!end->real())
            ends[i].real = static_cast<double>(ends[i].integer);
    }
    const double count = std::ceil((ends[1].real - ends[0].real) / ends[2].real);
    if (!(count < most_real_integer))
        return node.invalid("counts without end");
    Value result = value({count > 0.0 ? static_cast<std::int64_t>(count) : 0}, type);
    if (!small(result.shape))
        return one(std::move(result));
    std::vector<Number> numbers;
    for (std::int64_t i = 0; i < result.shape[0]; ++i) {
        std::int64_t whole = 0;
        if (!result.real() && (__builtin_mul_overflow(ends[2].integer, i, &whole) ||
                               __builtin_add_overflow(ends[0].integer, whole, &whole)))
            return node.invalid("counts beyond 64 bits");
        numbers.push_back(
            {whole, result.real() ? ends[0].real + static_cast<double>(i) * ends[2].real : static_cast<double>(whole)});
    }
    result.content = content_of(std::move(numbers));
    return one(std::move(result));
}

Values reshaped(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(auto found, node.list("shape", 1));
    if (!found)
        return node.invalid("has no shape");
    Extents extents = std::move(*found);
    std::optional<std::size_t> open;
    for (std::size_t axis = 0; axis < extents.size(); ++axis) {
        if (extents[axis] == 0 && node.integer("allowzero", 0) == 0) {
            if (axis >= x->shape.size())
                return node.invalid(text("keeps axis ", axis, " of ", x->shape.size()));
            extents[axis] = x->shape[axis];
        }
        if (extents[axis] == -1) {
            if (open)
                return node.invalid("leaves two extents open");
            open = axis;
            extents[axis] = 1;
        }
    }
    const auto others = checked_product(extents);
    if (!others)
        return node.invalid("has impossible extents");
    if (open && *others > 0)
        extents[*open] = x->elements() / *others;
    if (checked_product(extents) != x->elements())
        return node.invalid(text("turns ", x->elements(), " elements into another number of them"));
    Value result = value(std::move(extents), x->type);
    result.content = x->content;
    return one(std::move(result));
}

Values flattened(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const std::size_t axis, axis_of(node, node.integer("axis", 1), x->shape.size(), true));
    const auto middle = x->shape.begin() + static_cast<std::ptrdiff_t>(axis);
    Value result = value({checked_product(Extents(x->shape.begin(), middle)).value_or(0),
                          checked_product(Extents(middle, x->shape.end())).value_or(0)},
                         x->type);
    result.content = x->content;
    return one(std::move(result));
}

Values squeezed(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const auto axes, node.list("axes", 1));
    std::vector<bool> gone(x->shape.size(), false);
    for (std::size_t axis = 0; !axes && axis < gone.size(); ++axis)
        gone[axis] = x->shape[axis] == 1;
    if (axes) {
        for (const std::int64_t named : *axes) {
            MFRES_TRY(const std::size_t axis, axis_of(node, named, gone.size()));
            if (x->shape[axis] != 1)
                return node.invalid(text("removes axis ", axis, " of extent ", x->shape[axis]));
            gone[axis] = true;
        }
    }
    Value result = value({}, x->type);
    for (std::size_t axis = 0; axis < gone.size(); ++axis)
        if (!gone[axis])
            result.shape.push_back(x->shape[axis]);
    result.content = x->content;
    return one(std::move(result));
}

Values unsqueezed(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const auto axes, node.list("axes", 1));
    if (!axes)
        return node.invalid("names no axes");
    const std::size_t rank = x->shape.size() + axes->size();
    if (rank > max_axes)
        return node.unsupported(text("has a result of ", rank, " axes"));
    std::vector<bool> added(rank, false);
    for (const std::int64_t named : *axes) {
        MFRES_TRY(const std::size_t axis, axis_of(node, named, rank));
        if (added[axis])
            return node.invalid(text("adds axis ", axis, " twice"));
        added[axis] = true;
    }
    Value result = value(Extents(rank, 1), x->type);
    std::size_t from = 0;
    for (std::size_t axis = 0; axis < rank; ++axis)
        if (!added[axis])
            result.shape[axis] = x->shape[from++];
    result.content = x->content;
    return one(std::move(result));
}

Values transposed(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    const std::size_t rank = x->shape.size();
    Extents order(rank);
    std::iota(order.rbegin(), order.rend(), 0);
    if (const auto perm = node.list("perm"); perm && !perm->empty())
        order = *perm;
    if (order.size() != rank)
        return node.invalid(text("orders ", order.size(), " axes of ", rank));
    const Extents own = strides_of(x->shape);
    Value result = value({}, x->type);
    Extents strides;
    std::vector<bool> taken(rank, false);
    for (const std::int64_t axis : order) {
        if (axis < 0 || axis >= static_cast<std::int64_t>(rank) || taken[static_cast<std::size_t>(axis)])
            return node.invalid("has no order of its axes");
        taken[static_cast<std::size_t>(axis)] = true;
        result.shape.push_back(x->shape[static_cast<std::size_t>(axis)]);
        strides.push_back(own[static_cast<std::size_t>(axis)]);
    }
    result.content = viewed(*x, result.shape, strides, 0);
    return one(std::move(result));
}

Values expanded(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Extents to, node.integers(1));
    MFRES_TRY(Extents extents, broadcast(node, x->shape, to));
    Value result = value(std::move(extents), x->type);
    result.content = broadcast_content(*x, result.shape);
    return one(std::move(result));
}

Values tiled(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Extents times, node.integers(1));
    if (times.size() != x->shape.size())
        return node.invalid(text("repeats ", times.size(), " axes of ", x->shape.size()));
    Value result = value(x->shape, x->type);
    bool once = true;
    for (std::size_t axis = 0; axis < times.size(); ++axis) {
        const auto extent = checked_multiply(x->shape[axis], times[axis]);
        if (!extent)
            return node.invalid(text("repeats axis ", axis, " ", times[axis], " times"));
        result.shape[axis] = *extent;
        once = once && times[axis] == 1;
    }
    const bool repeated = x->content && x->content->size() == 1 && small(result.shape);
    if (once)
        result.content = x->content;
    else if (repeated)
        result.content =
            content_of(std::vector<Number>(static_cast<std::size_t>(result.elements()), x->content->front()));
    return one(std::move(result));
}

/// Runs of elements behind an axis, and how many of them there are in front of it.
struct AroundAxis {
    std::int64_t outer, inner;
};

AroundAxis around(const Extents& shape, std::size_t axis) {
    const auto at = shape.begin() + static_cast<std::ptrdiff_t>(axis);
    return {checked_product(Extents(shape.begin(), at)).value_or(0),
            checked_product(Extents(at + 1, shape.end())).value_or(0)};
}

Content concatenated(const NodeReader& node, const Value& result, std::size_t axis) {
    if (!small(result.shape))
        return {};
    const AroundAxis run = around(result.shape, axis);
    std::vector<Number> numbers;
    for (std::int64_t outer = 0; outer < run.outer; ++outer)
        for (std::size_t i = 0; i < node.inputs(); ++i) {
            const Value& part = **node.input(i);
            if (!part.content)
                return {};
            const std::int64_t length = part.shape[axis] * run.inner;
            const Number* const begin = part.content->data() + outer * length;
            numbers.insert(numbers.end(), begin, begin + length);
        }
    return content_of(std::move(numbers));
}

Values concat(const NodeReader& node) {
    MFRES_TRY(const Value* first, node.input(0));
    MFRES_TRY(const std::size_t axis, axis_of(node, node.integer("axis", 1), first->shape.size()));
    Value result = value(first->shape, first->type);
    for (std::size_t i = 1; i < node.inputs(); ++i) {
        MFRES_TRY(const Value* part, node.input(i));
        Extents like = part->shape;
        if (like.size() == result.shape.size())
            like[axis] = result.shape[axis];
        if (like != result.shape)
            return node.invalid(text("joins values that differ in other axes than ", axis, " (input ", i, ")"));
        const auto sum = checked_add(result.shape[axis], part->shape[axis]);
        if (!sum)
            return node.invalid("has a result whose size exceeds 64 bits");
        result.shape[axis] = *sum;
    }
    result.content = concatenated(node, result, axis);
    return one(std::move(result));
}

Values split(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const std::size_t axis, axis_of(node, node.integer("axis", 0), x->shape.size()));
    MFRES_TRY(auto sizes, node.list("split", 1));
    const auto parts = static_cast<std::int64_t>(node.node().output_size());
    if (!sizes) {
        const std::int64_t each = (x->shape[axis] + parts - 1) / parts;
        sizes.emplace();
        for (std::int64_t i = 0; i < parts; ++i)
            sizes->push_back(std::clamp<std::int64_t>(x->shape[axis] - i * each, 0, each));
    }
    std::int64_t begin = 0;
    std::vector<Value> all;
    const Extents strides = strides_of(x->shape);
    for (const std::int64_t size : *sizes) {
        const auto end = checked_add(begin, size);
        if (!end || *end > x->shape[axis])
            return node.invalid(text("splits ", x->shape[axis], " into more"));
        Value part = value(x->shape, x->type);
        part.shape[axis] = size;
        part.content = viewed(*x, part.shape, strides, begin * strides[axis]);
        all.push_back(std::move(part));
        begin = *end;
    }
    if (begin != x->shape[axis] || static_cast<std::int64_t>(all.size()) != parts)
        return node.invalid(text("splits ", x->shape[axis], " into ", begin, " in ", all.size(), " parts"));
    return all;
}

/// One axis of a slice.
struct Cut {
    std::int64_t begin, count, step;
};

Result<Cut> cut_of(const NodeReader& node, std::int64_t extent, std::int64_t begin, std::int64_t end,
                   std::int64_t step) {
    if (step == 0 || step == std::numeric_limits<std::int64_t>::min())
        return node.invalid(text("has the step ", step));
    const auto from_end = [&](std::int64_t at) { return at < 0 ? at + extent : at; }; // extent >= 0, so no overflow
    const bool forwards = step > 0;
    const std::int64_t first = std::clamp<std::int64_t>(from_end(begin), 0, forwards ? extent : extent - 1);
    const std::int64_t last = std::clamp<std::int64_t>(from_end(end), forwards ? 0 : -1, extent);
    const std::int64_t way = forwards ? last - first : first - last;
    const std::int64_t pace = forwards ? step : -step;
    return Cut{first, way <= 0 ? 0 : (way - 1) / pace + 1, step};
}

Values sliced(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const auto begins, node.list("starts", 1));
    MFRES_TRY(const auto ends, node.list("ends", 2));
    MFRES_TRY(auto axes, node.list("axes", 3));
    MFRES_TRY(auto steps, node.list("steps", 4));
    if (!begins || !ends || begins->size() != ends->size() || begins->size() > x->shape.size())
        return node.invalid("has no ends for its axes");
    if (!axes) {
        axes.emplace(begins->size());
        std::iota(axes->begin(), axes->end(), 0);
    }
    if (!steps)
        steps.emplace(begins->size(), 1);
    if (axes->size() != begins->size() || steps->size() != begins->size())
        return node.invalid("has lists of different lengths");
    Value result = value(x->shape, x->type);
    Extents strides = strides_of(x->shape);
    std::int64_t begin = 0;
    std::vector<bool> cut_already(x->shape.size(), false);
    for (std::size_t i = 0; i < axes->size(); ++i) {
        MFRES_TRY(const std::size_t axis, axis_of(node, (*axes)[i], x->shape.size()));
        if (cut_already[axis])
            return node.invalid(text("cuts axis ", axis, " twice"));
        cut_already[axis] = true;
        MFRES_TRY(const Cut cut, cut_of(node, x->shape[axis], (*begins)[i], (*ends)[i], (*steps)[i]));
        result.shape[axis] = cut.count;
        begin += cut.count > 0 ? cut.begin * strides[axis] : 0;
        if (cut.count > 1)
            strides[axis] *= cut.step;
    }
    result.content = viewed(*x, result.shape, strides, begin);
    return one(std::move(result));
}

Content gathered(const Value& x, const Value& at, const Value& result, std::size_t axis) {
    if (!x.content || !at.content || at.real() || !small(result.shape))
        return {};
    const AroundAxis run = around(x.shape, axis);
    std::vector<Number> numbers;
    for (std::int64_t outer = 0; outer < run.outer; ++outer)
        for (const Number& index : *at.content) {
            const std::int64_t place = index.integer < 0 ? index.integer + x.shape[axis] : index.integer;
            if (place < 0 || place >= x.shape[axis])
                return {};
            const Number* const begin = x.content->data() + (outer * x.shape[axis] + place) * run.inner;
            numbers.insert(numbers.end(), begin, begin + run.inner);
        }
    return content_of(std::move(numbers));
}

Values gather(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Value* at, node.input(1));
    MFRES_TRY(const std::size_t axis, axis_of(node, node.integer("axis", 0), x->shape.size()));
    Value result = value(x->shape, x->type);
    result.shape.erase(result.shape.begin() + static_cast<std::ptrdiff_t>(axis));
    result.shape.insert(result.shape.begin() + static_cast<std::ptrdiff_t>(axis), at->shape.begin(), at->shape.end());
    result.content = gathered(*x, *at, result, axis);
    return one(std::move(result));
}

/// Elements of the shape of the second operand.
Values like_second(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Value* at, node.input(1));
    return one(value(at->shape, x->type));
}

Values gather_nd(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Value* at, node.input(1));
    const std::int64_t batch = node.integer("batch_dims", 0);
    if (at->shape.empty() || batch < 0 || batch + 1 > static_cast<std::int64_t>(at->shape.size()) ||
        at->shape.back() < 0 || batch + at->shape.back() > static_cast<std::int64_t>(x->shape.size()))
        return node.invalid("has indices for other axes than its operand has");
    Extents extents(at->shape.begin(), at->shape.end() - 1);
    extents.insert(extents.end(), x->shape.data() + batch + at->shape.back(), x->shape.data() + x->shape.size());
    return one(value(std::move(extents), x->type));
}

Values padded(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(auto pads, node.list("pads", 1));
    MFRES_TRY(const auto axes, node.list("axes", 3));
    const std::size_t named = axes ? axes->size() : x->shape.size();
    if (!pads || pads->size() != 2 * named)
        return node.invalid(text("has ", pads ? pads->size() : 0, " widths for ", named, " axes"));
    Value result = value(x->shape, x->type);
    for (std::size_t i = 0; i < named; ++i) {
        MFRES_TRY(const std::size_t axis,
                  axis_of(node, axes ? (*axes)[i] : static_cast<std::int64_t>(i), x->shape.size()));
        std::int64_t extent = 0;
        if (__builtin_add_overflow(result.shape[axis], (*pads)[i], &extent) ||
            __builtin_add_overflow(extent, (*pads)[i + named], &extent))
            return node.invalid("has a result whose size exceeds 64 bits");
        result.shape[axis] = extent;
    }
    return one(std::move(result));
}

Values depth_to_space(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    const std::int64_t block = node.integer("blocksize", 0);
    const bool out = node.node().op_type() == "DepthToSpace";
    if (x->shape.size() != 4 || block < 1 || block > 65536)
        return node.invalid(text("has blocks of ", block, " on ", x->shape.size(), " axes"));
    const Extents& s = x->shape;
    if (out ? s[1] % (block * block) != 0 : s[2] % block != 0 || s[3] % block != 0)
        return node.invalid(text("has blocks of ", block, " that do not divide its operand"));
    const auto times = [](std::int64_t a, std::int64_t b) { return checked_multiply(a, b).value_or(-1); };
    Extents extents = out ? Extents{s[0], s[1] / (block * block), times(s[2], block), times(s[3], block)}
                          : Extents{s[0], times(s[1], block * block), s[2] / block, s[3] / block};
    return one(value(std::move(extents), x->type));
}

// ---- resampling -----------------------------------------------------------------------------------------------------

Values scaled(const NodeReader& node, std::size_t scales) {
    MFRES_TRY(const Value* x, node.input(0));
    std::vector<double> factors;
    if (node.has(scales)) {
        MFRES_TRY(const Value* content, node.input(scales));
        if (!content->content || !content->real())
            return node.unsupported("takes its scales from a value that is known only when the network runs");
        for (const Number& number : *content->content)
            factors.push_back(number.real);
    } else if (const auto* found = node.attribute("scales"); found != nullptr) {
        factors.assign(found->floats().begin(), found->floats().end());
    }
    if (factors.size() != x->shape.size())
        return node.invalid(text("has ", factors.size(), " scales for ", x->shape.size(), " axes"));
    Value result = value(x->shape, x->type);
    for (std::size_t axis = 0; axis < factors.size(); ++axis) {
        const double extent = std::floor(static_cast<double>(x->shape[axis]) * factors[axis]);
        if (!(extent >= 0.0 && extent < most_real_integer))
            return node.invalid(text("scales axis ", axis, " to ", extent));
        result.shape[axis] = static_cast<std::int64_t>(extent);
    }
    return one(std::move(result));
}

Values resized(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    if (node.attribute("axes") != nullptr || node.word("keep_aspect_ratio_policy", "stretch") != "stretch")
        return node.unsupported("resizes by axes or keeps an aspect ratio, which is not counted");
    const bool sizes = node.has(3) && (**node.input(3)).elements() > 0;
    if (!sizes)
        return scaled(node, node.opset() < 11 ? 1 : 2);
    MFRES_TRY(Extents to, node.integers(3));
    if (to.size() != x->shape.size())
        return node.invalid(text("has ", to.size(), " sizes for ", x->shape.size(), " axes"));
    return one(value(std::move(to), x->type));
}

Values upsampled(const NodeReader& node) {
    return scaled(node, 1);
}

// ---- reductions -----------------------------------------------------------------------------------------------------

/// Which axes are reduced; all of them without a list.
Result<std::vector<bool>> reduced_axes(const NodeReader& node, std::size_t rank) {
    MFRES_TRY(const auto axes, node.list("axes", 1));
    const bool none = !axes || axes->empty();
    std::vector<bool> gone(rank, none && node.integer("noop_with_empty_axes", 0) == 0);
    if (!none) {
        for (const std::int64_t named : *axes) {
            MFRES_TRY(const std::size_t axis, axis_of(node, named, rank));
            gone[axis] = true;
        }
    }
    return gone;
}

Value without(const Value& x, const std::vector<bool>& gone, bool keep, int type) {
    Value result = value({}, type);
    for (std::size_t axis = 0; axis < gone.size(); ++axis)
        if (!gone[axis] || keep)
            result.shape.push_back(gone[axis] ? 1 : x.shape[axis]);
    return result;
}

/// The content of a reduction of whole numbers to one.
Content reduced_content(std::string_view type, const Value& x, const Value& result) {
    if (!x.content || x.real() || x.content->empty() || result.elements() != 1)
        return {};
    const std::string_view step = type == "ReduceProd"  ? "Mul"
                                  : type == "ReduceSum" ? "Add"
                                  : type == "ReduceMax" ? "Max"
                                  : type == "ReduceMin" ? "Min"
                                                        : "";
    Number sum = x.content->front();
    for (std::size_t i = 1; i < x.content->size(); ++i) {
        const auto next = integer_result(step, sum.integer, (*x.content)[i].integer, false);
        if (!next)
            return {};
        sum = *next;
    }
    return step.empty() ? nullptr : content_of({sum});
}

Values reduced(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const std::vector<bool> gone, reduced_axes(node, x->shape.size()));
    Value result = without(*x, gone, node.integer("keepdims", 1) != 0, x->type);
    result.content = reduced_content(node.node().op_type(), *x, result);
    return one(std::move(result));
}

Values arg_extreme(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const std::size_t axis, axis_of(node, node.integer("axis", 0), x->shape.size()));
    std::vector<bool> gone(x->shape.size(), false);
    gone[axis] = true;
    return one(without(*x, gone, node.integer("keepdims", 1) != 0, int64_type));
}

Values top_k(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Extents k, node.integers(1));
    MFRES_TRY(const std::size_t axis, axis_of(node, node.integer("axis", -1), x->shape.size()));
    if (k.size() != 1 || k[0] < 0)
        return node.invalid("has no number of elements");
    Value best = value(x->shape, x->type);
    best.shape[axis] = k[0];
    Value places = value(best.shape, int64_type);
    std::vector<Value> all;
    all.push_back(std::move(best));
    all.push_back(std::move(places));
    return all;
}

// ---- normalisation and integers -------------------------------------------------------------------------------------

/// The first result has the operand's shape. Others (mean and deviation in training, say) are not counted.
Values normalised(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    if (node.node().op_type() == "BatchNormalization" && node.integer("training_mode", 0) != 0)
        return node.unsupported("normalises with the statistics of its operand (training_mode), which is not counted");
    std::vector<Value> all;
    all.push_back(value(x->shape, x->type));
    for (int i = 1; i < node.node().output_size(); ++i)
        if (!node.node().output(i).empty())
            return node.unsupported(text("has output ", i, ", which is not counted"));
    return all;
}

Values quantized(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    int type = onnx::TensorProto_DataType_UINT8;
    if (node.has(2)) {
        MFRES_TRY(const Value* zero, node.input(2));
        type = zero->type;
    }
    return one(value(x->shape, type));
}

Values dequantized(const NodeReader& node) {
    MFRES_TRY(const Value* x, node.input(0));
    MFRES_TRY(const Value* scale, node.input(1));
    return one(value(x->shape, scale->type));
}

// ---- the table ------------------------------------------------------------------------------------------------------

// clang-format off
constexpr Operator table[] = {
    {"Abs", Counting::arithmetic, unary},
    {"Acos", Counting::arithmetic, same},
    {"Add", Counting::arithmetic, combined},
    {"And", Counting::arithmetic, combined},
    {"ArgMax", Counting::arithmetic, arg_extreme},
    {"ArgMin", Counting::arithmetic, arg_extreme},
    {"Asin", Counting::arithmetic, same},
    {"Atan", Counting::arithmetic, same},
    {"Attention", Counting::attention, attention},
    {"AveragePool", Counting::pooling, pooled},
    {"BatchNormalization", Counting::normalisation, normalised},
    {"Cast", Counting::movement, cast},
    {"CastLike", Counting::movement, cast},
    {"Ceil", Counting::arithmetic, unary},
    {"Celu", Counting::activation, same},
    {"Clip", Counting::activation, same},
    {"Concat", Counting::movement, concat},
    {"Constant", Counting::view, constant},
    {"ConstantOfShape", Counting::movement, constant_of_shape},
    {"Conv", Counting::convolution, conv},
    {"ConvInteger", Counting::convolution, conv_integer},
    {"ConvTranspose", Counting::transposed_convolution, transposed_conv},
    {"Cos", Counting::arithmetic, same},
    {"CumSum", Counting::arithmetic, same},
    {"DepthToSpace", Counting::movement, depth_to_space},
    {"DequantizeLinear", Counting::movement, dequantized},
    {"Div", Counting::arithmetic, combined},
    {"Dropout", Counting::view, identity},
    {"Einsum", Counting::einsum, einsum},
    {"Elu", Counting::activation, same},
    {"Equal", Counting::arithmetic, combined},
    {"Erf", Counting::activation, same},
    {"Exp", Counting::arithmetic, same},
    {"Expand", Counting::movement, expanded},
    {"Flatten", Counting::view, flattened},
    {"Floor", Counting::arithmetic, unary},
    {"Gather", Counting::part, gather},
    {"GatherElements", Counting::part, like_second},
    {"GatherND", Counting::part, gather_nd},
    {"Gelu", Counting::activation, same},
    {"Gemm", Counting::gemm, gemm},
    {"GlobalAveragePool", Counting::pooling, pooled_to_one},
    {"GlobalLpPool", Counting::pooling, pooled_to_one},
    {"GlobalMaxPool", Counting::pooling, pooled_to_one},
    {"Greater", Counting::arithmetic, combined},
    {"GreaterOrEqual", Counting::arithmetic, combined},
    {"GroupNormalization", Counting::normalisation, normalised},
    {"HardSigmoid", Counting::activation, same},
    {"HardSwish", Counting::activation, same},
    {"Hardmax", Counting::arithmetic, same},
    {"Identity", Counting::view, identity},
    {"InstanceNormalization", Counting::normalisation, normalised},
    {"LRN", Counting::normalisation, same},
    {"LayerNormalization", Counting::normalisation, normalised},
    {"LeakyRelu", Counting::activation, same},
    {"Less", Counting::arithmetic, combined},
    {"LessOrEqual", Counting::arithmetic, combined},
    {"Log", Counting::arithmetic, same},
    {"LogSoftmax", Counting::arithmetic, same},
    {"LpNormalization", Counting::normalisation, same},
    {"LpPool", Counting::pooling, pooled},
    {"MatMul", Counting::matrix_product, matmul},
    {"MatMulInteger", Counting::matrix_product, matmul_integer},
    {"Max", Counting::arithmetic, combined},
    {"MaxPool", Counting::pooling, pooled},
    {"MeanVarianceNormalization", Counting::normalisation, same},
    {"Min", Counting::arithmetic, combined},
    {"Mish", Counting::activation, same},
    {"Mod", Counting::arithmetic, combined},
    {"Mul", Counting::arithmetic, combined},
    {"Neg", Counting::arithmetic, unary},
    {"Not", Counting::arithmetic, unary},
    {"Or", Counting::arithmetic, combined},
    {"PRelu", Counting::activation, same},
    {"Pad", Counting::movement, padded},
    {"Pow", Counting::arithmetic, combined},
    {"QLinearConv", Counting::convolution, quantized_conv},
    {"QLinearMatMul", Counting::matrix_product, quantized_matmul},
    {"QuantizeLinear", Counting::movement, quantized},
    {"RMSNormalization", Counting::normalisation, normalised},
    {"Range", Counting::movement, range},
    {"Reciprocal", Counting::arithmetic, same},
    {"ReduceL1", Counting::arithmetic, reduced},
    {"ReduceL2", Counting::arithmetic, reduced},
    {"ReduceLogSum", Counting::arithmetic, reduced},
    {"ReduceLogSumExp", Counting::arithmetic, reduced},
    {"ReduceMax", Counting::arithmetic, reduced},
    {"ReduceMean", Counting::arithmetic, reduced},
    {"ReduceMin", Counting::arithmetic, reduced},
    {"ReduceProd", Counting::arithmetic, reduced},
    {"ReduceSum", Counting::arithmetic, reduced},
    {"ReduceSumSquare", Counting::arithmetic, reduced},
    {"Relu", Counting::activation, same},
    {"Reshape", Counting::view, reshaped},
    {"Resize", Counting::resampling, resized},
    {"Round", Counting::arithmetic, unary},
    {"ScatterElements", Counting::movement, same},
    {"ScatterND", Counting::movement, same},
    {"Selu", Counting::activation, same},
    {"Shape", Counting::view, shape},
    {"Sigmoid", Counting::activation, same},
    {"Sign", Counting::arithmetic, same},
    {"Sin", Counting::arithmetic, same},
    {"Size", Counting::view, shape},
    {"Slice", Counting::part, sliced},
    {"Softmax", Counting::arithmetic, same},
    {"Softplus", Counting::activation, same},
    {"Softsign", Counting::activation, same},
    {"SpaceToDepth", Counting::movement, depth_to_space},
    {"Split", Counting::part, split},
    {"Sqrt", Counting::arithmetic, unary},
    {"Squeeze", Counting::view, squeezed},
    {"Sub", Counting::arithmetic, combined},
    {"Sum", Counting::arithmetic, combined},
    {"Tanh", Counting::activation, same},
    {"ThresholdedRelu", Counting::activation, same},
    {"Tile", Counting::movement, tiled},
    {"TopK", Counting::arithmetic, top_k},
    {"Transpose", Counting::movement, transposed},
    {"Trilu", Counting::movement, same},
    {"Unsqueeze", Counting::view, unsqueezed},
    {"Upsample", Counting::resampling, upsampled},
    {"Where", Counting::arithmetic, where},
    {"Xor", Counting::arithmetic, combined},
};
// clang-format on

static_assert(std::is_sorted(std::begin(table), std::end(table),
                             [](const Operator& a, const Operator& b) { return a.name < b.name; }));

} // namespace

const Operator* find_operator(std::string_view name) {
    const auto* found =
        std::lower_bound(std::begin(table), std::end(table), name,
                         [](const Operator& entry, std::string_view wanted) { return entry.name < wanted; });
    return found != std::end(table) && found->name == name ? found : nullptr;
}

std::span<const Operator> operators() {
    return table;
}

// ---- einsum ---------------------------------------------------------------------------------------------------------

namespace {

/// "bhld, bhmd -> bhlm" without spaces, in front of and behind the arrow. Errors: operation_unsupported.
struct Equation {
    std::vector<std::string> operands;
    std::string result;
};

Result<Equation> equation_of(const NodeReader& node) {
    std::string words = node.word("equation", "");
    words.erase(std::remove(words.begin(), words.end(), ' '), words.end());
    const std::size_t arrow = words.find("->");
    if (arrow == std::string::npos || words.find('.') != std::string::npos)
        return node.unsupported(
            text("has the equation '", printable(words), "', without an arrow or with an ellipsis"));
    Equation equation{{""}, words.substr(arrow + 2)};
    for (const char letter : words.substr(0, arrow)) {
        if (letter == ',')
            equation.operands.emplace_back();
        else
            equation.operands.back() += letter;
    }
    return equation;
}

} // namespace

Result<EinsumExtents> einsum_extents(const NodeReader& node) {
    MFRES_TRY(const Equation equation, equation_of(node));
    if (equation.operands.size() != node.inputs())
        return node.invalid(text("names ", equation.operands.size(), " operands and has ", node.inputs()));
    if (equation.operands.size() > 2)
        return node.unsupported("has more than two operands, whose order of products is not given");
    std::array<std::int64_t, 256> extents{};
    extents.fill(-1);
    EinsumExtents found;
    for (std::size_t i = 0; i < equation.operands.size(); ++i) {
        MFRES_TRY(const Value* x, node.input(i));
        const std::string& letters = equation.operands[i];
        if (letters.size() != x->shape.size())
            return node.invalid(text("names ", letters.size(), " axes of ", x->shape.size()));
        for (std::size_t axis = 0; axis < letters.size(); ++axis) {
            std::int64_t& known = extents[static_cast<unsigned char>(letters[axis])];
            if (known >= 0 && known != x->shape[axis] && known != 1 && x->shape[axis] != 1)
                return node.invalid(text("has extents ", known, " and ", x->shape[axis], " for one letter"));
            known = std::max(known, x->shape[axis]);
        }
    }
    for (const char letter : equation.result) {
        const std::int64_t extent = extents[static_cast<unsigned char>(letter)];
        if (extent < 0)
            return node.invalid("has a letter in its result that no operand has");
        found.result.push_back(extent);
    }
    for (const std::int64_t extent : extents)
        if (extent >= 0)
            found.all.push_back(extent);
    return found;
}

} // namespace mfres::onnx_count
