// SPDX-License-Identifier: MIT
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

/// At least 40 small cases for the backward; every OpKind occurs. What is to be differentiated stands behind a
/// learnable layer, so that a backend needs the gradient of its input as well, and in some cases reads the network's
/// input, so that it does not. No gradient is exactly zero.
std::vector<OpCase> gradient_cases();

} // namespace mfres::test
