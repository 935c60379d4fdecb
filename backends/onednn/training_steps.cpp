// SPDX-License-Identifier: MIT
#include "backends/onednn/training_steps.h"

#include "backends/onednn/training_convolution.h"
#include "backends/onednn/training_elementwise.h"
#include "backends/onednn/training_resample.h"

namespace mfres::onednn {

namespace {

/// A slice whose readers find it in what it is cut from.
class SliceInPlace final : public TrainingStep {
  public:
    SliceInPlace(const TrainingContext& context, NodeId id) : node_(context.graph.node(id)) {}

    std::string node() const override { return node_.name; }
    std::string operation() const override { return "slice"; }
    std::string forward_implementation() const override { return {}; }
    std::string backward_implementation() const override { return {}; }

    StepNeeds needs() const override { return {}; }
    void bind(const Binding&, const StepPlan&) override {}
    void forward(dnnl::stream&, bool) override {}
    void backward(dnnl::stream&) override {}

  private:
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

std::vector<std::unique_ptr<TrainingStep>> make_training_steps(const TrainingContext& context,
                                                               const std::vector<FormedStep>& formed) {
    std::vector<std::unique_ptr<TrainingStep>> steps;
    for (const FormedStep& step : formed)
        steps.push_back(make_step(context, step));
    return steps;
}

} // namespace mfres::onednn
