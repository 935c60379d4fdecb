// SPDX-License-Identifier: MIT
#include "graph/cost.h"

namespace mfres {

namespace {

std::int64_t bytes_of(const Shape& shape) {
    return shape.elements() * static_cast<std::int64_t>(sizeof(float));
}

/// Not from count_operations, which rejects graphs that its other conventions have no rule for.
std::int64_t macs_of(const Graph& graph, const Node& node) {
    if (node.kind() == OpKind::conv_transpose) {
        const Shape& in = graph.node(node.inputs[0]).shape;
        return node.parameters[0].shape.elements() * (in.elements() / in[1]);
    }
    if (node.kind() != OpKind::conv)
        return 0;
    return node.parameters[0].shape.elements() * (node.shape.elements() / node.shape[1]);
}

} // namespace

std::vector<OpCost> op_costs(const Graph& graph, const std::vector<FusedOp>& ops) {
    std::vector<OpCost> costs;
    for (const FusedOp& op : ops) {
        const Node& node = graph.node(op.main);
        OpCost cost{bytes_of(graph.node(op.output).shape), macs_of(graph, node)};
        for (const NodeId input : node.inputs)
            cost.bytes += bytes_of(graph.node(input).shape);
        if (op.residual)
            cost.bytes += bytes_of(graph.node(*op.residual).shape);
        for (const Parameter& parameter : node.parameters)
            cost.bytes += bytes_of(parameter.shape);
        costs.push_back(cost);
    }
    return costs;
}

std::vector<OpCost> group_costs(const Graph& graph, const std::vector<FusionGroup>& groups) {
    const auto ops = ops_of(groups);
    const auto each = op_costs(graph, ops);
    const auto ranges = channel_ranges(graph, ops);
    std::vector<OpCost> costs;
    std::size_t position = 0;
    for (const FusionGroup& group : groups) {
        OpCost cost = each[position];
        if (group.fused()) {
            cost = {bytes_of(graph.node(group.output()).shape), 0};
            for (const NodeId value : values_read(graph, ranges, group))
                cost.bytes += bytes_of(graph.node(value).shape);
            for (std::size_t i = 0; i < group.ops.size(); ++i) {
                cost.macs += each[position + i].macs;
                for (const Parameter& parameter : graph.node(group.ops[i].main).parameters)
                    cost.bytes += bytes_of(parameter.shape);
            }
        }
        costs.push_back(cost);
        position += group.ops.size();
    }
    return costs;
}

} // namespace mfres
