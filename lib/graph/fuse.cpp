// SPDX-License-Identifier: MIT
#include "graph/fuse.h"

#include <algorithm>

namespace mfres {

namespace {

bool same_grid(const Shape& a, const Shape& b) {
    return a[0] == b[0] && spatial(a) == spatial(b);
}

bool keeps_grid(const Conv& conv) {
    if (conv.groups != 1 || conv.stride != Axes{1, 1, 1} || conv.dilation != Axes{1, 1, 1})
        return false;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t extent = conv.kernel[axis];
        if ((extent != 1 && extent != 3) || conv.padding[axis] != extent / 2)
            return false;
    }
    return true;
}

/// Whether a group of several ops may hold an op with this main node.
bool groupable(const Graph& graph, const Node& node) {
    switch (node.kind()) {
    case OpKind::conv: return keeps_grid(node.as<Conv>());
    case OpKind::relu:
    case OpKind::leaky_relu:
    case OpKind::add:
    case OpKind::concat:
    case OpKind::slice: return true;
    case OpKind::upsample:
        return node.as<Upsample>().mode == Interpolation::trilinear &&
               node.shape[4] == 2 * graph.node(node.inputs[0]).shape[4];
    case OpKind::input:
    case OpKind::conv_transpose:
    case OpKind::batch_norm:
    case OpKind::instance_norm:
    case OpKind::group_norm:
    case OpKind::prelu:
    case OpKind::elu:
    case OpKind::sigmoid:
    case OpKind::scaled_add:
    case OpKind::multiply:
    case OpKind::max_pool:
    case OpKind::adaptive_avg_pool:
    case OpKind::softmax: return false;
    }
    return false;
}

std::int64_t radius_along_x(const Node& node) {
    return node.kind() == OpKind::conv ? node.as<Conv>().kernel[0] / 2 : 0;
}

/// The stored values that an op reads.
std::vector<NodeId> reads_of(const Graph& graph, const std::vector<ChannelRange>& ranges, const FusedOp& op) {
    std::vector<NodeId> values;
    for (const NodeId input : graph.node(op.main).inputs)
        values.push_back(ranges[static_cast<std::size_t>(input)].value);
    if (op.residual)
        values.push_back(*op.residual);
    return values;
}

class GroupFinder {
  public:
    GroupFinder(const Graph& graph, const std::vector<FusedOp>& ops, const FusionModel& model)
        : graph_(graph), ops_(ops), model_(model), ranges_(channel_ranges(graph, ops)),
          consumers_(static_cast<std::size_t>(graph.size()), 0) {
        for (std::size_t i = 0; i < ops.size(); ++i)
            for (const NodeId value : reads_of(graph, ranges_, ops[i]))
                ++consumers_[static_cast<std::size_t>(value)];
    }

    std::vector<FusionGroup> run() {
        std::vector<FusionGroup> groups;
        std::size_t position = 0;
        while (position < ops_.size()) {
            const Found found = best_from(position);
            for (const std::size_t moved : found.before)
                groups.push_back({{ops_[moved]}});
            FusionGroup group;
            for (const std::size_t member : found.members)
                group.ops.push_back(ops_[member]);
            groups.push_back(std::move(group));
            position = found.end;
        }
        return groups;
    }

  private:
    /// A group by the indices of its ops, the ops that are scheduled in front of it, and the index behind all of them.
    struct Found {
        std::vector<std::size_t> members, before;
        std::size_t end = 0;
    };

    bool may_join(const FusedOp& op, const Shape& grid, const std::vector<NodeId>& inside) const {
        const Node& node = graph_.node(op.main);
        if (!groupable(graph_, node) || !same_grid(node.shape, grid))
            return false;
        // An upsampling reads an array on the coarser grid, which is never computed inside a group on the finer one.
        return node.kind() != OpKind::upsample ||
               std::count(inside.begin(), inside.end(), ranges_[static_cast<std::size_t>(node.inputs[0])].value) == 0;
    }

    Found best_from(std::size_t start) const {
        Found best{{start}, {}, start + 1};
        const Shape& grid = graph_.node(ops_[start].main).shape;
        if (!may_join(ops_[start], grid, {}))
            return best;
        Found grown{{start}, {}, start + 1};
        std::vector<NodeId> inside{ops_[start].output};
        for (std::size_t i = start + 1; i < ops_.size(); ++i) {
            grown.end = i + 1;
            if (!may_join(ops_[i], grid, inside)) {
                const auto reads = reads_of(graph_, ranges_, ops_[i]);
                if (std::any_of(reads.begin(), reads.end(),
                                [&](NodeId value) { return std::count(inside.begin(), inside.end(), value) > 0; }))
                    break;
                grown.before.push_back(i);
                continue;
            }
            grown.members.push_back(i);
            inside.push_back(ops_[i].output);
            const FusionGroup group = group_of(grown);
            if (halo_of(graph_, ranges_, group) > model_.max_halo)
                break;
            if (!stores_only_last(group))
                continue;
            // The longest group with a gain: the value between the last two ops is then not stored either.
            if (const Times times = modelled(group); times.fused < (1.0 - model_.min_gain) * times.separate)
                best = grown;
        }
        return best;
    }

    FusionGroup group_of(const Found& found) const {
        FusionGroup group;
        for (const std::size_t member : found.members)
            group.ops.push_back(ops_[member]);
        return group;
    }

    bool stores_only_last(const FusionGroup& group) const {
        std::vector<int> uses(static_cast<std::size_t>(graph_.size()), 0);
        for (const FusedOp& op : group.ops)
            for (const NodeId value : reads_of(graph_, ranges_, op))
                ++uses[static_cast<std::size_t>(value)];
        return std::all_of(group.ops.begin(), group.ops.end() - 1, [&](const FusedOp& op) {
            const auto id = static_cast<std::size_t>(op.output);
            return uses[id] == consumers_[id] && !graph_.is_output(op.output);
        });
    }

    double bytes_of(NodeId id) const { return static_cast<double>(graph_.node(id).shape.elements()) * sizeof(float); }

    /// Bytes that an op reads and writes. A slice counts with its own size, not that of the array it is cut from.
    double traffic(const FusedOp& op) const {
        double bytes = bytes_of(op.output);
        for (const NodeId input : graph_.node(op.main).inputs)
            bytes += bytes_of(input);
        return op.residual ? bytes + bytes_of(*op.residual) : bytes;
    }

    double macs(const FusedOp& op) const {
        const Node& node = graph_.node(op.main);
        if (node.kind() != OpKind::conv)
            return 0.0;
        const double taps = static_cast<double>(node.parameters[0].shape.elements());
        return taps * static_cast<double>(node.shape.elements() / node.shape[1]);
    }

    /// In ns for one thread.
    struct Times {
        double separate = 0.0; ///< of the ops one by one
        double fused = 0.0;
    };

    Times modelled(const FusionGroup& group) const {
        constexpr double vector_channels = 16.0; // kernels of a library compute whole vectors of output channels
        constexpr double tile = 32.0;            // voxels along x that are computed once, for each halo
        Times times;
        double inside = 0.0;
        for (const FusedOp& op : group.ops) {
            const double channels = static_cast<double>(graph_.node(op.main).shape[1]);
            const double filled = std::min(1.0, channels / vector_channels);
            times.separate += traffic(op) / model_.bytes_per_ns + macs(op) / (filled * model_.separate_macs_per_ns);
            inside += traffic(op) / model_.fused_bytes_per_ns + macs(op) / model_.fused_macs_per_ns;
        }
        double outside = bytes_of(group.output());
        for (const NodeId value : values_read(graph_, ranges_, group))
            outside += bytes_of(value);
        const double halo = static_cast<double>(halo_of(graph_, ranges_, group));
        times.fused = outside / model_.bytes_per_ns + (1.0 + halo / tile) * inside;
        return times;
    }

    const Graph& graph_;
    const std::vector<FusedOp>& ops_;
    const FusionModel& model_;
    std::vector<ChannelRange> ranges_;
    std::vector<int> consumers_; ///< by node: how many operands of ops read its value
};

} // namespace

std::vector<NodeId> values_read(const Graph& graph, const std::vector<ChannelRange>& ranges, const FusionGroup& group) {
    std::vector<NodeId> values;
    std::vector<NodeId> computed;
    for (const FusedOp& op : group.ops) {
        for (const NodeId value : reads_of(graph, ranges, op))
            if (std::count(computed.begin(), computed.end(), value) == 0 &&
                std::count(values.begin(), values.end(), value) == 0)
                values.push_back(value);
        computed.push_back(op.output);
    }
    return values;
}

std::int64_t halo_of(const Graph& graph, const std::vector<ChannelRange>& ranges, const FusionGroup& group) {
    std::vector<std::int64_t> halo(static_cast<std::size_t>(graph.size()), 0);
    std::int64_t most = 0;
    for (auto op = group.ops.rbegin(); op != group.ops.rend(); ++op) {
        const std::int64_t beyond = halo[static_cast<std::size_t>(op->output)] + radius_along_x(graph.node(op->main));
        most = std::max(most, beyond);
        for (const NodeId value : reads_of(graph, ranges, *op))
            halo[static_cast<std::size_t>(value)] = std::max(halo[static_cast<std::size_t>(value)], beyond);
    }
    return most;
}

std::vector<FusionGroup> form_fusion_groups(const Graph& graph, const std::vector<FusedOp>& ops,
                                            const FusionModel& model) {
    return GroupFinder(graph, ops, model).run();
}

std::vector<FusionGroup> separate_groups(const std::vector<FusedOp>& ops) {
    std::vector<FusionGroup> groups;
    for (const FusedOp& op : ops)
        groups.push_back({{op}});
    return groups;
}

std::vector<FusedOp> ops_of(const std::vector<FusionGroup>& groups) {
    std::vector<FusedOp> ops;
    for (const FusionGroup& group : groups)
        ops.insert(ops.end(), group.ops.begin(), group.ops.end());
    return ops;
}

} // namespace mfres
