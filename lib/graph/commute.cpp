// SPDX-License-Identifier: MIT
// Pointwise convolutions and upsampling commute: see move_pointwise_before_upsample in rewrite.h.
#include "graph/commute.h"

#include "graph/rewrite.h"

#include <algorithm>
#include <set>

namespace mfres {

namespace {

bool is_pointwise(const Node& node) {
    if (node.kind() != OpKind::conv)
        return false;
    const Conv& conv = node.as<Conv>();
    const Axes ones{1, 1, 1};
    return conv.kernel == ones && conv.stride == ones && conv.padding == Axes{0, 0, 0} && conv.groups == 1;
}

/// Columns [from, from + count) of each range of a weight [out, in, 1, 1, 1], side by side.
struct Columns {
    std::int64_t from, count;
};

Tensor take_columns(const Tensor& weight, const std::vector<Columns>& ranges) {
    std::int64_t width = 0;
    for (const Columns& range : ranges)
        width += range.count;
    const std::int64_t rows = weight.shape()[0];
    Tensor taken(Shape{rows, width, 1, 1, 1});
    float* to = taken.data();
    for (std::int64_t row = 0; row < rows; ++row)
        for (const Columns& range : ranges)
            to = std::copy_n(weight.data() + row * weight.shape()[1] + range.from, range.count, to);
    return taken;
}

/// A node's entry in a table by node.
template <typename Values>
decltype(auto) at(Values& values, NodeId id) {
    return values[static_cast<std::size_t>(id)];
}

class Mover {
  public:
    Mover(const Graph& graph, Weights* weights, bool splits = true)
        : graph_(graph), weights_(weights), splits_(splits), consumers_(graph.consumers()), now_(count(), -1),
          source_(count(), -1), dropped_(count(), false), pieces_(count()) {
        for (const Node& node : graph.nodes())
            names_.insert(node.name);
    }

    Graph run() {
        for (NodeId id = 0; id < graph_.size(); ++id)
            consider(id);
        for (NodeId id = 0; id < graph_.size(); ++id)
            emit(id);
        for (const NodeId output : graph_.outputs())
            builder_.output(at(now_, output));
        return std::move(builder_.finish()).value();
    }

  private:
    std::size_t count() const { return static_cast<std::size_t>(graph_.size()); }

    bool enlarges(NodeId id) const {
        const Node& node = graph_.node(id);
        if (node.kind() != OpKind::upsample)
            return false;
        const Shape& from = graph_.node(node.inputs[0]).shape;
        return from[2] * from[3] * from[4] < node.shape[2] * node.shape[3] * node.shape[4];
    }

    /// An upsampled operand of a concat that needs no value at high resolution.
    bool movable_operand(NodeId concat, NodeId operand) const {
        return enlarges(operand) && !graph_.is_output(operand) &&
               at(consumers_, operand) == std::vector<NodeId>{concat};
    }

    /// Marks an upsampling, or a concat with upsampled operands, that only pointwise convolutions read and whose
    /// results have no more channels than it has: then nothing is lost by upsampling those instead.
    void consider(NodeId id) {
        const Node& node = graph_.node(id);
        const auto& readers = at(consumers_, id);
        std::vector<NodeId> upsampled;
        if (enlarges(id))
            upsampled.push_back(id);
        if (splits_ && node.kind() == OpKind::concat)
            std::copy_if(node.inputs.begin(), node.inputs.end(), std::back_inserter(upsampled),
                         [&](NodeId operand) { return movable_operand(id, operand); });
        if (upsampled.empty() || readers.empty() || graph_.is_output(id))
            return;
        std::int64_t channels = 0;
        for (const NodeId reader : readers) {
            if (!is_pointwise(graph_.node(reader)))
                return;
            channels += graph_.node(reader).shape[1];
        }
        if (channels > node.shape[1])
            return;
        for (const NodeId reader : readers)
            at(source_, reader) = id;
        at(dropped_, id) = true;
        for (const NodeId operand : upsampled)
            at(dropped_, operand) = true;
    }

    std::string unique(std::string name) {
        while (!names_.insert(name).second)
            name += '_';
        return name;
    }

    NodeId add_up(std::vector<NodeId> pieces, const std::string& last_name) {
        NodeId sum = pieces[0];
        for (std::size_t i = 1; i < pieces.size(); ++i)
            sum = builder_.sum(i + 1 == pieces.size() ? last_name : unique(last_name + ".part"), {sum, pieces[i]});
        return sum;
    }

    std::vector<NodeId> moved_inputs(const Node& node) const {
        std::vector<NodeId> inputs;
        for (const NodeId input : node.inputs)
            inputs.push_back(at(now_, input));
        return inputs;
    }

    void emit(NodeId id) {
        const Node& node = graph_.node(id);
        if (at(dropped_, id))
            return;
        if (at(source_, id) >= 0)
            return emit_moved(id);
        if (node.kind() == OpKind::add)
            return emit_add(id);
        at(now_, id) = builder_.add(node.name, node.op, moved_inputs(node));
    }

    /// A sum takes the pieces of a moved convolution one by one, so that each can be added as it is computed.
    void emit_add(NodeId id) {
        const Node& node = graph_.node(id);
        std::vector<NodeId> whole;
        std::vector<NodeId> pieces;
        for (const NodeId input : node.inputs) {
            const auto& parts = at(pieces_, input);
            if (parts.empty())
                whole.push_back(at(now_, input));
            else
                pieces.insert(pieces.end(), parts.begin(), parts.end());
        }
        if (pieces.empty()) {
            at(now_, id) = builder_.add(node.name, node.op, whole);
            return;
        }
        if (whole.size() > 1)
            whole = {builder_.sum(unique(node.name + ".part"), whole)};
        whole.insert(whole.end(), pieces.begin(), pieces.end());
        at(now_, id) = add_up(std::move(whole), node.name);
    }

    NodeId upsampled(const std::string& name, NodeId x, NodeId like) {
        return builder_.add(unique(name + ".up"), graph_.node(like).op, {x});
    }

    void emit_moved(NodeId id) {
        const Node& node = graph_.node(id);
        const NodeId source = at(source_, id);
        if (graph_.node(source).kind() == OpKind::upsample) {
            const NodeId low = builder_.add(node.name, node.op, {at(now_, graph_.node(source).inputs[0])});
            at(now_, id) = upsampled(node.name, low, source);
            return;
        }
        auto pieces = split(id, source);
        const auto& readers = at(consumers_, id);
        const bool summed =
            readers.size() == 1 && !graph_.is_output(id) && graph_.node(readers[0]).kind() == OpKind::add;
        if (pieces.size() == 1)
            at(now_, id) = pieces[0];
        else if (summed)
            at(pieces_, id) = std::move(pieces);
        else
            at(now_, id) = add_up(std::move(pieces), unique(node.name + ".sum"));
    }

    /// conv(concat(up(a), b)) = conv_B(b) + up(conv_A(a)): the summands in that order.
    std::vector<NodeId> split(NodeId id, NodeId concat) {
        const Node& node = graph_.node(id);
        std::vector<NodeId> rest;
        std::vector<Columns> rest_columns;
        std::vector<std::pair<NodeId, Columns>> ups;
        std::int64_t from = 0;
        for (const NodeId operand : graph_.node(concat).inputs) {
            const Columns columns{from, graph_.node(operand).shape[1]};
            from += columns.count;
            if (at(dropped_, operand)) {
                ups.emplace_back(operand, columns);
            } else {
                rest.push_back(at(now_, operand));
                rest_columns.push_back(columns);
            }
        }
        std::vector<NodeId> pieces;
        bool bias = node.as<Conv>().bias; // goes with the first piece
        if (!rest.empty()) {
            const NodeId x = rest.size() == 1 ? rest[0] : builder_.concat(unique(node.name + ".rest"), rest);
            pieces.push_back(part(node, node.name + ".high", x, rest_columns, bias));
            bias = false;
        }
        for (const auto& [operand, columns] : ups) {
            const NodeId low = at(now_, graph_.node(operand).inputs[0]);
            pieces.push_back(upsampled(node.name, part(node, node.name + ".low", low, {columns}, bias), operand));
            bias = false;
        }
        if (weights_)
            forget(node);
        return pieces;
    }

    /// The convolution of some of the columns.
    NodeId part(const Node& node, const std::string& name, NodeId x, const std::vector<Columns>& columns, bool bias) {
        Conv conv = node.as<Conv>();
        conv.bias = bias;
        const std::string own = unique(name);
        if (weights_) {
            weights_->insert_or_assign(own + ".weight",
                                       take_columns(weights_->find(node.name + ".weight")->second, columns));
            if (bias)
                weights_->insert_or_assign(own + ".bias", weights_->find(node.name + ".bias")->second);
        }
        return builder_.conv(own, x, conv);
    }

    void forget(const Node& node) {
        for (const Parameter& parameter : node.parameters)
            weights_->erase(parameter.name);
    }

    const Graph& graph_;
    Weights* weights_; ///< null for the structure alone
    bool splits_;      ///< convolutions of a concat too
    std::vector<std::vector<NodeId>> consumers_;
    std::vector<NodeId> now_;                 ///< a value's node in the new graph
    std::vector<NodeId> source_;              ///< of a moved convolution: the upsampling or concat it read
    std::vector<bool> dropped_;               ///< nodes that are not needed any more
    std::vector<std::vector<NodeId>> pieces_; ///< of a moved convolution that a sum takes apart: its summands
    std::set<std::string, std::less<>> names_;
    GraphBuilder builder_;
};

} // namespace

Graph move_pointwise_before_whole_upsample(const Graph& graph) {
    return Mover(graph, nullptr, false).run();
}

Graph move_pointwise_before_upsample(const Graph& graph) {
    return Mover(graph, nullptr).run();
}

Network move_pointwise_before_upsample(Network network) {
    Weights weights = std::move(network.weights);
    Graph graph = Mover(network.graph, &weights).run();
    return {std::move(graph), std::move(weights)};
}

} // namespace mfres
