// SPDX-License-Identifier: MIT
// Several ranks compute together what one computes with all their samples: every case of the gradient table on every
// backend that trains, and whole training steps.
#include "core/try.h"
#include "model/model.h"
#include "networks/registry.h"
#include "support/cases.h"
#include "support/loss_cases.h"
#include "support/op_cases.h"
#include "support/rank_cases.h"
#include "support/ranks.h"
#include "support/training.h"
#include "train/loss.h"

using namespace mfres;

namespace {

bool has_batch_norm(const Graph& graph) {
    return std::any_of(graph.nodes().begin(), graph.nodes().end(),
                       [](const Node& node) { return node.kind() == OpKind::batch_norm; });
}

/// Two wide convolutions, 14 MB of gradients, with a residual connection around their norms.
Graph wide_graph(std::int64_t batch) {
    GraphBuilder builder;
    const Conv wide{.out_channels = 256, .kernel = {3, 3, 3}, .padding = {1, 1, 1}};
    const NodeId x = builder.conv("first", builder.input(Shape{batch, 4, 2, 2, 3}), Conv{.out_channels = 256});
    const NodeId a = builder.batch_norm("bn_a", builder.conv("a", x, wide));
    const NodeId b = builder.batch_norm("bn_b", builder.conv("b", builder.relu("relu_a", a), wide));
    builder.output(builder.conv("head", builder.relu("relu_b", builder.sum("sum", {a, b})),
                                Conv{.out_channels = 4, .bias = true}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

/// A residual network with all that training of a network uses.
Graph training_graph(std::int64_t batch) {
    GraphBuilder builder;
    const Conv k3{.out_channels = 8, .kernel = {3, 3, 3}, .padding = {1, 1, 1}};
    const NodeId x = builder.conv("first", builder.input(Shape{batch, 4, 6, 5, 4}), k3);
    const NodeId a = builder.relu("relu_a", builder.batch_norm("bn_a", x));
    const NodeId b = builder.batch_norm("bn_b", builder.conv("b", a, k3));
    builder.output(builder.conv("head", builder.relu("relu_b", builder.sum("sum", {x, b})),
                                Conv{.out_channels = 4, .bias = true}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

struct Trained {
    std::vector<double> losses;
    std::vector<double> norms;
    TrainingState state;
};

/// `steps` steps on the rank's part of batches of 6 samples that depend on the step.
Result<Trained> train(const Backend& backend, Communicator& ranks, std::int64_t steps,
                      std::int64_t bucket_bytes = TrainingOptions().bucket_bytes) {
    const std::int64_t own = 6 / ranks.size();
    const Graph graph = training_graph(own);
    const auto loss = make_loss({.loss = "weighted-tversky"});
    MFRES_TRY(const auto training,
              backend.compile_training(graph, test::random_weights(graph, 5),
                                       {.threads = 1, .amsgrad = true, .ranks = &ranks, .bucket_bytes = bucket_bytes}));
    Trained trained;
    for (std::int64_t step = 1; step <= steps; ++step) {
        const auto seed = static_cast<std::uint64_t>(step);
        const Tensor input = test::random_tensor(Shape{6, 4, 6, 5, 4}, seed);
        Random random(seed + 100);
        std::vector<std::uint8_t> classes(6 * 6 * 5 * 4);
        for (auto& value : classes)
            value = static_cast<std::uint8_t>(random.below(4));
        const std::size_t voxels = classes.size() / static_cast<std::size_t>(ranks.size());
        test::fill(training->input(), test::part_of(input, ranks));
        MFRES_CHECK(training->forward());
        MFRES_TRY(
            const double value,
            training->loss(std::span(classes).subspan(static_cast<std::size_t>(ranks.rank()) * voxels, voxels), *loss));
        MFRES_CHECK(training->backward());
        MFRES_TRY(const double norm, training->update({.step = step, .amsgrad = true, .clip_norm = 1.0}));
        trained.losses.push_back(value);
        trained.norms.push_back(norm);
    }
    trained.state = training->state();
    return trained;
}

} // namespace

TEST_CASE("two and three ranks compute every gradient case as one does with all their samples") {
    for (const Backend* backend : test::training_backends())
        for (const auto& gradient_case : test::gradient_cases())
            for (const int size : {2, 3}) {
                INFO(backend->name() << ": " << gradient_case.name << " on " << size << " ranks");
                const std::uint64_t seed = test::hash(gradient_case.name);
                test::check_on_ranks(*backend, gradient_case.graph, seed, size, NormStatistics::batch);
                if (size == 2 && has_batch_norm(gradient_case.graph))
                    test::check_on_ranks(*backend, gradient_case.graph, seed, size, NormStatistics::running);
            }
}

TEST_CASE("every loss on two and three ranks is that of one with all their samples") {
    for (const Backend* backend : test::training_backends())
        for (const int size : {2, 3})
            test::check_losses_on_ranks(*backend, size);
}

TEST_CASE("gradients of many megabytes are summed in parts while the backward goes on") {
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        test::check_on_ranks(*backend, wide_graph(1), 1, 2, NormStatistics::batch);
    }
}

TEST_CASE("the parts in which gradients are summed change no bit") {
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        std::vector<TrainingState> states;
        for (const std::int64_t bucket_bytes : {std::int64_t{1}, std::int64_t{3000}, std::int64_t{1} << 40U})
            test::require_on_ranks(2, [&](Communicator& ranks) -> Status {
                MFRES_TRY(Trained trained, train(*backend, ranks, 2, bucket_bytes));
                if (ranks.is_root())
                    states.push_back(std::move(trained.state));
                return {};
            });
        REQUIRE(states.size() == 3);
        CHECK(test::same_bits(states[0], states[2]));
        CHECK(test::same_bits(states[1], states[2]));
    }
}

TEST_CASE("ten steps on two and three ranks are those of one rank, and all ranks keep equal bits") {
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const auto alone = train(*backend, single_rank(), 10);
        REQUIRE_OK(alone);
        for (const int size : {2, 3}) {
            INFO(size << " ranks");
            std::vector<Trained> all(static_cast<std::size_t>(size));
            test::require_on_ranks(size, [&](Communicator& ranks) -> Status {
                MFRES_TRY(all[static_cast<std::size_t>(ranks.rank())], train(*backend, ranks, 10));
                return {};
            });
            for (const Trained& one : all) {
                CHECK(one.losses == all[0].losses);
                CHECK(one.norms == all[0].norms);
                CHECK(test::same_bits(one.state, all[0].state));
            }
            for (std::size_t step = 0; step < 10; ++step) {
                CHECK(all[0].losses[step] == Approx(alone->losses[step]).epsilon(1e-5));
                CHECK(all[0].norms[step] == Approx(alone->norms[step]).epsilon(1e-5));
            }
            for (const auto& [name, tensor] : all[0].state.weights) {
                INFO(name);
                CHECK(test::relative_error(tensor.values(), alone->state.weights.at(name).values()) <= 1e-5);
            }
        }
    }
}

namespace {

/// The same network with every ReLU replaced by one that lets `slope` of negative values through.
Graph with_slope(const Graph& graph, double slope) {
    GraphBuilder builder;
    for (const Node& node : graph.nodes()) {
        const Shape& s = node.shape;
        if (node.kind() == OpKind::input)
            builder.input(Shape{s[0], s[1], s[2], s[3], s[4]}, node.name);
        else if (node.kind() == OpKind::relu)
            builder.leaky_relu(node.name, node.inputs[0], slope);
        else
            builder.add(node.name, node.op, node.inputs);
    }
    builder.output(graph.outputs()[0]);
    auto made = builder.finish();
    REQUIRE_OK(made);
    return std::move(made).value();
}

/// Gradients of all parameters in double precision.
test::Doubles true_gradients(const Graph& graph, const Weights& weights, const Tensor& input, const Tensor& cotangent,
                             double relative_change = 0.0) {
    test::DoubleTraining training(graph, weights, input);
    Random random(3);
    for (double& value : training.input)
        value *= 1.0 + relative_change * random.uniform(-1.0, 1.0);
    training.forward();
    training.backward(test::doubles(cotangent));
    test::Doubles all;
    for (const auto& [name, gradient] : training.gradients)
        all.insert(all.end(), gradient.begin(), gradient.end());
    return all;
}

test::Doubles in_a_row(const Weights& gradients, const Weights& order) {
    test::Doubles all;
    for (const auto& [name, tensor] : order) {
        const auto found = gradients.find(name); // running statistics have no gradient
        for (std::int64_t i = 0; i < tensor.elements(); ++i)
            all.push_back(found == gradients.end() ? 0.0 : double{found->second[i]});
    }
    return all;
}

} // namespace

// Backends that round otherwise on two ranks than on one differ by percents on the tiny network of four levels, whose
// deepest norms see two voxels. That is the network's doing: channels that ReLU has left (nearly) constant are divided
// by the root of a variance near 0 in norm after norm, so that the last bit of an input already moves the exact
// gradient as much. Where ReLU leaves no such channels, one rank and two agree.
TEST_CASE("one rank and two differ by what rounding does to the gradient of a deep network, and not more") {
    const auto variant = parse_variant(test::small_network);
    REQUIRE_OK(variant);
    const auto model = init_model(*variant, 1);
    const auto both = build_network(*variant, {16, 16, 16}, 2);
    const auto one = build_network(*variant, {16, 16, 16}, 1);
    REQUIRE_OK(model);
    REQUIRE_OK(both);
    REQUIRE_OK(one);
    const Tensor input = test::random_tensor(both->node(0).shape, 11);
    const Tensor cotangent = test::random_tensor(both->node(both->outputs()[0]).shape, 21);
    constexpr double half_a_bit = 0x1p-24;
    for (const double slope : {0.0, 0.999}) {
        const Graph whole = with_slope(*both, slope);
        const auto truth = true_gradients(whole, model->weights, input, cotangent);
        const double moved =
            test::relative_error(true_gradients(whole, model->weights, input, cotangent, half_a_bit), truth);
        INFO("slope " << slope << ", the exact gradient moves by " << moved);
        CHECK((slope > 0.0 ? moved < 1e-6 : moved > 1e-3));
        const auto gradients = [&](const Backend& backend, const Graph& graph, int size) {
            const auto results =
                test::run_ranks(backend, graph, model->weights, size, input, cotangent, NormStatistics::batch);
            return in_a_row(results[0].gradients, model->weights);
        };
        // How far rounding to floats carries a backend that takes its sums in double.
        const double rounding = test::relative_error(gradients(**find_backend("reference"), whole, 1), truth);
        CHECK((slope > 0.0 ? rounding < 1e-6 : rounding > 1e-3));
        const double allowed = std::max(3.0 * rounding, 1e-5);
        for (const Backend* backend : test::training_backends()) {
            INFO(backend->name());
            const auto alone = gradients(*backend, whole, 1);
            const auto shared = gradients(*backend, with_slope(*one, slope), 2);
            CHECK(test::relative_error(shared, alone) <= allowed);
            CHECK(test::relative_error(alone, truth) <= allowed);
            CHECK(test::relative_error(shared, truth) <= allowed);
        }
    }
}

TEST_CASE("an executable passes on the error of another rank from every call that needs it") {
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const Graph graph = training_graph(1);
        for (const int calls : {0, 1, 2}) { // of rank 0 before rank 1 fails
            const auto results = test::on_ranks(2, [&](Communicator& ranks) -> Status {
                MFRES_TRY(const auto training, backend->compile_training(graph, test::random_weights(graph, 5),
                                                                         {.threads = 1, .ranks = &ranks}));
                const std::vector<std::uint8_t> classes(6 * 5 * 4, 0);
                const auto loss = make_loss({});
                const bool fails = ranks.rank() == 1;
                if (fails && calls == 0)
                    return Error{ErrorCode::cache_damaged, "case 7 is broken", {}};
                MFRES_CHECK(training->forward());
                if (fails && calls == 1)
                    return Error{ErrorCode::cache_damaged, "case 7 is broken", {}};
                MFRES_CHECK(training->loss(classes, *loss));
                if (fails && calls == 2)
                    return Error{ErrorCode::cache_damaged, "case 7 is broken", {}};
                return training->backward();
            });
            REQUIRE_CODE(results[0], cache_damaged);
            CHECK(results[0].error().message == "on rank 1: case 7 is broken");
        }
    }
}
