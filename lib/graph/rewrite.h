// Exact rewrites of a network for inference, and its grouping into steps that run as one operation each.
#pragma once

#include "graph/graph.h"

#include <optional>

namespace mfres {

/// A graph with the weights that belong to it.
struct Network {
    Graph graph;
    Weights weights;
};

/// Folds each BatchNorm that follows a convolution nobody else reads into that convolution:
///   w' = w * gamma / sqrt(var + eps),  b' = beta + (b - mean) * gamma / sqrt(var + eps)   (in double precision).
/// The convolution keeps its name and gains a bias; consumers of the BatchNorm read the convolution. BatchNorms in
/// front of a convolution (pre-activation networks) stay. Errors: those of check_weights.
Result<Network> fold_batch_norm(const Graph& graph, const Weights& weights);

/// The same for the structure alone, where no weights exist (memory and operation counts).
Graph fold_batch_norm(const Graph& graph);

/// A pointwise tail that a step applies after its main operation.
struct Activation {
    enum class Kind : std::uint8_t { none, relu, leaky_relu };
    Kind kind = Kind::none;
    float slope = 0.0F; ///< of leaky_relu
};

/// One operation as a backend runs it: out = activation(main(inputs) + residual).
struct Step {
    NodeId main = -1;               ///< the node that is computed
    std::optional<NodeId> residual; ///< value added to it, of the same shape, produced by an earlier step
    Activation activation;
    NodeId output = -1; ///< the node whose value the step leaves: main, or the last node fused into it
};

/// The graph as steps in execution order, without the input node. A conv, batch_norm, instance_norm or add takes a
/// following ReLU or leaky ReLU with it, and a conv first a following two-input add whose other operand is known by
/// then, as long as nobody else reads the values in between.
std::vector<Step> fuse_steps(const Graph& graph);

} // namespace mfres
