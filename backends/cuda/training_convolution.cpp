#include "backends/cuda/training_step.h"

#include "core/try.h"

#include <algorithm>

namespace mfres::cuda {

namespace {

class ConvolutionStep final : public TrainingStep {
  public:
    ConvolutionStep(const TrainingContext& context, NodeId id)
        : c_(context), id_(id), node_(context.graph.node(id)), source_(node_.inputs[0]),
          in_(context.graph.node(source_).shape), order_(weight_order(node_.parameters[0].shape)) {
        forward_ = make(ConvolutionPass::forward, node_.as<Conv>().bias);
        fused_bias_ = forward_ != nullptr && node_.as<Conv>().bias;
        if (!forward_)
            forward_ = needed(ConvolutionPass::forward);
        packed_ = context.constants.space(weight_count() * bytes_of(context.type));
    }

    std::string node() const override { return node_.name; }
    std::string operation() const override { return "conv"; }
    std::string forward_implementation() const override { return forward_->implementation(); }
    std::string backward_implementation() const override {
        if (!weight_gradient_)
            return {};
        return weight_gradient_->implementation() +
               (source_gradient_ ? ", " + source_gradient_->implementation() : std::string());
    }

    void plan_forward(TrainingPlan& plan) override {
        x_ = plan.value(source_);
        y_ = plan.define(id_);
        forward_workspace_ = plan.scratch(forward_->workspace_bytes());
    }

    void plan_backward(TrainingPlan& plan) override {
        terms_ = plan.take_gradient(id_);
        if (terms_.empty())
            return;
        plan.value(source_);
        dy_ = dense(terms_, node_.shape[1]) ? terms_[0].from.array : plan.array(node_.shape.elements());
        weight_gradient_ = needed(ConvolutionPass::weight_gradient);
        std::int64_t workspace = weight_gradient_->workspace_bytes();
        if (plan.needs_gradient(source_)) {
            source_gradient_ = needed(ConvolutionPass::source_gradient);
            workspace = std::max(workspace, source_gradient_->workspace_bytes());
        }
        backward_workspace_ = plan.scratch(workspace);
        dw_ = plan.scratch(weight_count() * bytes_of(weight_gradient_->result_type()));
        if (node_.as<Conv>().bias)
            sums_ = plan.scratch(sum_space().bytes());
        if (source_gradient_) {
            dx_ = plan.array(in_.elements());
            plan.add_gradient(source_, Channels{dx_, in_[1], 0, in_[1]});
        }
    }

    void bind(const Binding& binding) override {
        forward_arrays_ = {.x = binding.at(x_.array),
                           .weights = packed_,
                           .bias = fused_bias_ ? c_.values(node_, 1) : nullptr,
                           .result = binding.at(y_.array),
                           .workspace = binding.at(forward_workspace_)};
        if (!weight_gradient_)
            return;
        dw_data_ = binding.at(dw_);
        dy_data_ = binding.at(dy_);
        if (!dense(terms_, node_.shape[1]))
            gathered_ = binding.parts(terms_);
        weight_arrays_ = {
            .x = forward_arrays_.x, .dy = dy_data_, .result = dw_data_, .workspace = binding.at(backward_workspace_)};
        source_arrays_ = {.dy = dy_data_,
                          .weights = packed_,
                          .result = binding.at(dx_),
                          .workspace = binding.at(backward_workspace_)};
        sums_data_ = binding.at(sums_);
    }

    void forward() override {
        c_.kernels().pack_weights(c_.stream(), c_.type, order_, c_.values(node_, 0), packed_);
        forward_->run(forward_arrays_);
        if (node_.as<Conv>().bias && !fused_bias_)
            add_bias();
    }

    void backward() override {
        if (!weight_gradient_)
            return;
        if (!gathered_.empty())
            gather(c_.engine, c_.type, chunking(node_.shape), gathered_, dy_data_);
        weight_gradient_->run(weight_arrays_);
        c_.kernels().unpack_weights(c_.stream(), weight_gradient_->result_type(), order_, dw_data_,
                                    c_.gradient(node_, 0));
        if (node_.as<Conv>().bias)
            bias_gradient();
        if (source_gradient_)
            source_gradient_->run(source_arrays_);
    }

  private:
    std::int64_t weight_count() const { return order_.out * order_.in * order_.taps; }
    SumSpace sum_space() const { return {chunking(node_.shape), 1, 2}; }

    std::unique_ptr<Convolution> make(ConvolutionPass pass, bool bias) const {
        ConvolutionSpec spec;
        spec.conv = node_.as<Conv>();
        spec.in = in_;
        spec.out = node_.shape;
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

    void add_bias() const {
        SumArguments arguments;
        arguments.voxels = node_.shape[0] * voxels_of(node_.shape);
        arguments.channels = node_.shape[1];
        arguments.y = forward_arrays_.result;
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
        c_.kernels().gradient(c_.stream(), c_.type, arguments);
        c_.kernels().bias_gradient(c_.stream(), arguments.totals, node_.shape[1], c_.gradient(node_, 1));
    }

    TrainingContext c_;
    NodeId id_;
    const Node& node_;
    NodeId source_;
    Shape in_;
    WeightOrder order_;
    std::unique_ptr<Convolution> forward_, weight_gradient_, source_gradient_;
    bool fused_bias_ = false;
    void* packed_ = nullptr;

    Channels x_, y_;
    std::vector<GradientTerm> terms_;
    ArrayId forward_workspace_ = -1, backward_workspace_ = -1, dy_ = -1, dx_ = -1, dw_ = -1, sums_ = -1;
    std::vector<Part> gathered_; ///< empty if dy is one array already
    std::byte *dy_data_ = nullptr, *dw_data_ = nullptr, *sums_data_ = nullptr;
    ConvolutionArrays forward_arrays_, weight_arrays_, source_arrays_;
};

} // namespace

std::unique_ptr<TrainingStep> make_convolution_step(const TrainingContext& context, NodeId id) {
    return std::make_unique<ConvolutionStep>(context, id);
}

} // namespace mfres::cuda
