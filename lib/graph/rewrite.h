// SPDX-License-Identifier: MIT
// Rewrites of a graph for inference that keep its result up to rounding, and op fusion: which nodes of the graph run as
// one op.
#pragma once

#include "graph/graph.h"

#include <mfres/export.h>

#include <optional>

namespace mfres {

/// A graph with the weights that belong to it.
struct Network {
    Graph graph;
    Weights weights;
};

/// Folds a BatchNorm into the convolution in front of it:
///   w' = w * gamma / sqrt(var + eps),  b' = beta + (b - mean) * gamma / sqrt(var + eps)   (in double precision).
/// Done where the BatchNorm is the only consumer of the convolution. The convolution keeps its name and gets a bias, and
/// consumers of the BatchNorm read the convolution. A BatchNorm in front of a convolution is not folded.
/// Errors: those of check_weights; model_not_finite (w', b').
MFRES_EXPORT Result<Network> fold_batch_norm(const Graph& graph, const Weights& weights);

/// The same for a graph without weights, for memory plans and operation counts.
MFRES_EXPORT Graph fold_batch_norm(const Graph& graph);

/// Moves pointwise (1x1x1, ungrouped) convolutions in front of the upsampling that they read, where they run on fewer
/// voxels:
///   conv(up(a)) = up(conv(a))    conv(concat(up(a), b)) = up(conv_A(a)) + conv_B(b)
/// This is exact up to rounding, because interpolation weights sum to 1 and so leave the bias unchanged. It is done where
/// the convolutions are the only consumers of the upsampled value and of the concat, and together have at most as many
/// output channels as the upsampled value. A convolution of a concat becomes the nodes "<name>.high", "<name>.low",
/// "<name>.up" and "<name>.sum"; the last is left out where an existing sum takes its operands.
/// Precondition: the weights belong to the graph.
MFRES_EXPORT Network move_pointwise_before_upsample(Network network);

/// The same for a graph without weights.
MFRES_EXPORT Graph move_pointwise_before_upsample(const Graph& graph);

/// All rewrites above in their order. Backends run this form, and memory is planned for it.
/// Errors: those of check_weights.
MFRES_EXPORT Result<Network> inference_form(const Graph& graph, const Weights& weights);

/// The same for a graph without weights.
MFRES_EXPORT Graph inference_form(const Graph& graph);

/// An activation that is applied to the result of an op before it is stored.
struct Activation {
    enum class Kind : std::uint8_t { none, relu, leaky_relu };
    Kind kind = Kind::none;
    float slope = 0.0F; ///< of leaky_relu
};

/// One or more nodes of the graph that run as one op: out = activation(main(inputs) + residual).
struct FusedOp {
    NodeId main = -1;               ///< the node whose operation is computed
    std::optional<NodeId> residual; ///< value added to the result, of the same shape, computed by an earlier op
    Activation activation;
    NodeId output = -1; ///< the node whose value is stored: main, or the last node fused into it
};

/// The graph as ops in execution order, without the input node. A ReLU or leaky ReLU is fused into a conv, batch_norm,
/// instance_norm, add or upsample in front of it. Before that, a two-operand add is fused into a conv or upsample as its
/// residual if the other operand is computed earlier. Both only where no other node reads the value in between.
MFRES_EXPORT std::vector<FusedOp> fuse_ops(const Graph& graph);

/// The op in words: "conv + add + relu".
MFRES_EXPORT std::string describe(const Graph& graph, const FusedOp& op);

/// Removes slices that only add and concat ops read, for a backend whose add and concat read a range of channels of a
/// larger array.
MFRES_EXPORT std::vector<FusedOp> remove_slices(const Graph& graph, std::vector<FusedOp> ops);

/// Where a value is read: channels [begin, begin + channels of the value) of what node `value` stores.
struct ChannelRange {
    NodeId value = -1;
    std::int64_t begin = 0;
};

/// The range for each node. For a slice removed by remove_slices it lies in the array that the slice is cut from, for
/// every other node it is the node's own value.
MFRES_EXPORT std::vector<ChannelRange> channel_ranges(const Graph& graph, const std::vector<FusedOp>& ops);

} // namespace mfres
