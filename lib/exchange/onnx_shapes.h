// SPDX-License-Identifier: MIT
// Shapes of the values of any ONNX graph, and the content of those that shapes are computed from. Nothing of a file is
// executed but arithmetic on small tensors.
#pragma once

#include "core/try.h"

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace mfres::onnx_count {

using Extents = std::vector<std::int64_t>;

/// Most axes of a value.
inline constexpr std::size_t max_axes = 16;
/// Most elements of a value whose content is computed.
inline constexpr std::int64_t max_content = 4096;

/// An element of a tensor: whole numbers are held exactly in `integer`, the others in `real`.
struct Number {
    std::int64_t integer = 0;
    double real = 0.0;
};
using Content = std::shared_ptr<const std::vector<Number>>;

/// What is known of a value without running the graph.
struct Value {
    Extents shape;
    int type = onnx::TensorProto_DataType_FLOAT; ///< onnx::TensorProto_DataType
    bool shape_known = true;                     ///< false behind an operator that is not known
    bool constant = false;                       ///< made of initialisers and constants alone
    Content content;                             ///< null: not known

    bool real() const;
    /// Product of the extents; it has been checked to fit, and so has the number of bytes.
    std::int64_t elements() const;
    std::int64_t bytes() const;
};

/// Bytes of one element of an ONNX type, rounded up; 0 for texts and unknown types.
std::int64_t element_bytes(int type);

/// The shape, type and, if small, content of a tensor in a file. Its bytes may lie in another file and are not opened.
/// Errors: model_header_invalid, model_tensor_size.
Result<Value> value_of(const onnx::TensorProto& tensor);

/// Whether the extents are none that a value can have. Errors: model_header_invalid, size_overflow.
Status check_extents(const Extents& shape, int type);

/// How the operations and bytes of an operator are counted.
enum class Counting : std::uint8_t {
    convolution,
    transposed_convolution,
    matrix_product, ///< MatMul and its forms on integers
    gemm,
    einsum,
    attention,
    normalisation, ///< one operation an element in the Table 2 convention
    activation,    ///< the same
    pooling,       ///< one operation an element of the input in the Table 2 convention
    resampling,    ///< one operation an element of the result in the Table 2 convention
    arithmetic,    ///< no operations in any convention: sums, products, softmax, reductions
    movement,      ///< copies its operands
    part,          ///< copies a part of its first operand
    view,          ///< nothing: the same numbers under another shape
};

/// A node with what is known of its operands.
class NodeReader {
  public:
    /// `inputs`: one per input of the node; null where the node leaves it out.
    NodeReader(const onnx::NodeProto& node, std::int64_t opset, std::vector<const Value*> inputs)
        : node_(node), opset_(opset), inputs_(std::move(inputs)) {}

    const onnx::NodeProto& node() const { return node_; }
    std::int64_t opset() const { return opset_; }
    std::size_t inputs() const { return inputs_.size(); }
    bool has(std::size_t index) const { return index < inputs_.size() && inputs_[index] != nullptr; }
    /// Errors: model_header_invalid for an operand that is not there.
    Result<const Value*> input(std::size_t index) const;
    /// The content of an operand as whole numbers. Errors: those of input(), operation_unsupported if it is not known.
    Result<Extents> integers(std::size_t index) const;

    const onnx::AttributeProto* attribute(std::string_view name) const;
    std::int64_t integer(std::string_view name, std::int64_t standard) const;
    double real(std::string_view name, double standard) const;
    std::string word(std::string_view name, std::string standard) const;
    std::optional<Extents> list(std::string_view name) const;
    /// A list that is an attribute in early versions of an operator and an operand in later ones; nothing without both.
    /// Errors: those of integers().
    Result<std::optional<Extents>> list(std::string_view name, std::size_t index) const;

    Error invalid(const std::string& problem) const;
    Error unsupported(const std::string& problem) const;

  private:
    const onnx::NodeProto& node_;
    std::int64_t opset_;
    std::vector<const Value*> inputs_;
};

/// An operator that can be counted.
struct Operator {
    std::string_view name;
    Counting counting;
    /// The results, one per output of the node. Shapes have not been checked yet.
    Result<std::vector<Value>> (*infer)(const NodeReader& node);
};

/// Null if there is none of that name in ONNX's own domain.
const Operator* find_operator(std::string_view name);
/// All of them, by name.
std::span<const Operator> operators();

/// The extents of an einsum's letters, by letter, and those of the result. Errors: operation_unsupported,
/// model_header_invalid.
struct EinsumExtents {
    Extents result;
    Extents all; ///< of each letter once
};
Result<EinsumExtents> einsum_extents(const NodeReader& node);

} // namespace mfres::onnx_count
