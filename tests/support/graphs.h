// SPDX-License-Identifier: MIT
// Graphs and backends by name.
#pragma once

#include "backends/backend.h"
#include "networks/registry.h"
#include "support/catch.h"

#include <cstdio>
#include <string>

namespace mfres::test {

/// Null, after a line that CTest takes for a skip, where this build or this machine has no such backend.
inline const Backend* backend_or_skip(const std::string& name) {
    const auto found = find_backend(name);
    if (!found)
        std::printf("SKIPPED: %s\n", found.error().message.c_str());
    return found ? *found : nullptr;
}

/// A registered network, or a variant as JSON.
inline Graph network(const std::string& name, const Axes& size, std::int64_t batch = 1) {
    const auto variant = parse_variant(name);
    REQUIRE_OK(variant);
    auto graph = build_network(*variant, size, batch);
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

/// What was built, with one output.
inline Graph finished(GraphBuilder& builder, NodeId output) {
    builder.output(output);
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

/// The network with two things changed that let rounding errors of single precision grow. An epsilon of 1 in every
/// norm: where a norm sees only a few voxels, 1e-5 amplifies them by 10^4 and more. And activations that hardly bend:
/// where rounding carries a value across 0, ReLU passes another gradient, and every layer before it has one that is
/// right for another point (3d-espnet's worst parameter is then 6e-3 off in any backend, and 1e-4 without).
inline Graph well_conditioned(const Graph& graph) {
    GraphBuilder builder;
    for (const Node& node : graph.nodes()) {
        Op op = node.op;
        if (auto* norm = std::get_if<BatchNorm>(&op))
            norm->epsilon = 1.0;
        if (auto* norm = std::get_if<InstanceNorm>(&op))
            norm->epsilon = 1.0;
        if (node.kind() == OpKind::relu || node.kind() == OpKind::leaky_relu)
            op = LeakyRelu{0.99F};
        if (node.kind() == OpKind::input)
            builder.input(node.shape, node.name);
        else
            builder.add(node.name, op, node.inputs);
    }
    return finished(builder, graph.outputs()[0]);
}

} // namespace mfres::test
