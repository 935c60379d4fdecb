// SPDX-License-Identifier: MIT
// What every backend has to do with the rows of the op-case and gradient tables.
#pragma once

#include "backends/planned/training_fusion.h"
#include "core/argmax.h"
#include "graph/lower.h"
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

/// The smallest cap under which the backend trains the graph, to within `tolerance` above, given one that will do.
inline std::int64_t least_memory_cap(const Backend& backend, const Graph& graph, const Weights& weights,
                                     TrainingOptions options, std::int64_t enough, std::int64_t tolerance = 64,
                                     std::int64_t too_little = 0) {
    while (enough - too_little > tolerance) {
        options.memory_cap = too_little + (enough - too_little) / 2;
        const auto compiled = backend.compile_training(graph, weights, options);
        if (compiled)
            enough = (*compiled)->peak_bytes();
        else
            too_little = options.memory_cap;
    }
    return enough;
}

/// Two steps under the smallest cap that the backend keeps to, and under one half way: not a bit is other than without
/// a cap. Returns how many operations were computed a second time under the smallest.
inline std::int64_t check_recomputation(const Backend& backend, const Graph& graph, const TrainingSetup& made,
                                        const TrainingOptions& options = {}) {
    if (fuse_training_ops(graph).size() < 3) // no value waits for its backward op
        return 0;
    struct Outcome {
        std::vector<Tensor> outputs;
        std::vector<Weights> gradients;
        TrainingState state;
    };
    const auto two_steps = [&](TrainingExecutable& training) {
        Outcome outcome;
        for (const std::int64_t number : {1, 2}) {
            copy(view(made.input), training.input());
            REQUIRE_OK(training.forward());
            outcome.outputs.push_back(dense(training.output()));
            fill(training.output_gradient(), made.cotangent);
            REQUIRE_OK(training.backward());
            outcome.gradients.push_back(training.gradients());
            REQUIRE_OK(training.update({.step = number}));
        }
        outcome.state = training.state();
        return outcome;
    };
    const auto plain = compile_training(backend, graph, made.weights, options);
    const std::int64_t most = plain->peak_bytes();
    const Outcome expected = two_steps(*plain);
    CHECK(plain->recomputation().steps == 0);

    std::int64_t held = 0; // values of all nodes; parameters and their moments may be far more bytes than these
    for (const Node& node : graph.nodes())
        held += node.shape.elements();
    TrainingOptions capped = options;
    capped.memory_cap =
        least_memory_cap(backend, graph, made.weights, options, most, std::max<std::int64_t>(64, held / 10),
                         std::max<std::int64_t>(0, most - 12 * held));
    const std::int64_t half_way = capped.memory_cap + (most - capped.memory_cap) / 2;
    const auto tight = compile_training(backend, graph, made.weights, capped);
    const std::int64_t again = tight->recomputation().steps;
    for (const std::int64_t cap : {capped.memory_cap, half_way}) {
        INFO(cap << " bytes of " << most);
        capped.memory_cap = cap;
        const auto training = compile_training(backend, graph, made.weights, capped);
        CHECK(training->peak_bytes() <= cap);
        CHECK((training->recomputation().steps > 0) == (training->peak_bytes() < most));
        std::int64_t shown = 0;
        for (const Chosen& chosen : training->chosen())
            shown += chosen.operation.ends_with(" again") ? 1 : 0;
        CHECK(shown == training->recomputation().steps);
        const Outcome got = two_steps(*training);
        CHECK(same_bits(got.state, expected.state)); // with running statistics
        for (std::size_t i = 0; i < 2; ++i) {
            CHECK(same_bits(got.gradients[i], expected.gradients[i]));
            const auto values = got.outputs[i].values();
            CHECK(std::equal(values.begin(), values.end(), expected.outputs[i].values().begin()));
        }
    }
    return again;
}

/// Whether the backend has to reject the graph instead of running it: GPUs have no kernels for the ops of imported
/// networks, and OpenCV none of those that mix planes.
inline bool may_reject(const Backend& backend, const Graph& graph) {
    const auto& nodes = graph.nodes();
    return std::any_of(nodes.begin(), nodes.end(), [&](const Node& node) {
        if (backend.name() == "opencv")
            return why_not_planes(graph, node).has_value();
        return backend.name().starts_with("cuda") && is_inference_only(node.kind());
    });
}

/// Two runs of a case: the first against double precision, the second against the first.
inline void check_op_case(const Backend& backend, const OpCase& op_case) {
    const std::uint64_t seed = hash(op_case.name);
    const Weights weights = random_weights(op_case.graph, seed);
    const Tensor input = random_tensor(op_case.graph.node(0).shape, seed + 1);
    auto executable = backend.compile(op_case.graph, weights, {});
    if (may_reject(backend, op_case.graph)) {
        REQUIRE_CODE(executable, operation_unsupported);
        return;
    }
    REQUIRE(backend.unsupported(op_case.graph, {}).empty());
    REQUIRE_OK(executable);
    const auto truth = run_double(op_case.graph, weights, input);
    const auto first = run(**executable, input);
    REQUIRE_OK(first);
    CHECK(normalised_squared_error(*first, truth) <= 1e-10);
    // Labels are those of the logits, whichever of the two is asked for first.
    const Shape& shape = first->shape();
    if (shape.rank() == 5 && shape[0] == 1) {
        std::vector<std::uint8_t> expected(static_cast<std::size_t>(shape.elements() / shape[1])), got(expected.size());
        REQUIRE_OK(argmax(view(*first), expected, 1));
        REQUIRE_OK((*executable)->labels(0, got, 1));
        CHECK(got == expected);
        got.pop_back();
        REQUIRE_CODE((*executable)->labels(0, got, 1), invalid_argument);
    }
    // The input memory may be reused by run(); a second run from a fresh input must give the same bits.
    const auto second = run(**executable, input);
    REQUIRE_OK(second);
    CHECK(std::equal(first->values().begin(), first->values().end(), second->values().begin()));
}

} // namespace mfres::test
