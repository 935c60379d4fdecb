// SPDX-License-Identifier: MIT
// Recognising a network in a graph written by another program.
#pragma once

#include "graph/graph.h"

#include <optional>
#include <vector>

namespace mfres {

/// For each node of `known` the corresponding node of `other`, if both graphs compute their outputs by the same ops
/// with the same attributes and shapes. Names and order of nodes, order of summands and nesting of sums do not matter.
/// Nodes of `known` that no output depends on, and sums nested in sums, get -1. Nothing if the graphs differ.
std::optional<std::vector<NodeId>> match_graphs(const Graph& known, const Graph& other);

} // namespace mfres
