// SPDX-License-Identifier: MIT
// Random weights and inputs for any graph, and ways to run one: through a backend, or in double precision as the truth.
#pragma once

#include "backends/backend.h"
#include "backends/reference/ops.h"
#include "core/random.h"
#include "graph/graph.h"
#include "selftest/run_graph.h"

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

using selftest::hash;
using selftest::normalised_squared_error;
using selftest::random_tensor;
using selftest::random_weights;
using selftest::run;

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

} // namespace mfres::test
