// SPDX-License-Identifier: MIT
#include "backends/planned/training_fusion.h"

#include <algorithm>

namespace mfres {

namespace {

/// True for operations that read a range of another value's channels as well as an array of their own.
bool reads_in_place(OpKind kind) {
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

class Former {
  public:
    explicit Former(const Graph& graph)
        : graph_(graph), consumers_(graph_.consumers()), done_(static_cast<std::size_t>(graph_.size()), 0) {}

    std::vector<FormedStep> run() {
        for (NodeId id = 1; id < graph_.size(); ++id)
            if (!done_[static_cast<std::size_t>(id)])
                make(id);
        return std::move(steps_);
    }

  private:
    void make(NodeId id) {
        const Node& node = graph_.node(id);
        switch (node.kind()) {
        case OpKind::input: return;
        case OpKind::conv: return push(FormedStep::Kind::convolution, id);
        case OpKind::batch_norm:
        case OpKind::instance_norm:
            if (const NodeId reader = only_reader(id); reader < 0 || graph_.node(reader).kind() != OpKind::add)
                make_sum(id, {{node.inputs[0], id}});
            return;
        case OpKind::relu:
        case OpKind::leaky_relu: return make_sum(id, {{node.inputs[0], -1}});
        case OpKind::add:
        case OpKind::scaled_add: return make_sum(id, operands(node));
        case OpKind::concat: return push(FormedStep::Kind::copy, id);
        case OpKind::slice:
            if (read_in_place(id))
                return push(FormedStep::Kind::slice_in_place, id);
            return push(FormedStep::Kind::copy, id);
        case OpKind::max_pool:
        case OpKind::adaptive_avg_pool:
        case OpKind::upsample:
        case OpKind::softmax: return push(FormedStep::Kind::resampling, id);
        }
    }

    void push(FormedStep::Kind kind, NodeId id) { steps_.push_back({kind, id, {}}); }

    /// The only reader of a value that nobody else needs, or -1.
    NodeId only_reader(NodeId id) const {
        const auto& readers = consumers_[static_cast<std::size_t>(id)];
        return readers.size() == 1 && !graph_.is_output(id) ? readers[0] : -1;
    }

    bool read_in_place(NodeId id) const {
        const auto& readers = consumers_[static_cast<std::size_t>(id)];
        return !graph_.is_output(id) && std::all_of(readers.begin(), readers.end(), [&](NodeId reader) {
            return reads_in_place(graph_.node(reader).kind());
        });
    }

    /// A plain sum takes norms that nobody else reads.
    std::vector<SumOperand> operands(const Node& node) const {
        std::vector<SumOperand> all;
        for (const NodeId input : node.inputs) {
            const Node& from = graph_.node(input);
            if (node.kind() == OpKind::add && is_norm(from.kind()) && only_reader(input) >= 0)
                all.push_back({from.inputs[0], input});
            else
                all.push_back({input, -1});
        }
        return all;
    }

    void make_sum(NodeId id, std::vector<SumOperand> operands) {
        SumStep step;
        step.main = step.output = id;
        step.operands = std::move(operands);
        const Node& node = graph_.node(id);
        const bool one_norm = step.operands.size() == 1 && step.operands[0].norm >= 0;
        if (node.kind() == OpKind::relu || node.kind() == OpKind::leaky_relu)
            step.activation = activation_of(node);
        else
            take_activation(step, one_norm);
        take_slices(step, one_norm);
        steps_.push_back({FormedStep::Kind::sum, id, std::move(step)});
    }

    static Activation activation_of(const Node& node) {
        if (node.kind() == OpKind::relu)
            return {Activation::Kind::relu, 0.0F};
        return {Activation::Kind::leaky_relu, static_cast<float>(node.as<LeakyRelu>().slope)};
    }

    /// A gradient finds its way through the activation of a sum by the output's sign.
    void take_activation(SumStep& step, bool one_norm) {
        const NodeId reader = only_reader(step.output);
        if (reader < 0)
            return;
        const Node& node = graph_.node(reader);
        if (node.kind() != OpKind::relu && node.kind() != OpKind::leaky_relu)
            return;
        const Activation activation = activation_of(node);
        if (!one_norm && activation.slope < 0.0F)
            return; // the output's sign would not tell
        step.activation = activation;
        step.output = reader;
        done_[static_cast<std::size_t>(reader)] = 1;
    }

    /// What only slices read is written as these, unless its sign will be needed as a whole.
    void take_slices(SumStep& step, bool one_norm) {
        const auto& readers = consumers_[static_cast<std::size_t>(step.output)];
        const bool all_slices = !readers.empty() && std::all_of(readers.begin(), readers.end(), [&](NodeId reader) {
            return graph_.node(reader).kind() == OpKind::slice;
        });
        if (!all_slices || graph_.is_output(step.output) ||
            (!one_norm && step.activation.kind != Activation::Kind::none))
            return;
        step.slices = readers;
        for (const NodeId slice : readers)
            done_[static_cast<std::size_t>(slice)] = 1;
    }

    const Graph& graph_;
    std::vector<std::vector<NodeId>> consumers_;
    std::vector<char> done_; ///< nodes that an earlier step computes
    std::vector<FormedStep> steps_;
};

} // namespace

std::vector<FormedStep> form_training_steps(const Graph& graph) {
    return Former(graph).run();
}

} // namespace mfres
