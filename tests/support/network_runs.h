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

inline bool all_finite(const Tensor& tensor) {
    return std::all_of(tensor.values().begin(), tensor.values().end(), [](float v) { return std::isfinite(v); });
}

} // namespace mfres::test
