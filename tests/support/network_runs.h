// Running small networks with random weights on the reference backend.
#pragma once

#include "backends/backend.h"
#include "core/random.h"
#include "support/catch.h"

#include <algorithm>
#include <cmath>

namespace mfres::test {

/// Weights of sensible size for every parameter, running statistics included, the same for the same seed.
inline Weights random_weights(const Graph& graph, std::uint64_t seed) {
    Weights weights;
    Random random(seed);
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters) {
            Tensor tensor(parameter.shape);
            const double fan_in = static_cast<double>(tensor.elements()) / static_cast<double>(parameter.shape[0]);
            for (float& value : tensor.values()) {
                double drawn = 0.0;
                switch (parameter.role) {
                case ParameterRole::weight:
                    drawn = random.normal() * std::sqrt(2.0 / fan_in);
                    break;
                case ParameterRole::norm_scale:
                case ParameterRole::running_var:
                case ParameterRole::branch:
                    drawn = random.uniform(0.5, 1.5);
                    break;
                case ParameterRole::bias:
                case ParameterRole::norm_shift:
                case ParameterRole::running_mean:
                    drawn = random.normal() * 0.2;
                    break;
                }
                value = static_cast<float>(drawn);
            }
            weights.emplace(parameter.name, std::move(tensor));
        }
    return weights;
}

inline Tensor random_input(const Shape& shape, std::uint64_t seed) {
    Tensor tensor(shape);
    Random random(seed);
    for (float& value : tensor.values())
        value = static_cast<float>(random.normal());
    return tensor;
}

/// The first output of the graph on the reference backend.
inline Tensor run_reference(const Graph& graph, const Weights& weights, const Tensor& input) {
    const auto backend = find_backend("reference");
    REQUIRE_OK(backend);
    auto executable = (*backend)->compile(graph, weights, {});
    REQUIRE_OK(executable);
    copy(view(input), (*executable)->input());
    REQUIRE_OK((*executable)->run());
    const auto result = (*executable)->output(0);
    Tensor output(result.shape);
    copy(result, view(output));
    return output;
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
