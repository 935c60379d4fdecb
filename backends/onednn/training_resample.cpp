#include "backends/onednn/training_resample.h"

#include "backends/onednn/blocks.h"
#include "backends/onednn/gradient_loops.h"
#include "backends/onednn/loops.h"

namespace mfres::onednn {

namespace {

/// An operation that reads one dense array and writes another, without parameters.
class Resampling final : public TrainingStep {
  public:
    Resampling(const TrainingContext& context, NodeId id)
        : id_(id), node_(context.graph.node(id)), source_(node_.inputs[0]),
          in_(context.graph.node(source_).shape), domain_{node_.shape, context.threads},
          rows_(node_.shape, context.threads) {
        if (kind() != OpKind::upsample)
            return;
        const Interpolation mode = node_.as<Upsample>().mode;
        for (int axis = 0; axis < 3; ++axis)
            blends_[static_cast<std::size_t>(axis)] = blends_along(mode, in_[axis + 2], node_.shape[axis + 2]);
        along_z_ = transposed_axis(mode, in_[4], node_.shape[4]);
    }

    std::string node() const override { return node_.name; }
    std::string operation() const override { return std::string(name(kind())); }
    std::string forward_implementation() const override { return "mfres:" + operation(); }
    std::string backward_implementation() const override { return dx_ >= 0 ? "mfres:" + operation() : ""; }
    std::int64_t constant_bytes() const override {
        return static_cast<std::int64_t>(along_z_.weights.size() * sizeof(float));
    }

    void plan_forward(TrainingPlan& plan) override {
        x_ = plan.value(source_);
        y_ = plan.define(id_);
        if (kind() == OpKind::upsample)
            forward_scratch_ = plan.array(upsample_values_scratch(domain_, in_));
    }

    void plan_backward(TrainingPlan& plan) override {
        terms_ = plan.take_gradient(id_);
        if (terms_.empty() || !plan.needs_gradient(source_))
            return;
        if (kind() == OpKind::max_pool)
            plan.value(source_);
        if (kind() == OpKind::softmax)
            plan.value(id_);
        if (kind() == OpKind::upsample) {
            backward_scratch_ = plan.array(upsample_gradient_scratch(domain_, in_));
        } else {
            const bool dense = terms_.size() == 1 && terms_[0].from.whole() && terms_[0].from.count == node_.shape[1];
            gathered_ = dense ? -1 : plan.array(node_.shape.elements());
        }
        dx_ = plan.array(in_.elements());
        plan.add_gradient(source_, Channels{dx_, in_[1], 0, in_[1]});
    }

    void bind(const TrainingPlan& plan, float* block) override {
        x_data_ = plan.at(block, x_.array);
        y_data_ = plan.at(block, y_.array);
        forward_memory_ = plan.at(block, forward_scratch_);
        if (dx_ < 0)
            return;
        gradient_rows_ = RowReader(plan, block, node_.shape[1], terms_);
        gathered_data_ = plan.at(block, gathered_);
        dx_data_ = plan.at(block, dx_);
        backward_memory_ = plan.at(block, backward_scratch_);
    }

    void forward(dnnl::stream&) override {
        if (kind() == OpKind::max_pool)
            max_pool(domain_, node_.as<MaxPool>(), in_, x_data_, y_data_);
        else if (kind() == OpKind::adaptive_avg_pool)
            adaptive_avg_pool(domain_, in_, x_data_, y_data_);
        else if (kind() == OpKind::upsample)
            upsample_values(domain_, blends_, in_, x_data_, forward_memory_, y_data_);
        else
            softmax(domain_, x_data_, y_data_);
    }

    void backward(dnnl::stream&) override {
        if (dx_ < 0)
            return;
        if (kind() == OpKind::upsample)
            return upsample_gradient(domain_, blends_, along_z_, in_, gradient_rows_, backward_memory_, dx_data_);
        const float* dy = gather();
        if (kind() == OpKind::max_pool)
            max_pool_gradient(domain_, node_.as<MaxPool>(), in_, x_data_, dy, dx_data_);
        else if (kind() == OpKind::adaptive_avg_pool)
            adaptive_avg_pool_gradient(domain_, in_, dy, dx_data_);
        else
            softmax_gradient(domain_, y_data_, dy, dx_data_);
    }

  private:
    OpKind kind() const { return node_.kind(); }

    /// The gradient of y as one dense array.
    const float* gather() const {
        if (!gathered_data_)
            return gradient_rows_.rows(0, 0, nullptr);
        rows_.for_chunks([&](const Blocks::Chunk& chunk, int) {
            gradient_rows_.copy_rows(chunk.first, chunk.end - chunk.first,
                                     gathered_data_ + chunk.first * rows_.channels());
        });
        return gathered_data_;
    }

    NodeId id_;
    const Node& node_;
    NodeId source_;
    Shape in_;
    Domain domain_;
    Blocks rows_;
    std::array<std::vector<Blend>, 3> blends_; ///< of an upsampling
    Transposed along_z_;

    Channels x_, y_;
    ArrayId forward_scratch_ = -1, backward_scratch_ = -1, gathered_ = -1, dx_ = -1;
    std::vector<GradientTerm> terms_;
    RowReader gradient_rows_;
    float *x_data_ = nullptr, *y_data_ = nullptr, *dx_data_ = nullptr, *gathered_data_ = nullptr;
    float *forward_memory_ = nullptr, *backward_memory_ = nullptr;
};

} // namespace

std::unique_ptr<TrainingStep> make_resampling_step(const TrainingContext& context, NodeId id) {
    return std::make_unique<Resampling>(context, id);
}

} // namespace mfres::onednn
