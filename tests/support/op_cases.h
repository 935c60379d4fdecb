// One table of small graphs that every backend has to run: each operation at odd shapes and channel counts, and the
// combinations that backends fuse. A new operation gets its rows here.
#pragma once

#include "graph/graph.h"

#include <functional>
#include <string>
#include <vector>

namespace mfres::test {

struct OpCase {
    std::string name;
    Graph graph;
};

/// At least 200 cases; every OpKind occurs.
std::vector<OpCase> op_cases();

} // namespace mfres::test
