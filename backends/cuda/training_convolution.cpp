// SPDX-License-Identifier: MIT
#include "backends/cuda/training_ops.h"

#include <algorithm>

namespace mfres::cuda {

namespace {

/// One convolution, or several of the same value as one with the output channels of all.
class ConvolutionTraining final : public TrainingOp {
  public:
    ConvolutionTraining(const TrainingContext& context, const std::vector<NodeId>& ids)
        : c_(context), node_(context.node(ids[0])), in_(context.node(node_.inputs[0]).shape), out_(node_.shape) {
        std::vector<Parameter> weights;
        out_[1] = 0;
        for (const NodeId id : ids) {
            out_[1] += context.node(id).shape[1];
            weights.push_back(context.node(id).parameters[0]);
        }
        forward_ = make(ConvolutionPass::forward, node_.as<Conv>().bias);
        fused_bias_ = forward_ != nullptr && node_.as<Conv>().bias;
        if (!forward_)
            forward_ = needed(ConvolutionPass::forward);
        weight_gradient_ = needed(ConvolutionPass::weight_gradient);
        if (context.network.with_gradient[static_cast<std::size_t>(node_.inputs[0])] != 0)
            source_gradient_ = needed(ConvolutionPass::source_gradient);
        packed_ = context.parameters.pack(weights, weight_gradient_->result_type());
        if (node_.as<Conv>().bias)
            counters_ = context.constants.counters(node_.shape[1]);
    }

    std::string forward_implementation() const override { return forward_->implementation(); }
    std::string backward_implementation() const override {
        return weight_gradient_->implementation() +
               (source_gradient_ ? ", " + source_gradient_->implementation() : std::string());
    }

    OpWorkspace workspace() const override {
        OpWorkspace workspace;
        workspace.forward = workspace.recompute = aligned_bytes(forward_->workspace_bytes());
        workspace.backward = aligned_bytes(workspace_bytes() + (node_.as<Conv>().bias ? sum_space().bytes() : 0));
        return workspace;
    }

    void bind(const ArrayPlacement& placement, const OpArrays& arrays) override {
        for (const OpArrays::Forward& forward : arrays.forwards)
            forward_arrays_.push_back({.x = placement.at(forward.inputs[0].array),
                                       .weights = packed_.values,
                                       .bias = fused_bias_ ? c_.values(node_, 1) : nullptr,
                                       .result = placement.at(forward.outputs[0].channels.array),
                                       .workspace = aligned(placement.at(forward.workspace))});
        if (!arrays.has_backward)
            return;
        std::byte* workspace = aligned(placement.at(arrays.workspace));
        sums_data_ = workspace + workspace_bytes();
        dy_data_ = placement.at(arrays.gradient);
        if (arrays.summed >= 0)
            gathered_ = parts(placement, arrays.contributions);
        weight_arrays_ = {.x = placement.at(arrays.inputs[0].array),
                          .dy = dy_data_,
                          .result = packed_.gradient,
                          .workspace = workspace};
        source_arrays_ = {.dy = dy_data_,
                          .weights = packed_.values,
                          .result = placement.at(arrays.input_gradients[0].array),
                          .workspace = workspace};
    }

    void forward(bool recompute) override {
        const ConvolutionArrays& arrays = forward_arrays_[recompute ? 1 : 0];
        forward_->run(arrays);
        if (node_.as<Conv>().bias && !fused_bias_)
            add_bias(arrays.result);
    }

    void backward() override {
        if (!gathered_.empty())
            gather(c_.engine, c_.type, chunking(out_), gathered_, dy_data_);
        weight_gradient_->run(weight_arrays_);
        if (node_.as<Conv>().bias)
            bias_gradient();
        if (source_gradient_)
            source_gradient_->run(source_arrays_);
    }

  private:
    std::int64_t workspace_bytes() const {
        return padded(
            std::max(weight_gradient_->workspace_bytes(), source_gradient_ ? source_gradient_->workspace_bytes() : 0));
    }
    SumSpace sum_space() const { return {chunking(node_.shape), 1, 2}; }

    std::unique_ptr<Convolution> make(ConvolutionPass pass, bool bias) const {
        ConvolutionSpec spec;
        spec.conv = node_.as<Conv>();
        spec.conv.out_channels = out_[1];
        spec.in = in_;
        spec.out = out_;
        spec.pass = pass;
        spec.type = c_.type;
        spec.bias = bias;
        return c_.engine.make_convolution(spec, c_.rules);
    }

    std::unique_ptr<Convolution> needed(ConvolutionPass pass) const {
        auto convolution = make(pass, false);
        if (!convolution)
            throw EngineError(ErrorCode::backend_failed, "no engine computes a pass of this convolution");
        return convolution;
    }

    Part whole(const void* data) const { return {data, node_.shape[1], 0, 0, node_.shape[1]}; }

    void add_bias(void* y) const {
        SumArguments arguments;
        arguments.voxels = node_.shape[0] * voxels_of(node_.shape);
        arguments.channels = node_.shape[1];
        arguments.y = y;
        Operand operand;
        operand.x = whole(arguments.y);
        operand.offset = c_.values(node_, 1);
        sum(c_.engine, c_.type, arguments, {operand});
    }

    void bias_gradient() const {
        GradientArguments arguments;
        arguments.chunks = chunking(node_.shape);
        arguments.gradient.parts[0] = whole(dy_data_);
        arguments.gradient.count = 1;
        arguments.partials = reinterpret_cast<double*>(sums_data_);
        arguments.totals = reinterpret_cast<double*>(sums_data_ + sum_space().partials);
        arguments.counters = counters_;
        arguments.bias_gradient = c_.gradient(node_, 1);
        c_.kernels().gradient(c_.stream(), c_.type, arguments);
    }

    TrainingContext c_;
    const Node& node_;
    Shape in_, out_;
    std::unique_ptr<Convolution> forward_, weight_gradient_, source_gradient_;
    bool fused_bias_ = false;
    DeviceParameters::Packed packed_{};
    std::uint32_t* counters_ = nullptr; ///< of the bias

    std::vector<Part> gathered_; ///< empty if dy is one array already
    std::byte *dy_data_ = nullptr, *sums_data_ = nullptr;
    std::vector<ConvolutionArrays> forward_arrays_; ///< forward and recomputation
    ConvolutionArrays weight_arrays_, source_arrays_;
};

} // namespace

std::unique_ptr<TrainingOp> make_convolution(const TrainingContext& context, const std::vector<NodeId>& ids) {
    return std::make_unique<ConvolutionTraining>(context, ids);
}

} // namespace mfres::cuda
