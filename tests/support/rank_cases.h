// SPDX-License-Identifier: MIT
// A graph on several ranks, each with its own samples, against one in double precision that has them all.
#pragma once

#include "core/try.h"
#include "support/ranks.h"
#include "support/training.h"

#include <algorithm>
#include <vector>

namespace mfres::test {

/// The same network for `batch` samples.
inline Graph with_batch(const Graph& graph, std::int64_t batch) {
    GraphBuilder builder;
    for (const Node& node : graph.nodes()) {
        const Shape& s = node.shape;
        if (node.kind() == OpKind::input)
            builder.input(Shape{batch, s[1], s[2], s[3], s[4]}, node.name);
        else
            builder.add(node.name, node.op, node.inputs);
    }
    builder.output(graph.outputs()[0]);
    auto made = builder.finish();
    REQUIRE_OK(made);
    return std::move(made).value();
}

inline std::span<const float> part_of(const Tensor& whole, const Communicator& ranks) {
    const auto count = whole.values().size() / static_cast<std::size_t>(ranks.size());
    return whole.values().subspan(static_cast<std::size_t>(ranks.rank()) * count, count);
}

inline void fill(const StridedView<float>& to, std::span<const float> values) {
    Tensor tensor(to.shape);
    std::copy(values.begin(), values.end(), tensor.data());
    copy(as_const(view(tensor)), to);
}

struct RankResult {
    Tensor output;
    Weights gradients;
    Weights weights;
};

/// Forward and backward of each rank on its samples.
inline std::vector<RankResult> run_ranks(const Backend& backend, const Graph& graph, const Weights& weights, int size,
                                         const Tensor& input, const Tensor& cotangent, NormStatistics statistics) {
    std::vector<RankResult> results(static_cast<std::size_t>(size));
    require_on_ranks(size, [&](Communicator& ranks) -> Status {
        MFRES_TRY(
            const auto training,
            backend.compile_training(graph, weights, {.threads = 1, .batch_norm_momentum = 0.25, .ranks = &ranks}));
        fill(training->input(), part_of(input, ranks));
        MFRES_CHECK(training->forward(statistics));
        fill(training->output_gradient(), part_of(cotangent, ranks));
        MFRES_CHECK(training->backward());
        results[static_cast<std::size_t>(ranks.rank())] = {dense(training->output()), training->gradients(),
                                                           training->weights()};
        return {};
    });
    return results;
}

/// Graphs of one sample per rank need batch statistics; with the running ones nothing is shared but the gradients.
inline void check_on_ranks(const Backend& backend, const Graph& graph, std::uint64_t seed, int size,
                           NormStatistics statistics) {
    const Graph whole = with_batch(graph, graph.node(0).shape[0] * size);
    const Weights weights = random_weights(graph, seed);
    const Tensor input = random_tensor(whole.node(0).shape, seed + 1);
    const Tensor cotangent = random_tensor(whole.node(whole.outputs()[0]).shape, seed + 2);
    DoubleTraining truth(whole, weights, input, 0.25);
    const Doubles expected = truth.forward(statistics);
    truth.backward(doubles(cotangent));

    const auto results = run_ranks(backend, graph, weights, size, input, cotangent, statistics);
    const std::size_t values = expected.size() / results.size();
    for (std::size_t rank = 0; rank < results.size(); ++rank) {
        const Doubles own(expected.begin() + static_cast<std::ptrdiff_t>(rank * values),
                          expected.begin() + static_cast<std::ptrdiff_t>((rank + 1) * values));
        CHECK(normalised_squared_error(results[rank].output, own) <= 1e-10);
        CHECK(same_bits(results[rank].gradients, results[0].gradients));
        CHECK(same_bits(results[rank].weights, results[0].weights));
    }
    for (const auto& [name, gradient] : results[0].gradients) {
        INFO(name);
        CHECK(normalised_squared_error(gradient, truth.gradients.at(name)) <= 1e-10);
    }
    for (const auto& [name, value] : results[0].weights) {
        INFO(name);
        CHECK(normalised_squared_error(value, truth.parameters.at(name)) <= 1e-10);
    }
}

} // namespace mfres::test
