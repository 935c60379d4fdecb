// SPDX-License-Identifier: MIT
// Random weights and inputs for any graph, and one run of it. `mfres selftest` and the tests of backends use it.
#pragma once

#include "backends/backend.h"
#include "core/tensor.h"
#include "graph/graph.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace mfres::selftest {

/// FNV-1a: the same seed for the same name on every platform.
std::uint64_t hash(std::string_view text);

/// Weights at He scale, running statistics away from 0 and 1, so that every parameter matters.
Weights random_weights(const Graph& graph, std::uint64_t seed);

/// Standard normal numbers.
Tensor random_tensor(const Shape& shape, std::uint64_t seed);

/// The first output of the graph through an executable, dense. Errors: those of Executable::run.
Result<Tensor> run(Executable& executable, const Tensor& input);

/// The same for a graph to be compiled. Errors: also those of Backend::compile.
Result<Tensor> run(const Backend& backend, const Graph& graph, const Weights& weights, const Tensor& input,
                   const CompileOptions& options = {});

/// sum (a - b)^2 / sum b^2
template <typename Truth>
double normalised_squared_error(const Tensor& got, const Truth& truth) {
    double difference = 0.0;
    double norm = 0.0;
    for (std::int64_t i = 0; i < got.elements(); ++i) {
        const double expected = truth[static_cast<std::size_t>(i)];
        difference += (got[i] - expected) * (got[i] - expected);
        norm += expected * expected;
    }
    return difference / std::max(norm, 1e-300);
}

} // namespace mfres::selftest
