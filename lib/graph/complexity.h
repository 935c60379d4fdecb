// SPDX-License-Identifier: MIT
// What a graph costs, in the three conventions that the literature mixes up, side by side.
//
// | convention    | parameters                                       | operations                                    |
// |---------------|--------------------------------------------------|-----------------------------------------------|
// | learnables    | every learned scalar: weights, biases,           | MACs: multiply-accumulates of convolutions    |
// | and MACs      | normalisation scale and shift, branch weights    |                                               |
// | Table 2       | the same                                         | MACs, + 1 per output of a convolution with    |
// |               |                                                  | bias, + 1 per element of a normalisation or   |
// |               |                                                  | (leaky) ReLU, + 1 per input element of a max  |
// |               |                                                  | pooling, + 1 per output element of an         |
// |               |                                                  | upsampling; sums, concatenations, slices and  |
// |               |                                                  | softmax 0; nodes it did not see 0             |
// | paper, eq. 11 | convolution: (Cin/groups * kernel + 1) * Cout,   | eq. 13: ((Cin/g * k) + (Cin/g * k - 1) + 1)   |
// | and eq. 13    | a bias always counted, nothing for normalisation | * Cout * w * h * d = 2 * MACs                 |
#pragma once

#include "graph/graph.h"

#include <mfres/complexity.h>

#include <optional>
#include <vector>

namespace mfres {

/// Counts of every node, by NodeId, and their sums.
struct GraphCounts {
    std::vector<ComplexityCounts> nodes;
    ComplexityCounts total;
};

/// The sum of every count, or nothing when one leaves 64 bits.
std::optional<ComplexityCounts> checked_sum(const ComplexityCounts& a, const ComplexityCounts& b);

/// Whether the counter behind the paper's Table 2 saw a node. It visits modules of the original code only, so an
/// operation that this code calls as a function counts 0. Null: it saw all.
using SeenByTable2 = bool (*)(const Node& node);

/// Counts a graph as it stands, so of a network as written, before any rewrite.
/// Errors: operation_unsupported for an adaptive average pooling that the Table 2 counter would have seen (nothing is
/// known of how it counts one), size_overflow when a number leaves 64 bits; both name the node.
Result<GraphCounts> count_operations(const Graph& graph, SeenByTable2 seen = nullptr);

/// For each node the bytes of all values that are stored while it runs, its own included: every value has memory of its
/// own from the node that writes it to its last reader, or to the end if it is an output. f32, no rewrite.
std::vector<std::int64_t> live_bytes_as_written(const Graph& graph);

/// Memory of the activations of one inference: the plan (memory_plan.h) for the inference form of the graph with ops
/// fused and no fusion groups. Weights and the workspace of an engine come on top.
ActivationMemory plan_activations(const Graph& graph);

} // namespace mfres
