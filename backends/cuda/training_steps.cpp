#include "backends/cuda/training_step.h"

namespace mfres::cuda {

namespace {

/// A slice whose readers find it in what it is cut from.
class SliceInPlace final : public TrainingStep {
  public:
    SliceInPlace(const TrainingContext& context, NodeId id) : id_(id), node_(context.graph.node(id)) {}

    std::string node() const override { return node_.name; }
    std::string operation() const override { return "slice"; }
    std::string forward_implementation() const override { return {}; }
    std::string backward_implementation() const override { return {}; }

    void plan_forward(TrainingPlan& plan) override {
        Channels channels = plan.value(node_.inputs[0]);
        channels.begin += node_.as<Slice>().begin;
        channels.count = node_.shape[1];
        plan.define(id_, channels);
        plan.redirect(id_);
    }
    void plan_backward(TrainingPlan&) override {}
    void bind(const Binding&) override {}
    void forward() override {}
    void backward() override {}

  private:
    NodeId id_;
    const Node& node_;
};

std::unique_ptr<TrainingStep> make_step(const TrainingContext& context, const FormedStep& formed) {
    switch (formed.kind) {
    case FormedStep::Kind::convolution: return make_convolution_step(context, formed.node);
    case FormedStep::Kind::sum: return make_sum_step(context, formed.sum);
    case FormedStep::Kind::copy: return make_copy_step(context, formed.node);
    case FormedStep::Kind::slice_in_place: return std::make_unique<SliceInPlace>(context, formed.node);
    case FormedStep::Kind::resampling: return make_resampling_step(context, formed.node);
    }
    return nullptr;
}

} // namespace

std::vector<std::unique_ptr<TrainingStep>> make_training_steps(const TrainingContext& context) {
    std::vector<std::unique_ptr<TrainingStep>> steps;
    for (const FormedStep& formed : form_training_steps(context.graph))
        steps.push_back(make_step(context, formed));
    return steps;
}

} // namespace mfres::cuda
