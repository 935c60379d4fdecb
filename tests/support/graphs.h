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

} // namespace mfres::test
