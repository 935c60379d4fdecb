// SPDX-License-Identifier: MIT
// Reading ONNX graphs as mfres::Graph.
#include "exchange/onnx.h"

#include "core/checked.h"
#include "core/try.h"
#include "exchange/onnx_file.h"

#include "core/half.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <optional>
#include <set>

namespace mfres {

namespace {

constexpr std::int64_t least_opset = 11; // the first with Resize in its present form
constexpr int max_nodes = 100'000;

/// Tensors by name: initialisers and the values of Constant nodes.
using Tensors = std::map<std::string, const onnx::TensorProto*, std::less<>>;

/// Reads one file. The caller sets the `where` of errors.
class GraphReader {
  public:
    GraphReader(const onnx::ModelProto& model, const Axes& size, OnnxEnds ends)
        : model_(model), graph_(model.graph()), size_(size), ends_(ends) {}

    Result<OnnxNetwork> read() {
        MFRES_CHECK(check_versions());
        for (const onnx::TensorProto& tensor : graph_.initializer())
            tensors_[tensor.name()] = &tensor;
        if (graph_.sparse_initializer_size() > 0)
            return unsupported("sparse initialisers");
        count_consumers();
        MFRES_CHECK(read_input());
        for (const onnx::NodeProto& node : graph_.node())
            MFRES_CHECK(read_node(node));
        if (graph_.output_size() == 0)
            return invalid("the graph has no output");
        for (const onnx::ValueInfoProto& output : graph_.output()) {
            MFRES_TRY(const NodeId id, value(output.name()));
            builder_.output(id);
        }
        OnnxNetwork network;
        MFRES_TRY(network.graph, builder_.finish());
        for (const auto& entry : model_.metadata_props())
            network.metadata[entry.key()] = entry.value();
        MFRES_CHECK(assign_weights(network));
        return network;
    }

  private:
    /// A sum that is not in the graph yet: its summands, each with an optional factor. A sum whose only consumer is a
    /// sum is flattened into it, so that chains of binary sums become one n-ary sum.
    struct PendingSum {
        std::string name;
        std::vector<NodeId> terms;
        std::vector<std::string> factors; ///< names of tensors; "" = 1
    };

    /// A group normalisation as PyTorch writes it, as far as it has been read: [n, groups, rest] of `x`, normalised, back
    /// in the shape of `x`, times a scale by channel. What adds a shift by channel, or reads it, adds it to the graph.
    struct PendingNorm {
        enum class Stage { split, normalised, joined, scaled };
        Stage stage = Stage::split;
        std::string name;
        NodeId x = -1;
        GroupNorm op;
        std::string scale; ///< name of a tensor
    };

    static Error invalid(std::string message) { return {ErrorCode::model_header_invalid, std::move(message), {}}; }
    static Error unsupported(std::string what) {
        return {ErrorCode::operation_unsupported,
                text("uses ", what, ", which is not among the operations of this project"),
                {}};
    }
    Error unsupported_here(const std::string& what) const {
        return unsupported(text(what, " in node ", printable(node_->name()), " (", printable(node_->op_type()), ")"));
    }
    Error invalid_here(const std::string& problem) const {
        return invalid(text("node ", printable(node_->name()), " (", printable(node_->op_type()), ") ", problem));
    }

    Status check_versions() const {
        if (!model_.has_graph() || graph_.node_size() == 0)
            return invalid("it holds no ONNX graph");
        if (graph_.node_size() > max_nodes)
            return invalid(text("the graph has ", graph_.node_size(), " nodes, allowed are ", max_nodes));
        if (model_.functions_size() > 0)
            return unsupported("functions of its own");
        for (const auto& opset : model_.opset_import())
            if ((opset.domain().empty() || opset.domain() == "ai.onnx") && opset.version() < least_opset)
                return unsupported(text("operators of version ", opset.version(), " (least ", least_opset, ")"));
        return {};
    }

    void count_consumers() {
        for (const onnx::NodeProto& node : graph_.node())
            for (const std::string& input : node.input())
                ++consumers_[input];
        for (const onnx::ValueInfoProto& output : graph_.output())
            consumers_[output.name()] += 2; // outputs are never flattened into a sum
    }

    Status read_input() {
        const onnx::ValueInfoProto* found = nullptr;
        for (const onnx::ValueInfoProto& input : graph_.input()) {
            if (tensors_.count(input.name()) > 0)
                continue; // old files list their initialisers as inputs
            if (found != nullptr)
                return unsupported(text("two inputs, ", printable(found->name()), " and ", printable(input.name())));
            found = &input;
        }
        if (found == nullptr)
            return invalid("the graph has no input");
        const auto& type = found->type().tensor_type();
        if (!found->type().has_tensor_type() || type.elem_type() != onnx::TensorProto_DataType_FLOAT)
            return unsupported(text("an input ", printable(found->name()), " that is not a float32 tensor"));
        if (type.shape().dim_size() != 5)
            return unsupported(text("an input of ", type.shape().dim_size(), " axes, where 5 are expected,"));
        Shape shape{1, 0, size_[0], size_[1], size_[2]};
        for (int axis = 0; axis < 5; ++axis) {
            const auto& dim = type.shape().dim(axis);
            if (dim.has_dim_value())
                shape[axis] = dim.dim_value();
            else if (axis == 1)
                return unsupported("a free number of input channels");
            if (shape[axis] <= 0)
                return invalid(text("axis ", axis, " of the input has extent ", shape[axis]));
        }
        values_[found->name()] = builder_.input(shape);
        taken_.insert("input");
        return {};
    }

    Status read_node(const onnx::NodeProto& node) {
        node_ = &node;
        if (!node.domain().empty() && node.domain() != "ai.onnx")
            return unsupported_here(text("the domain ", printable(node.domain())));
        if (node.output_size() == 0)
            return invalid_here("has no output");
        for (const std::string& output : node.output())
            if (values_.count(output) > 0 || pending_.count(output) > 0 || pending_norms_.count(output) > 0 ||
                is_known(output))
                return invalid_here(text("writes ", printable(output), ", which exists already"));
        const std::string& type = node.op_type();
        if (type == "Constant")
            return read_constant();
        if (type == "Identity" && node.input_size() == 1 && node.output_size() == 1)
            if (const auto found = tensors_.find(node.input(0)); found != tensors_.end()) {
                tensors_[node.output(0)] = found->second; // a weight that several nodes share
                return {};
            }
        if (type == "Shape" || std::all_of(node.input().begin(), node.input().end(),
                                           [&](const std::string& input) { return is_integers(input); }))
            return read_integers(type);
        if (type == "Reshape")
            return read_reshape();
        if (const PendingNorm* norm = norm_of(0); norm != nullptr && type == "InstanceNormalization")
            return read_norm_of_groups(*norm);
        if (type == "Add" && channel_constant() >= 0)
            return read_shift_of_groups();
        if (type == "Add" || type == "Sum")
            return read_sum();
        if (type == "Mul")
            return read_product();
        if (type == "Split")
            return read_split();
        MFRES_TRY(const NodeId id, operation(type));
        values_[node.output(0)] = id;
        for (int i = 1; i < node.output_size(); ++i)
            if (!node.output(i).empty() && consumers_.count(node.output(i)) > 0)
                return unsupported_here(text("output ", i));
        return {};
    }

    Result<NodeId> operation(const std::string& type) {
        if (type == "Identity" || type == "Dropout")
            return input(0);
        if (type == "Conv")
            return read_conv();
        if (type == "BatchNormalization")
            return read_batch_norm();
        if (type == "ConvTranspose")
            return read_conv_transpose();
        if (type == "InstanceNormalization")
            return read_instance_norm();
        if (type == "GroupNormalization")
            return read_group_norm();
        if (type == "PRelu")
            return read_prelu();
        if (type == "Elu") {
            MFRES_CHECK(known({"alpha"}));
            return single(Elu{decimal(real("alpha", 1.0F))});
        }
        if (type == "Sigmoid") {
            MFRES_CHECK(known({}));
            return single(Sigmoid{});
        }
        if (type == "Relu") {
            MFRES_CHECK(known({}));
            return single(Relu{});
        }
        if (type == "LeakyRelu") {
            MFRES_CHECK(known({"alpha"}));
            return single(LeakyRelu{decimal(real("alpha", 0.01F))});
        }
        if (type == "Softmax")
            return read_softmax();
        if (type == "Concat")
            return read_concat();
        if (type == "Slice")
            return read_slice();
        if (type == "MaxPool")
            return read_max_pool();
        if (type == "AveragePool")
            return read_average_pool();
        if (type == "GlobalAveragePool")
            return single(AdaptiveAvgPool{{1, 1, 1}});
        if (type == "ReduceMean")
            return read_mean();
        if (type == "Resize")
            return read_resize();
        return unsupported_here("the operator");
    }

    // Attributes.

    const onnx::AttributeProto* attribute(std::string_view name) const {
        for (const onnx::AttributeProto& found : node_->attribute())
            if (found.name() == name)
                return &found;
        return nullptr;
    }
    /// Rejects all other attributes, because an unknown one may change the meaning of the node.
    Status known(std::initializer_list<std::string_view> names) const {
        for (const onnx::AttributeProto& found : node_->attribute())
            if (std::find(names.begin(), names.end(), found.name()) == names.end())
                return unsupported_here(text("the attribute ", printable(found.name())));
        return {};
    }
    std::int64_t integer(std::string_view name, std::int64_t standard) const {
        const auto* found = attribute(name);
        return found != nullptr ? found->i() : standard;
    }
    float real(std::string_view name, float standard) const {
        const auto* found = attribute(name);
        return found != nullptr ? found->f() : standard;
    }
    std::string word(std::string_view name, std::string standard) const {
        const auto* found = attribute(name);
        return found != nullptr ? found->s() : std::move(standard);
    }
    Result<Axes> axes(std::string_view name, std::int64_t standard) const {
        Axes result{standard, standard, standard};
        const auto* found = attribute(name);
        if (found == nullptr)
            return result;
        if (found->ints_size() != 3)
            return unsupported_here(text(name, " of ", found->ints_size(), " values"));
        std::copy(found->ints().begin(), found->ints().end(), result.begin());
        return result;
    }
    /// Padding, which must be equal on both sides of each axis.
    Result<Axes> padding() const {
        if (word("auto_pad", "NOTSET") != "NOTSET")
            return unsupported_here("auto_pad");
        Axes result{0, 0, 0};
        const auto* found = attribute("pads");
        if (found == nullptr)
            return result;
        if (found->ints_size() != 6)
            return unsupported_here(text("pads of ", found->ints_size(), " values"));
        for (int axis = 0; axis < 3; ++axis) {
            if (found->ints(axis) != found->ints(axis + 3))
                return unsupported_here("padding that differs between the two sides");
            result[static_cast<std::size_t>(axis)] = found->ints(axis);
        }
        return result;
    }
    Status channel_axis(std::int64_t axis) const {
        if (axis != 1 && axis != -4)
            return unsupported_here(text("axis ", axis));
        return {};
    }

    // Values.

    Result<NodeId> value(const std::string& name) {
        if (const auto found = values_.find(name); found != values_.end())
            return found->second;
        if (const auto found = pending_.find(name); found != pending_.end())
            return finish_sum(name);
        if (const auto found = pending_norms_.find(name); found != pending_norms_.end())
            return finish_norm(name, nullptr);
        return Error{ErrorCode::model_tensor_missing,
                     text("nothing produces the value ", printable(name), " before it is read"),
                     {}};
    }
    Result<NodeId> input(int index) {
        if (index >= node_->input_size())
            return invalid_here(text("has ", node_->input_size(), " inputs, ", index + 1, " are needed"));
        return value(node_->input(index));
    }
    Shape shape(NodeId id) const { return builder_.shape(id); }

    /// A unique name for the node: `wanted`, the name in the file or a generated one, with a suffix if necessary.
    std::string unique(std::string wanted) {
        if (wanted.empty())
            wanted = node_->name().empty() ? text("node", values_.size()) : printable(node_->name());
        std::string chosen = wanted;
        for (int i = 2; !taken_.insert(chosen).second; ++i)
            chosen = text(wanted, "#", i);
        return chosen;
    }

    Result<NodeId> add(const std::string& name, Op op, std::vector<NodeId> inputs) {
        const NodeId id = builder_.add(name, std::move(op), std::move(inputs));
        if (id >= 0)
            return id;
        return builder_.finish().error();
    }
    Result<NodeId> single(Op op, std::string name = {}) {
        MFRES_TRY(const NodeId x, input(0));
        return add(unique(std::move(name)), std::move(op), {x});
    }

    // Tensors.

    Result<const onnx::TensorProto*> tensor(int index) const {
        if (index >= node_->input_size() || node_->input(index).empty())
            return invalid_here(text("has no input ", index));
        const auto found = tensors_.find(node_->input(index));
        if (found == tensors_.end())
            return unsupported_here(text("a computed value as input ", index));
        return found->second;
    }
    bool has_input(int index) const { return index < node_->input_size() && !node_->input(index).empty(); }

    static Result<std::int64_t> elements(const onnx::TensorProto& tensor) {
        if (tensor.data_location() == onnx::TensorProto_DataLocation_EXTERNAL || tensor.external_data_size() > 0)
            return Error{ErrorCode::operation_unsupported,
                         text("tensor ", printable(tensor.name()),
                              " lies in another file, which bytes alone do not lead to; read the model by its path, or "
                              "put it into one file, in Python: "
                              "onnx.save_model(onnx.load(\"model.onnx\"), \"one.onnx\"), or export it with "
                              "torch.onnx.export(..., external_data=False)"),
                         {}};
        const auto count = checked_product(tensor.dims());
        if (!count)
            return Error{ErrorCode::model_tensor_size,
                         text("the extents of tensor ", printable(tensor.name()), " overflow or are negative"),
                         {}};
        return *count;
    }
    static Error wrong_size(const onnx::TensorProto& tensor, std::size_t bytes) {
        return {ErrorCode::model_tensor_size,
                text("tensor ", printable(tensor.name()), " holds ", bytes, " bytes or values, which is not what its ",
                     tensor.dims_size(), " extents need"),
                {}};
    }

    static Result<Tensor> floats(const onnx::TensorProto& tensor) {
        MFRES_TRY(const std::int64_t count, elements(tensor));
        if (tensor.dims_size() > Shape::max_rank)
            return Error{ErrorCode::model_tensor_shape,
                         text("tensor ", printable(tensor.name()), " has ", tensor.dims_size(), " axes, the most are ",
                              Shape::max_rank),
                         {}};
        const bool half = tensor.data_type() == onnx::TensorProto_DataType_FLOAT16;
        if (tensor.data_type() != onnx::TensorProto_DataType_FLOAT && !half)
            return Error{ErrorCode::model_dtype_unsupported,
                         text("tensor ", printable(tensor.name()), " has ONNX type ", tensor.data_type(),
                              "; float32 and float16 are read"),
                         {}};
        const auto wanted = static_cast<std::size_t>(count);
        const std::size_t given = tensor.has_raw_data() ? tensor.raw_data().size() / (half ? 2 : 4)
                                  : half                ? static_cast<std::size_t>(tensor.int32_data_size())
                                                        : static_cast<std::size_t>(tensor.float_data_size());
        if (given != wanted || (tensor.has_raw_data() && tensor.raw_data().size() % (half ? 2 : 4) != 0))
            return wrong_size(tensor, tensor.has_raw_data() ? tensor.raw_data().size() : given);
        Tensor values(Shape(std::span(tensor.dims().data(), static_cast<std::size_t>(tensor.dims_size()))));
        for (std::size_t i = 0; i < wanted; ++i) {
            float& here = values[static_cast<std::int64_t>(i)];
            if (half) {
                std::uint16_t bits = 0;
                if (tensor.has_raw_data())
                    std::memcpy(&bits, tensor.raw_data().data() + 2 * i, 2);
                else
                    bits = static_cast<std::uint16_t>(tensor.int32_data(static_cast<int>(i)));
                here = f16_to_f32(bits);
            } else if (tensor.has_raw_data()) {
                std::memcpy(&here, tensor.raw_data().data() + 4 * i, 4);
            } else {
                here = tensor.float_data(static_cast<int>(i));
            }
            if (!std::isfinite(here))
                return Error{ErrorCode::model_not_finite,
                             text("value ", i, " of tensor ", printable(tensor.name()), " is ", here),
                             {}};
        }
        return values;
    }

    static Result<std::vector<std::int64_t>> integers(const onnx::TensorProto& tensor) {
        MFRES_TRY(const std::int64_t count, elements(tensor));
        if (tensor.data_type() != onnx::TensorProto_DataType_INT64)
            return Error{ErrorCode::model_dtype_unsupported,
                         text("tensor ", printable(tensor.name()), " has ONNX type ", tensor.data_type(),
                              " where int64 is expected"),
                         {}};
        const auto wanted = static_cast<std::size_t>(count);
        const std::size_t bytes = tensor.raw_data().size();
        if (tensor.has_raw_data() ? bytes % 8 != 0 || bytes / 8 != wanted
                                  : static_cast<std::size_t>(tensor.int64_data_size()) != wanted)
            return wrong_size(tensor, bytes);
        std::vector<std::int64_t> values(wanted);
        if (tensor.has_raw_data())
            std::memcpy(values.data(), tensor.raw_data().data(), bytes);
        else
            std::copy(tensor.int64_data().begin(), tensor.int64_data().end(), values.begin());
        return values;
    }
    Result<std::vector<std::int64_t>> integers(int index) const {
        if (index < node_->input_size())
            if (const auto known_ones = integers_.find(node_->input(index)); known_ones != integers_.end())
                return known_ones->second;
        MFRES_TRY(const onnx::TensorProto* found, tensor(index));
        return integers(*found);
    }

    /// "enc1.down.conv" of the initialiser "enc1.down.conv.weight", so that parameters keep their names.
    std::string stem(int index, std::string_view ending) const {
        const std::string& name = index < node_->input_size() ? node_->input(index) : std::string();
        const bool fits = name.size() > ending.size() && name.ends_with(ending) && printable(name) == name;
        return fits ? name.substr(0, name.size() - ending.size()) : std::string();
    }
    Status expect(const std::string& parameter, int index) {
        MFRES_TRY(const onnx::TensorProto* found, tensor(index));
        parameters_[parameter] = found;
        return {};
    }

    // Integers: extents, and what exporters compute from them for Slice and Resize. They are evaluated while reading.

    bool is_known(const std::string& name) const { return tensors_.count(name) > 0 || integers_.count(name) > 0; }
    bool is_integers(const std::string& name) const {
        const auto found = tensors_.find(name);
        return integers_.count(name) > 0 ||
               (found != tensors_.end() && found->second->data_type() == onnx::TensorProto_DataType_INT64);
    }

    Status read_integers(const std::string& type) {
        std::vector<std::int64_t> result;
        if (type == "Shape") {
            MFRES_CHECK(known({}));
            MFRES_TRY(const NodeId x, input(0));
            const Shape extents = shape(x);
            result.assign(extents.begin(), extents.end());
        } else if (type == "Gather") {
            MFRES_TRY(result, gathered());
        } else if (type == "Concat") {
            for (int i = 0; i < node_->input_size(); ++i) {
                MFRES_TRY(const auto part, integers(i));
                result.insert(result.end(), part.begin(), part.end());
            }
        } else if (type == "Unsqueeze" || type == "Squeeze" || type == "Identity") {
            MFRES_TRY(result, integers(0)); // scalars and vectors of one element are not distinguished
        } else if (type == "Cast" && integer("to", 0) == onnx::TensorProto_DataType_INT64) {
            MFRES_TRY(result, integers(0));
        } else if (type == "Add" || type == "Sub" || type == "Mul" || type == "Div") {
            MFRES_TRY(result, combined(type));
        } else {
            return unsupported_here("the operator on integers");
        }
        if (result.size() > 64)
            return unsupported_here(text("a list of ", result.size(), " integers"));
        integers_[node_->output(0)] = std::move(result);
        return {};
    }

    Result<std::vector<std::int64_t>> gathered() const {
        MFRES_TRY(const auto from, integers(0));
        MFRES_TRY(const auto positions, integers(1));
        std::vector<std::int64_t> result;
        for (std::int64_t position : positions) {
            position += position < 0 ? static_cast<std::int64_t>(from.size()) : 0;
            if (position < 0 || position >= static_cast<std::int64_t>(from.size()) || integer("axis", 0) != 0)
                return invalid_here(text("picks element ", position, " of ", from.size()));
            result.push_back(from[static_cast<std::size_t>(position)]);
        }
        return result;
    }

    /// Combines two lists element by element; a list of one element is broadcast.
    Result<std::vector<std::int64_t>> combined(const std::string& type) const {
        MFRES_TRY(const auto a, integers(0));
        MFRES_TRY(const auto b, integers(1));
        const std::size_t count = std::max(a.size(), b.size());
        if (a.empty() || b.empty() || (a.size() != count && a.size() != 1) || (b.size() != count && b.size() != 1))
            return invalid_here(text("combines lists of ", a.size(), " and ", b.size()));
        std::vector<std::int64_t> result(count);
        for (std::size_t i = 0; i < count; ++i) {
            const std::int64_t x = a[a.size() == 1 ? 0 : i];
            const std::int64_t y = b[b.size() == 1 ? 0 : i];
            bool overflow = false;
            if (type == "Add")
                overflow = __builtin_add_overflow(x, y, &result[i]);
            else if (type == "Sub")
                overflow = __builtin_sub_overflow(x, y, &result[i]);
            else if (type == "Mul")
                overflow = __builtin_mul_overflow(x, y, &result[i]);
            else if (y == 0 || (y == -1 && x == std::numeric_limits<std::int64_t>::min()))
                overflow = true;
            else
                result[i] = x / y;
            if (overflow)
                return invalid_here(text("computes with ", x, " and ", y, ", which overflows"));
        }
        return result;
    }

    // Operators.

    Status read_constant() {
        const auto* found = attribute("value");
        if (found == nullptr || !found->has_t())
            return unsupported_here("a constant that is not a tensor");
        tensors_[node_->output(0)] = &found->t();
        return {};
    }

    /// The five axes of a convolution's weight, or of a transposed one's.
    Result<const onnx::TensorProto*> convolution_weight() const {
        MFRES_TRY(const onnx::TensorProto* weight, tensor(1));
        if (weight->dims_size() != 5)
            return unsupported_here(text("a weight of ", weight->dims_size(), " axes"));
        return weight;
    }

    /// Reads what both kinds of convolution have besides `out_channels`, and adds it to the graph.
    template <typename Convolution>
    Result<NodeId> add_convolution(Convolution conv, const onnx::TensorProto& weight) {
        conv.kernel = {weight.dims(2), weight.dims(3), weight.dims(4)};
        if (attribute("kernel_shape") != nullptr) {
            MFRES_TRY(const Axes kernel, axes("kernel_shape", 0));
            if (kernel != conv.kernel)
                return invalid_here("has a kernel_shape that is not its weight's");
        }
        MFRES_TRY(conv.stride, axes("strides", 1));
        MFRES_TRY(conv.padding, padding());
        conv.groups = integer("group", 1);
        conv.bias = has_input(2);
        const std::string name = unique(stem(1, ".weight"));
        MFRES_CHECK(expect(name + ".weight", 1));
        if (conv.bias)
            MFRES_CHECK(expect(name + ".bias", 2));
        MFRES_TRY(const NodeId x, input(0));
        return add(name, conv, {x});
    }

    Result<NodeId> read_conv() {
        MFRES_CHECK(known({"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}));
        MFRES_TRY(const onnx::TensorProto* weight, convolution_weight());
        Conv conv{.out_channels = weight->dims(0)};
        MFRES_TRY(conv.dilation, axes("dilations", 1));
        return add_convolution(conv, *weight);
    }

    Result<NodeId> read_conv_transpose() {
        MFRES_CHECK(known({"auto_pad", "dilations", "group", "kernel_shape", "output_padding", "pads", "strides"}));
        MFRES_TRY(const onnx::TensorProto* weight, convolution_weight());
        const auto channels = checked_multiply(weight->dims(1), integer("group", 1));
        if (!channels)
            return invalid_here("has more channels than can be counted");
        MFRES_TRY(const Axes dilation, axes("dilations", 1));
        if (dilation != Axes{1, 1, 1})
            return unsupported_here("dilation");
        ConvTranspose conv{.out_channels = *channels};
        MFRES_TRY(conv.output_padding, axes("output_padding", 0));
        return add_convolution(conv, *weight);
    }

    /// The tensor as one of shape [channels]: its values, of which one alone counts for all channels, and one of each of
    /// `groups` groups for the channels of that group.
    Result<const onnx::TensorProto*> by_channel(const onnx::TensorProto& tensor, std::int64_t channels,
                                                std::int64_t groups = 1) {
        MFRES_TRY(const Tensor values, floats(tensor));
        const std::int64_t count = values.elements();
        if (count != channels && count != groups && count != 1)
            return unsupported_here(text(count, " values for ", channels, " channels"));
        onnx::TensorProto& flat = owned_.emplace_back();
        *flat.mutable_name() = tensor.name();
        flat.set_data_type(onnx::TensorProto_DataType_FLOAT);
        flat.add_dims(channels);
        for (std::int64_t c = 0; c < channels; ++c)
            flat.add_float_data(values[c * count / channels]);
        return &flat;
    }
    Result<const onnx::TensorProto*> by_channel(int index, std::int64_t channels, std::int64_t groups = 1) {
        MFRES_TRY(const onnx::TensorProto* found, tensor(index));
        return by_channel(*found, channels, groups);
    }

    Result<NodeId> read_prelu() {
        MFRES_CHECK(known({}));
        MFRES_TRY(const NodeId x, input(0));
        const std::string name = unique(stem(1, ".weight"));
        MFRES_TRY(parameters_[name + ".weight"], by_channel(1, shape(x)[1]));
        return add(name, PRelu{}, {x});
    }

    Result<NodeId> read_group_norm() {
        MFRES_CHECK(known({"epsilon", "num_groups", "stash_type"}));
        GroupNorm norm{integer("num_groups", 0), decimal(real("epsilon", 1e-5F))};
        MFRES_TRY(const NodeId x, input(0));
        const std::string name = unique(stem(1, ".weight"));
        MFRES_TRY(parameters_[name + ".weight"], by_channel(1, shape(x)[1], norm.groups));
        MFRES_TRY(parameters_[name + ".bias"], by_channel(2, shape(x)[1], norm.groups));
        return add(name, norm, {x});
    }

    Result<NodeId> read_batch_norm() {
        MFRES_CHECK(known({"epsilon", "momentum", "training_mode"}));
        if (integer("training_mode", 0) != 0)
            return unsupported_here("training mode");
        const std::string name = unique(stem(1, ".weight"));
        MFRES_CHECK(expect(name + ".weight", 1));
        MFRES_CHECK(expect(name + ".bias", 2));
        MFRES_CHECK(expect(name + ".running_mean", 3));
        MFRES_CHECK(expect(name + ".running_var", 4));
        MFRES_TRY(const NodeId x, input(0));
        return add(name, BatchNorm{decimal(real("epsilon", 1e-5F))}, {x});
    }

    Result<NodeId> read_instance_norm() {
        MFRES_CHECK(known({"epsilon"}));
        const std::string name = unique(stem(1, ".weight"));
        MFRES_CHECK(expect(name + ".weight", 1));
        MFRES_CHECK(expect(name + ".bias", 2));
        MFRES_TRY(const NodeId x, input(0));
        return add(name, InstanceNorm{decimal(real("epsilon", 1e-5F))}, {x});
    }

    /// The shortest decimal number that rounds to the float: 1e-5 for 9.99999975e-06.
    static double decimal(float value) {
        char digits[32];
        std::snprintf(digits, sizeof digits, "%.7g", double{value});
        return std::strtod(digits, nullptr);
    }

    Result<NodeId> read_softmax() {
        MFRES_CHECK(known({"axis"}));
        MFRES_CHECK(channel_axis(integer("axis", -1)));
        const auto& outputs = graph_.output();
        const bool last = std::any_of(outputs.begin(), outputs.end(), [&](const onnx::ValueInfoProto& output) {
            return output.name() == node_->output(0);
        });
        if (last && ends_ == OnnxEnds::before_softmax)
            return input(0);
        return single(Softmax{});
    }

    Result<NodeId> read_concat() {
        MFRES_CHECK(known({"axis"}));
        MFRES_CHECK(channel_axis(integer("axis", 0)));
        std::vector<NodeId> inputs;
        for (int i = 0; i < node_->input_size(); ++i) {
            MFRES_TRY(const NodeId x, input(i));
            inputs.push_back(x);
        }
        return add(unique({}), Concat{}, std::move(inputs));
    }

    Result<NodeId> read_slice() {
        MFRES_CHECK(known({}));
        MFRES_TRY(const NodeId x, input(0));
        MFRES_TRY(const auto begins, integers(1));
        MFRES_TRY(const auto ends, integers(2));
        if (!has_input(3) || begins.size() != 1 || ends.size() != 1)
            return unsupported_here("anything but a range of one axis");
        MFRES_TRY(const auto along, integers(3));
        if (along.size() != 1)
            return unsupported_here("anything but a range of one axis");
        MFRES_CHECK(channel_axis(along[0]));
        if (has_input(4)) {
            MFRES_TRY(const auto steps, integers(4));
            if (steps != std::vector<std::int64_t>{1})
                return unsupported_here("steps");
        }
        const std::int64_t channels = shape(x)[1];
        const auto position = [&](std::int64_t at) {
            return std::clamp<std::int64_t>(at < 0 ? at + channels : at, 0, channels);
        };
        return add(unique({}), Slice{position(begins[0]), position(ends[0])}, {x});
    }

    Status read_split() {
        MFRES_CHECK(known({"axis", "split", "num_outputs"}));
        MFRES_CHECK(channel_axis(integer("axis", 0)));
        MFRES_TRY(const NodeId x, input(0));
        const int parts = node_->output_size();
        std::vector<std::int64_t> widths;
        if (has_input(1)) {
            MFRES_TRY(widths, integers(1));
        } else if (const auto* split = attribute("split")) {
            widths.assign(split->ints().begin(), split->ints().end());
        } else {
            widths.assign(static_cast<std::size_t>(parts), shape(x)[1] / parts);
        }
        if (widths.size() != static_cast<std::size_t>(parts))
            return invalid_here(text("has ", parts, " outputs of ", widths.size(), " widths"));
        std::int64_t begin = 0;
        for (int i = 0; i < parts; ++i) {
            const auto end = checked_add(begin, widths[static_cast<std::size_t>(i)]);
            if (!end)
                return invalid_here("has impossible widths");
            MFRES_TRY(const NodeId part, add(unique({}), Slice{begin, *end}, {x}));
            values_[node_->output(i)] = part;
            begin = *end;
        }
        if (begin != shape(x)[1])
            return invalid_here(text("splits ", shape(x)[1], " channels into ", begin));
        return {};
    }

    Result<NodeId> read_max_pool() {
        MFRES_CHECK(known({"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"}));
        MaxPool pool;
        MFRES_TRY(pool.kernel, axes("kernel_shape", 0));
        MFRES_TRY(pool.stride, axes("strides", 1));
        MFRES_TRY(const Axes pads, padding());
        MFRES_TRY(const Axes dilation, axes("dilations", 1));
        if (pads != Axes{0, 0, 0} || dilation != Axes{1, 1, 1} || integer("ceil_mode", 0) != 0)
            return unsupported_here("padding, dilation or ceil_mode");
        return single(pool);
    }

    Result<NodeId> read_average_pool() {
        MFRES_CHECK(known({"auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"}));
        MFRES_TRY(const Axes kernel, axes("kernel_shape", 0));
        MFRES_TRY(const Axes stride, axes("strides", 1));
        MFRES_TRY(const Axes pads, padding());
        MFRES_TRY(const NodeId x, input(0));
        AdaptiveAvgPool pool;
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const std::int64_t extent = shape(x)[static_cast<int>(axis) + 2];
            if (kernel[axis] <= 0 || kernel[axis] != stride[axis] || pads[axis] != 0 || extent % kernel[axis] != 0)
                return unsupported_here("windows that do not tile the grid");
            pool.output[axis] = extent / kernel[axis];
        }
        return add(unique({}), pool, {x});
    }

    /// The mean over all spatial axes; they are an attribute until opset 17, an input from then on.
    Result<NodeId> read_mean() {
        MFRES_CHECK(known({"axes", "keepdims", "noop_with_empty_axes"}));
        MFRES_TRY(const NodeId x, input(0));
        std::vector<std::int64_t> over;
        if (const auto* given = attribute("axes"))
            over.assign(given->ints().begin(), given->ints().end());
        else if (has_input(1)) {
            MFRES_TRY(over, integers(1));
        }
        for (std::int64_t& axis : over)
            axis += axis < 0 ? 5 : 0;
        std::sort(over.begin(), over.end());
        if (over != std::vector<std::int64_t>{2, 3, 4} || integer("keepdims", 1) != 1)
            return unsupported_here("a mean that is not over the three spatial axes, or that drops them");
        return add(unique({}), AdaptiveAvgPool{{1, 1, 1}}, {x});
    }
    Result<NodeId> read_resize() {
        // The others are written with their standard values by exporters that write everything (PyTorch's since 2.9).
        MFRES_CHECK(known({"mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "antialias",
                           "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy"}));
        if (integer("antialias", 0) != 0)
            return unsupported_here("antialias");
        if (integer("exclude_outside", 0) != 0)
            return unsupported_here("exclude_outside");
        if (const std::string policy = word("keep_aspect_ratio_policy", "stretch"); policy != "stretch")
            return unsupported_here(text("keep_aspect_ratio_policy ", printable(policy)));
        const std::string mode = word("mode", "nearest");
        const std::string places = word("coordinate_transformation_mode", "half_pixel");
        const bool linear = mode == "linear" && (places == "half_pixel" || places == "pytorch_half_pixel");
        const bool nearest =
            mode == "nearest" && places == "asymmetric" && word("nearest_mode", "round_prefer_floor") == "floor";
        if (!linear && !nearest)
            return unsupported_here(text("mode ", printable(mode), " with ", printable(places), " coordinates"));
        MFRES_TRY(const NodeId x, input(0));
        MFRES_TRY(const Shape to, resized(shape(x)));
        if (to[0] != shape(x)[0] || to[1] != shape(x)[1])
            return unsupported_here("other axes than x, y and z");
        return add(unique({}), Upsample{linear ? Interpolation::trilinear : Interpolation::nearest, spatial(to)}, {x});
    }

    Result<Shape> resized(Shape shape) const {
        if (has_input(3)) {
            MFRES_TRY(const auto sizes, integers(3));
            if (sizes.size() != 5)
                return unsupported_here(text("sizes of ", sizes.size(), " axes"));
            return Shape(std::span(sizes));
        }
        MFRES_TRY(const onnx::TensorProto* found, tensor(2));
        MFRES_TRY(const Tensor scales, floats(*found));
        if (scales.elements() != 5)
            return unsupported_here(text("scales of ", scales.elements(), " axes"));
        for (int axis = 0; axis < 5; ++axis) {
            const double extent = std::floor(static_cast<double>(shape[axis]) * double{scales[axis]});
            if (!(extent >= 1.0 && extent <= 2147483647.0))
                return invalid_here(text("scales axis ", axis, " to ", extent, " voxels"));
            shape[axis] = static_cast<std::int64_t>(extent);
        }
        return shape;
    }

    // Group normalisation in parts.

    const PendingNorm* norm_of(int index) const {
        if (index >= node_->input_size())
            return nullptr;
        const auto found = pending_norms_.find(node_->input(index));
        return found != pending_norms_.end() ? &found->second : nullptr;
    }

    /// The input of a product or sum of two that is a constant by channel, [c, 1, 1, 1] or [1, c, 1, 1, 1], where the
    /// other is a group normalisation that has been joined; -1 if it is none.
    int channel_constant() const {
        if (node_->input_size() != 2)
            return -1;
        for (const int index : {0, 1}) {
            const auto found = tensors_.find(node_->input(index));
            const PendingNorm* norm = norm_of(1 - index);
            if (found == tensors_.end() || norm == nullptr || norm->stage < PendingNorm::Stage::joined)
                continue;
            const auto& dims = found->second->dims();
            if ((dims.size() == 4 && dims[1] == 1 && dims[2] == 1 && dims[3] == 1) ||
                (dims.size() == 5 && dims[0] == 1 && dims[2] == 1 && dims[3] == 1 && dims[4] == 1))
                return index;
        }
        return -1;
    }

    Status read_reshape() {
        MFRES_CHECK(known({"allowzero"}));
        MFRES_TRY(const auto to, integers(1));
        if (const PendingNorm* norm = norm_of(0); norm != nullptr && norm->stage == PendingNorm::Stage::normalised) {
            const Shape whole = shape(norm->x);
            if (!std::equal(to.begin(), to.end(), whole.begin(), whole.end()))
                return unsupported_here("another shape than that of what is normalised");
            PendingNorm joined = *norm;
            joined.stage = PendingNorm::Stage::joined;
            pending_norms_[node_->output(0)] = std::move(joined);
            return {};
        }
        MFRES_TRY(const NodeId x, input(0));
        const Shape whole = shape(x);
        if (to.size() != 3 || (to[0] != 0 && to[0] != whole[0]) || to[1] <= 0 || whole[1] % to[1] != 0 ||
            (to[2] != -1 && to[2] != whole.elements() / whole[0] / to[1]))
            return unsupported_here("anything but the split into groups of a group normalisation");
        PendingNorm norm;
        norm.x = x;
        norm.op.groups = to[1];
        pending_norms_[node_->output(0)] = std::move(norm);
        return {};
    }

    Status read_norm_of_groups(PendingNorm norm) {
        MFRES_CHECK(known({"epsilon"}));
        for (const int index : {1, 2}) {
            MFRES_TRY(const onnx::TensorProto* found, tensor(index));
            MFRES_TRY(const Tensor values, floats(*found));
            const float neutral = index == 1 ? 1.0F : 0.0F;
            if (norm.stage != PendingNorm::Stage::split || values.elements() != norm.op.groups ||
                std::any_of(values.values().begin(), values.values().end(), [&](float v) { return v != neutral; }))
                return unsupported_here("scales or shifts by group");
        }
        norm.stage = PendingNorm::Stage::normalised;
        norm.op.epsilon = decimal(real("epsilon", 1e-5F));
        norm.name = node_->name();
        pending_norms_[node_->output(0)] = std::move(norm);
        return {};
    }

    Status read_scale_of_groups() {
        const int constant = channel_constant();
        PendingNorm norm = *norm_of(1 - constant);
        if (norm.stage != PendingNorm::Stage::joined)
            return unsupported_here("a second scale by channel");
        norm.stage = PendingNorm::Stage::scaled;
        norm.scale = node_->input(constant);
        pending_norms_[node_->output(0)] = std::move(norm);
        return {};
    }

    Status read_shift_of_groups() {
        const int constant = channel_constant();
        MFRES_TRY(const onnx::TensorProto* shift, tensor(constant));
        MFRES_TRY(values_[node_->output(0)], finish_norm(node_->input(1 - constant), shift));
        return {};
    }

    /// Adds a normalisation in parts to the graph; without a shift that of the value `value_name`.
    Result<NodeId> finish_norm(const std::string& value_name, const onnx::TensorProto* shift) {
        const PendingNorm norm = pending_norms_.find(value_name)->second;
        if (norm.stage < PendingNorm::Stage::joined)
            return unsupported_here("a reshaped value");
        const std::int64_t channels = shape(norm.x)[1];
        const std::string ending = ".weight";
        const bool named = norm.scale.ends_with(ending) && printable(norm.scale) == norm.scale;
        const std::string name =
            unique(named ? norm.scale.substr(0, norm.scale.size() - ending.size()) : printable(norm.name));
        onnx::TensorProto fill;
        fill.set_data_type(onnx::TensorProto_DataType_FLOAT);
        fill.add_dims(1);
        fill.add_float_data(1.0F);
        const onnx::TensorProto* scale = norm.scale.empty() ? &fill : tensors_.find(norm.scale)->second;
        MFRES_TRY(parameters_[name + ".weight"], by_channel(*scale, channels));
        fill.set_float_data(0, 0.0F);
        MFRES_TRY(parameters_[name + ".bias"], by_channel(shift != nullptr ? *shift : fill, channels));
        MFRES_TRY(const NodeId id, add(name, norm.op, {norm.x}));
        if (shift == nullptr)
            values_[value_name] = id;
        return id;
    }

    // Sums.

    /// Appends one operand of a sum: the summands of a nested sum with a single consumer, or the value itself.
    Status append_operand(PendingSum& sum, const std::string& name) {
        const auto found = pending_.find(name);
        if (found != pending_.end() && consumers_[name] == 1) {
            sum.terms.insert(sum.terms.end(), found->second.terms.begin(), found->second.terms.end());
            sum.factors.insert(sum.factors.end(), found->second.factors.begin(), found->second.factors.end());
            pending_.erase(found);
            return {};
        }
        MFRES_TRY(const NodeId id, value(name));
        sum.terms.push_back(id);
        sum.factors.emplace_back();
        return {};
    }

    Status read_sum() {
        MFRES_CHECK(known({}));
        if (node_->input_size() < 2)
            return unsupported_here("a sum of one");
        PendingSum sum{node_->name(), {}, {}};
        for (const std::string& operand : node_->input())
            MFRES_CHECK(append_operand(sum, operand));
        pending_[node_->output(0)] = std::move(sum);
        return {};
    }

    Status read_product() {
        MFRES_CHECK(known({}));
        if (node_->input_size() != 2)
            return invalid_here(text("has ", node_->input_size(), " inputs"));
        if (channel_constant() >= 0)
            return read_scale_of_groups();
        if (tensors_.count(node_->input(0)) == 0 && tensors_.count(node_->input(1)) == 0)
            return read_multiply();
        const bool second = tensors_.count(node_->input(1)) > 0;
        const std::string& factor = node_->input(second ? 1 : 0);
        const auto found = tensors_.find(factor);
        MFRES_TRY(const Tensor values, floats(*found->second));
        if (values.elements() != 1)
            return unsupported_here(text("a product with ", values.elements(), " values"));
        MFRES_TRY(const NodeId x, value(node_->input(second ? 0 : 1)));
        pending_[node_->output(0)] = PendingSum{node_->name(), {x}, {factor}};
        return {};
    }

    /// A product of two computed values, the larger one first.
    Status read_multiply() {
        MFRES_TRY(NodeId a, input(0));
        MFRES_TRY(NodeId b, input(1));
        if (shape(b).elements() > shape(a).elements())
            std::swap(a, b);
        MFRES_TRY(values_[node_->output(0)], add(unique({}), Multiply{}, {a, b}));
        return {};
    }

    /// Adds a pending sum to the graph.
    Result<NodeId> finish_sum(const std::string& value_name) {
        PendingSum sum = std::move(pending_.find(value_name)->second);
        pending_.erase(value_name);
        const bool scaled =
            std::any_of(sum.factors.begin(), sum.factors.end(), [](const auto& f) { return !f.empty(); });
        if (scaled && sum.terms.size() == 1)
            return unsupported_here("a product outside a sum");
        // Branch weights are named "<node>.weight1", "<node>.weight2", ...
        std::string wanted = sum.name;
        if (scaled && sum.factors[0].ends_with(".weight1"))
            wanted = sum.factors[0].substr(0, sum.factors[0].size() - std::string_view(".weight1").size());
        const std::string name = unique(printable(wanted));
        for (std::size_t i = 0; scaled && i < sum.factors.size(); ++i) {
            const std::string parameter = text(name, ".weight", i + 1);
            if (!sum.factors[i].empty())
                parameters_[parameter] = tensors_.find(sum.factors[i])->second;
        }
        MFRES_TRY(const NodeId id, scaled ? add(name, ScaledAdd{}, sum.terms) : add(name, Add{}, sum.terms));
        values_[value_name] = id;
        return id;
    }

    Status assign_weights(OnnxNetwork& network) const {
        for (const Node& node : network.graph.nodes())
            for (const Parameter& parameter : node.parameters) {
                const auto found = parameters_.find(parameter.name);
                Tensor values(Shape{1}, 1.0F); // the factor of a summand without one
                if (found != parameters_.end()) {
                    MFRES_TRY(values, floats(*found->second));
                    if (parameter.role == ParameterRole::branch) {
                        const float factor = values[0];
                        values = Tensor(Shape{1}, factor);
                    }
                }
                if (!(values.shape() == parameter.shape))
                    return Error{ErrorCode::model_tensor_shape,
                                 text("tensor ", parameter.name, " is ", to_string(values.shape()), ", its node needs ",
                                      to_string(parameter.shape)),
                                 {}};
                network.weights.emplace(parameter.name, std::move(values));
            }
        return {};
    }

    const onnx::ModelProto& model_;
    const onnx::GraphProto& graph_;
    Axes size_;
    OnnxEnds ends_;
    const onnx::NodeProto* node_ = nullptr; ///< being read, for messages
    Tensors tensors_;
    std::map<std::string, int, std::less<>> consumers_;
    std::map<std::string, NodeId, std::less<>> values_;
    std::map<std::string, PendingSum, std::less<>> pending_;
    std::map<std::string, PendingNorm, std::less<>> pending_norms_;
    std::deque<onnx::TensorProto> owned_; ///< parameters in another shape than the file's
    std::map<std::string, std::vector<std::int64_t>, std::less<>> integers_; ///< values that have been computed
    Tensors parameters_;                                                     ///< by the parameter's name
    std::set<std::string> taken_;
    GraphBuilder builder_;
};

/// The same error with the path of the file.
Error about(const std::string& path, const Error& error) {
    return {error.code, text(path, ": ", error.message), path};
}

} // namespace

Result<OnnxMessage> parse_onnx(std::span<const std::byte> bytes, const std::string& path) {
    if (bytes.size() > max_onnx_bytes)
        return Error{ErrorCode::memory_limit,
                     text(path, ": ", bytes.size(), " bytes are more than an ONNX file can have"), path};
    OnnxMessage model;
    if (bytes.empty() || !model->ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
        return Error{ErrorCode::model_header_invalid,
                     text(path, ": no ONNX file, or one that is damaged or cut off (", bytes.size(), " bytes)"), path};
    return model;
}

Result<OnnxNetwork> read_onnx_graph(const onnx::ModelProto& model, const std::string& path, const Axes& size,
                                    OnnxEnds ends) {
    auto network = GraphReader(model, size, ends).read();
    if (!network)
        return about(path, network.error());
    return network;
}

Result<OnnxNetwork> decode_onnx(std::span<const std::byte> bytes, const std::string& path, const Axes& size) {
    MFRES_TRY(const OnnxMessage model, parse_onnx(bytes, path));
    return read_onnx_graph(*model, path, size);
}

} // namespace mfres
