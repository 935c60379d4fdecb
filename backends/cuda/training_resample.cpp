#include "backends/cuda/training_step.h"

#include <algorithm>

namespace mfres::cuda {

namespace {

/// An operation that reads one dense array and writes another, without parameters.
class Resampling final : public TrainingStep {
  public:
    Resampling(const TrainingContext& context, NodeId id)
        : c_(context), id_(id), node_(context.graph.node(id)), source_(node_.inputs[0]),
          in_(context.graph.node(source_).shape) {
        if (kind() != OpKind::upsample)
            return;
        const auto tables = upsample_tables(c_.constants, node_.as<Upsample>().mode, in_, node_.shape);
        std::copy(tables.begin(), tables.end(), upsample_.axes);
    }

    std::string node() const override { return node_.name; }
    std::string operation() const override { return std::string(name(kind())); }
    std::string forward_implementation() const override { return "mfres:" + operation(); }
    std::string backward_implementation() const override { return dx_ >= 0 ? "mfres:" + operation() : ""; }

    void plan_forward(TrainingPlan& plan) override {
        x_ = plan.value(source_);
        y_ = plan.define(id_);
    }

    void plan_backward(TrainingPlan& plan) override {
        terms_ = plan.take_gradient(id_);
        if (terms_.empty() || !plan.needs_gradient(source_))
            return;
        if (kind() == OpKind::max_pool)
            plan.value(source_);
        if (kind() == OpKind::softmax)
            plan.value(id_);
        if (!dense(terms_, node_.shape[1]) && (kind() != OpKind::upsample || terms_.size() > Parts::most))
            gathered_ = plan.array(node_.shape.elements());
        dx_ = plan.array(in_.elements());
        plan.add_gradient(source_, Channels{dx_, in_[1], 0, in_[1]});
    }

    void bind(const Binding& binding) override {
        pool_.in = upsample_.in = extents_of(in_);
        pool_.out = upsample_.out = extents_of(node_.shape);
        softmax_.channels = node_.shape[1];
        softmax_.voxels = node_.shape[0] * voxels_of(node_.shape);
        for (std::size_t axis = 0; kind() == OpKind::max_pool && axis < 3; ++axis) {
            pool_.kernel[axis] = node_.as<MaxPool>().kernel[axis];
            pool_.stride[axis] = node_.as<MaxPool>().stride[axis];
        }
        x_data_ = binding.at(x_.array);
        y_data_ = binding.at(y_.array);
        parts_ = binding.parts(terms_);
        gathered_data_ = binding.at(gathered_);
        dx_data_ = binding.at(dx_);
    }

    void forward() override {
        if (kind() == OpKind::upsample) {
            UpsampleArguments arguments = upsample_;
            arguments.x = x_data_;
            arguments.y = y_data_;
            return c_.kernels().upsample(c_.stream(), c_.type, arguments);
        }
        if (kind() == OpKind::softmax) {
            SoftmaxArguments arguments = softmax_;
            arguments.x = x_data_;
            arguments.y = y_data_;
            return c_.kernels().softmax(c_.stream(), c_.type, arguments);
        }
        PoolArguments arguments = pool_;
        arguments.x = x_data_;
        arguments.y = y_data_;
        const auto pool = kind() == OpKind::max_pool ? c_.kernels().max_pool : c_.kernels().average_pool;
        pool(c_.stream(), c_.type, arguments);
    }

    void backward() override {
        if (dx_ < 0)
            return;
        const void* dy = parts_[0].data;
        if (gathered_data_) {
            gather(c_.engine, c_.type, chunking(node_.shape), parts_, gathered_data_);
            dy = gathered_data_;
        }
        if (kind() == OpKind::upsample)
            return upsample_gradient();
        if (kind() == OpKind::softmax) {
            SoftmaxArguments arguments = softmax_;
            arguments.x = y_data_;
            arguments.dy = dy;
            arguments.y = dx_data_;
            return c_.kernels().softmax_gradient(c_.stream(), c_.type, arguments);
        }
        PoolArguments arguments = pool_;
        arguments.x = x_data_;
        arguments.dy = dy;
        arguments.y = dx_data_;
        const auto pool =
            kind() == OpKind::max_pool ? c_.kernels().max_pool_gradient : c_.kernels().average_pool_gradient;
        pool(c_.stream(), c_.type, arguments);
    }

  private:
    OpKind kind() const { return node_.kind(); }

    void upsample_gradient() const {
        UpsampleArguments arguments = upsample_;
        if (gathered_data_) {
            arguments.dy.parts[0] = {gathered_data_, node_.shape[1], 0, 0, node_.shape[1]};
            arguments.dy.count = 1;
        } else {
            std::copy(parts_.begin(), parts_.end(), arguments.dy.parts);
            arguments.dy.count = static_cast<int>(parts_.size());
        }
        arguments.y = dx_data_;
        c_.kernels().upsample_gradient(c_.stream(), c_.type, arguments);
    }

    TrainingContext c_;
    NodeId id_;
    const Node& node_;
    NodeId source_;
    Shape in_;
    UpsampleArguments upsample_;
    PoolArguments pool_;
    SoftmaxArguments softmax_;

    Channels x_, y_;
    std::vector<GradientTerm> terms_;
    std::vector<Part> parts_;
    ArrayId gathered_ = -1, dx_ = -1;
    void *x_data_ = nullptr, *y_data_ = nullptr, *gathered_data_ = nullptr, *dx_data_ = nullptr;
};

} // namespace

std::unique_ptr<TrainingStep> make_resampling_step(const TrainingContext& context, NodeId id) {
    return std::make_unique<Resampling>(context, id);
}

} // namespace mfres::cuda
