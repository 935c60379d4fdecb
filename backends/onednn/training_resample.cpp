// SPDX-License-Identifier: MIT
#include "backends/onednn/training_resample.h"

#include "backends/kernels/blocked_loops.h"
#include "backends/kernels/gradient_loops.h"
#include "backends/kernels/softmax.h"

#include <algorithm>
#include <limits>

namespace mfres::onednn {

namespace {

/// An op without parameters that reads one dense array and writes another. Arrays that are not f32 are widened as a whole,
/// except the larger arrays, an upsampled value and its gradient, which are widened line by line.
class Resampling final : public TrainingOp {
  public:
    Resampling(const TrainingContext& context, NodeId id)
        : context_(context), node_(context.node(id)), type_(context.type),
          in_(context.node(node_.inputs[0]).shape), domain_{node_.shape, context.threads},
          rows_(node_.shape, context.threads) {
        if (kind() != OpKind::upsample)
            return;
        const Interpolation mode = node_.as<Upsample>().mode;
        for (int axis = 0; axis < 3; ++axis)
            blends_[static_cast<std::size_t>(axis)] = blends_along(mode, in_[axis + 2], node_.shape[axis + 2]);
        along_z_ = transposed_axis(mode, in_[4], node_.shape[4]);
    }

    std::string forward_implementation() const override { return "mfres:" + std::string(name(kind())); }
    std::string backward_implementation() const override { return forward_implementation(); }
    std::int64_t constant_bytes() const override {
        return static_cast<std::int64_t>(along_z_.weights.size() * sizeof(float));
    }

    OpWorkspace workspace() const override {
        constexpr auto bytes = static_cast<std::int64_t>(sizeof(float));
        OpWorkspace workspace;
        const bool upsamples = kind() == OpKind::upsample;
        workspace.forward =
            (widened(in_) + (upsamples ? upsample_values_workspace(domain_, in_, type_) : widened(out()))) * bytes;
        workspace.recompute = workspace.forward;
        workspace.backward = (widened(in_) + (upsamples ? upsample_gradient_workspace(domain_, in_)
                                                        : widened(out()) + std::max(widened(in_), widened(out())))) *
                             bytes;
        if (upsamples || type_ != ValueType::f32)
            workspace.contributions_in_place = std::numeric_limits<std::size_t>::max();
        return workspace;
    }

    void bind(const ArrayPlacement& placement, const OpArrays& arrays) override {
        const Binding binding = context_.binding(placement);
        for (const OpArrays::Forward& forward : arrays.forwards)
            passes_.push_back({binding.values(forward.inputs[0].array),
                               binding.values(forward.outputs[0].channels.array),
                               binding.workspace(forward.workspace)});
        if (!arrays.has_backward)
            return;
        x_data_ = binding.values(arrays.inputs[0].array);
        y_data_ = binding.values(arrays.output.array);
        gradient_rows_ = RowReader(binding, node_.shape[1], arrays.contributions);
        gathered_data_ = binding.workspace(arrays.summed);
        dx_data_ = binding.values(arrays.input_gradients[0].array);
        backward_memory_ = binding.workspace(arrays.workspace);
    }

    void forward(bool recompute) override {
        const Pass& pass = passes_[recompute ? 1 : 0];
        float* memory = pass.workspace;
        const float* x = pass.x.read_all(in_.elements(), domain_.threads, take(memory, in_));
        if (kind() == OpKind::upsample)
            return upsample_values(domain_, blends_, in_, x, memory, pass.y);
        float* const y = pass.y.target(0, memory);
        if (kind() == OpKind::max_pool)
            max_pool(domain_, node_.as<MaxPool>(), in_, x, y);
        else if (kind() == OpKind::adaptive_avg_pool)
            adaptive_avg_pool(domain_, in_, x, y);
        else
            softmax(domain_, x, y);
        pass.y.store_all(out().elements(), domain_.threads, y);
    }

    void backward() override {
        float* memory = backward_memory_;
        float* const dx = dx_data_.target(0, take(memory, in_));
        if (kind() == OpKind::upsample)
            upsample_gradient(domain_, blends_, along_z_, in_, gradient_rows_, memory, dx);
        else
            dense_gradient(memory, dx);
        dx_data_.store_all(in_.elements(), domain_.threads, dx);
    }

  private:
    OpKind kind() const { return node_.kind(); }
    const Shape& out() const { return node_.shape; }

    /// Floats of an array that is widened as a whole.
    std::int64_t widened(const Shape& shape) const {
        return type_ == ValueType::f32 ? 0 : (shape.elements() + 15) / 16 * 16;
    }
    float* take(float*& memory, const Shape& shape) const {
        float* const own = memory;
        memory += widened(shape);
        return own;
    }

    void dense_gradient(float* memory, float* dx) const {
        const float* dy = gather(take(memory, out()));
        if (kind() == OpKind::max_pool)
            max_pool_gradient(domain_, node_.as<MaxPool>(), in_,
                              x_data_.read_all(in_.elements(), domain_.threads, memory), dy, dx);
        else if (kind() == OpKind::adaptive_avg_pool)
            adaptive_avg_pool_gradient(domain_, in_, dy, dx);
        else
            softmax_gradient(domain_, y_data_.read_all(out().elements(), domain_.threads, memory), dy, dx);
    }

    /// The gradient of y as one dense array.
    const float* gather(float* memory) const {
        float* const to = type_ == ValueType::f32 ? gathered_data_ : memory;
        if (!to)
            return gradient_rows_.rows(0, 0, nullptr);
        rows_.for_chunks([&](const Blocks::Chunk& chunk, int) {
            gradient_rows_.copy_rows(chunk.first, chunk.end - chunk.first, to + chunk.first * rows_.channels());
        });
        return to;
    }

    TrainingContext context_;
    const Node& node_;
    ValueType type_;
    Shape in_;
    Domain domain_;
    Blocks rows_;
    std::array<std::vector<Blend>, 3> blends_; ///< of an upsampling
    Transposed along_z_;

    struct Pass {
        ValueArray x, y;
        float* workspace;
    };
    std::vector<Pass> passes_; ///< forward and recomputation
    RowReader gradient_rows_;
    ValueArray x_data_, y_data_, dx_data_;
    float *gathered_data_ = nullptr, *backward_memory_ = nullptr;
};

} // namespace

std::unique_ptr<TrainingOp> make_resampling(const TrainingContext& context, NodeId id) {
    return std::make_unique<Resampling>(context, id);
}

} // namespace mfres::onednn
