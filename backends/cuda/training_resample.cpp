// SPDX-License-Identifier: MIT
#include "backends/cuda/training_ops.h"

#include <algorithm>

namespace mfres::cuda {

namespace {

/// An op without parameters that reads one dense array and writes another.
class Resampling final : public TrainingOp {
  public:
    Resampling(const TrainingContext& context, NodeId id)
        : c_(context), node_(context.node(id)), in_(context.node(node_.inputs[0]).shape) {
        if (kind() != OpKind::upsample)
            return;
        const auto tables = upsample_tables(c_.constants, node_.as<Upsample>().mode, in_, node_.shape);
        std::copy(tables.begin(), tables.end(), upsample_.axes);
    }

    std::string forward_implementation() const override { return "mfres:" + std::string(name(kind())); }
    std::string backward_implementation() const override { return forward_implementation(); }

    OpWorkspace workspace() const override {
        OpWorkspace workspace;
        if (kind() == OpKind::upsample)
            workspace.contributions_in_place = Parts::most;
        return workspace;
    }

    void bind(const ArrayPlacement& placement, const OpArrays& arrays) override {
        pool_.in = upsample_.in = extents_of(in_);
        pool_.out = upsample_.out = extents_of(node_.shape);
        softmax_.channels = node_.shape[1];
        softmax_.voxels = node_.shape[0] * voxels_of(node_.shape);
        for (std::size_t axis = 0; kind() == OpKind::max_pool && axis < 3; ++axis) {
            pool_.kernel[axis] = node_.as<MaxPool>().kernel[axis];
            pool_.stride[axis] = node_.as<MaxPool>().stride[axis];
        }
        for (const OpArrays::Forward& forward : arrays.forwards)
            passes_.push_back({part(placement, forward.inputs[0]), target(placement, forward.outputs[0].channels)});
        if (!arrays.has_backward)
            return;
        x_data_ = placement.at(arrays.inputs[0].array);
        y_data_ = placement.at(arrays.output.array);
        parts_ = parts(placement, arrays.contributions);
        gathered_data_ = placement.at(arrays.summed);
        dx_ = target(placement, arrays.input_gradients[0]);
    }

    void forward(bool recompute) override {
        const Pass& pass = passes_[recompute ? 1 : 0];
        if (kind() == OpKind::upsample) {
            UpsampleArguments arguments = upsample_;
            arguments.x = pass.x.data;
            arguments.x_stride = pass.x.stride;
            arguments.x_from = pass.x.from;
            arguments.y = pass.y.data;
            arguments.y_stride = pass.y.stride;
            arguments.y_from = pass.y.from;
            return c_.kernels().upsample(c_.stream(), c_.type, arguments);
        }
        if (kind() == OpKind::softmax) {
            SoftmaxArguments arguments = softmax_;
            arguments.x = pass.x.data;
            arguments.y = pass.y.data;
            return c_.kernels().softmax(c_.stream(), c_.type, arguments);
        }
        PoolArguments arguments = pool_;
        arguments.x = pass.x.data;
        arguments.y = pass.y.data;
        const auto pool = kind() == OpKind::max_pool ? c_.kernels().max_pool : c_.kernels().average_pool;
        pool(c_.stream(), c_.type, arguments);
    }

    void backward() override {
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
            arguments.y = dx_.data;
            return c_.kernels().softmax_gradient(c_.stream(), c_.type, arguments);
        }
        PoolArguments arguments = pool_;
        arguments.x = x_data_;
        arguments.dy = dy;
        arguments.y = dx_.data;
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
        arguments.y = dx_.data;
        arguments.y_stride = dx_.stride;
        arguments.y_from = dx_.from;
        c_.kernels().upsample_gradient(c_.stream(), c_.type, arguments);
    }

    TrainingContext c_;
    const Node& node_;
    Shape in_;
    UpsampleArguments upsample_;
    PoolArguments pool_;
    SoftmaxArguments softmax_;

    struct Pass {
        Part x;
        Target y;
    };
    std::vector<Pass> passes_; ///< forward and recomputation
    std::vector<Part> parts_;
    void *x_data_ = nullptr, *y_data_ = nullptr, *gathered_data_ = nullptr;
    Target dx_;
};

} // namespace

std::unique_ptr<TrainingOp> make_resampling(const TrainingContext& context, NodeId id) {
    return std::make_unique<Resampling>(context, id);
}

} // namespace mfres::cuda
