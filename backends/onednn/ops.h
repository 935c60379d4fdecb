// SPDX-License-Identifier: MIT
// The ops of an inference on oneDNN: its convolutions, and loops of our own over channels-last arrays of floats.
#pragma once

#include "backends/onednn/kernels.h"
#include "backends/onednn/low_precision.h"
#include "backends/planned/executor.h"

#include <memory>

namespace mfres::onednn {

/// What all ops of one compilation share. Weights may go once all ops are made.
struct OpContext {
    const PlannedNetwork& planned;
    dnnl::engine engine;
    int threads = 1;
    LowPrecisionPlan low_precision;

    const Graph& graph() const { return planned.network.graph; }
    const Node& main(const FusedOp& op) const { return graph().node(op.main); }
    Domain domain(const FusedOp& op) const { return {main(op).shape, threads}; }
    const Shape& input_shape(const FusedOp& op, std::size_t index) const {
        return graph().node(main(op).inputs[index]).shape;
    }
    const Tensor& parameter(const Node& node, std::size_t index) const {
        return planned.network.weights.find(node.parameters[index].name)->second;
    }
    const ChannelRange& range(NodeId node) const { return planned.ranges[static_cast<std::size_t>(node)]; }
};

// The op of a single node with what is fused into it; see backends/planned/make_op.h. All throw dnnl::error and
// std::bad_alloc.

// conv.cpp
std::unique_ptr<InferenceOp> make_conv(const OpContext& context, const FusedOp& op, bool residual_in_output);
// norm.cpp
std::unique_ptr<InferenceOp> make_batch_norm(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_instance_norm(const OpContext& context, const FusedOp& op);
// elementwise.cpp
std::unique_ptr<InferenceOp> make_activation(const OpContext& context, const FusedOp& op, const Activation& activation);
std::unique_ptr<InferenceOp> make_add(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_scaled_add(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_concat(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_slice(const OpContext& context, const FusedOp& op);
// resample.cpp
std::unique_ptr<InferenceOp> make_max_pool(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_adaptive_avg_pool(const OpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_upsample(const OpContext& context, const FusedOp& op);
// softmax.cpp
std::unique_ptr<InferenceOp> make_softmax(const OpContext& context, const FusedOp& op);

} // namespace mfres::onednn
