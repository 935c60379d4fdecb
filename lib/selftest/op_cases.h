// SPDX-License-Identifier: MIT
// One table of small graphs that every backend has to run: each operation at odd shapes and channel counts, and the
// combinations that backends fuse. A new operation gets its rows here. `mfres selftest` and the tests of backends read it.
#pragma once

#include "graph/graph.h"

#include <functional>
#include <string>
#include <vector>

namespace mfres::selftest {

struct OpCase {
    std::string name;
    Graph graph;
};

/// Collects cases.
class OpTable {
  public:
    /// Adds one case; `build` gets the builder and the input node and returns the output node. Throws std::logic_error
    /// for a graph that is not valid.
    void row(const std::string& name, const Shape& input, const std::function<NodeId(GraphBuilder&, NodeId)>& build);

    std::vector<OpCase> cases;
};

/// "3,3,1"
std::string axes_name(const Axes& a);

/// "conv to 8 k3,3,3 s1,1,1 d1,1,1 p1,1,1 g1 bias"
std::string conv_name(const Conv& conv);

/// At least 200 cases; every OpKind occurs.
std::vector<OpCase> op_cases();

} // namespace mfres::selftest
