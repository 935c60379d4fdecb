// SPDX-License-Identifier: MIT
// Running small networks on the reference backend, and comparing what comes out.
#pragma once

#include "support/catch.h"
#include "support/run_graph.h"

#include <algorithm>
#include <cmath>

namespace mfres::test {

/// The first output of the graph on the reference backend.
inline Tensor run_reference(const Graph& graph, const Weights& weights, const Tensor& input) {
    auto output = run(**find_backend("reference"), graph, weights, input);
    REQUIRE_OK(output);
    return std::move(output).value();
}

inline double largest(const Tensor& tensor) {
    double most = 0.0;
    for (const float value : tensor.values())
        most = std::max(most, std::abs(double{value}));
    return most;
}

inline double largest_difference(const Tensor& a, const Tensor& b) {
    REQUIRE(a.shape() == b.shape());
    double most = 0.0;
    for (std::int64_t i = 0; i < a.elements(); ++i)
        most = std::max(most, std::abs(double{a[i]} - double{b[i]}));
    return most;
}

/// Largest difference over largest magnitude.
inline double relative_difference(const Tensor& got, const Tensor& expected) {
    REQUIRE(largest(expected) > 1e-3);
    return largest_difference(got, expected) / largest(expected);
}

/// That of the first output of a graph with random weights on a backend from that on the reference backend.
inline double difference_from_reference(const Backend& backend, const Graph& graph,
                                        const CompileOptions& options = {}) {
    const Weights weights = random_weights(graph, 31);
    const Tensor input = random_tensor(graph.node(graph.input()).shape, 32);
    const auto got = run(backend, graph, weights, input, options);
    REQUIRE_OK(got);
    return relative_difference(*got, run_reference(graph, weights, input));
}

/// The implementations of the ops of a graph on a backend.
inline std::vector<Chosen> chosen(const Backend& backend, const Graph& graph) {
    auto executable = backend.compile(graph, random_weights(graph, 1), {});
    REQUIRE_OK(executable);
    return (*executable)->chosen();
}

inline bool all_finite(const Tensor& tensor) {
    return std::all_of(tensor.values().begin(), tensor.values().end(), [](float v) { return std::isfinite(v); });
}

} // namespace mfres::test
