// Recognising a network in a graph that was written by somebody else.
#pragma once

#include "graph/graph.h"

#include <optional>
#include <vector>

namespace mfres {

/// For each node of `known` the node of `other` that does the same, if both graphs compute their first output by the
/// same operations with the same attributes and shapes; nodes' names, their order, the order of a sum's terms and
/// whether sums are nested do not matter. Nodes of `known` that no output needs, and sums inside sums, get -1.
std::optional<std::vector<NodeId>> match_graphs(const Graph& known, const Graph& other);

} // namespace mfres
