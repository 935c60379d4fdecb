// SPDX-License-Identifier: MIT
#include "exchange/onnx_program.h"

#include "core/try.h"
#include "exchange/onnx_file.h"

#include <bit>
#include <set>

namespace mfres {

namespace {

constexpr std::int64_t opset = 13;
constexpr std::int64_t ir_version = 7; // the version of opset 13; older runtimes reject newer ones

static_assert(std::endian::native == std::endian::little, "raw_data of ONNX is little-endian");

class ProgramWriter {
  public:
    ProgramWriter(const plain::Program& program, bool dynamic) : program_(program), dynamic_(dynamic) {}

    Result<OnnxMessage> write(const OnnxText& about) {
        model_->set_ir_version(ir_version);
        *model_->mutable_producer_name() = "mfres";
        *model_->mutable_producer_version() = MFRES_VERSION;
        *model_->mutable_doc_string() = about.description;
        model_->add_opset_import()->set_version(opset);
        model_->mutable_opset_import(0)->set_domain("");
        for (const auto& [key, value] : about.metadata) {
            auto* entry = model_->add_metadata_props();
            *entry->mutable_key() = key;
            *entry->mutable_value() = value;
        }
        graph_ = model_->mutable_graph();
        *graph_->mutable_name() = "mfres";
        name_values();
        describe_value(*graph_->add_input(), values_[0], program_.input);
        for (const plain::Constant& constant : program_.constants)
            add_floats(constant.name, constant.values);
        for (std::size_t i = 0; i < program_.steps.size(); ++i) {
            const plain::Step& step = program_.steps[i];
            MFRES_CHECK(std::visit([&](const auto& op) { return add(step, values_[i + 1], op); }, step.op));
        }
        add_outputs();
        return std::move(model_);
    }

  private:
    /// A value has the name of the step that produces it; the first output is named "logits".
    void name_values() {
        values_.push_back(program_.input_name);
        for (const plain::Step& step : program_.steps)
            values_.push_back(step.name);
        for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
            std::string& value = values_[static_cast<std::size_t>(program_.outputs[i])];
            output_names_.push_back(i == 0 ? "logits" : text("output", i));
            if (program_.outputs[i] != 0 && renamed_.insert(program_.outputs[i]).second)
                value = output_names_.back();
        }
    }

    void add_outputs() {
        for (std::size_t i = 0; i < program_.outputs.size(); ++i) {
            const std::string& value = values_[static_cast<std::size_t>(program_.outputs[i])];
            if (value != output_names_[i]) { // the input, or a value that is an output twice
                onnx::NodeProto& node = *graph_->add_node();
                *node.mutable_op_type() = "Identity";
                *node.mutable_name() = output_names_[i];
                *node.add_input() = value;
                *node.add_output() = output_names_[i];
            }
            describe_value(*graph_->add_output(), output_names_[i], program_.shape(program_.outputs[i]));
        }
    }

    void describe_value(onnx::ValueInfoProto& value, const std::string& name, const Shape& shape) const {
        static constexpr const char* axes[] = {"batch", "channel", "x", "y", "z"};
        *value.mutable_name() = name;
        auto* tensor = value.mutable_type()->mutable_tensor_type();
        tensor->set_elem_type(onnx::TensorProto_DataType_FLOAT);
        for (int axis = 0; axis < shape.rank(); ++axis) {
            auto* dim = tensor->mutable_shape()->add_dim();
            if (dynamic_ && axis >= 2)
                *dim->mutable_dim_param() = axes[axis];
            else
                dim->set_dim_value(shape[axis]);
        }
    }

    void add_floats(const std::string& name, const Tensor& values) {
        onnx::TensorProto& tensor = *graph_->add_initializer();
        *tensor.mutable_name() = name;
        tensor.set_data_type(onnx::TensorProto_DataType_FLOAT);
        for (const std::int64_t extent : values.shape())
            tensor.add_dims(extent);
        tensor.mutable_raw_data()->assign(reinterpret_cast<const char*>(values.data()),
                                          static_cast<std::size_t>(values.elements()) * sizeof(float));
    }

    void add_integers(const std::string& name, const std::vector<std::int64_t>& values) {
        onnx::TensorProto& tensor = *graph_->add_initializer();
        *tensor.mutable_name() = name;
        tensor.set_data_type(onnx::TensorProto_DataType_INT64);
        tensor.add_dims(static_cast<std::int64_t>(values.size()));
        tensor.mutable_raw_data()->assign(reinterpret_cast<const char*>(values.data()),
                                          values.size() * sizeof(std::int64_t));
    }

    onnx::NodeProto& node(const plain::Step& step, const std::string& output, const char* type) {
        onnx::NodeProto& added = *graph_->add_node();
        *added.mutable_op_type() = type;
        *added.mutable_name() = step.name;
        *added.add_output() = output;
        for (const plain::ValueId input : step.inputs)
            *added.add_input() = values_[static_cast<std::size_t>(input)];
        return added;
    }

    void read(onnx::NodeProto& node, plain::ConstantId constant) const {
        if (constant != plain::none)
            *node.add_input() = program_.constant(constant).name;
    }

    /// Adds a constant input of integers.
    void read(onnx::NodeProto& node, const std::string& name, const std::vector<std::int64_t>& values) {
        add_integers(name, values);
        *node.add_input() = name;
    }

    static void set(onnx::NodeProto& node, const char* name, const std::vector<std::int64_t>& values) {
        onnx::AttributeProto& attribute = *node.add_attribute();
        *attribute.mutable_name() = name;
        attribute.set_type(onnx::AttributeProto_AttributeType_INTS);
        for (const std::int64_t value : values)
            attribute.add_ints(value);
    }
    static void set(onnx::NodeProto& node, const char* name, std::int64_t value) {
        onnx::AttributeProto& attribute = *node.add_attribute();
        *attribute.mutable_name() = name;
        attribute.set_type(onnx::AttributeProto_AttributeType_INT);
        attribute.set_i(value);
    }
    static void set(onnx::NodeProto& node, const char* name, double value) {
        onnx::AttributeProto& attribute = *node.add_attribute();
        *attribute.mutable_name() = name;
        attribute.set_type(onnx::AttributeProto_AttributeType_FLOAT);
        attribute.set_f(static_cast<float>(value));
    }
    static void set(onnx::NodeProto& node, const char* name, const char* value) {
        onnx::AttributeProto& attribute = *node.add_attribute();
        *attribute.mutable_name() = name;
        attribute.set_type(onnx::AttributeProto_AttributeType_STRING);
        *attribute.mutable_s() = value;
    }

    Error fixed(const plain::Step& step, const char* why) const {
        return {ErrorCode::operation_unsupported,
                text("node ", step.name, " ", why, ", which ONNX cannot express with dynamic axes"), step.name};
    }

    /// A convolution or transposed convolution, with the attribute `own_name` that the other has not.
    template <typename Convolution>
    Status add_convolution(onnx::NodeProto& conv, const Convolution& op, const char* own_name,
                           const std::vector<std::int64_t>& own) {
        read(conv, op.weight);
        read(conv, op.bias);
        const Shape& weight = program_.constant(op.weight).values.shape();
        std::vector<std::int64_t> pads = op.padding; // all begins, then all ends
        pads.insert(pads.end(), op.padding.begin(), op.padding.end());
        set(conv, "kernel_shape", std::vector<std::int64_t>(weight.begin() + 2, weight.end()));
        set(conv, "strides", op.stride);
        set(conv, own_name, own);
        set(conv, "pads", pads);
        set(conv, "group", op.groups);
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Conv& op) {
        return add_convolution(node(step, output, "Conv"), op, "dilations", op.dilation);
    }
    Status add(const plain::Step& step, const std::string& output, const plain::ConvTranspose& op) {
        return add_convolution(node(step, output, "ConvTranspose"), op, "output_padding", op.output_padding);
    }
    Status add(const plain::Step& step, const std::string& output, const plain::BatchNorm& op) {
        onnx::NodeProto& norm = node(step, output, "BatchNormalization");
        for (const plain::ConstantId constant : {op.scale, op.shift, op.mean, op.variance})
            read(norm, constant);
        set(norm, "epsilon", op.epsilon);
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::InstanceNorm& op) {
        onnx::NodeProto& norm = node(step, output, "InstanceNormalization");
        read(norm, op.scale);
        read(norm, op.shift);
        set(norm, "epsilon", op.epsilon);
        return {};
    }
    /// As PyTorch writes it: an instance normalisation of [n, groups, rest], then scale and shift of the channels. Its
    /// operator GroupNormalization is younger than the version that is written.
    Status add(const plain::Step& step, const std::string& output, const plain::GroupNorm& op) {
        const std::string& x = values_[static_cast<std::size_t>(step.inputs[0])];
        const auto part = [&](const char* type, const std::string& name, const std::vector<std::string>& inputs) {
            onnx::NodeProto& added = *graph_->add_node();
            *added.mutable_op_type() = type;
            *added.mutable_name() = name;
            for (const std::string& input : inputs)
                *added.add_input() = input;
            *added.add_output() = name;
            return &added;
        };
        const std::string& name = step.name;
        add_integers(name + "/split", {0, op.groups, -1});
        add_floats(name + "/one", Tensor(Shape{op.groups}, 1.0F));
        add_floats(name + "/zero", Tensor(Shape{op.groups}, 0.0F));
        part("Shape", name + "/shape", {x});
        part("Reshape", name + "/groups", {x, name + "/split"});
        set(*part("InstanceNormalization", name + "/norm", {name + "/groups", name + "/one", name + "/zero"}),
            "epsilon", op.epsilon);
        part("Reshape", name + "/joined", {name + "/norm", name + "/shape"});
        part("Mul", name + "/scaled", {name + "/joined", program_.constant(op.scale).name});
        *part("Add", name, {name + "/scaled", program_.constant(op.shift).name})->mutable_output(0) = output;
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::PRelu& op) {
        read(node(step, output, "PRelu"), op.slope);
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Elu& op) {
        set(node(step, output, "Elu"), "alpha", op.alpha);
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Sigmoid&) {
        node(step, output, "Sigmoid");
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Multiply&) {
        node(step, output, "Mul");
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Relu&) {
        node(step, output, "Relu");
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::LeakyRelu& op) {
        set(node(step, output, "LeakyRelu"), "alpha", op.slope);
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Sum& op) {
        std::vector<std::string> terms;
        for (std::size_t i = 0; i < step.inputs.size(); ++i) {
            terms.push_back(values_[static_cast<std::size_t>(step.inputs[i])]);
            if (op.factors.empty())
                continue;
            onnx::NodeProto& scaled = *graph_->add_node();
            *scaled.mutable_op_type() = "Mul";
            *scaled.mutable_name() = text(step.name, "/scaled", i);
            *scaled.add_input() = terms.back();
            read(scaled, op.factors[i]);
            *scaled.add_output() = scaled.name();
            terms.back() = scaled.name();
        }
        // Binary sums, because OpenCV's importer supports Add only.
        for (std::size_t i = 1; i < terms.size(); ++i) {
            const bool last = i + 1 == terms.size();
            onnx::NodeProto& sum = *graph_->add_node();
            *sum.mutable_op_type() = "Add";
            *sum.mutable_name() = last ? step.name : text(step.name, "/sum", i);
            *sum.add_input() = i == 1 ? terms[0] : text(step.name, "/sum", i - 1);
            *sum.add_input() = terms[i];
            *sum.add_output() = last ? output : sum.name();
        }
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Concat& op) {
        set(node(step, output, "Concat"), "axis", std::int64_t{op.axis});
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Slice& op) {
        const Shape& from = program_.shape(step.inputs[0]);
        std::vector<std::int64_t> begins;
        std::vector<std::int64_t> ends;
        std::vector<std::int64_t> axes;
        for (int axis = 0; axis < from.rank(); ++axis) {
            const auto a = static_cast<std::size_t>(axis);
            if (op.begin[a] == 0 && op.end[a] == from[axis] && !(axis == 1 && step.shape == from))
                continue;
            begins.push_back(op.begin[a]);
            ends.push_back(op.end[a]);
            axes.push_back(axis);
        }
        onnx::NodeProto& slice = node(step, output, "Slice");
        read(slice, step.name + ".begin", begins);
        read(slice, step.name + ".end", ends);
        read(slice, step.name + ".axes", axes);
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::MaxPool& op) {
        onnx::NodeProto& pool = node(step, output, "MaxPool");
        set(pool, "kernel_shape", op.kernel);
        set(pool, "strides", op.stride);
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Resize& op) {
        const Shape& from = program_.shape(step.inputs[0]);
        bool whole = true; // factors
        Tensor scales(Shape{from.rank()});
        for (int axis = 0; axis < from.rank(); ++axis) {
            whole = whole && step.shape[axis] % from[axis] == 0;
            scales[axis] = static_cast<float>(step.shape[axis] / from[axis]);
        }
        if (dynamic_ && !whole)
            return fixed(step, "resamples to a fixed grid");
        onnx::NodeProto& resize = node(step, output, "Resize");
        resize.add_input(""); // region of interest
        if (whole) {
            add_floats(step.name + ".scales", scales);
            *resize.add_input() = step.name + ".scales";
        } else {
            *resize.add_input() = "";
            read(resize, step.name + ".sizes", {step.shape.begin(), step.shape.end()});
        }
        const bool linear = op.mode == Interpolation::trilinear;
        set(resize, "mode", linear ? "linear" : "nearest");
        set(resize, "coordinate_transformation_mode", linear ? "half_pixel" : "asymmetric");
        if (!linear)
            set(resize, "nearest_mode", "floor");
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Softmax&) {
        set(node(step, output, "Softmax"), "axis", std::int64_t{1});
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Reshape&) {
        if (dynamic_)
            return fixed(step, "works on a fixed grid");
        read(node(step, output, "Reshape"), step.name + ".shape", {step.shape.begin(), step.shape.end()});
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Transpose& op) {
        set(node(step, output, "Transpose"), "perm", std::vector<std::int64_t>(op.order.begin(), op.order.end()));
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Pad& op) {
        const int rank = step.shape.rank();
        std::vector<std::int64_t> pads(static_cast<std::size_t>(2 * rank), 0); // all begins, then all ends
        pads[static_cast<std::size_t>(op.axis)] = op.before;
        pads[static_cast<std::size_t>(rank + op.axis)] = op.after;
        onnx::NodeProto& pad = node(step, output, "Pad");
        read(pad, step.name + ".pads", pads);
        set(pad, "mode", "constant");
        return {};
    }
    Status add(const plain::Step& step, const std::string& output, const plain::Product& op) {
        if (dynamic_)
            return fixed(step, "works on a fixed grid");
        read(node(step, output, "MatMul"), op.matrix);
        return {};
    }

    const plain::Program& program_;
    bool dynamic_;
    OnnxMessage model_;
    onnx::GraphProto* graph_ = nullptr;
    std::vector<std::string> values_; ///< by ValueId
    std::vector<std::string> output_names_;
    std::set<plain::ValueId> renamed_;
};

} // namespace

Result<std::vector<std::byte>> encode_onnx_program(const plain::Program& program, const OnnxText& about, bool dynamic) {
    std::int64_t constant_bytes = 0;
    for (const plain::Constant& constant : program.constants)
        constant_bytes += constant.values.elements() * static_cast<std::int64_t>(sizeof(float));
    const Error too_large{ErrorCode::memory_limit,
                          text("the weights take ", constant_bytes, " bytes, an ONNX file holds less than 2 GiB"),
                          {}};
    if (static_cast<std::uint64_t>(constant_bytes) > max_onnx_bytes)
        return too_large;
    MFRES_TRY(const OnnxMessage model, ProgramWriter(program, dynamic).write(about));
    const std::size_t size = model->ByteSizeLong();
    if (size > max_onnx_bytes)
        return too_large;
    std::vector<std::byte> bytes(size);
    if (!model->SerializeToArray(bytes.data(), static_cast<int>(size)))
        return Error{ErrorCode::internal, "protobuf could not write the ONNX model", {}};
    return bytes;
}

} // namespace mfres
