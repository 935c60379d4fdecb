// SPDX-License-Identifier: MIT
// Counts of ONNX graphs that are built here, node by node, with counts computed by hand.
#include "core/file.h"
#include "exchange/onnx.h"
#include "exchange/onnx_complexity.h"
#include "graph/complexity.h"
#include "support/catch.h"
#include "support/network_runs.h"
#include "support/paths.h"

#include <nlohmann/json.hpp>

#if __has_include(<onnx/onnx_pb.h>)
#define ONNX_ML 1
#define ONNX_NAMESPACE onnx
#include <onnx/onnx_pb.h>

#include <functional>
#include <variant>

using namespace mfres;

namespace {

using Extents = std::vector<std::int64_t>;
using Attribute = std::pair<std::string, std::variant<std::int64_t, Extents, std::string, double>>;
constexpr auto float_type = onnx::TensorProto_DataType_FLOAT;
constexpr auto int64_type = onnx::TensorProto_DataType_INT64;

bool no_onnx() {
    const auto rejected = decode_onnx({}, "file.onnx");
    const bool absent = rejected.error().code == ErrorCode::operation_unsupported;
    if (absent)
        std::printf("SKIPPED: %s\n", rejected.error().message.c_str());
    return absent;
}

/// An operand of a node: a value of the graph, an initialiser, or nothing.
struct Operand {
    enum class Kind : std::uint8_t { input, weight, integers, reals, integer_input, bytes, none } kind = Kind::none;
    Extents shape; ///< or the values of integers
    std::vector<float> values{};
};

Operand x(Extents shape) {
    return {Operand::Kind::input, std::move(shape)};
}
Operand w(Extents shape) {
    return {Operand::Kind::weight, std::move(shape)};
}
Operand i(Extents values) {
    return {Operand::Kind::integers, std::move(values)};
}
Operand f(std::vector<float> values) {
    return {Operand::Kind::reals, {}, std::move(values)};
}
Operand ix(Extents shape) {
    return {Operand::Kind::integer_input, std::move(shape)};
}
Operand q(Extents shape) {
    return {Operand::Kind::bytes, std::move(shape)};
}
Operand none() {
    return {};
}

/// Builds a graph by the protobuf classes.
class Builder {
  public:
    Builder() {
        model.set_ir_version(8);
        model.add_opset_import()->set_version(17);
        model.mutable_graph()->set_name("graph");
    }

    onnx::GraphProto& graph() { return *model.mutable_graph(); }

    std::string input(const Extents& shape, std::string name = {}, int type = float_type) {
        name = name.empty() ? "in" + std::to_string(graph().input_size()) : name;
        onnx::ValueInfoProto& info = *graph().add_input();
        info.set_name(name);
        auto& tensor = *info.mutable_type()->mutable_tensor_type();
        tensor.set_elem_type(type);
        tensor.mutable_shape(); // a scalar has a shape without axes
        for (const std::int64_t extent : shape) {
            auto& dim = *tensor.mutable_shape()->add_dim();
            if (extent >= 0)
                dim.set_dim_value(extent);
            else
                dim.set_dim_param("free");
        }
        return name;
    }

    onnx::TensorProto& tensor(const Extents& shape, int type = float_type) {
        onnx::TensorProto& made = *graph().add_initializer();
        made.set_name("tensor" + std::to_string(graph().initializer_size()));
        made.set_data_type(type);
        for (const std::int64_t extent : shape)
            made.add_dims(extent);
        return made;
    }

    std::string weight(const Extents& shape, int type = float_type) {
        onnx::TensorProto& made = tensor(shape, type);
        const auto count = static_cast<std::size_t>(Shape(std::span(shape)).elements());
        made.set_raw_data(std::string(count * (type == float_type ? 4 : 1), '\0'));
        return made.name();
    }

    std::string integers(const Extents& values) {
        onnx::TensorProto& made = tensor({static_cast<std::int64_t>(values.size())}, int64_type);
        for (const std::int64_t value : values)
            made.add_int64_data(value);
        return made.name();
    }

    std::string reals(const std::vector<float>& values) {
        onnx::TensorProto& made = tensor({static_cast<std::int64_t>(values.size())});
        for (const float value : values)
            made.add_float_data(value);
        return made.name();
    }

    std::string operand(const Operand& operand) {
        switch (operand.kind) {
        case Operand::Kind::input: return input(operand.shape);
        case Operand::Kind::weight: return weight(operand.shape);
        case Operand::Kind::integers: return integers(operand.shape);
        case Operand::Kind::reals: return reals(operand.values);
        case Operand::Kind::integer_input: return input(operand.shape, {}, int64_type);
        case Operand::Kind::bytes: return weight(operand.shape, onnx::TensorProto_DataType_INT8);
        case Operand::Kind::none: return {};
        }
        return {};
    }

    std::string node(const std::string& type, const std::vector<std::string>& inputs,
                     const std::vector<Attribute>& attributes = {}, int outputs = 1) {
        onnx::NodeProto& made = *graph().add_node();
        const std::string name = type + std::to_string(graph().node_size());
        made.set_name("/stage/" + name);
        made.set_op_type(type);
        for (const std::string& operand : inputs)
            made.add_input(operand);
        for (int output = 0; output < outputs; ++output)
            made.add_output(output == 0 ? name : name + "#" + std::to_string(output));
        for (const auto& [key, content] : attributes) {
            onnx::AttributeProto& attribute = *made.add_attribute();
            attribute.set_name(key);
            if (const auto* number = std::get_if<std::int64_t>(&content))
                attribute.set_i(*number);
            else if (const auto* list = std::get_if<Extents>(&content))
                for (const std::int64_t entry : *list)
                    attribute.add_ints(entry);
            else if (const auto* words = std::get_if<std::string>(&content))
                attribute.set_s(*words);
            else
                attribute.set_f(static_cast<float>(std::get<double>(content)));
        }
        return name;
    }

    void output(const std::string& name) { graph().add_output()->set_name(name); }

    Result<ComplexityReport> count(const OnnxComplexityOptions& options = {}) const {
        const std::string bytes = model.SerializeAsString();
        return count_onnx(std::as_bytes(std::span(bytes)), "file.onnx", options);
    }

    onnx::ModelProto model;
};

/// One node: its operands and attributes, the shape of its result, multiply-adds, operations of the Table 2 convention,
/// learnables, parameters of eq. 11, and bytes read and written.
struct Case {
    std::string type;
    std::vector<Operand> operands;
    std::vector<Attribute> attributes;
    Extents result;
    std::int64_t macs = 0, table2 = 0, learnables = 0, eq11 = 0, read = 0, written = 0;
    int outputs = 1;
};

// clang-format off
std::vector<Case> cases() {
    return {
        // 4 filters of 3 x 3x3 on 6x6 positions: 4*36 * 27 multiply-adds; a bias adds one operation an element
        {"Conv", {x({1, 3, 8, 8}), w({4, 3, 3, 3})}, {}, {1, 4, 6, 6}, 3888, 3888, 108, 112, 768 + 432, 576},
        {"Conv", {x({1, 3, 8, 8}), w({4, 3, 3, 3}), w({4})}, {{"pads", Extents{1, 1, 1, 1}}, {"strides", Extents{2, 2}}}, {1, 4, 4, 4}, 1728, 1792, 112, 112, 768 + 448, 256},
        {"Conv", {x({2, 4, 8, 8, 8}), w({4, 1, 3, 3, 3})}, {{"group", 4}, {"dilations", Extents{2, 2, 2}}}, {2, 4, 4, 4, 4}, 13824, 13824, 108, 112, 16384 + 432, 2048},
        {"Conv", {x({1, 2, 7}), w({2, 2, 3})}, {{"auto_pad", std::string("SAME_UPPER")}, {"strides", Extents{2}}}, {1, 2, 4}, 48, 48, 12, 14, 56 + 48, 32},
        // every element of the operand meets 2 * 8 weights
        {"ConvTranspose", {x({1, 3, 4, 4, 4}), w({3, 2, 2, 2, 2}), w({2})}, {{"strides", Extents{2, 2, 2}}}, {1, 2, 8, 8, 8}, 3072, 4096, 50, 50, 768 + 200, 4096},
        {"MatMul", {x({2, 5, 8}), w({8, 3})}, {}, {2, 5, 3}, 240, 240, 24, 27, 320 + 96, 120},
        {"MatMul", {x({2, 5, 8}), x({2, 8, 5})}, {}, {2, 5, 5}, 400, 400, 0, 0, 640, 200},
        {"MatMul", {x({8}), w({8, 3})}, {}, {3}, 24, 24, 24, 27, 32 + 96, 12},
        {"Gemm", {x({5, 8}), w({3, 8}), w({3})}, {{"transB", 1}}, {5, 3}, 120, 135, 27, 27, 160 + 108, 60},
        {"Einsum", {x({2, 3, 4, 5}), x({2, 3, 6, 5})}, {{"equation", std::string("bhld, bhmd -> bhlm")}}, {2, 3, 4, 6}, 720, 720, 0, 0, 480 + 720, 576},
        {"Attention", {x({1, 2, 4, 8}), x({1, 2, 6, 8}), x({1, 2, 6, 10})}, {}, {1, 2, 4, 10}, 4 * 2 * 6 * 18, 4 * 2 * 6 * 18, 0, 0, 256 + 384 + 480, 320},
        {"Attention", {x({1, 4, 16}), x({1, 6, 16}), x({1, 6, 20})}, {{"q_num_heads", 2}, {"kv_num_heads", 2}}, {1, 4, 20}, 4 * 6 * 36, 4 * 6 * 36, 0, 0, 256 + 384 + 480, 320},
        // normalisation and activation: one operation an element in the Table 2 convention
        {"BatchNormalization", {x({1, 4, 3, 3}), w({4}), w({4}), w({4}), w({4})}, {}, {1, 4, 3, 3}, 0, 36, 8, 0, 144 + 64, 144},
        {"InstanceNormalization", {x({1, 4, 3, 3}), w({4}), w({4})}, {}, {1, 4, 3, 3}, 0, 36, 8, 0, 144 + 32, 144},
        {"LayerNormalization", {x({2, 5, 8}), w({8}), w({8})}, {}, {2, 5, 8}, 0, 80, 16, 0, 320 + 64, 320},
        {"GroupNormalization", {x({1, 4, 3}), w({2}), w({2})}, {{"num_groups", 2}}, {1, 4, 3}, 0, 12, 4, 0, 48 + 16, 48},
        {"RMSNormalization", {x({2, 8}), w({8})}, {}, {2, 8}, 0, 16, 8, 0, 64 + 32, 64},
        {"LRN", {x({1, 4, 3, 3})}, {{"size", 3}}, {1, 4, 3, 3}, 0, 36, 0, 0, 144, 144},
        {"LpNormalization", {x({2, 8})}, {}, {2, 8}, 0, 16, 0, 0, 64, 64},
        {"MeanVarianceNormalization", {x({1, 4, 3, 3})}, {}, {1, 4, 3, 3}, 0, 36, 0, 0, 144, 144},
        {"Relu", {x({2, 8})}, {}, {2, 8}, 0, 16, 0, 0, 64, 64},
        {"PRelu", {x({2, 8}), w({8})}, {}, {2, 8}, 0, 16, 8, 0, 96, 64},
        {"Clip", {x({2, 8})}, {}, {2, 8}, 0, 16, 0, 0, 64, 64},
        // pooling: one operation an element of the operand
        {"MaxPool", {x({1, 2, 8, 8})}, {{"kernel_shape", Extents{2, 2}}, {"strides", Extents{2, 2}}}, {1, 2, 4, 4}, 0, 128, 0, 0, 512, 128},
        {"MaxPool", {x({1, 2, 5})}, {{"kernel_shape", Extents{2}}, {"strides", Extents{2}}, {"ceil_mode", 1}}, {1, 2, 3}, 0, 10, 0, 0, 40, 24},
        {"AveragePool", {x({1, 2, 8, 8, 8})}, {{"kernel_shape", Extents{2, 2, 2}}, {"strides", Extents{2, 2, 2}}}, {1, 2, 4, 4, 4}, 0, 1024, 0, 0, 4096, 512},
        {"LpPool", {x({1, 2, 8})}, {{"kernel_shape", Extents{2}}, {"strides", Extents{2}}}, {1, 2, 4}, 0, 16, 0, 0, 64, 32},
        {"GlobalAveragePool", {x({1, 2, 8, 8})}, {}, {1, 2, 1, 1}, 0, 128, 0, 0, 512, 8},
        {"GlobalMaxPool", {x({1, 2, 8})}, {}, {1, 2, 1}, 0, 16, 0, 0, 64, 8},
        {"GlobalLpPool", {x({1, 2, 8})}, {}, {1, 2, 1}, 0, 16, 0, 0, 64, 8},
        // resampling: one operation an element of the result
        {"Resize", {x({1, 2, 4, 4}), none(), f({1, 1, 2, 2})}, {}, {1, 2, 8, 8}, 0, 128, 0, 0, 128 + 16, 512},
        {"Resize", {x({1, 2, 4, 4}), none(), none(), i({1, 2, 8, 8})}, {}, {1, 2, 8, 8}, 0, 128, 0, 0, 128 + 32, 512},
        {"Upsample", {x({1, 2, 4}), f({1, 1, 2})}, {}, {1, 2, 8}, 0, 16, 0, 0, 32 + 12, 64},
        // no operations in any convention
        {"Add", {x({2, 3, 4}), x({4})}, {}, {2, 3, 4}, 0, 0, 0, 0, 96 + 16, 96},
        {"Sum", {x({2, 3}), x({2, 3}), x({1, 3})}, {}, {2, 3}, 0, 0, 0, 0, 60, 24},
        {"Equal", {x({2, 3}), x({3})}, {}, {2, 3}, 0, 0, 0, 0, 36, 6},
        {"Where", {x({2, 3}), x({2, 3}), x({3})}, {}, {2, 3}, 0, 0, 0, 0, 60, 24},
        {"Softmax", {x({2, 3})}, {}, {2, 3}, 0, 0, 0, 0, 24, 24},
        {"ReduceMean", {x({2, 3, 4})}, {{"axes", Extents{-1}}}, {2, 3, 1}, 0, 0, 0, 0, 96, 24},
        {"ReduceSum", {x({2, 3, 4}), i({1})}, {{"keepdims", 0}}, {2, 4}, 0, 0, 0, 0, 96 + 8, 32},
        {"ReduceMax", {x({2, 3, 4})}, {{"keepdims", 0}}, {}, 0, 0, 0, 0, 96, 4},
        {"ArgMax", {x({2, 3, 4})}, {{"axis", 1}}, {2, 1, 4}, 0, 0, 0, 0, 96, 64},
        {"TopK", {x({2, 5}), i({3})}, {}, {2, 3}, 0, 0, 0, 0, 48, 24 + 48, 2},
        {"CumSum", {x({2, 5}), i({1})}, {}, {2, 5}, 0, 0, 0, 0, 48, 40},
        {"Cast", {x({2, 3})}, {{"to", 7}}, {2, 3}, 0, 0, 0, 0, 24, 48},
        {"Transpose", {x({2, 3, 4})}, {{"perm", Extents{2, 0, 1}}}, {4, 2, 3}, 0, 0, 0, 0, 96, 96},
        {"Concat", {x({2, 3}), x({2, 5})}, {{"axis", 1}}, {2, 8}, 0, 0, 0, 0, 64, 64},
        {"Expand", {x({2, 1}), i({2, 3})}, {}, {2, 3}, 0, 0, 0, 0, 8 + 16, 24},
        {"Tile", {x({2, 3}), i({2, 1})}, {}, {4, 3}, 0, 0, 0, 0, 24 + 16, 48},
        {"Pad", {x({2, 3}), i({0, 1, 0, 1})}, {}, {2, 5}, 0, 0, 0, 0, 24 + 32, 40},
        {"Pad", {x({2, 3, 4}), i({1, 2}), none(), i({2})}, {}, {2, 3, 7}, 0, 0, 0, 0, 96 + 16 + 8, 168},
        {"DepthToSpace", {x({1, 8, 2, 2})}, {{"blocksize", 2}}, {1, 2, 4, 4}, 0, 0, 0, 0, 128, 128},
        {"SpaceToDepth", {x({1, 2, 4, 4})}, {{"blocksize", 2}}, {1, 8, 2, 2}, 0, 0, 0, 0, 128, 128},
        {"Trilu", {x({4, 4})}, {}, {4, 4}, 0, 0, 0, 0, 64, 64},
        {"ScatterND", {x({4, 4}), ix({2, 1}), x({2, 4})}, {}, {4, 4}, 0, 0, 0, 0, 64 + 16 + 32, 64},
        {"ScatterElements", {x({4, 4}), ix({2, 2}), x({2, 2})}, {}, {4, 4}, 0, 0, 0, 0, 64 + 32 + 16, 64},
        // a part of the operand is read
        {"Slice", {x({2, 8}), i({1}), i({9223372036854775807}), i({1}), i({3})}, {}, {2, 3}, 0, 0, 0, 0, 24 + 32, 24},
        {"Slice", {x({2, 8}), i({-1}), i({-100}), i({1}), i({-1})}, {}, {2, 8}, 0, 0, 0, 0, 64 + 32, 64},
        {"Split", {x({2, 8}), i({3, 5})}, {{"axis", 1}}, {2, 3}, 0, 0, 0, 0, 64 + 16, 64, 2},
        {"Gather", {x({10, 4}), i({0, 3, -1})}, {}, {3, 4}, 0, 0, 0, 0, 48 + 24, 48},
        {"GatherElements", {x({4, 4}), ix({2, 4})}, {}, {2, 4}, 0, 0, 0, 0, 32 + 64, 32},
        {"GatherND", {x({4, 4, 3}), ix({5, 2})}, {}, {5, 3}, 0, 0, 0, 0, 60 + 80, 60},
        // another shape for the same numbers moves nothing
        {"Reshape", {x({2, 3, 4}), i({0, -1})}, {}, {2, 12}},
        {"Flatten", {x({2, 3, 4})}, {{"axis", 2}}, {6, 4}},
        {"Squeeze", {x({2, 1, 4}), i({1})}, {}, {2, 4}},
        {"Unsqueeze", {x({2, 4}), i({0, -1})}, {}, {1, 2, 4, 1}},
        {"Identity", {x({2, 4})}, {}, {2, 4}},
        {"Dropout", {x({2, 4})}, {}, {2, 4}},
        // integers
        {"QuantizeLinear", {x({2, 4}), w({}), q({})}, {}, {2, 4}, 0, 0, 0, 0, 32 + 4 + 1, 8},
        {"DequantizeLinear", {q({2, 4}), x({}), q({})}, {}, {2, 4}, 0, 0, 8, 0, 8 + 4 + 1, 32},
        {"MatMulInteger", {ix({2, 5}), q({5, 3})}, {}, {2, 3}, 30, 30, 15, 18, 80 + 15, 24},
        {"ConvInteger", {ix({1, 2, 4}), q({3, 2, 3})}, {}, {1, 3, 2}, 36, 36, 18, 21, 64 + 18, 24},
        {"QLinearConv", {ix({1, 2, 4}), w({}), q({}), q({3, 2, 3}), w({}), q({}), w({}), q({})}, {}, {1, 3, 2}, 36, 36, 18, 21, 64 + 18 + 12 + 3, 48},
        {"QLinearMatMul", {ix({2, 5}), w({}), q({}), q({5, 3}), w({}), q({}), w({}), q({})}, {}, {2, 3}, 30, 30, 15, 18, 80 + 15 + 12 + 3, 48},
    };
}
// clang-format on

ComplexityReport counted(const Builder& builder, const OnnxComplexityOptions& options = {}) {
    auto report = builder.count(options);
    REQUIRE_OK(report);
    return std::move(report).value();
}

} // namespace

TEST_CASE("every operator of ONNX that is counted has the counts computed by hand") {
    if (no_onnx())
        return;
    for (const Case& one : cases()) {
        INFO(one.type);
        Builder builder;
        std::vector<std::string> names;
        for (const Operand& operand : one.operands)
            names.push_back(builder.operand(operand));
        const std::string result = builder.node(one.type, names, one.attributes, one.outputs);
        builder.output(result);
        const ComplexityReport report = counted(builder);
        REQUIRE(report.layers.size() == 1);
        const LayerComplexity& layer = report.layers[0];
        CHECK(layer.output == one.result);
        CHECK(layer.operation.starts_with(one.type));
        CHECK(layer.counts.macs == one.macs);
        CHECK(layer.counts.eq13_flops == 2 * one.macs);
        CHECK(layer.counts.table2_flops == one.table2);
        CHECK(layer.counts.learnables == one.learnables);
        CHECK(layer.counts.eq11_parameters == one.eq11);
        CHECK(layer.counts.bytes_read == one.read);
        CHECK(layer.counts.bytes_written == one.written);
        CHECK(layer.counts.activation_bytes == one.written);
        CHECK(report.total.macs == one.macs);
        CHECK(report.stages.size() == 1);
        CHECK(report.stages[0].name == "stage");
    }
}

TEST_CASE("operators that work element by element keep the shape") {
    if (no_onnx())
        return;
    for (const char* type :
         {"Abs",     "Acos",       "Asin",  "Atan",     "Ceil",        "Celu",       "Cos",     "Elu",
          "Erf",     "Exp",        "Floor", "Gelu",     "HardSigmoid", "HardSwish",  "Hardmax", "LeakyRelu",
          "Log",     "LogSoftmax", "Mish",  "Neg",      "Not",         "Reciprocal", "Round",   "Selu",
          "Sigmoid", "Sign",       "Sin",   "Softplus", "Softsign",    "Sqrt",       "Tanh",    "ThresholdedRelu"}) {
        INFO(type);
        Builder builder;
        builder.output(builder.node(type, {builder.input({2, 3})}));
        const ComplexityReport report = counted(builder);
        REQUIRE(report.layers.size() == 1);
        CHECK(report.layers[0].output == Extents{2, 3});
        CHECK(report.layers[0].counts.bytes_written == 24);
    }
    for (const char* type : {"Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "And", "Or", "Xor", "Less", "LessOrEqual",
                             "Greater", "GreaterOrEqual"}) {
        INFO(type);
        Builder builder;
        builder.output(builder.node(type, {builder.input({2, 1}), builder.input({3})}));
        CHECK(counted(builder).layers[0].output == Extents{2, 3});
    }
    for (const char* type : {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMin", "ReduceProd",
                             "ReduceSumSquare", "ArgMin"}) {
        INFO(type);
        Builder builder;
        builder.output(builder.node(type, {builder.input({2, 3})},
                                    type == std::string("ArgMin") ? std::vector<Attribute>{{"axis", 1}}
                                                                  : std::vector<Attribute>{{"axes", Extents{1}}}));
        CHECK(counted(builder).layers[0].output == Extents{2, 1});
    }
    Builder builder;
    builder.output(builder.node("CastLike", {builder.input({2, 3}), builder.integers({1})}));
    CHECK(counted(builder).layers[0].counts.bytes_written == 48);
}

TEST_CASE("shapes that a graph computes are followed and cost nothing") {
    if (no_onnx())
        return;
    Builder builder;
    const std::string in = builder.input({2, 6, 8, 8});
    // The extents of a halved grid by way of floats, as PyTorch's interpolate writes them: Reshape to [2, 6, -1] first.
    const std::string extents = builder.node("Shape", {in});
    const std::string height = builder.node("Gather", {extents, builder.integers({2})});
    const std::string half = builder.node(
        "Cast",
        {builder.node("Floor",
                      {builder.node("Mul", {builder.node("Cast", {height}, {{"to", 1}}), builder.reals({0.5F})})})},
        {{"to", 7}});
    const std::string two =
        builder.node("Slice", {extents, builder.integers({0}), builder.integers({2}), builder.integers({0})});
    const std::string sizes = builder.node("Concat", {two, half, half}, {{"axis", 0}});
    const std::string small = builder.node("Resize", {in, "", "", sizes});
    // [batch, channels * 16] by arithmetic, Where, Equal and ConstantOfShape.
    const std::string batch = builder.node("Gather", {extents, builder.integers({0})});
    const std::string minus = builder.node("ConstantOfShape", {builder.integers({1})});
    const std::string open = builder.node("Sub", {builder.node("Cast", {minus}, {{"to", 7}}), builder.integers({1})});
    const std::string wanted = builder.node("Concat", {batch, open}, {{"axis", 0}});
    const std::string ones = builder.node("Expand", {builder.integers({1}), builder.integers({2})});
    const std::string chosen = builder.node("Where", {builder.node("Equal", {wanted, ones}), ones, wanted});
    builder.output(builder.node("Reshape", {small, chosen}));
    const ComplexityReport report = counted(builder);
    REQUIRE(report.layers.size() == 2);
    CHECK(report.layers[0].output == Extents{2, 6, 4, 4});
    CHECK(report.layers[1].output == Extents{2, 96});
    CHECK(report.total.bytes_written == 2 * 6 * 16 * 4);
    CHECK(report.total.learnables == 0);
}

TEST_CASE("padding as PyTorch writes it is followed") {
    if (no_onnx())
        return;
    Builder builder;
    const std::string in = builder.input({1, 2, 5, 5});
    const std::string rest = builder.node("ConstantOfShape", {builder.integers({4})});
    const std::string all = builder.node(
        "Concat", {builder.integers({0, 1, 0, 2}), builder.node("Cast", {rest}, {{"to", 7}})}, {{"axis", 0}});
    const std::string pairs = builder.node("Reshape", {all, builder.integers({-1, 2})});
    const std::string turned =
        builder.node("Slice", {pairs, builder.integers({-1}), builder.integers({-9223372036854775807}),
                               builder.integers({0}), builder.integers({-1})});
    const std::string pads = builder.node(
        "Reshape", {builder.node("Transpose", {turned}, {{"perm", Extents{1, 0}}}), builder.integers({-1})});
    builder.output(builder.node("Pad", {in, builder.node("Cast", {pads}, {{"to", 7}})}));
    const ComplexityReport report = counted(builder);
    REQUIRE(report.layers.size() == 1);
    CHECK(report.layers[0].output == Extents{1, 2, 7, 6});
}

TEST_CASE("parameters count once, also where constants are computed from them, and what is not learned does not") {
    if (no_onnx())
        return;
    Builder builder;
    const std::string in = builder.input({2, 8});
    const std::string weight = builder.weight({3, 8});
    const std::string turned = builder.node("Transpose", {weight}, {{"perm", Extents{1, 0}}});
    const std::string first = builder.node("MatMul", {in, turned});
    const std::string second = builder.node("MatMul", {in, turned});
    const std::string sum = builder.node("Add", {first, second});
    builder.node("Relu", {builder.weight({7})}); // nothing reads it
    onnx::TensorProto& exponent = builder.tensor({});
    exponent.add_float_data(2.0F);
    builder.output(builder.node("Pow", {sum, exponent.name()}));
    const ComplexityReport report = counted(builder);
    REQUIRE(report.layers.size() == 4);
    CHECK(report.total.learnables == 24);
    CHECK(report.layers[0].counts.learnables == 24);
    CHECK(report.layers[1].counts.learnables == 0);
    CHECK(report.total.macs == 2 * 48);
    CHECK(report.weight_bytes == 96);
}

TEST_CASE("memory of an ONNX graph follows the lifetimes of its values") {
    if (no_onnx())
        return;
    Builder builder;
    const std::string in = builder.input({64}); // 256 bytes
    const std::string a = builder.node("Relu", {in});
    const std::string b = builder.node("Reshape", {a, builder.integers({8, 8})}); // the same memory
    const std::string c = builder.node("Sigmoid", {b});
    builder.output(builder.node("Concat", {c, b}, {{"axis", 0}})); // 512 bytes
    const ComplexityReport report = counted(builder);
    REQUIRE(report.layers.size() == 4);
    const std::vector<std::int64_t> live{512, 256, 512, 1024};
    for (std::size_t layer = 0; layer < 4; ++layer)
        CHECK(report.layers[layer].live_bytes == live[layer]);
    CHECK(report.peak_bytes == 1024);
    CHECK(report.memory.lower_bound == 1024);
    CHECK(report.memory.planned == 1024);
}

TEST_CASE("free axes need --input, and given shapes are checked") {
    if (no_onnx())
        return;
    Builder builder;
    const std::string in = builder.input({-1, 3, -1, -1}, "image");
    builder.output(builder.node("Conv", {in, builder.weight({2, 3, 1, 1})}));
    const auto rejected = builder.count();
    REQUIRE_CODE(rejected, invalid_argument);
    CHECK(rejected.error().message.find("image has free axes, [free, 3, free, free]") != std::string::npos);
    CHECK(rejected.error().message.find("--input image=1x3x224x224") != std::string::npos);
    CHECK(counted(builder, {{{"image", {1, 3, 4, 4}}}, false}).total.macs == 96);
    CHECK(counted(builder, {{{"", {2, 3, 4, 4}}}, false}).total.macs == 192);
    REQUIRE_CODE(builder.count({{{"image", {1, 3, 4}}}, false}), invalid_argument);
    REQUIRE_CODE(builder.count({{{"picture", {1, 3, 4, 4}}}, false}), invalid_argument);
    REQUIRE_CODE(builder.count({{{"image", {1, 4, 4, 4}}}, false}), model_header_invalid);
    REQUIRE_CODE(builder.count({{{"image", {1, 3, std::int64_t{1} << 40, std::int64_t{1} << 40}}}, false}),
                 size_overflow);
}

TEST_CASE("an operator that cannot be counted is an error that names it, or is listed and left out") {
    if (no_onnx())
        return;
    Builder builder;
    const std::string in = builder.input({1, 3, 4, 4});
    const std::string strange = builder.node("Unfathomable", {in});
    const std::string after = builder.node("Relu", {strange});
    const std::string known = builder.node("Conv", {in, builder.weight({2, 3, 1, 1})});
    const std::string shaped = builder.node("AlsoUnfathomable", {known});
    builder.output(builder.node("Relu", {shaped}));
    builder.output(after);
    const auto rejected = builder.count();
    REQUIRE_CODE(rejected, operation_unsupported);
    CHECK(rejected.error().message.find("/stage/Unfathomable1 (Unfathomable)") != std::string::npos);
    CHECK(rejected.error().message.find("--allow-unknown") != std::string::npos);

    onnx::ValueInfoProto& info = *builder.graph().add_value_info();
    info.set_name(shaped);
    info.mutable_type()->mutable_tensor_type()->set_elem_type(float_type);
    for (const int extent : {1, 2, 4, 4})
        info.mutable_type()->mutable_tensor_type()->mutable_shape()->add_dim()->set_dim_value(extent);
    const ComplexityReport report = counted(builder, {{}, true});
    REQUIRE(report.onnx);
    REQUIRE(report.onnx->excluded.size() == 3);
    CHECK(report.onnx->excluded[0].operation == "Unfathomable");
    CHECK(report.onnx->excluded[1].operation == "Relu");
    CHECK(report.onnx->excluded[2].operation == "AlsoUnfathomable");
    REQUIRE(report.layers.size() == 2);
    CHECK(report.total.macs == 96);
    CHECK(report.total.table2_flops == 96 + 32); // the Relu behind the described value is counted
    const std::string text = render(report, ReportFormat::text);
    CHECK(text.find("AlsoUnfathomable") != std::string::npos);

    Builder values;
    values.output(values.node("Reshape", {values.input({4}), values.input({2}, "shape", int64_type)}));
    const auto computed = values.count();
    REQUIRE_CODE(computed, operation_unsupported);
    CHECK(computed.error().message.find("known only when the network runs") != std::string::npos);

    Builder other;
    const std::string made = other.node("FusedConv", {other.input({4})});
    other.graph().mutable_node(0)->set_domain("com.microsoft");
    other.output(made);
    CHECK(other.count().error().message.find("com.microsoft") != std::string::npos);
}

TEST_CASE("broken ONNX graphs are rejected by the counter") {
    if (no_onnx())
        return;
    const auto rejects = [](const std::function<void(Builder&, const std::string&)>& make, ErrorCode code) {
        Builder builder;
        make(builder, builder.input({1, 4, 8, 8}));
        const auto result = builder.count();
        REQUIRE_FALSE(result.ok());
        INFO(result.error().message);
        CHECK(result.error().code == code);
        CHECK(result.error().message.starts_with("file.onnx: "));
    };
    using enum ErrorCode;
    rejects([](Builder&, const std::string&) {}, model_header_invalid);
    rejects([](Builder& b, const std::string& in) { b.node("Relu", {in}); }, model_header_invalid); // no output
    rejects([](Builder& b, const std::string&) { b.output(b.node("Relu", {"absent"})); }, model_tensor_missing);
    rejects(
        [](Builder& b, const std::string& in) {
            b.output(b.node("Conv", {in, b.weight({2, 3, 3, 3})}));
        },
        model_header_invalid);
    rejects([](Builder& b, const std::string& in) { b.output(b.node("Conv", {in})); }, model_header_invalid);
    rejects(
        [](Builder& b, const std::string& in) {
            b.output(b.node("MatMul", {in, b.weight({7, 3})}));
        },
        model_header_invalid);
    rejects(
        [](Builder& b, const std::string& in) {
            b.output(b.node("Reshape", {in, b.integers({3, -1})}));
        },
        model_header_invalid);
    rejects(
        [](Builder& b, const std::string& in) {
            b.output(b.node("Transpose", {in}, {{"perm", Extents{0, 0, 1, 2}}}));
        },
        model_header_invalid);
    rejects(
        [](Builder& b, const std::string& in) {
            b.output(b.node("Expand", {in, b.integers({std::int64_t{1} << 40, std::int64_t{1} << 40, 1, 4, 8, 8})}));
        },
        size_overflow);
    rejects(
        [](Builder& b, const std::string& in) {
            onnx::TensorProto& tensor = b.tensor({2, 3});
            tensor.set_raw_data("123");
            b.output(b.node("Add", {in, tensor.name()}));
        },
        model_tensor_size);
    rejects(
        [](Builder& b, const std::string& in) {
            onnx::TensorProto& tensor = b.tensor({std::int64_t{1} << 40, std::int64_t{1} << 40});
            b.output(b.node("Add", {in, tensor.name()}));
        },
        size_overflow);
    rejects(
        [](Builder& b, const std::string& in) {
            b.node("Relu", {in});
            b.graph().mutable_node(0)->set_output(0, in);
            b.output(in);
        },
        model_header_invalid);
    rejects(
        [](Builder& b, const std::string& in) {
            b.output(b.node("Slice", {in, b.integers({0, 1}), b.integers({1, 2}), b.integers({1, 1})}));
        },
        model_header_invalid);
    rejects( // an extent of 0 hides that the others do not fit
        [](Builder& b, const std::string&) {
            const std::string far = b.integers({0, std::int64_t{1} << 40, std::int64_t{1} << 40});
            b.output(b.node("Add", {b.node("ConstantOfShape", {far}), b.node("ConstantOfShape", {far})}));
        },
        size_overflow);
    CHECK_FALSE(count_onnx({}, "file.onnx", {}).ok());
}

TEST_CASE("tensors in other files are counted and not opened") {
    if (no_onnx())
        return;
    Builder builder;
    const std::string in = builder.input({2, 8});
    onnx::TensorProto& tensor = builder.tensor({8, 1000000});
    tensor.set_data_location(onnx::TensorProto_DataLocation_EXTERNAL);
    auto& place = *tensor.add_external_data();
    place.set_key("location");
    place.set_value("/no/such/file");
    builder.output(builder.node("MatMul", {in, tensor.name()}));
    const ComplexityReport report = counted(builder);
    CHECK(report.total.learnables == 8000000);
    CHECK(report.total.macs == 16000000);
}

TEST_CASE("our networks have the same counts as graphs and as ONNX files") {
    if (no_onnx())
        return;
    for (const std::string& network : network_names()) {
        if (network == "3d-espnet")
            continue; // its adaptive pooling leaves as products with matrices
        INFO(network);
        const auto variant = parse_variant(network);
        REQUIRE_OK(variant);
        const std::int64_t edge = std::max<std::int64_t>(16, variant->multiple());
        const auto graph = build_network(*variant, {edge, edge, edge});
        REQUIRE_OK(graph);
        const auto bytes = encode_onnx(*graph, test::random_weights(*graph, 8), {}, {});
        REQUIRE_OK(bytes);
        const auto report = count_onnx(*bytes, "file.onnx", {});
        REQUIRE_OK(report);
        const auto known = count_operations(*graph);
        REQUIRE_OK(known);
        CHECK(report->total.learnables == known->total.learnables);
        CHECK(report->total.macs == known->total.macs);
        CHECK(report->total.table2_flops == known->total.table2_flops);
        CHECK(report->total.eq11_parameters == known->total.eq11_parameters);
        CHECK(report->total.eq13_flops == known->total.eq13_flops);
    }
}

TEST_CASE("a seed for the fuzz target onnx is written", "[.write-seeds]") {
    Builder builder;
    const std::string in = builder.input({1, 2, 6, 6});
    const std::string extents = builder.node("Shape", {in});
    const std::string half =
        builder.node("Div", {builder.node("Gather", {extents, builder.integers({2})}), builder.integers({2})});
    const std::string sizes = builder.node("Concat", {builder.integers({1, 2}), half, half}, {{"axis", 0}});
    const std::string small = builder.node("Resize", {in, "", "", sizes});
    const std::string flat = builder.node("Reshape", {small, builder.integers({1, -1})});
    builder.output(builder.node("Gemm", {flat, builder.weight({18, 2}), builder.weight({2})}));
    const std::string bytes = builder.model.SerializeAsString();
    const auto seed = std::filesystem::path(MFRES_SOURCE_DIR) / "tests" / "fuzz" / "seeds" / "onnx" / "shapes.onnx";
    REQUIRE_OK(write_file_atomically(seed, std::as_bytes(std::span(bytes)), true));
}

TEST_CASE("a report of an ONNX file has the same numbers in every format") {
    if (no_onnx())
        return;
    Builder builder;
    const std::string in = builder.input({1, 3, 8, 8});
    const std::string conv = builder.node("Conv", {in, builder.weight({4, 3, 3, 3}), builder.weight({4})});
    builder.output(builder.node("Relu", {conv}));
    const ComplexityReport report = counted(builder);
    const auto json = nlohmann::json::parse(render(report, ReportFormat::json, true));
    CHECK(json.at("file") == "file.onnx");
    CHECK(json.at("opset") == 17);
    CHECK(json.at("inputs").at(0).at("shape") == Extents{1, 3, 8, 8});
    CHECK(json.at("macs") == 3888);
    CHECK(json.at("layers").size() == 2);
    CHECK(json.at("layers").at(0).at("operation") == "Conv 3x3 bias");
    CHECK(json.at("layers").at(0).at("bytes_read") == 768 + 448);
    CHECK(json.at("layers").at(0).at("live_share").get<double>() == Approx(1344.0 / 1344.0).margin(0.15));
    for (const ReportFormat format : {ReportFormat::text, ReportFormat::markdown, ReportFormat::html}) {
        const std::string page = render(report, format, true);
        INFO(page);
        CHECK(page.find("1x3x8x8") != std::string::npos);
        CHECK(page.find("0.004") != std::string::npos); // 10^6 MACs
    }
    const std::string html = render(report, ReportFormat::html, true);
    CHECK(html.starts_with("<!DOCTYPE html>"));
    CHECK(html.find("<td>Conv 3x3 bias</td>") != std::string::npos);
    CHECK(html.ends_with("</html>\n"));
}

#endif
