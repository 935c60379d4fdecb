// What every backend has to do with the rows of the op-case and gradient tables.
#pragma once

#include "support/op_cases.h"
#include "support/training.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace mfres::test {

inline Doubles random_doubles(std::size_t count, std::uint64_t seed) {
    Random random(seed);
    Doubles values(count);
    for (double& value : values)
        value = random.normal();
    return values;
}

struct TrainingSetup {
    Weights weights;
    Tensor input;
    Doubles cotangent; ///< dL/d output
};

inline TrainingSetup training_setup(const Graph& graph, std::string_view name) {
    const std::uint64_t seed = hash(name);
    const Shape& output = graph.node(graph.outputs()[0]).shape;
    TrainingSetup made{random_weights(graph, seed), random_tensor(graph.node(0).shape, seed + 1),
                       random_doubles(static_cast<std::size_t>(output.elements()), seed + 2)};
    for (double& value : made.cotangent)
        value = static_cast<double>(static_cast<float>(value)); // so that every backend gets the same one
    return made;
}

inline void fill(const StridedView<float>& to, const Doubles& values) {
    Tensor tensor(to.shape);
    std::transform(values.begin(), values.end(), tensor.data(), [](double value) { return static_cast<float>(value); });
    copy(as_const(view(tensor)), to);
}

/// What a graph can be normalised with: the running statistics only matter where there is a BatchNorm.
inline std::vector<NormStatistics> statistics_of(const Graph& graph) {
    for (const Node& node : graph.nodes())
        if (node.kind() == OpKind::batch_norm)
            return {NormStatistics::running, NormStatistics::batch};
    return {NormStatistics::batch};
}

/// Two equal steps against double precision.
inline void check_step(TrainingExecutable& training, const Graph& graph, const TrainingSetup& made,
                       NormStatistics statistics) {
    INFO("running statistics: " << (statistics == NormStatistics::running));
    DoubleTraining truth(graph, made.weights, made.input, 0.25);
    const Doubles expected = truth.forward(statistics);
    truth.backward(made.cotangent);
    const auto step = [&] {
        copy(view(made.input), training.input());
        REQUIRE_OK(training.forward(statistics));
        fill(training.output_gradient(), made.cotangent);
        REQUIRE_OK(training.backward());
    };
    step();
    CHECK(normalised_squared_error(dense(training.output()), expected) <= 1e-10);
    const Weights first = training.gradients();
    const Weights weights = training.weights();
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters) {
            INFO(parameter.name);
            const auto values = weights.at(parameter.name).values();
            const auto before = made.weights.at(parameter.name).values();
            if (parameter.learnable()) {
                REQUIRE(first.count(parameter.name) == 1);
                REQUIRE(first.at(parameter.name).shape() == parameter.shape);
                CHECK(normalised_squared_error(first.at(parameter.name), truth.gradients.at(parameter.name)) <= 1e-10);
            } else {
                CHECK(normalised_squared_error(weights.at(parameter.name), truth.parameters.at(parameter.name)) <=
                      1e-10);
            }
            if (parameter.learnable() || statistics == NormStatistics::running)
                CHECK(std::equal(values.begin(), values.end(), before.begin()));
        }
    // Nothing of the first step is left in the second; gradients take the place of those before.
    step();
    CHECK(same_bits(training.gradients(), first));
}

/// The forward, the running statistics and the gradients of a case against double precision.
inline void check_gradient_case(const Backend& backend, const OpCase& gradient_case) {
    const Graph& graph = gradient_case.graph;
    const TrainingSetup made = training_setup(graph, gradient_case.name);
    const auto training = compile_training(backend, graph, made.weights, {.batch_norm_momentum = 0.25});
    REQUIRE(training->output().shape == graph.node(graph.outputs()[0]).shape);
    // Running statistics first: they leave themselves alone, so both have the same to start from.
    for (const NormStatistics statistics : statistics_of(graph))
        check_step(*training, graph, made, statistics);
}

/// Two runs of a case: the first against double precision, the second against the first.
inline void check_op_case(const Backend& backend, const OpCase& op_case) {
    const std::uint64_t seed = hash(op_case.name);
    const Weights weights = random_weights(op_case.graph, seed);
    const Tensor input = random_tensor(op_case.graph.node(0).shape, seed + 1);
    REQUIRE(backend.unsupported(op_case.graph, {}).empty());
    auto executable = backend.compile(op_case.graph, weights, {});
    REQUIRE_OK(executable);
    const auto truth = run_double(op_case.graph, weights, input);
    const auto first = run(**executable, input);
    REQUIRE_OK(first);
    CHECK(normalised_squared_error(*first, truth) <= 1e-10);
    // The input memory may be reused by run(); a second run from a fresh input must give the same bits.
    const auto second = run(**executable, input);
    REQUIRE_OK(second);
    CHECK(std::equal(first->values().begin(), first->values().end(), second->values().begin()));
}

} // namespace mfres::test
