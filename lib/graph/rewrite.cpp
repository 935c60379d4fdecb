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
        const auto& readers = consumers[static_cast<std::size_t>(id)];
        if (graph.node(id).kind() == OpKind::conv && readers.size() == 1 && !graph.is_output(id) &&
            graph.node(readers[0]).kind() == OpKind::batch_norm)
            norm_of[static_cast<std::size_t>(id)] = readers[0];
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
            continue; // a BatchNorm that its convolution has swallowed
        std::vector<NodeId> inputs;
        for (const NodeId input : node.inputs)
            inputs.push_back(now[static_cast<std::size_t>(input)]);
        const NodeId norm = norm_of[static_cast<std::size_t>(id)];
        Op op = node.op;
        if (norm >= 0)
            std::get_if<Conv>(&op)->bias = true;
        here = builder.add(node.name, std::move(op), std::move(inputs));
        if (!node.counted_in_table2)
            builder.uncounted(here);
        if (norm >= 0)
            now[static_cast<std::size_t>(norm)] = here;
    }
    for (const NodeId output : graph.outputs())
        builder.output(now[static_cast<std::size_t>(output)]);
    return std::move(builder.finish()).value();
}

const Tensor& tensor(const Weights& weights, const std::string& name) {
    return weights.find(name)->second;
}

/// Errors: model_not_finite if a product does not fit into a float.
Status fold_weights(const Node& conv, const Node& norm, const Weights& from, Weights& to) {
    const Tensor& gamma = tensor(from, norm.name + ".weight");
    const Tensor& beta = tensor(from, norm.name + ".bias");
    const Tensor& mean = tensor(from, norm.name + ".running_mean");
    const Tensor& variance = tensor(from, norm.name + ".running_var");
    Tensor weight = tensor(from, conv.name + ".weight");
    const std::int64_t channels = weight.shape()[0];
    Tensor bias(Shape{channels});
    const std::int64_t per_channel = weight.elements() / channels;
    for (std::int64_t c = 0; c < channels; ++c) {
        const double scale = gamma[c] / std::sqrt(double{variance[c]} + norm.as<BatchNorm>().epsilon);
        const double old_bias = conv.as<Conv>().bias ? tensor(from, conv.name + ".bias")[c] : 0.0;
        bias[c] = static_cast<float>(beta[c] + (old_bias - mean[c]) * scale);
        for (std::int64_t i = 0; i < per_channel; ++i)
            weight[c * per_channel + i] = static_cast<float>(weight[c * per_channel + i] * scale);
    }
    const auto finite = [](const Tensor& values) {
        return std::all_of(values.values().begin(), values.values().end(), [](float v) { return std::isfinite(v); });
    };
    if (!finite(weight) || !finite(bias))
        return Error{ErrorCode::model_not_finite,
                     text("the weights of ", conv.name, " times the scale of ", norm.name, " do not fit into a float"),
                     conv.name};
    to.insert_or_assign(conv.name + ".weight", std::move(weight));
    to.insert_or_assign(conv.name + ".bias", std::move(bias));
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
    for (const Node& node : result.graph.nodes())
        for (const Parameter& parameter : node.parameters)
            if (const auto found = weights.find(parameter.name); found != weights.end())
                result.weights.emplace(parameter.name, found->second);
    for (NodeId id = 0; id < graph.size(); ++id)
        if (const NodeId norm = norm_of[static_cast<std::size_t>(id)]; norm >= 0)
            MFRES_CHECK(fold_weights(graph.node(id), graph.node(norm), weights, result.weights));
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
        : graph_(graph), consumers_(graph.consumers()), step_of_(static_cast<std::size_t>(graph.size()), -1) {}

    std::vector<Step> run() {
        step_of_[0] = 0; // the input is there before the first step
        for (NodeId id = 1; id < graph_.size(); ++id)
            if (step_of_[static_cast<std::size_t>(id)] < 0)
                fuse_from(id);
        return std::move(steps_);
    }

  private:
    /// The only reader of a value that nobody else needs, or -1.
    NodeId only_reader(NodeId id) const {
        const auto& readers = consumers_[static_cast<std::size_t>(id)];
        return readers.size() == 1 && !graph_.is_output(id) ? readers[0] : -1;
    }

    void take(Step& step, NodeId id) {
        step.output = id;
        step_of_[static_cast<std::size_t>(id)] = static_cast<int>(steps_.size());
    }

    void fuse_residual(Step& step) {
        const NodeId reader = only_reader(step.output);
        if (reader < 0 || graph_.node(reader).kind() != OpKind::add || graph_.node(reader).inputs.size() != 2)
            return;
        const auto& operands = graph_.node(reader).inputs;
        const NodeId other = operands[0] == step.output ? operands[1] : operands[0];
        if (other == step.output || step_of_[static_cast<std::size_t>(other)] < 0)
            return; // the other operand comes later: its own step will take the addition
        step.residual = other;
        take(step, reader);
    }

    void fuse_activation(Step& step) {
        const NodeId reader = only_reader(step.output);
        if (reader < 0)
            return;
        const Node& node = graph_.node(reader);
        if (node.kind() == OpKind::relu)
            step.activation = {Activation::Kind::relu, 0.0F};
        else if (node.kind() == OpKind::leaky_relu)
            step.activation = {Activation::Kind::leaky_relu, static_cast<float>(node.as<LeakyRelu>().slope)};
        else
            return;
        take(step, reader);
    }

    void fuse_from(NodeId id) {
        Step step;
        step.main = id;
        take(step, id);
        const OpKind kind = graph_.node(id).kind();
        const bool takes_sum = kind == OpKind::conv || kind == OpKind::upsample;
        if (takes_sum)
            fuse_residual(step);
        if (takes_sum || kind == OpKind::batch_norm || kind == OpKind::instance_norm || kind == OpKind::add)
            fuse_activation(step);
        steps_.push_back(step);
    }

    const Graph& graph_;
    std::vector<std::vector<NodeId>> consumers_;
    std::vector<int> step_of_; ///< step that produces the node's value, -1 while none does
    std::vector<Step> steps_;
};

} // namespace

std::vector<Step> fuse_steps(const Graph& graph) {
    return Fuser(graph).run();
}

std::string describe(const Graph& graph, const Step& step) {
    std::string text(name(graph.node(step.main).kind()));
    if (step.residual)
        text += " + add";
    switch (step.activation.kind) {
    case Activation::Kind::none: break;
    case Activation::Kind::relu: text += " + relu"; break;
    case Activation::Kind::leaky_relu: text += " + leaky_relu"; break;
    }
    return text;
}

std::vector<Step> leave_out_slices(const Graph& graph, std::vector<Step> steps) {
    std::vector<bool> needed(static_cast<std::size_t>(graph.size()), false);
    for (const NodeId output : graph.outputs())
        needed[static_cast<std::size_t>(output)] = true;
    const auto left_out = [&](const Step& step) {
        return graph.node(step.main).kind() == OpKind::slice && !needed[static_cast<std::size_t>(step.main)];
    };
    // Backwards, as a slice may be left out because the slice that reads it is.
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
        const Node& main = graph.node(step->main);
        if (main.kind() != OpKind::add && main.kind() != OpKind::concat && !left_out(*step))
            for (const NodeId input : main.inputs)
                needed[static_cast<std::size_t>(input)] = true;
        if (step->residual)
            needed[static_cast<std::size_t>(*step->residual)] = true;
    }
    std::erase_if(steps, left_out);
    return steps;
}

std::vector<ChannelRange> channel_ranges(const Graph& graph, const std::vector<Step>& steps) {
    std::vector<bool> computed(static_cast<std::size_t>(graph.size()), false);
    for (const Step& step : steps)
        computed[static_cast<std::size_t>(step.output)] = true;
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
