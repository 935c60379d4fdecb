// SPDX-License-Identifier: MIT
#include "exchange/onnx_complexity.h"

#include "core/checked.h"
#include "exchange/onnx_file.h"
#include "exchange/onnx_shapes.h"
#include "graph/complexity.h"
#include "graph/memory_plan.h"
#include "model/safetensors.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace mfres {

namespace {

using namespace onnx_count;

constexpr int max_nodes = 100'000;
constexpr std::int64_t max_contents = std::int64_t{1} << 22U; ///< numbers of all small tensors together
constexpr std::int64_t max_bytes = std::int64_t{1} << 62U;    ///< of all values together
constexpr std::size_t max_planned_values = 4096;              ///< a plan of more takes seconds

/// A count, or nothing when it has left 64 bits.
using Count = std::optional<std::int64_t>;

Count plus(Count a, Count b) {
    return a && b ? checked_add(*a, *b) : std::nullopt;
}

Count times(Count a, Count b) {
    return a && b ? checked_multiply(*a, *b) : std::nullopt;
}

std::string extents_words(std::span<const std::int64_t> extents) {
    std::string words;
    for (const std::int64_t extent : extents)
        words += text(words.empty() ? "" : "x", extent);
    return words;
}

/// Operations of one node in all conventions.
struct Operations {
    Count macs = 0;
    Count table2 = 0;
    Count eq11 = 0;
};

/// Operations of a node whose operands and results are known.
class NodeOperations {
  public:
    NodeOperations(const NodeReader& node, Counting counting, const std::vector<Value>& results)
        : node_(node), counting_(counting), results_(results) {}

    /// Errors: those of einsum_extents.
    Result<Operations> count() const {
        switch (counting_) {
        case Counting::convolution: return convolution();
        case Counting::transposed_convolution: return transposed_convolution();
        case Counting::matrix_product: return product(operand(second()));
        case Counting::gemm: return gemm();
        case Counting::einsum: return einsum();
        case Counting::attention: return attention();
        case Counting::normalisation:
        case Counting::activation:
        case Counting::resampling: return Operations{0, result().elements(), 0};
        case Counting::pooling: return Operations{0, operand(0).elements(), 0};
        case Counting::arithmetic:
        case Counting::movement:
        case Counting::part:
        case Counting::view: return Operations{};
        }
        return Operations{};
    }

    /// The operation in words: "Conv 3x3 stride 2 groups 16 bias".
    std::string words() const {
        std::string all = printable(node_.node().op_type(), 40);
        switch (counting_) {
        case Counting::convolution:
        case Counting::transposed_convolution: return all + convolution_words();
        case Counting::matrix_product:
            return all + text(' ', extents_words(operand(0).shape), " by ", extents_words(operand(second()).shape));
        case Counting::gemm:
            return all + text(' ', extents_words(operand(0).shape), " by ", extents_words(operand(1).shape));
        case Counting::einsum: return all + ' ' + printable(node_.word("equation", ""), 40);
        case Counting::pooling:
            if (const auto kernel = node_.list("kernel_shape"))
                return all + ' ' + extents_words(*kernel);
            return all;
        case Counting::attention:
        case Counting::normalisation:
        case Counting::activation:
        case Counting::resampling:
        case Counting::arithmetic:
        case Counting::movement:
        case Counting::part:
        case Counting::view: return all;
        }
        return all;
    }

  private:
    const Value& operand(std::size_t index) const { return **node_.input(index); }
    const Value& result() const { return results_.front(); }
    bool quantized() const { return node_.node().op_type().starts_with("QLinear"); }
    /// Which operand is the weight, or the second factor.
    std::size_t second() const { return quantized() ? 3 : 1; }
    bool biased() const { return node_.node().op_type() != "ConvInteger" && node_.has(quantized() ? 8 : 2); }

    /// The number of weights that an element sees, Cin / groups * kernel volume.
    static Count window(const Value& weight) { return checked_product(std::span(weight.shape).subspan(1)); }

    Operations convolution() const {
        const Count seen = window(operand(second()));
        const Count macs = times(seen, result().elements());
        return {macs, biased() ? plus(macs, result().elements()) : macs, times(plus(seen, 1), result().shape[1])};
    }

    /// Every element of the operand meets Cout / groups * kernel volume weights.
    Operations transposed_convolution() const {
        const Value& weight = operand(1);
        const Count macs = times(window(weight), operand(0).elements());
        return {macs, biased() ? plus(macs, result().elements()) : macs,
                plus(checked_product(weight.shape), result().shape[1])};
    }

    /// eq. 11 counts a product with a parameter as a dense layer, which has a bias always.
    Operations product(const Value& factor) const {
        const std::size_t rank = factor.shape.size();
        const std::int64_t inner = rank == 1 ? factor.shape[0] : factor.shape[rank - 2];
        const std::int64_t width = rank == 1 ? 1 : factor.shape[rank - 1];
        const Count macs = times(result().elements(), inner);
        return {macs, macs, factor.constant && rank <= 2 ? times(plus(inner, 1), width) : Count{0}};
    }

    Operations gemm() const {
        const bool turned = node_.integer("transB", 0) != 0;
        const Value& factor = operand(1);
        const std::int64_t inner = factor.shape[turned ? 1 : 0];
        const Count macs = times(result().elements(), inner);
        return {macs, node_.has(2) ? plus(macs, result().elements()) : macs,
                factor.constant ? times(plus(inner, 1), result().shape[1]) : Count{0}};
    }

    /// One multiply-add for every combination of letters; an einsum of one operand has none.
    Result<Operations> einsum() const {
        MFRES_TRY(const EinsumExtents extents, einsum_extents(node_));
        const Count macs = node_.inputs() == 2 ? Count(checked_product(extents.all)) : Count{0};
        return Operations{macs, macs, 0};
    }

    /// Products of queries with keys, and of their softmax with values.
    Operations attention() const {
        const Value& q = operand(0);
        const Value& k = operand(1);
        const bool split = q.shape.size() == 4;
        const std::int64_t keys = k.shape[split ? 2 : 1];
        const Count macs = times(plus(q.elements(), result().elements()), keys);
        return {macs, macs, 0};
    }

    std::string convolution_words() const {
        const Value& weight = operand(second());
        std::string all = ' ' + extents_words(std::span(weight.shape).subspan(2));
        const auto unless_all = [&](const char* name, const char* word, std::int64_t standard) {
            const auto list = node_.list(name);
            if (!list || std::all_of(list->begin(), list->end(), [&](std::int64_t entry) { return entry == standard; }))
                return;
            const bool equal =
                std::all_of(list->begin(), list->end(), [&](auto entry) { return entry == list->front(); });
            all += text(' ', word, ' ', equal ? text(list->front()) : extents_words(*list));
        };
        unless_all("strides", "stride", 1);
        unless_all("dilations", "dilation", 1);
        if (const std::int64_t groups = node_.integer("group", 1); groups != 1)
            all += text(" groups ", groups);
        return biased() ? all + " bias" : all;
    }

    const NodeReader& node_;
    Counting counting_;
    const std::vector<Value>& results_;
};

/// Counts one file. The caller sets the `where` of errors.
class GraphCounter {
  public:
    GraphCounter(const onnx::ModelProto& model, const OnnxComplexityOptions& options)
        : model_(model), graph_(model.graph()), options_(options) {}

    Result<ComplexityReport> count() {
        MFRES_CHECK(check_model());
        for (const onnx::TensorProto& tensor : graph_.initializer())
            MFRES_CHECK(read_initializer(tensor));
        MFRES_CHECK(read_inputs());
        for (const onnx::ValueInfoProto& info : graph_.value_info())
            described_[info.name()] = &info;
        for (const onnx::ValueInfoProto& info : graph_.output())
            described_[info.name()] = &info;
        for (const onnx::NodeProto& node : graph_.node())
            MFRES_CHECK(read_node(node));
        MFRES_CHECK(read_outputs());
        finish();
        return std::move(report_);
    }

  private:
    /// A value by name, with where it comes from.
    struct Known {
        Value value;
        const onnx::TensorProto* initializer = nullptr;
        const onnx::NodeProto* folded = nullptr; ///< the node that made a constant
        bool attributed = false;                 ///< its initialisers have been counted
        int buffer = -1;                         ///< index into requests_; -1: not stored
    };

    static Error invalid(const std::string& message) { return {ErrorCode::model_header_invalid, message, {}}; }

    Status check_model() {
        if (!model_.has_graph() || graph_.node_size() == 0)
            return invalid("it holds no ONNX graph");
        if (graph_.node_size() > max_nodes)
            return invalid(text("the graph has ", graph_.node_size(), " nodes, allowed are ", max_nodes));
        if (graph_.sparse_initializer_size() > 0)
            return Error{ErrorCode::operation_unsupported, "it has sparse initialisers, which are not counted", {}};
        for (const auto& opset : model_.opset_import())
            if (opset.domain().empty() || opset.domain() == "ai.onnx")
                opset_ = opset.version();
        source_.opset = opset_;
        source_.producer = printable(model_.producer_name(), 40);
        if (!model_.producer_version().empty())
            source_.producer += " " + printable(model_.producer_version(), 40);
        return {};
    }

    Status read_initializer(const onnx::TensorProto& tensor) {
        MFRES_TRY(Value value, value_of(tensor));
        keep_content(value);
        known_[tensor.name()] = {std::move(value), &tensor, nullptr, false, -1};
        return {};
    }

    // Inputs.

    Status read_inputs() {
        std::set<std::string, std::less<>> asked;
        for (const auto& [name, shape] : options_.inputs)
            asked.insert(name);
        std::vector<const onnx::ValueInfoProto*> inputs;
        for (const onnx::ValueInfoProto& input : graph_.input())
            if (known_.count(input.name()) == 0) // early files list their initialisers as inputs
                inputs.push_back(&input);
        if (inputs.empty())
            return invalid("the graph has no input");
        for (const onnx::ValueInfoProto* input : inputs) {
            const bool only = inputs.size() == 1 && options_.inputs.count("") > 0;
            const std::string name = only ? std::string() : input->name();
            asked.erase(name);
            MFRES_TRY(Value value, input_value(*input, name));
            source_.inputs.push_back({printable(input->name()), value.shape});
            MFRES_CHECK(store(input->name(), std::move(value), 0));
        }
        if (asked.empty())
            return {};
        std::string names;
        for (const onnx::ValueInfoProto* input : inputs)
            names += text(names.empty() ? "" : ", ", printable(input->name()));
        return Error{ErrorCode::invalid_argument,
                     text("there is no input '", printable(*asked.begin()), "'; the graph has: ", names),
                     {}};
    }

    Result<Value> input_value(const onnx::ValueInfoProto& input, const std::string& name) const {
        const auto& type = input.type().tensor_type();
        if (!input.type().has_tensor_type())
            return Error{ErrorCode::operation_unsupported,
                         text("input ", printable(input.name()), " is no tensor, and is not counted"),
                         {}};
        Value value;
        value.type = type.elem_type();
        const auto given = options_.inputs.find(name);
        const bool ranked = type.has_shape();
        if (given != options_.inputs.end()) {
            value.shape = given->second;
            if (ranked && static_cast<std::size_t>(type.shape().dim_size()) != value.shape.size())
                return Error{ErrorCode::invalid_argument,
                             text("input ", printable(input.name()), " has ", type.shape().dim_size(),
                                  " axes, and was given ", value.shape.size()),
                             {}};
        } else if (auto fixed = fixed_shape(type)) {
            value.shape = std::move(*fixed);
        } else {
            return Error{ErrorCode::invalid_argument,
                         text("input ", printable(input.name()), " has free axes, ", axes_words(type),
                              "; give them, for example with --input ", printable(input.name()), "=",
                              example_extents(type)),
                         {}};
        }
        MFRES_CHECK(check_extents(value.shape, value.type));
        return value;
    }

    static std::optional<Extents> fixed_shape(const onnx::TypeProto_Tensor& type) {
        if (!type.has_shape())
            return std::nullopt;
        Extents shape;
        for (const auto& dim : type.shape().dim()) {
            if (!dim.has_dim_value() || dim.dim_value() < 0)
                return std::nullopt;
            shape.push_back(dim.dim_value());
        }
        return shape;
    }

    static std::string axes_words(const onnx::TypeProto_Tensor& type) {
        std::string words;
        for (const auto& dim : type.shape().dim()) {
            const std::string extent = dim.has_dim_value()       ? text(dim.dim_value())
                                       : dim.dim_param().empty() ? std::string("?")
                                                                 : printable(dim.dim_param(), 30);
            words += text(words.empty() ? "[" : ", ", extent);
        }
        return words.empty() ? "all of them" : words + "]";
    }

    /// Extents that may fit: "1x4x128x128x128" for [batch, 4, x, y, z].
    static std::string example_extents(const onnx::TypeProto_Tensor& type) {
        constexpr int volume_axes = 5;
        const int axes = type.shape().dim_size();
        std::string words;
        for (int axis = 0; axis < axes; ++axis) {
            const auto& dim = type.shape().dim(axis);
            const std::int64_t usual = axis == 0 ? 1 : axis == 1 ? 3 : axes == volume_axes ? 128 : 224;
            words += text(words.empty() ? "" : "x", dim.has_dim_value() ? dim.dim_value() : usual);
        }
        return words.empty() ? "1x3x224x224" : words;
    }

    // Values.

    /// Forgets the content where all contents together are too large.
    void keep_content(Value& value) {
        if (!value.content)
            return;
        contents_ += static_cast<std::int64_t>(value.content->size());
        if (contents_ > max_contents)
            value.content = nullptr;
    }

    /// A value that is written at a time and has memory of its own.
    Status store(const std::string& name, Value value, int time) {
        if (known_.count(name) > 0)
            return invalid(text("the value ", printable(name), " is written twice"));
        const auto sum = checked_add(stored_bytes_, value.bytes());
        if (!sum || *sum > max_bytes)
            return Error{
                ErrorCode::size_overflow, text("the values up to ", printable(name), " exceed 2^62 bytes"), {}};
        stored_bytes_ = *sum;
        requests_.push_back({value.bytes(), time, time});
        known_[name] = {std::move(value), nullptr, nullptr, false, static_cast<int>(requests_.size()) - 1};
        return {};
    }

    Result<Known*> find(const std::string& name) {
        const auto found = known_.find(name);
        if (found == known_.end())
            return Error{ErrorCode::model_tensor_missing,
                         text("nothing produces the value ", printable(name), " before it is read"),
                         {}};
        return &found->second;
    }

    // Nodes.

    Status read_node(const onnx::NodeProto& node) {
        std::vector<Known*> operands;
        std::vector<const Value*> values;
        bool constant = true;
        const Known* unknown = nullptr;
        for (const std::string& name : node.input()) {
            Known* operand = nullptr;
            if (!name.empty()) {
                MFRES_TRY(operand, find(name));
                constant = constant && operand->value.constant;
                if (!operand->value.shape_known)
                    unknown = operand;
            }
            operands.push_back(operand);
            values.push_back(operand != nullptr ? &operand->value : nullptr);
        }
        const bool ours = node.domain().empty() || node.domain() == "ai.onnx";
        const Operator* op = ours ? find_operator(node.op_type()) : nullptr;
        const NodeReader reader(node, opset_, values);
        if (unknown != nullptr)
            return exclude(reader, "reads a value whose shape is not known");
        if (op == nullptr)
            return exclude(reader, ours ? "the operator is not counted"
                                        : text("the operator is of the domain ", printable(node.domain(), 60)));
        auto results = op->infer(reader);
        if (!results)
            return results.error().code == ErrorCode::operation_unsupported ? exclude(reader, results.error().message)
                                                                            : Status(results.error());
        for (Value& result : *results)
            if (const auto checked = check_extents(result.shape, result.type); !checked)
                return Error{checked.error().code, text(reader.invalid("has ").message, checked.error().message),
                             printable(node.name())};
        return add_layer(reader, *op, operands, *results, constant);
    }

    /// Values that a runtime computes before the first run, or that shapes are made of: no layer.
    Status keep_constants(const onnx::NodeProto& node, std::vector<Value>& results, bool constant) {
        for (int i = 0; i < node.output_size() && i < static_cast<int>(results.size()); ++i) {
            const std::string& name = node.output(i);
            if (name.empty())
                continue;
            if (known_.count(name) > 0)
                return invalid(text("the value ", printable(name), " is written twice"));
            Value& value = results[static_cast<std::size_t>(i)];
            value.constant = constant;
            keep_content(value);
            known_[name] = {std::move(value), nullptr, &node, false, -1};
        }
        return {};
    }

    /// An error, or with allow_unknown a line of the report.
    Status exclude(const NodeReader& reader, const std::string& reason) {
        const onnx::NodeProto& node = reader.node();
        const std::string prefix = reader.invalid("").message;
        const bool named = reason.starts_with(prefix);
        if (!options_.allow_unknown)
            return Error{ErrorCode::operation_unsupported,
                         text(named ? reason : text(prefix, "cannot be counted: ", reason),
                              "; --allow-unknown lists such nodes and leaves them out"),
                         printable(node.name())};
        source_.excluded.push_back(
            {printable(node.name()), printable(node.op_type(), 60), named ? reason.substr(prefix.size()) : reason});
        for (const std::string& output : node.output())
            if (!output.empty())
                MFRES_CHECK(store(output, described(output), time_));
        return {};
    }

    /// What the file says about a value.
    Value described(const std::string& name) const {
        Value value;
        value.shape_known = false;
        const auto found = described_.find(name);
        if (found == described_.end() || !found->second->type().has_tensor_type())
            return value;
        const auto& type = found->second->type().tensor_type();
        if (auto shape = fixed_shape(type); shape && check_extents(*shape, type.elem_type())) {
            value.shape = std::move(*shape);
            value.type = type.elem_type();
            value.shape_known = true;
        }
        return value;
    }

    /// Whether a node only computes shapes: all its results are whole numbers that are known.
    static bool computes_shapes(const std::vector<Value>& results) {
        return std::all_of(results.begin(), results.end(),
                           [](const Value& result) { return result.content != nullptr; });
    }

    Status add_layer(const NodeReader& reader, const Operator& op, const std::vector<Known*>& operands,
                     std::vector<Value>& results, bool constant) {
        const onnx::NodeProto& node = reader.node();
        if (constant || computes_shapes(results))
            return keep_constants(node, results, constant);
        if (static_cast<int>(results.size()) < node.output_size() || results.empty())
            return reader.invalid(text("has ", node.output_size(), " outputs where ", results.size(), " are known"));
        ++time_;
        const bool view = op.counting == Counting::view;
        LayerComplexity layer;
        const NodeOperations operations(reader, op.counting, results);
        layer.name = node.name().empty() ? printable(node.output(0)) : printable(node.name());
        layer.operation = operations.words();
        layer.output = results.front().shape;
        MFRES_TRY(const Operations counted, operations.count());
        MFRES_TRY(const std::int64_t learnables, attribute_parameters(node));
        const Count read = view ? Count{0} : bytes_read(op.counting, operands, results);
        const Count doubled = times(counted.macs, 2);
        const Count written = view ? Count{0} : bytes_written(node, results);
        if (!counted.macs || !counted.table2 || !counted.eq11 || !doubled || !read || !written)
            return Error{ErrorCode::size_overflow, reader.invalid("has counts beyond 64 bits").message,
                         printable(node.name())};
        layer.counts = {learnables, *counted.macs, *counted.table2, *counted.eq11, *doubled, *written, *read, *written};
        MFRES_CHECK(add_to_total(layer.counts, reader));
        report_.convolutions +=
            op.counting == Counting::convolution || op.counting == Counting::transposed_convolution ? 1 : 0;
        extend_lifetimes(operands);
        report_.layers.push_back(std::move(layer));
        return write_results(node, operands, results, view);
    }

    Status write_results(const onnx::NodeProto& node, const std::vector<Known*>& operands, std::vector<Value>& results,
                         bool view) {
        const int source = view && !operands.empty() && operands[0] != nullptr ? operands[0]->buffer : -1;
        for (int i = 0; i < node.output_size(); ++i) {
            const std::string& name = node.output(i);
            if (name.empty())
                continue;
            Value& value = results[static_cast<std::size_t>(i)];
            keep_content(value);
            value.constant = false;
            if (view && i == 0 && source >= 0) {
                if (known_.count(name) > 0)
                    return invalid(text("the value ", printable(name), " is written twice"));
                known_[name] = {std::move(value), nullptr, nullptr, false, source};
            } else {
                MFRES_CHECK(store(name, std::move(value), time_));
            }
        }
        return {};
    }

    static Count bytes_read(Counting counting, const std::vector<Known*>& operands, const std::vector<Value>& results) {
        std::set<const Known*> distinct;
        Count sum = 0;
        bool first = true;
        for (const Known* operand : operands) {
            const bool part = first && counting == Counting::part;
            first = false;
            if (operand == nullptr || !distinct.insert(operand).second)
                continue;
            Count bytes = operand->value.bytes();
            if (part) {
                bytes = 0;
                for (const Value& result : results)
                    bytes = plus(bytes, result.bytes());
            }
            sum = plus(sum, bytes);
        }
        return sum;
    }

    static Count bytes_written(const onnx::NodeProto& node, const std::vector<Value>& results) {
        Count sum = 0;
        for (int i = 0; i < node.output_size(); ++i)
            if (!node.output(i).empty())
                sum = plus(sum, results[static_cast<std::size_t>(i)].bytes());
        return sum;
    }

    void extend_lifetimes(const std::vector<Known*>& operands) {
        for (const Known* operand : operands)
            if (operand != nullptr && operand->buffer >= 0)
                requests_[static_cast<std::size_t>(operand->buffer)].last = time_;
    }

    // Parameters.

    /// Learned scalars of the initialisers that a node reads, itself or through constants, and that no layer before has
    /// read. Errors: size_overflow.
    Result<std::int64_t> attribute_parameters(const onnx::NodeProto& node) {
        std::int64_t sum = 0;
        std::vector<std::pair<Known*, bool>> open; // and whether it is learned
        const auto visit = [&](const onnx::NodeProto& reader) {
            for (int i = 0; i < reader.input_size(); ++i)
                if (const auto found = known_.find(reader.input(i)); found != known_.end())
                    open.emplace_back(&found->second, learns(reader, i, found->second.value));
        };
        visit(node);
        while (!open.empty()) {
            const auto [known, learned] = open.back();
            open.pop_back();
            if (!known->value.constant || std::exchange(known->attributed, true))
                continue;
            if (known->folded != nullptr)
                visit(*known->folded);
            if (known->initializer == nullptr)
                continue;
            const bool quantized = learned && !known->value.real();
            const auto weights = checked_add(
                report_.weight_bytes, is_parameter(known->value) || quantized ? known->value.bytes() : std::int64_t{0});
            const auto more = checked_add(sum, learned ? known->value.elements() : 0);
            if (!weights || !more)
                return Error{ErrorCode::size_overflow, "the parameters exceed 64 bits", {}};
            report_.weight_bytes = *weights;
            sum = *more;
        }
        return sum;
    }

    /// A number without axes is a constant of the computation, such as an exponent.
    static bool is_parameter(const Value& value) { return value.real() && !value.shape.empty(); }

    /// Whether an initialiser that a node reads as input `index` was learned: running statistics and scales were not, and
    /// of whole numbers only quantized weights were.
    static bool learns(const onnx::NodeProto& reader, int index, const Value& value) {
        const std::string& type = reader.op_type();
        if ((type == "BatchNormalization" && index >= 3) || ((type == "Resize" || type == "Upsample") && index > 0))
            return false;
        if (is_parameter(value))
            return !((type == "DequantizeLinear" || type.starts_with("QLinear")) && index > 0 && index != 8);
        const bool small = !value.real() && element_bytes(value.type) == 1;
        return small && ((type == "DequantizeLinear" && index == 0) || (type.starts_with("QLinear") && index == 3) ||
                         ((type == "ConvInteger" || type == "MatMulInteger") && index == 1));
    }

    // The report.

    Status add_to_total(const ComplexityCounts& counts, const NodeReader& reader) {
        const auto total = checked_sum(report_.total, counts);
        if (!total)
            return Error{
                ErrorCode::size_overflow, reader.invalid("takes the sum of counts beyond 64 bits").message, {}};
        report_.total = *total;
        return {};
    }

    Status read_outputs() {
        if (graph_.output_size() == 0)
            return invalid("the graph has no output");
        for (const onnx::ValueInfoProto& output : graph_.output()) {
            MFRES_TRY(const Known* known, find(output.name()));
            if (known->buffer >= 0)
                requests_[static_cast<std::size_t>(known->buffer)].last = time_ + 1;
        }
        return {};
    }

    /// "layer1" of "/layer1/layer1.0/conv1/Conv" and of "layer1.0.conv1"; the operator of a node in no scope.
    static std::string stage_of(const LayerComplexity& layer) {
        const std::size_t begin = layer.name.starts_with('/') ? 1 : 0;
        const std::size_t end = layer.name.find_first_of("/.", begin);
        if (end == std::string::npos)
            return layer.operation.substr(0, layer.operation.find(' '));
        return layer.name.substr(begin, end - begin);
    }

    void finish() {
        const std::vector<std::int64_t> live = live_bytes(requests_);
        std::map<std::string, std::size_t> stages;
        for (std::size_t i = 0; i < report_.layers.size(); ++i) {
            LayerComplexity& layer = report_.layers[i];
            layer.live_bytes = i + 1 < live.size() ? live[i + 1] : 0;
            report_.peak_bytes = std::max(report_.peak_bytes, layer.live_bytes);
            const auto [entry, added] = stages.emplace(stage_of(layer), report_.stages.size());
            if (added)
                report_.stages.push_back({entry->first, {}});
            ComplexityCounts& stage = report_.stages[entry->second].counts;
            stage = checked_sum(stage, layer.counts).value_or(stage); // no more than the total, which fits
        }
        report_.memory.lower_bound = peak_memory(requests_).bytes;
        report_.memory.planned =
            requests_.size() <= max_planned_values ? plan_memory(requests_).bytes : report_.memory.lower_bound;
        report_.input = source_.inputs.front().shape;
        report_.network.name = printable(graph_.name().empty() ? std::string("network") : graph_.name(), 60);
        report_.network.network = "onnx";
        report_.network.standard = false;
        report_.onnx = std::move(source_);
    }

    const onnx::ModelProto& model_;
    const onnx::GraphProto& graph_;
    const OnnxComplexityOptions& options_;
    std::int64_t opset_ = 1;
    std::map<std::string, Known, std::less<>> known_;
    std::map<std::string, const onnx::ValueInfoProto*, std::less<>> described_;
    std::vector<BufferRequest> requests_;
    std::int64_t stored_bytes_ = 0;
    std::int64_t contents_ = 0;
    int time_ = 0; ///< of the layer being read; inputs are written at 0
    OnnxSource source_;
    ComplexityReport report_;
};

} // namespace

Result<ComplexityReport> count_onnx(std::span<const std::byte> bytes, const std::string& path,
                                    const OnnxComplexityOptions& options) {
    MFRES_TRY(const OnnxMessage model, parse_onnx(bytes, path));
    auto report = GraphCounter(*model, options).count();
    if (!report)
        return Error{report.error().code, text(path, ": ", report.error().message), path};
    report->onnx->file = path;
    return report;
}

} // namespace mfres
