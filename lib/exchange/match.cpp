// SPDX-License-Identifier: MIT
#include "exchange/match.h"

#include "core/try.h"

#include <algorithm>
#include <locale>
#include <sstream>

namespace mfres {

namespace {

template <typename... Parts>
std::string described(std::string_view kind, const Parts&... parts) {
    std::ostringstream all;
    pass_exceptions(all);
    all.imbue(std::locale::classic());
    all.precision(6); // epsilons and slopes pass through 32 bits on their way
    all << kind;
    ((all << ' ' << parts), ...);
    return std::move(all).str();
}

std::string axes(const Axes& a) {
    return text(a[0], ",", a[1], ",", a[2]);
}

/// Kind and attributes of an op as text.
struct Describe {
    std::string operator()(const Input&) const { return "input"; }
    std::string operator()(const Conv& op) const {
        return described("conv", op.out_channels, axes(op.kernel), axes(op.stride), axes(op.dilation), axes(op.padding),
                         op.groups, op.bias);
    }
    std::string operator()(const ConvTranspose& op) const {
        return described("conv_transpose", op.out_channels, axes(op.kernel), axes(op.stride), axes(op.padding),
                         axes(op.output_padding), op.groups, op.bias);
    }
    std::string operator()(const BatchNorm& op) const { return described("batch_norm", op.epsilon); }
    std::string operator()(const InstanceNorm& op) const { return described("instance_norm", op.epsilon); }
    std::string operator()(const GroupNorm& op) const { return described("group_norm", op.groups, op.epsilon); }
    std::string operator()(const Relu&) const { return "relu"; }
    std::string operator()(const LeakyRelu& op) const { return described("leaky_relu", op.slope); }
    std::string operator()(const PRelu&) const { return "prelu"; }
    std::string operator()(const Elu& op) const { return described("elu", op.alpha); }
    std::string operator()(const Sigmoid&) const { return "sigmoid"; }
    std::string operator()(const Multiply&) const { return "multiply"; }
    std::string operator()(const Add&) const { return "add"; }
    std::string operator()(const ScaledAdd&) const { return "scaled_add"; }
    std::string operator()(const Concat&) const { return "concat"; }
    std::string operator()(const Slice& op) const { return described("slice", op.begin, op.end); }
    std::string operator()(const MaxPool& op) const { return described("max_pool", axes(op.kernel), axes(op.stride)); }
    std::string operator()(const AdaptiveAvgPool&) const { return "adaptive_avg_pool"; }
    std::string operator()(const Upsample& op) const { return described("upsample", name(op.mode)); }
    std::string operator()(const Softmax&) const { return "softmax"; }
};

std::uint64_t mixed(std::uint64_t hash, std::uint64_t value) {
    hash ^= value + 0x9E3779B97F4A7C15U + (hash << 6U) + (hash >> 2U);
    return hash * 0xFF51AFD7ED558CCDU;
}

/// Hashes of the nodes of a graph. Two nodes have equal hashes if the subgraphs that compute them are equal.
class Fingerprints {
  public:
    explicit Fingerprints(const Graph& graph) : graph_(graph), consumers_(graph.consumers()) {
        for (NodeId id = 0; id < graph.size(); ++id) {
            const Node& node = graph.node(id);
            std::uint64_t hash =
                std::hash<std::string>()(described(std::visit(Describe(), node.op), to_string(node.shape)));
            for (const NodeId operand : operands(id))
                hash = mixed(hash, of(operand));
            hashes_.push_back(hash);
        }
    }

    std::uint64_t of(NodeId id) const { return hashes_[static_cast<std::size_t>(id)]; }

    /// The inputs of a node. For a sum: its summands with nested sums of a single consumer flattened, sorted by hash.
    std::vector<NodeId> operands(NodeId id) const {
        const Node& node = graph_.node(id);
        if (node.kind() != OpKind::add)
            return node.inputs;
        std::vector<NodeId> terms;
        std::vector<NodeId> waiting(node.inputs.rbegin(), node.inputs.rend());
        while (!waiting.empty()) {
            const NodeId term = waiting.back();
            waiting.pop_back();
            if (graph_.node(term).kind() == OpKind::add && consumers_[static_cast<std::size_t>(term)].size() == 1 &&
                !graph_.is_output(term))
                waiting.insert(waiting.end(), graph_.node(term).inputs.rbegin(), graph_.node(term).inputs.rend());
            else
                terms.push_back(term);
        }
        std::stable_sort(terms.begin(), terms.end(), [&](NodeId a, NodeId b) { return of(a) < of(b); });
        return terms;
    }

  private:
    const Graph& graph_;
    std::vector<std::vector<NodeId>> consumers_;
    std::vector<std::uint64_t> hashes_;
};

} // namespace

std::optional<std::vector<NodeId>> match_graphs(const Graph& known, const Graph& other) {
    if (known.outputs().size() != other.outputs().size())
        return std::nullopt;
    const Fingerprints of_known(known);
    const Fingerprints of_other(other);
    std::vector<NodeId> partner(static_cast<std::size_t>(known.size()), -1);
    std::vector<std::pair<NodeId, NodeId>> waiting;
    for (std::size_t i = 0; i < known.outputs().size(); ++i)
        waiting.emplace_back(known.outputs()[i], other.outputs()[i]);
    while (!waiting.empty()) {
        const auto [a, b] = waiting.back();
        waiting.pop_back();
        NodeId& seen = partner[static_cast<std::size_t>(a)];
        if (seen == b)
            continue;
        if (seen >= 0 || of_known.of(a) != of_other.of(b))
            return std::nullopt;
        seen = b;
        const auto left = of_known.operands(a);
        const auto right = of_other.operands(b);
        if (left.size() != right.size() || known.node(a).op.index() != other.node(b).op.index())
            return std::nullopt;
        for (std::size_t i = 0; i < left.size(); ++i)
            waiting.emplace_back(left[i], right[i]);
    }
    return partner;
}

} // namespace mfres
