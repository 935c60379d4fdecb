// SPDX-License-Identifier: MIT
// What the training ops of this backend share.
#pragma once

#include "backends/cuda/device_arrays.h"
#include "backends/cuda/parameters.h"
#include "backends/planned/training_executor.h"

#include <map>
#include <memory>
#include <vector>

namespace mfres::cuda {

inline Part part(const ArrayPlacement& placement, const Channels& channels, std::int64_t to = 0) {
    return {placement.at(channels.array), channels.channels, channels.begin, to, channels.count};
}
/// Channels of an array that an op writes.
struct Target {
    void* data = nullptr;
    std::int64_t stride = 0, from = 0, count = 0;
};
inline Target target(const ArrayPlacement& placement, const Channels& channels) {
    return {placement.at(channels.array), channels.channels, channels.begin, channels.count};
}

inline std::vector<Part> parts(const ArrayPlacement& placement,
                               const std::vector<GradientContribution>& contributions) {
    std::vector<Part> all;
    for (const GradientContribution& contribution : contributions)
        all.push_back(part(placement, contribution.from, contribution.to));
    return all;
}

/// What all ops of one compilation share.
struct TrainingContext {
    const TrainingNetwork& network;
    DeviceParameters& parameters;
    Engine& engine;
    Constants& constants;
    ElementType type; ///< of values and gradients
    ConvolutionRules rules;
    DeviceRanks& ranks;
    std::map<NodeId, Operand>& norms; ///< by node: n(x) of a norm that was made, without x

    const Kernels& kernels() const { return engine.kernels(); }
    Stream stream() const { return engine.stream(); }
    const Node& node(NodeId id) const { return network.graph.node(id); }
    /// Values and gradient of a node's parameter.
    float* values(const Node& node, std::size_t index) const { return parameters.values(node.parameters[index].name); }
    float* gradient(const Node& node, std::size_t index) const {
        return parameters.gradient(node.parameters[index].name);
    }
};

// See TrainingEngine. All throw EngineError.
std::unique_ptr<TrainingOp> make_convolution(const TrainingContext& context, const std::vector<NodeId>& ids);
std::unique_ptr<TrainingOp> make_sum(const TrainingContext& context, const FusedSum& sum);
std::unique_ptr<TrainingOp> make_copy(const TrainingContext& context, NodeId id);
std::unique_ptr<TrainingOp> make_resampling(const TrainingContext& context, NodeId id);

} // namespace mfres::cuda
