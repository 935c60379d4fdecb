// SPDX-License-Identifier: MIT
// What the training ops of this backend share.
#pragma once

#include "backends/onednn/kernels.h"
#include "backends/planned/host_parameters.h"
#include "backends/planned/training_executor.h"

#include <dnnl.hpp>

namespace mfres::onednn {

/// What all ops of one compilation share.
struct TrainingContext {
    const TrainingNetwork& network;
    HostParameters& parameters;
    dnnl::engine engine;
    dnnl::stream stream;
    int threads = 1;
    ValueType type = ValueType::f32; ///< of values and gradients between ops

    const Node& node(NodeId id) const { return network.graph.node(id); }
    Binding binding(const ArrayPlacement& placement) const {
        return {placement.plan, reinterpret_cast<float*>(placement.block), type};
    }
    /// Values and gradient of a node's parameter.
    float* values(const Node& node, std::size_t index) const { return parameters.values(node.parameters[index].name); }
    float* gradient(const Node& node, std::size_t index) const {
        return parameters.gradient(node.parameters[index].name);
    }
};

} // namespace mfres::onednn
