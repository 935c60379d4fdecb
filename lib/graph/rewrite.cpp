// SPDX-License-Identifier: MIT
#include "graph/rewrite.h"

#include "core/try.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

/// For every node the BatchNorm that folds into it, or -1.
std::vector<NodeId> foldable_norms(const Graph& graph) {
    std::vector<NodeId> norm_of(static_cast<std::size_t>(graph.size()), -1);
    const auto consumers = graph.consumers();
    for (NodeId id = 0; id < graph.size(); ++id) {
        const auto& of_node = consumers[static_cast<std::size_t>(id)];
        if (graph.node(id).kind() == OpKind::conv && of_node.size() == 1 && !graph.is_output(id) &&
            graph.node(of_node[0]).kind() == OpKind::batch_norm)
            norm_of[static_cast<std::size_t>(id)] = of_node[0];
    }
    return norm_of;
}

/// The graph with every fold applied. Rebuilding a valid graph with fewer nodes cannot fail.
Graph folded_graph(const Graph& graph, const std::vector<NodeId>& norm_of) {
    GraphBuilder builder;
    std::vector<NodeId> now(static_cast<std::size_t>(graph.size()), -1);
    for (NodeId id = 0; id < graph.size(); ++id) {
        const Node& node = graph.node(id);
        auto& here = now[static_cast<std::size_t>(id)];
        if (here >= 0)
            continue; // a BatchNorm that was folded
        std::vector<NodeId> inputs;
        for (const NodeId input : node.inputs)
            inputs.push_back(now[static_cast<std::size_t>(input)]);
        const NodeId norm = norm_of[static_cast<std::size_t>(id)];
        Op op = node.op;
        if (norm >= 0)
            std::get_if<Conv>(&op)->bias = true;
        here = builder.add(node.name, std::move(op), std::move(inputs));
        if (norm >= 0)
            now[static_cast<std::size_t>(norm)] = here;
    }
    for (const NodeId output : graph.outputs())
        builder.output(now[static_cast<std::size_t>(output)]);
    return std::move(builder.finish()).value();
}

/// The suffix is no std::string: GCC 13 and later take the result for a reference into temporary arguments.
const Tensor& tensor(const Weights& weights, const Node& node, const char* suffix) {
    return weights.find(node.name + suffix)->second;
}

/// Writes the scaled weight to `to`, and its bias. Errors: model_not_finite if a product does not fit into a float.
Status fold_weights(const Node& conv, const Node& norm, const Weights& from, Weights& to) {
    const Tensor& gamma = tensor(from, norm, ".weight");
    const Tensor& beta = tensor(from, norm, ".bias");
    const Tensor& mean = tensor(from, norm, ".running_mean");
    const Tensor& variance = tensor(from, norm, ".running_var");
    const Tensor& old_weight = tensor(from, conv, ".weight");
    Tensor weight(old_weight.shape());
    const std::int64_t channels = weight.shape()[0];
    Tensor bias(Shape{channels});
    const std::int64_t per_channel = weight.elements() / channels;
    for (std::int64_t c = 0; c < channels; ++c) {
        const double scale = gamma[c] / std::sqrt(double{variance[c]} + norm.as<BatchNorm>().epsilon);
        const double old_bias = conv.as<Conv>().bias ? tensor(from, conv, ".bias")[c] : 0.0;
        bias[c] = static_cast<float>(beta[c] + (old_bias - mean[c]) * scale);
        const float* const old_values = old_weight.data() + c * per_channel;
        float* const values = weight.data() + c * per_channel;
        for (std::int64_t i = 0; i < per_channel; ++i)
            values[i] = static_cast<float>(old_values[i] * scale);
    }
    if (!all_finite(weight.values()) || !all_finite(bias.values()))
        return Error{ErrorCode::model_not_finite,
                     text("the weights of ", conv.name, " times the scale of ", norm.name, " do not fit into a float"),
                     conv.name};
    to.emplace(conv.name + ".weight", std::move(weight));
    to.emplace(conv.name + ".bias", std::move(bias));
    return {};
}

} // namespace

Graph fold_batch_norm(const Graph& graph) {
    return folded_graph(graph, foldable_norms(graph));
}

Result<Network> fold_batch_norm(const Graph& graph, const Weights& weights) {
    MFRES_CHECK(check_weights(graph, weights));
    const auto norm_of = foldable_norms(graph);
    Network result{folded_graph(graph, norm_of), {}};
    for (NodeId id = 0; id < graph.size(); ++id)
        if (const NodeId norm = norm_of[static_cast<std::size_t>(id)]; norm >= 0)
            MFRES_CHECK(fold_weights(graph.node(id), graph.node(norm), weights, result.weights));
    for (const Node& node : result.graph.nodes())
        for (const Parameter& parameter : node.parameters)
            if (const auto found = weights.find(parameter.name); found != weights.end())
                result.weights.try_emplace(parameter.name, found->second); // unless it was folded
    return result;
}

Result<Network> inference_form(const Graph& graph, const Weights& weights) {
    MFRES_TRY(Network folded, fold_batch_norm(graph, weights));
    return move_pointwise_before_upsample(std::move(folded));
}

Graph inference_form(const Graph& graph) {
    return move_pointwise_before_upsample(fold_batch_norm(graph));
}

namespace {

class Fuser {
  public:
    explicit Fuser(const Graph& graph)
        : graph_(graph), consumers_(graph.consumers()), op_of_(static_cast<std::size_t>(graph.size()), -1) {}

    std::vector<FusedOp> run() {
        op_of_[0] = 0; // the input exists before the first op
        for (NodeId id = 1; id < graph_.size(); ++id)
            if (op_of_[static_cast<std::size_t>(id)] < 0)
                fuse_from(id);
        return std::move(ops_);
    }

  private:
    /// The consumer of a value that has only one and is no output, or -1.
    NodeId only_consumer(NodeId id) const {
        const auto& consumers = consumers_[static_cast<std::size_t>(id)];
        return consumers.size() == 1 && !graph_.is_output(id) ? consumers[0] : -1;
    }

    void take(FusedOp& op, NodeId id) {
        op.output = id;
        op_of_[static_cast<std::size_t>(id)] = static_cast<int>(ops_.size());
    }

    void fuse_residual(FusedOp& op) {
        const NodeId consumer = only_consumer(op.output);
        if (consumer < 0 || graph_.node(consumer).kind() != OpKind::add || graph_.node(consumer).inputs.size() != 2)
            return;
        const auto& operands = graph_.node(consumer).inputs;
        const NodeId other = operands[0] == op.output ? operands[1] : operands[0];
        if (other == op.output || op_of_[static_cast<std::size_t>(other)] < 0)
            return; // the other operand is computed later: the add is fused into the op that computes it
        op.residual = other;
        take(op, consumer);
    }

    void fuse_activation(FusedOp& op) {
        const NodeId consumer = only_consumer(op.output);
        if (consumer < 0)
            return;
        const Node& node = graph_.node(consumer);
        if (node.kind() == OpKind::relu)
            op.activation = {Activation::Kind::relu, 0.0F};
        else if (node.kind() == OpKind::leaky_relu)
            op.activation = {Activation::Kind::leaky_relu, static_cast<float>(node.as<LeakyRelu>().slope)};
        else
            return;
        take(op, consumer);
    }

    void fuse_from(NodeId id) {
        FusedOp op;
        op.main = id;
        take(op, id);
        const OpKind kind = graph_.node(id).kind();
        const bool fuses_add = kind == OpKind::conv || kind == OpKind::upsample;
        if (fuses_add)
            fuse_residual(op);
        if (fuses_add || kind == OpKind::batch_norm || kind == OpKind::instance_norm || kind == OpKind::add)
            fuse_activation(op);
        ops_.push_back(op);
    }

    const Graph& graph_;
    std::vector<std::vector<NodeId>> consumers_;
    std::vector<int> op_of_; ///< by node: index of the op that computes its value, -1 before there is one
    std::vector<FusedOp> ops_;
};

} // namespace

std::vector<FusedOp> fuse_ops(const Graph& graph) {
    return Fuser(graph).run();
}

std::string describe(const Graph& graph, const FusedOp& op) {
    std::string text(name(graph.node(op.main).kind()));
    if (op.residual)
        text += " + add";
    switch (op.activation.kind) {
    case Activation::Kind::none: break;
    case Activation::Kind::relu: text += " + relu"; break;
    case Activation::Kind::leaky_relu: text += " + leaky_relu"; break;
    }
    return text;
}

std::vector<FusedOp> remove_slices(const Graph& graph, std::vector<FusedOp> ops) {
    std::vector<bool> needed(static_cast<std::size_t>(graph.size()), false);
    for (const NodeId output : graph.outputs())
        needed[static_cast<std::size_t>(output)] = true;
    const auto removed = [&](const FusedOp& op) {
        return graph.node(op.main).kind() == OpKind::slice && !needed[static_cast<std::size_t>(op.main)];
    };
    // Backwards, because a slice may be removed if the slice that reads it is.
    for (auto op = ops.rbegin(); op != ops.rend(); ++op) {
        const Node& main = graph.node(op->main);
        if (main.kind() != OpKind::add && main.kind() != OpKind::concat && !removed(*op))
            for (const NodeId input : main.inputs)
                needed[static_cast<std::size_t>(input)] = true;
        if (op->residual)
            needed[static_cast<std::size_t>(*op->residual)] = true;
    }
    std::erase_if(ops, removed);
    return ops;
}

std::vector<ChannelRange> channel_ranges(const Graph& graph, const std::vector<FusedOp>& ops) {
    std::vector<bool> computed(static_cast<std::size_t>(graph.size()), false);
    for (const FusedOp& op : ops)
        computed[static_cast<std::size_t>(op.output)] = true;
    std::vector<ChannelRange> ranges;
    for (NodeId id = 0; id < graph.size(); ++id) {
        const Node& node = graph.node(id);
        ChannelRange range{id, 0};
        if (node.kind() == OpKind::slice && !computed[static_cast<std::size_t>(id)]) {
            range = ranges[static_cast<std::size_t>(node.inputs[0])];
            range.begin += node.as<Slice>().begin;
        }
        ranges.push_back(range);
    }
    return ranges;
}

} // namespace mfres
