// SPDX-License-Identifier: MIT
#include "backends/opencv/layers.h"

#include <algorithm>

namespace mfres::opencv {

namespace {

using cv::dnn::DictValue;
using cv::dnn::LayerParams;

template <typename Range>
DictValue integers(const Range& values) {
    std::vector<int> all;
    for (const auto value : values)
        all.push_back(static_cast<int>(value));
    return DictValue::arrayInt(all.data(), static_cast<int>(all.size()));
}

/// Translates one step after the other into a layer of its name.
class LayerWriter {
  public:
    explicit LayerWriter(const plain::Program& program) : program_(program) {}

    Layers run() {
        sources_.emplace_back(0, 0); // the network's own input
        for (const plain::Step& step : program_.steps) {
            LayerParams parameters;
            parameters.name = step.name;
            parameters.type = std::visit([&](const auto& op) { return write(step, op, parameters); }, step.op);
            add(step.name, parameters, step.inputs);
            if (const auto* norm = std::get_if<plain::InstanceNorm>(&step.op))
                add_scale(step, *norm);
            layers_.types.push_back(parameters.type);
        }
        for (std::size_t i = 0; i < program_.outputs.size(); ++i)
            layers_.outputs.push_back(output(program_.outputs[i], i));
        layers_.net.setPreferableBackend(cv::dnn::DNN_BACKEND_OPENCV);
        layers_.net.setPreferableTarget(cv::dnn::DNN_TARGET_CPU);
        return std::move(layers_);
    }

  private:
    int place(const std::string& name, LayerParams& parameters, const std::vector<int>& inputs) {
        const int id = layers_.net.addLayer(name, parameters.type, parameters);
        for (std::size_t i = 0; i < inputs.size(); ++i)
            layers_.net.connect(inputs[i], 0, id, static_cast<int>(i));
        return id;
    }

    void add(const std::string& name, LayerParams& parameters, const std::vector<plain::ValueId>& inputs) {
        std::vector<int> ids;
        for (const plain::ValueId input : inputs)
            ids.push_back(sources_[static_cast<std::size_t>(input)].first);
        sources_.emplace_back(place(name, parameters, ids), 0);
    }

    /// Scale and shift of an instance normalisation, which OpenCV's MVN leaves to a layer of their own.
    void add_scale(const plain::Step& step, const plain::InstanceNorm& op) {
        LayerParams scale;
        scale.name = step.name + "/scale";
        scale.type = "Scale";
        scale.set("axis", 1);
        scale.set("bias_term", true);
        scale.blobs = {blob(op.scale), blob(op.shift)};
        sources_.back().first = place(scale.name, scale, {sources_.back().first});
    }

    /// The layer to ask for an output; the input itself and a value asked for twice get a layer that copies.
    std::string output(plain::ValueId value, std::size_t index) {
        auto& [id, asked] = sources_[static_cast<std::size_t>(value)];
        ++asked;
        if (value != 0 && asked == 1)
            return layers_.net.getLayer(id)->name;
        LayerParams copy;
        copy.name = "output " + std::to_string(index);
        copy.type = "Identity";
        place(copy.name, copy, {id});
        return copy.name;
    }

    cv::Mat blob(plain::ConstantId id, const std::vector<int>& shape) const {
        const Tensor& values = program_.constant(id).values;
        return {shape, CV_32F, const_cast<float*>(values.data())}; // OpenCV has no matrix of constants; it only reads
    }
    cv::Mat blob(plain::ConstantId id) const {
        const Shape& shape = program_.constant(id).values.shape();
        std::vector<int> extents;
        for (const std::int64_t extent : shape)
            extents.push_back(static_cast<int>(extent));
        if (extents.size() == 1)
            extents.insert(extents.begin(), 1);
        return blob(id, extents);
    }

    /// What a convolution and a transposed one have in common.
    template <typename Convolution>
    void write_convolution(const Convolution& op, std::int64_t out_channels, LayerParams& parameters) const {
        const Shape& weight = program_.constant(op.weight).values.shape();
        parameters.set("kernel_size", integers(std::vector<std::int64_t>(weight.begin() + 2, weight.end())));
        parameters.set("stride", integers(op.stride));
        parameters.set("pad", integers(op.padding));
        parameters.set("group", static_cast<int>(op.groups));
        parameters.set("num_output", static_cast<int>(out_channels));
        parameters.set("bias_term", op.bias != plain::none);
        parameters.blobs = {blob(op.weight)};
        if (op.bias != plain::none)
            parameters.blobs.push_back(blob(op.bias));
    }
    std::string write(const plain::Step&, const plain::Conv& op, LayerParams& parameters) const {
        write_convolution(op, program_.constant(op.weight).values.shape()[0], parameters);
        parameters.set("dilation", integers(op.dilation));
        return "Convolution";
    }
    std::string write(const plain::Step&, const plain::ConvTranspose& op, LayerParams& parameters) const {
        write_convolution(op, program_.constant(op.weight).values.shape()[1] * op.groups, parameters);
        parameters.set("adj", integers(op.output_padding));
        return "Deconvolution";
    }
    std::string write(const plain::Step&, const plain::BatchNorm& op, LayerParams& parameters) const {
        parameters.set("eps", op.epsilon);
        parameters.set("has_weight", true);
        parameters.set("has_bias", true);
        parameters.blobs = {blob(op.mean), blob(op.variance), blob(op.scale), blob(op.shift)};
        return "BatchNorm";
    }
    std::string write(const plain::Step&, const plain::InstanceNorm& op, LayerParams& parameters) const {
        parameters.set("eps", op.epsilon);
        parameters.set("normalize_variance", true);
        parameters.set("across_channels", false);
        return "MVN";
    }
    std::string write(const plain::Step&, const plain::GroupNorm&, LayerParams&) const {
        return "GroupNorm"; // not in programs of planes, which are all that is written here
    }
    std::string write(const plain::Step&, const plain::PRelu& op, LayerParams& parameters) const {
        parameters.blobs = {blob(op.slope, {1, static_cast<int>(program_.constant(op.slope).values.elements())})};
        return "PReLU";
    }
    std::string write(const plain::Step&, const plain::Elu& op, LayerParams& parameters) const {
        parameters.set("alpha", op.alpha);
        return "ELU";
    }
    std::string write(const plain::Step&, const plain::Sigmoid&, LayerParams&) const { return "Sigmoid"; }
    std::string write(const plain::Step&, const plain::Multiply&, LayerParams& parameters) const {
        parameters.set("operation", "prod");
        return "Eltwise";
    }
    std::string write(const plain::Step&, const plain::Relu&, LayerParams&) const { return "ReLU"; }
    std::string write(const plain::Step&, const plain::LeakyRelu& op, LayerParams& parameters) const {
        parameters.set("negative_slope", op.slope);
        return "ReLU";
    }
    std::string write(const plain::Step& step, const plain::Sum& op, LayerParams& parameters) const {
        parameters.set("operation", "sum");
        if (op.factors.empty())
            return "Eltwise";
        std::vector<float> factors;
        for (const plain::ConstantId factor : op.factors)
            factors.push_back(program_.constant(factor).values[0]);
        parameters.set("coeff", DictValue::arrayReal(factors.data(), static_cast<int>(step.inputs.size())));
        return "Eltwise";
    }
    std::string write(const plain::Step&, const plain::Concat& op, LayerParams& parameters) const {
        parameters.set("axis", op.axis);
        return "Concat";
    }
    std::string write(const plain::Step&, const plain::Slice& op, LayerParams& parameters) const {
        parameters.set("begin", integers(op.begin));
        parameters.set("end", integers(op.end));
        return "Slice";
    }
    std::string write(const plain::Step&, const plain::MaxPool& op, LayerParams& parameters) const {
        parameters.set("pool", "max");
        parameters.set("kernel_size", integers(op.kernel));
        parameters.set("stride", integers(op.stride));
        parameters.set("ceil_mode", false);
        return "Pooling";
    }
    std::string write(const plain::Step& step, const plain::Resize& op, LayerParams& parameters) const {
        parameters.set("interpolation", op.mode == Interpolation::nearest ? "nearest" : "opencv_linear");
        parameters.set("height", static_cast<int>(step.shape[2]));
        parameters.set("width", static_cast<int>(step.shape[3]));
        return "Resize";
    }
    std::string write(const plain::Step&, const plain::Softmax&, LayerParams& parameters) const {
        parameters.set("axis", 1);
        return "Softmax";
    }
    std::string write(const plain::Step& step, const plain::Reshape&, LayerParams& parameters) const {
        parameters.set("dim", integers(step.shape));
        return "Reshape";
    }
    std::string write(const plain::Step&, const plain::Transpose& op, LayerParams& parameters) const {
        parameters.set("order", integers(op.order));
        return "Permute";
    }
    std::string write(const plain::Step& step, const plain::Pad& op, LayerParams& parameters) const {
        std::vector<int> paddings(static_cast<std::size_t>(2 * step.shape.rank()), 0); // before and after, per axis
        paddings[static_cast<std::size_t>(2 * op.axis)] = static_cast<int>(op.before);
        paddings[static_cast<std::size_t>(2 * op.axis + 1)] = static_cast<int>(op.after);
        parameters.set("paddings", integers(paddings));
        parameters.set("type", "constant");
        return "Padding";
    }
    std::string write(const plain::Step&, const plain::Product& op, LayerParams& parameters) const {
        const Shape& matrix = program_.constant(op.matrix).values.shape();
        parameters.set("num_output", static_cast<int>(matrix[1]));
        parameters.set("axis", 1);
        parameters.set("bias_term", false);
        parameters.blobs = {blob(op.matrix).t()}; // OpenCV multiplies by the transposed weights
        return "InnerProduct";
    }

    const plain::Program& program_;
    Layers layers_;
    std::vector<std::pair<int, int>> sources_; ///< by value: the layer that leaves it, how often it is an output
};

/// Layers that write over their input, or only show it under another shape.
bool in_place(const plain::Op& op) {
    return std::holds_alternative<plain::Reshape>(op) || std::holds_alternative<plain::Relu>(op) ||
           std::holds_alternative<plain::LeakyRelu>(op) || std::holds_alternative<plain::BatchNorm>(op);
}

struct Block {
    std::int64_t elements = 0;
    int readers = 0; ///< steps and outputs that still need what is in it
};

} // namespace

Layers make_layers(const plain::Program& program) {
    return LayerWriter(program).run();
}

std::int64_t value_bytes(const plain::Program& program) {
    std::vector<int> readers(program.steps.size() + 1, 0);
    for (const plain::Step& step : program.steps)
        for (const plain::ValueId input : step.inputs)
            ++readers[static_cast<std::size_t>(input)];
    for (const plain::ValueId output : program.outputs)
        ++readers[static_cast<std::size_t>(output)];

    std::vector<Block> blocks{{program.input.elements(), readers[0]}};
    std::vector<std::size_t> block_of{0};
    for (std::size_t i = 0; i < program.steps.size(); ++i) {
        const plain::Step& step = program.steps[i];
        const std::int64_t elements = step.shape.elements();
        const std::size_t first = block_of[static_cast<std::size_t>(step.inputs[0])];
        std::size_t chosen = blocks.size();
        if (in_place(step.op)) {
            chosen = first;
        } else {
            for (std::size_t b = 0; b < blocks.size(); ++b)
                if (blocks[b].readers == 0 && blocks[b].elements >= elements &&
                    (chosen == blocks.size() || blocks[b].elements < blocks[chosen].elements))
                    chosen = b;
            if (chosen == blocks.size())
                blocks.push_back({elements, 0});
        }
        blocks[chosen].readers += readers[i + 1];
        block_of.push_back(chosen);
        for (const plain::ValueId input : step.inputs)
            --blocks[block_of[static_cast<std::size_t>(input)]].readers;
    }
    std::int64_t elements = 0;
    for (const Block& block : blocks)
        elements += block.elements;
    return elements * static_cast<std::int64_t>(sizeof(float));
}

} // namespace mfres::opencv
