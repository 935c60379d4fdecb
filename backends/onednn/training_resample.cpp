#include "backends/onednn/training_resample.h"

#include "backends/onednn/blocked_loops.h"
#include "backends/onednn/gradient_loops.h"
#include "backends/onednn/softmax.h"

#include <limits>

namespace mfres::onednn {

namespace {

/// An operation that reads one dense array and writes another, without parameters.
class Resampling final : public TrainingStep {
  public:
    Resampling(const TrainingContext& context, NodeId id)
        : node_(context.graph.node(id)),
          in_(context.graph.node(node_.inputs[0]).shape), domain_{node_.shape, context.threads},
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
    std::string backward_implementation() const override { return dx_data_ ? "mfres:" + operation() : ""; }
    std::int64_t constant_bytes() const override {
        return static_cast<std::int64_t>(along_z_.weights.size() * sizeof(float));
    }

    StepNeeds needs() const override {
        StepNeeds needs;
        if (kind() != OpKind::upsample)
            return needs;
        constexpr auto bytes = static_cast<std::int64_t>(sizeof(float));
        needs.forward = needs.again = upsample_values_scratch(domain_, in_) * bytes;
        needs.backward = upsample_gradient_scratch(domain_, in_) * bytes;
        needs.terms_in_place = std::numeric_limits<std::size_t>::max();
        return needs;
    }

    void bind(const TrainingPlan& plan, const StepPlan& step, float* block) override {
        for (const StepPlan::Forward& forward : step.forwards)
            passes_.push_back({plan.at(block, forward.inputs[0].array),
                               plan.at(block, forward.outputs[0].channels.array), plan.at(block, forward.scratch)});
        if (!step.has_backward)
            return;
        x_data_ = plan.at(block, step.inputs[0].array);
        y_data_ = plan.at(block, step.output.array);
        gradient_rows_ = RowReader(plan, block, node_.shape[1], step.terms);
        gathered_data_ = plan.at(block, step.summed);
        dx_data_ = plan.at(block, step.input_gradients[0]);
        backward_memory_ = plan.at(block, step.scratch);
    }

    void forward(dnnl::stream&, bool again) override {
        const Pass& pass = passes_[again ? 1 : 0];
        if (kind() == OpKind::max_pool)
            max_pool(domain_, node_.as<MaxPool>(), in_, pass.x, pass.y);
        else if (kind() == OpKind::adaptive_avg_pool)
            adaptive_avg_pool(domain_, in_, pass.x, pass.y);
        else if (kind() == OpKind::upsample)
            upsample_values(domain_, blends_, in_, pass.x, pass.scratch, pass.y);
        else
            softmax(domain_, pass.x, pass.y);
    }

    void backward(dnnl::stream&) override {
        if (!dx_data_)
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

    const Node& node_;
    Shape in_;
    Domain domain_;
    Blocks rows_;
    std::array<std::vector<Blend>, 3> blends_; ///< of an upsampling
    Transposed along_z_;

    struct Pass {
        float *x, *y, *scratch;
    };
    std::vector<Pass> passes_; ///< the first and, where it is done again, the second
    RowReader gradient_rows_;
    float *x_data_ = nullptr, *y_data_ = nullptr, *dx_data_ = nullptr, *gathered_data_ = nullptr;
    float* backward_memory_ = nullptr;
};

} // namespace

std::unique_ptr<TrainingStep> make_resampling_step(const TrainingContext& context, NodeId id) {
    return std::make_unique<Resampling>(context, id);
}

} // namespace mfres::onednn
