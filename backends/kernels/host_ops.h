// SPDX-License-Identifier: MIT
// The ops of an inference over channels-last arrays of floats in host memory, but for convolutions: for every engine of
// backends/planned whose arrays are such. They compute by the loops of this folder.
#pragma once

#include "backends/kernels/loops.h"
#include "backends/planned/executor.h"

#include <memory>

namespace mfres::kernels {

/// What all ops of one compilation share. Weights may go once all ops are made.
struct HostOpContext {
    const PlannedNetwork& planned;
    int threads = 1;

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

// The op of a single node with what is fused into it; see backends/planned/make_op.h, which finds these functions for a
// context that derives from HostOpContext. All throw std::bad_alloc.
std::unique_ptr<InferenceOp> make_batch_norm(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_instance_norm(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_activation(const HostOpContext& context, const FusedOp& op,
                                             const Activation& activation);
std::unique_ptr<InferenceOp> make_add(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_scaled_add(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_concat(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_slice(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_max_pool(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_adaptive_avg_pool(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_upsample(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_softmax(const HostOpContext& context, const FusedOp& op);
std::unique_ptr<InferenceOp> make_inference_only(const HostOpContext& context, const FusedOp& op);

} // namespace mfres::kernels
