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
/// front of a convolution (pre-activation networks) stay. Errors: those of check_weights; model_not_finite (w', b').
Result<Network> fold_batch_norm(const Graph& graph, const Weights& weights);

/// The same for the structure alone, where no weights exist (memory and operation counts).
Graph fold_batch_norm(const Graph& graph);

/// Runs pointwise (k1, ungrouped) convolutions before the upsampling they read, on fewer voxels:
///   conv(up(a)) = up(conv(a))    conv(concat(up(a), b)) = up(conv_A(a)) + conv_B(b)
/// exact up to rounding because interpolation weights sum to 1, which carries the bias along. Done where nobody else
/// needs the upsampled value or the concat, and the convolutions together have no more channels than it. A convolution
/// of a concat becomes the nodes "<name>.high", "<name>.low", "<name>.up" and, unless a sum takes them, "<name>.sum".
/// Precondition: the weights belong to the graph.
Network move_pointwise_before_upsample(Network network);

/// The same for the structure alone.
Graph move_pointwise_before_upsample(const Graph& graph);

/// Every rewrite above, in their order: what a backend runs, and what memory is planned for.
/// Errors: those of check_weights.
Result<Network> inference_form(const Graph& graph, const Weights& weights);

/// The same for the structure alone.
Graph inference_form(const Graph& graph);

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

/// The graph as steps in execution order, without the input node. A conv, batch_norm, instance_norm, add or upsample
/// takes a following ReLU or leaky ReLU with it, and a conv or upsample first a following two-input add whose other
/// operand is known by then, as long as nobody else reads the values in between.
std::vector<Step> fuse_steps(const Graph& graph);

/// Channels [begin, begin + channels of the value asked for) of a value that a step computes, or of the input.
struct ChannelRange {
    NodeId value = -1;
    std::int64_t begin = 0;
};

/// A step in words: "conv + add + relu".
std::string describe(const Graph& graph, const Step& step);

/// Leaves out the steps of slices that only add and concat steps read, for a backend in which those can read a range
/// of another value's channels.
std::vector<Step> leave_out_slices(const Graph& graph, std::vector<Step> steps);

/// For each node where its value is to be read: with a slice that was left out, in what it is cut from.
std::vector<ChannelRange> channel_ranges(const Graph& graph, const std::vector<Step>& steps);

} // namespace mfres
