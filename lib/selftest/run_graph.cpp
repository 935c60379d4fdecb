// SPDX-License-Identifier: MIT
#include "selftest/run_graph.h"

#include "core/random.h"

#include <cmath>

namespace mfres::selftest {

std::uint64_t hash(std::string_view text) {
    std::uint64_t value = 0xCBF29CE484222325U;
    for (const char c : text)
        value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
    return value;
}

Weights random_weights(const Graph& graph, std::uint64_t seed) {
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
                case ParameterRole::slope:
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

Tensor random_tensor(const Shape& shape, std::uint64_t seed) {
    Tensor tensor(shape);
    fill_normal(tensor.values(), seed);
    return tensor;
}

Result<Tensor> run(Executable& executable, const Tensor& input) {
    copy(view(input), executable.input());
    if (auto status = executable.run(); !status)
        return std::move(status).error();
    const auto output = executable.output(0);
    Tensor dense(output.shape);
    copy(output, view(dense));
    return dense;
}

Result<Tensor> run(const Backend& backend, const Graph& graph, const Weights& weights, const Tensor& input,
                   const CompileOptions& options) {
    auto executable = backend.compile(graph, weights, options);
    if (!executable)
        return std::move(executable).error();
    return run(**executable, input);
}

} // namespace mfres::selftest
