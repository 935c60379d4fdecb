// SPDX-License-Identifier: MIT
// Random weights and inputs for any graph, and ways to run one: through a backend, or in double precision as the truth.
#pragma once

#include "backends/backend.h"
#include "backends/reference/ops.h"
#include "core/random.h"
#include "graph/graph.h"

#include <cmath>
#include <cstdio>
#include <functional>
#include <string_view>
#include <vector>

namespace mfres::test {

/// The backends of this build that can work here; of the others one line says why they cannot.
inline std::vector<const Backend*> usable_backends() {
    std::vector<const Backend*> usable;
    for (const Backend* backend : backends()) {
        const Status available = backend->available();
        if (available)
            usable.push_back(backend);
        else
            std::printf("not run: %s\n", available.error().message.c_str());
    }
    return usable;
}

/// FNV-1a: the same seed for the same name on every platform.
inline std::uint64_t hash(std::string_view text) {
    std::uint64_t value = 0xCBF29CE484222325U;
    for (const char c : text)
        value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
    return value;
}

/// Weights at He scale, running statistics away from 0 and 1, so that every parameter matters.
inline Weights random_weights(const Graph& graph, std::uint64_t seed) {
    Weights weights;
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters) {
            Random random = Random(seed).fork(hash(parameter.name));
            Tensor tensor(parameter.shape);
            const double fan_in =
                static_cast<double>(parameter.shape.elements()) / static_cast<double>(parameter.shape[0]);
            for (float& value : tensor.values()) {
                switch (parameter.role) {
                case ParameterRole::weight:
                    value = static_cast<float>(random.normal() * std::sqrt(2.0 / fan_in));
                    break;
                case ParameterRole::norm_scale:
                case ParameterRole::running_var: value = static_cast<float>(random.uniform(0.5, 1.5)); break;
                case ParameterRole::branch: value = static_cast<float>(random.uniform(0.2, 0.6)); break;
                case ParameterRole::bias:
                case ParameterRole::norm_shift:
                case ParameterRole::running_mean: value = static_cast<float>(random.uniform(-0.5, 0.5)); break;
                }
            }
            weights.emplace(parameter.name, std::move(tensor));
        }
    return weights;
}

inline Tensor random_tensor(const Shape& shape, std::uint64_t seed) {
    Random random(seed);
    Tensor tensor(shape);
    for (float& value : tensor.values())
        value = static_cast<float>(random.normal());
    return tensor;
}

/// The first output of the graph through an executable, dense.
inline Result<Tensor> run(Executable& executable, const Tensor& input) {
    copy(view(input), executable.input());
    if (auto status = executable.run(); !status)
        return std::move(status).error();
    const auto output = executable.output(0);
    Tensor dense(output.shape);
    copy(output, view(dense));
    return dense;
}

inline Result<Tensor> run(const Backend& backend, const Graph& graph, const Weights& weights, const Tensor& input,
                          const CompileOptions& options = {}) {
    auto executable = backend.compile(graph, weights, options);
    if (!executable)
        return std::move(executable).error();
    return run(**executable, input);
}

/// The first output of the graph with every value stored in double precision.
inline std::vector<double> run_double(const Graph& graph, const Weights& weights, const Tensor& input) {
    std::map<std::string, std::vector<double>> parameters;
    for (const auto& [name, tensor] : weights)
        parameters[name].assign(tensor.values().begin(), tensor.values().end());
    std::vector<std::vector<double>> values;
    values.emplace_back(input.values().begin(), input.values().end());
    for (NodeId id = 1; id < graph.size(); ++id) {
        const Node& node = graph.node(id);
        reference::Operands<double> operands;
        for (const NodeId source : node.inputs) {
            operands.inputs.push_back(values[static_cast<std::size_t>(source)].data());
            operands.shapes.push_back(graph.node(source).shape);
        }
        for (const Parameter& parameter : node.parameters)
            operands.parameters.push_back(parameters.at(parameter.name).data());
        std::vector<double> out(static_cast<std::size_t>(node.shape.elements()));
        reference::forward(node, operands, out.data(), 2);
        values.push_back(std::move(out));
    }
    return values[static_cast<std::size_t>(graph.outputs()[0])];
}

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

} // namespace mfres::test
