// SPDX-License-Identifier: MIT
// A network as a list of operations in static single assignment: every node is written once and comes after its inputs.
// Shapes are inferred while it is built, so a wrong network fails at the line that is wrong. Everything else
// (complexity, memory plans, weights, every backend) is a function of a Graph.
#pragma once

#include "graph/op.h"

#include <mfres/export.h>
#include <mfres/status.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

using NodeId = std::int32_t;

enum class ParameterRole : std::uint8_t {
    weight,
    bias,
    norm_scale,
    norm_shift,
    running_mean,
    running_var,
    branch,
    slope
};

/// One named tensor that belongs to a node. Names follow PyTorch: "<node>.weight", "<node>.running_mean", ...
struct Parameter {
    std::string name;
    Shape shape;
    ParameterRole role = ParameterRole::weight;

    /// Running statistics are state, everything else is learned.
    bool learnable() const { return role != ParameterRole::running_mean && role != ParameterRole::running_var; }
};

struct Node {
    std::string name;
    Op op;
    std::vector<NodeId> inputs;
    Shape shape; ///< of the output, [batch, channel, x, y, z]
    std::vector<Parameter> parameters;

    OpKind kind() const { return kind_of(op); }
    template <typename T>
    const T& as() const {
        return *std::get_if<T>(&op);
    }
};

/// Immutable; made by GraphBuilder or a rewrite.
class MFRES_EXPORT Graph {
  public:
    const std::vector<Node>& nodes() const { return nodes_; }
    const Node& node(NodeId id) const { return nodes_[static_cast<std::size_t>(id)]; }
    NodeId size() const { return static_cast<NodeId>(nodes_.size()); }
    /// The one input node.
    NodeId input() const { return 0; }
    /// The nodes whose values the caller gets, usually one: the logits.
    const std::vector<NodeId>& outputs() const { return outputs_; }
    bool is_output(NodeId id) const;
    /// For each node the nodes that read it, in order; a node that reads a value twice stands there twice.
    std::vector<std::vector<NodeId>> consumers() const;

  private:
    friend class GraphBuilder;
    std::vector<Node> nodes_;
    std::vector<NodeId> outputs_;
};

/// Builds a Graph line by line. After the first error every further call does nothing and `finish` returns that error
/// (graph_invalid, naming the node), so networks can be written without a check on each line.
class MFRES_EXPORT GraphBuilder {
  public:
    /// The input must be the first node. Extents must be positive.
    NodeId input(const Shape& shape, std::string name = "input");

    /// Adds any operation; the typed helpers below are the usual way.
    NodeId add(std::string name, Op op, std::vector<NodeId> inputs);

    NodeId conv(std::string name, NodeId x, const Conv& conv) { return add(std::move(name), conv, {x}); }
    NodeId conv_transpose(std::string name, NodeId x, const ConvTranspose& conv) {
        return add(std::move(name), conv, {x});
    }
    NodeId batch_norm(std::string name, NodeId x, double epsilon = 1e-5) {
        return add(std::move(name), BatchNorm{epsilon}, {x});
    }
    NodeId instance_norm(std::string name, NodeId x, double epsilon = 1e-5) {
        return add(std::move(name), InstanceNorm{epsilon}, {x});
    }
    NodeId group_norm(std::string name, NodeId x, std::int64_t groups, double epsilon = 1e-5) {
        return add(std::move(name), GroupNorm{groups, epsilon}, {x});
    }
    NodeId relu(std::string name, NodeId x) { return add(std::move(name), Relu{}, {x}); }
    NodeId leaky_relu(std::string name, NodeId x, double slope) { return add(std::move(name), LeakyRelu{slope}, {x}); }
    NodeId prelu(std::string name, NodeId x) { return add(std::move(name), PRelu{}, {x}); }
    NodeId elu(std::string name, NodeId x, double alpha = 1.0) { return add(std::move(name), Elu{alpha}, {x}); }
    NodeId sigmoid(std::string name, NodeId x) { return add(std::move(name), Sigmoid{}, {x}); }
    NodeId multiply(std::string name, NodeId a, NodeId b) { return add(std::move(name), Multiply{}, {a, b}); }
    NodeId sum(std::string name, std::vector<NodeId> xs) { return add(std::move(name), Add{}, std::move(xs)); }
    NodeId scaled_add(std::string name, std::vector<NodeId> xs) {
        return add(std::move(name), ScaledAdd{}, std::move(xs));
    }
    NodeId concat(std::string name, std::vector<NodeId> xs) { return add(std::move(name), Concat{}, std::move(xs)); }
    NodeId slice(std::string name, NodeId x, std::int64_t begin, std::int64_t end) {
        return add(std::move(name), Slice{begin, end}, {x});
    }
    NodeId max_pool(std::string name, NodeId x, const MaxPool& pool = {}) { return add(std::move(name), pool, {x}); }
    NodeId adaptive_avg_pool(std::string name, NodeId x, const Axes& output) {
        return add(std::move(name), AdaptiveAvgPool{output}, {x});
    }
    NodeId upsample(std::string name, NodeId x, Interpolation mode, const Axes& output) {
        return add(std::move(name), Upsample{mode, output}, {x});
    }
    /// Twice the extent along every axis.
    NodeId upsample2(std::string name, NodeId x, Interpolation mode = Interpolation::trilinear);
    NodeId softmax(std::string name, NodeId x) { return add(std::move(name), Softmax{}, {x}); }

    /// Shape of a node built so far (rank 0 after an error), for code that derives one layer from another.
    Shape shape(NodeId id) const;
    std::int64_t channels(NodeId id) const { return shape(id)[1]; }

    /// Marks an error of the caller's own (a width that cannot be split, say); the first one wins.
    void fail(const std::string& node, std::string message);
    void output(NodeId id);
    Result<Graph> finish();

  private:
    bool valid(NodeId id) const { return id >= 0 && id < graph_.size(); }
    Graph graph_;
    std::map<std::string, NodeId, std::less<>> names_;
    std::optional<Error> error_;
};

/// Named tensors of a network, by full parameter name.
using Weights = std::map<std::string, Tensor, std::less<>>;

/// Every parameter of the graph is there with its shape, nothing else is, and no running variance is negative:
/// model_tensor_missing, model_tensor_shape, model_tensor_extra (names what and how many), model_not_finite.
MFRES_EXPORT Status check_weights(const Graph& graph, const Weights& weights);

/// The spatial part of a 5-D shape.
inline Axes spatial(const Shape& shape) {
    return {shape[2], shape[3], shape[4]};
}

} // namespace mfres
