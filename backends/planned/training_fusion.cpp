// SPDX-License-Identifier: MIT
#include "backends/planned/training_fusion.h"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace mfres {

namespace {

/// Whether an op can read a range of the channels of an array that has more channels.
bool reads_channel_ranges(OpKind kind) {
    switch (kind) {
    case OpKind::batch_norm:
    case OpKind::instance_norm:
    case OpKind::relu:
    case OpKind::leaky_relu:
    case OpKind::add:
    case OpKind::scaled_add:
    case OpKind::concat:
    case OpKind::slice: return true;
    case OpKind::input:
    case OpKind::conv:
    case OpKind::conv_transpose:
    case OpKind::group_norm:
    case OpKind::prelu:
    case OpKind::elu:
    case OpKind::sigmoid:
    case OpKind::multiply:
    case OpKind::max_pool:
    case OpKind::adaptive_avg_pool:
    case OpKind::upsample:
    case OpKind::softmax: return false;
    }
    return false;
}

bool is_norm(OpKind kind) {
    return kind == OpKind::batch_norm || kind == OpKind::instance_norm;
}

class Fusion {
  public:
    Fusion(const Graph& graph, const TrainingFusionRules& rules)
        : graph_(graph), rules_(rules), consumers_(graph_.consumers()),
          fused_(static_cast<std::size_t>(graph_.size()), 0), unstored_(fused_.size()) {}

    std::vector<FusedTrainingOp> run() {
        for (NodeId id = 1; id < graph_.size(); ++id)
            if (!fused_[static_cast<std::size_t>(id)])
                make(id);
        return std::move(ops_);
    }

  private:
    void make(NodeId id) {
        const Node& node = graph_.node(id);
        switch (node.kind()) {
        case OpKind::input: return;
        case OpKind::conv: return make_convolution(id);
        case OpKind::batch_norm:
        case OpKind::instance_norm:
            if (const NodeId consumer = only_consumer(id); consumer < 0 || graph_.node(consumer).kind() != OpKind::add)
                make_sum(id, {normalised(id)});
            return;
        case OpKind::relu:
        case OpKind::leaky_relu: return make_sum(id, {{.value = node.inputs[0]}});
        case OpKind::add:
        case OpKind::scaled_add: return make_sum(id, operands(node));
        case OpKind::concat: return push(FusedTrainingOp::Kind::copy, id);
        case OpKind::slice:
            if (read_in_place(id))
                return push(FusedTrainingOp::Kind::slice_in_place, id);
            return push(FusedTrainingOp::Kind::copy, id);
        case OpKind::conv_transpose: // these six are rejected before (is_inference_only)
        case OpKind::group_norm:
        case OpKind::prelu:
        case OpKind::elu:
        case OpKind::sigmoid:
        case OpKind::multiply:
        case OpKind::max_pool:
        case OpKind::adaptive_avg_pool:
        case OpKind::upsample:
        case OpKind::softmax: return push(FusedTrainingOp::Kind::resampling, id);
        }
    }

    void push(FusedTrainingOp::Kind kind, NodeId id) { ops_.push_back({kind, id, {}, {}}); }

    void make_convolution(NodeId id) {
        push(FusedTrainingOp::Kind::convolution, id);
        if (!joinable(id))
            return;
        for (const NodeId other : consumers_[static_cast<std::size_t>(graph_.node(id).inputs[0])])
            if (other > id && joinable(other) && differ_in_channels_alone(id, other)) {
                ops_.back().joined.push_back(other);
                fused_[static_cast<std::size_t>(other)] = 1;
            }
    }

    bool joinable(NodeId id) const {
        const Node& node = graph_.node(id);
        if (!rules_.join_convolutions || node.kind() != OpKind::conv || node.as<Conv>().bias ||
            node.as<Conv>().groups != 1)
            return false;
        const NodeId consumer = only_consumer(id);
        return consumer >= 0 &&
               (is_norm(graph_.node(consumer).kind()) || graph_.node(consumer).kind() == OpKind::upsample);
    }

    bool differ_in_channels_alone(NodeId a, NodeId b) const {
        const Conv& of_a = graph_.node(a).as<Conv>();
        const Conv& of_b = graph_.node(b).as<Conv>();
        return of_a.kernel == of_b.kernel && of_a.stride == of_b.stride && of_a.dilation == of_b.dilation &&
               of_a.padding == of_b.padding;
    }

    /// The only consumer of a value that is not an output, or -1.
    NodeId only_consumer(NodeId id) const {
        const auto& consumers = consumers_[static_cast<std::size_t>(id)];
        return consumers.size() == 1 && !graph_.is_output(id) ? consumers[0] : -1;
    }

    bool read_in_place(NodeId id) const {
        const auto& consumers = consumers_[static_cast<std::size_t>(id)];
        return !graph_.is_output(id) && std::all_of(consumers.begin(), consumers.end(), [&](NodeId consumer) {
            return reads_channel_ranges(graph_.node(consumer).kind());
        });
    }

    /// The operands of an add or a scaled_add. A norm is fused into an add that is its only consumer.
    std::vector<SumOperand> operands(const Node& node) const {
        std::vector<SumOperand> all;
        for (const NodeId input : node.inputs)
            if (node.kind() == OpKind::scaled_add)
                all.push_back({.value = input, .kind = SumOperand::Kind::weight});
            else if (is_norm(graph_.node(input).kind()) && only_consumer(input) >= 0)
                all.push_back(normalised(input));
            else
                all.push_back({.value = input, .unstored = unstored_[static_cast<std::size_t>(input)]});
        return all;
    }

    SumOperand normalised(NodeId norm) const {
        const Node& node = graph_.node(norm);
        const bool batch = node.kind() == OpKind::batch_norm;
        return {.value = node.inputs[0],
                .norm = norm,
                .kind = batch ? SumOperand::Kind::batch_norm : SumOperand::Kind::instance_norm};
    }

    void make_sum(NodeId id, std::vector<SumOperand> operands) {
        FusedSum sum;
        sum.main = sum.output = id;
        sum.operands = std::move(operands);
        const Node& node = graph_.node(id);
        const bool one_norm = sum.operands.size() == 1 && sum.operands[0].normalises();
        if (node.kind() == OpKind::relu || node.kind() == OpKind::leaky_relu)
            sum.activation = activation_of(node);
        else
            fuse_activation(sum, one_norm);
        fuse_slices(sum, one_norm);
        ops_.push_back({FusedTrainingOp::Kind::sum, id, std::move(sum), {}});
    }

    static Activation activation_of(const Node& node) {
        if (node.kind() == OpKind::relu)
            return {Activation::Kind::relu, 0.0F};
        return {Activation::Kind::leaky_relu, static_cast<float>(node.as<LeakyRelu>().slope)};
    }

    /// The backward of a sum's activation depends on the sign of the output. A negative slope changes this sign.
    void fuse_activation(FusedSum& sum, bool one_norm) {
        const NodeId consumer = only_consumer(sum.output);
        if (consumer < 0)
            return;
        const Node& node = graph_.node(consumer);
        if (node.kind() != OpKind::relu && node.kind() != OpKind::leaky_relu)
            return;
        const Activation activation = activation_of(node);
        if (!one_norm && activation.slope < 0.0F)
            return;
        sum.activation = activation;
        sum.output = consumer;
        fused_[static_cast<std::size_t>(consumer)] = 1;
    }

    /// The backward of a sum of several operands with an activation reads its output as one array, which therefore is not
    /// divided.
    void fuse_slices(FusedSum& sum, bool one_norm) {
        const auto& consumers = consumers_[static_cast<std::size_t>(sum.output)];
        const bool all_slices =
            !consumers.empty() && std::all_of(consumers.begin(), consumers.end(), [&](NodeId consumer) {
                return graph_.node(consumer).kind() == OpKind::slice;
            });
        if (!all_slices || graph_.is_output(sum.output) || (!one_norm && sum.activation.kind != Activation::Kind::none))
            return;
        const auto unstored = [&](NodeId slice) { return rules_.unstored_slices && one_norm && only_added(slice); };
        std::copy_if(consumers.begin(), consumers.end(), std::back_inserter(sum.unstored), unstored);
        if (sum.unstored.size() == consumers.size())
            sum.unstored.clear();
        std::set_difference(consumers.begin(), consumers.end(), sum.unstored.begin(), sum.unstored.end(),
                            std::back_inserter(sum.slices));
        for (const NodeId slice : consumers)
            fused_[static_cast<std::size_t>(slice)] = 1;
        for (const NodeId slice : sum.unstored)
            unstored_[static_cast<std::size_t>(slice)] = {sum.operands[0].norm, sum.operands[0].value,
                                                          graph_.node(slice).as<Slice>().begin, sum.activation};
    }

    bool only_added(NodeId slice) const {
        const NodeId consumer = only_consumer(slice);
        return consumer >= 0 && graph_.node(consumer).kind() == OpKind::add;
    }

    const Graph& graph_;
    TrainingFusionRules rules_;
    std::vector<std::vector<NodeId>> consumers_;
    std::vector<char> fused_;                                   ///< by node: an op already in ops_ computes it
    std::vector<std::optional<SumOperand::Unstored>> unstored_; ///< by node
    std::vector<FusedTrainingOp> ops_;
};

} // namespace

bool FusedSum::all_plain() const {
    return std::all_of(operands.begin(), operands.end(), [](const SumOperand& operand) { return operand.plain(); });
}

std::vector<NodeId> FusedTrainingOp::results() const {
    std::vector<NodeId> all = {kind == Kind::sum ? sum.output : node};
    all.insert(all.end(), joined.begin(), joined.end());
    return all;
}

std::vector<FusedTrainingOp> fuse_training_ops(const Graph& graph, const TrainingFusionRules& rules) {
    return Fusion(graph, rules).run();
}

std::string describe(const Graph& graph, const FusedTrainingOp& op) {
    const std::string kind(name(graph.node(op.node).kind()));
    std::string text;
    const auto append = [&](std::string_view part) { text += (text.empty() ? "" : " + ") + std::string(part); };
    if (op.kind != FusedTrainingOp::Kind::sum) {
        for (std::size_t i = 0; i < op.results().size(); ++i)
            append(kind);
        return text;
    }
    for (const SumOperand& operand : op.sum.operands)
        if (operand.normalises())
            append("norm");
    if (op.sum.operands.size() > 1)
        append(kind);
    switch (op.sum.activation.kind) {
    case Activation::Kind::none: break;
    case Activation::Kind::relu: append(name(OpKind::relu)); break;
    case Activation::Kind::leaky_relu: append(name(OpKind::leaky_relu)); break;
    }
    return text;
}

} // namespace mfres
