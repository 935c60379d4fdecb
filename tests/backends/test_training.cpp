// SPDX-License-Identifier: MIT
// What every backend that trains promises besides gradients: parameters, optimiser, state, and what it rejects.
#include "backends/planned/host_parameters.h"
#include "gpu/network.h"
#include "support/check_backend.h"
#include "support/op_cases.h"
#include "train/loss.h"

#include <limits>

using namespace mfres;
using test::same_bits;

namespace {

/// conv -> batch_norm -> relu -> conv to two classes
Graph small_graph() {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{2, 3, 4, 5, 3});
    const Conv k3{.out_channels = 6, .kernel = {3, 3, 3}, .padding = {1, 1, 1}};
    const NodeId y = builder.relu("relu", builder.batch_norm("bn", builder.conv("conv", x, k3)));
    builder.output(builder.conv("head", y, Conv{.out_channels = 2, .bias = true}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

std::vector<std::uint8_t> small_classes() {
    Random random(11);
    std::vector<std::uint8_t> classes(2 * 4 * 5 * 3);
    for (auto& value : classes)
        value = static_cast<std::uint8_t>(random.below(2));
    return classes;
}

Loss dice() {
    auto loss = make_loss({.loss = "dice"});
    REQUIRE_OK(loss);
    return std::move(loss).value();
}

/// One whole step on a fixed batch that depends on `number`; returns the loss.
double train_step(TrainingExecutable& training, std::int64_t number, bool amsgrad) {
    const Tensor input = test::random_tensor(Shape{2, 3, 4, 5, 3}, static_cast<std::uint64_t>(number));
    copy(view(input), training.input());
    REQUIRE_OK(training.forward());
    const auto loss = training.loss(small_classes(), dice());
    REQUIRE_OK(loss);
    REQUIRE_OK(training.backward());
    const auto norm = training.update({.step = number, .learning_rate = 0.05, .amsgrad = amsgrad});
    REQUIRE_OK(norm);
    CHECK(*norm > 0.0);
    return *loss;
}

template <typename Change>
TrainingState changed(TrainingState state, const Change& change) {
    change(state);
    return state;
}

/// One parameter "w.weight" of `count` values.
Graph vector_graph(std::int64_t count) {
    GraphBuilder builder;
    builder.output(builder.conv("w", builder.input(Shape{1, count, 1, 1, 1}), Conv{.out_channels = 1}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

HostParameters vector_parameters(const Graph& graph, std::initializer_list<float> values, bool amsgrad = false) {
    Tensor tensor(graph.node(1).parameters[0].shape);
    std::copy(values.begin(), values.end(), tensor.data());
    return {graph, {{"w.weight", tensor}}, amsgrad, 2};
}

} // namespace

TEST_CASE("training on one batch lowers the loss on every backend that trains") {
    const Graph graph = small_graph();
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const auto training = test::compile_training(*backend, graph, test::random_weights(graph, 1));
        const Tensor input = test::random_tensor(graph.node(0).shape, 2);
        double first = 0.0;
        double last = 0.0;
        for (std::int64_t step = 1; step <= 60; ++step) {
            copy(view(input), training->input());
            REQUIRE_OK(training->forward());
            const auto loss = training->loss(small_classes(), dice());
            REQUIRE_OK(loss);
            (step == 1 ? first : last) = *loss;
            REQUIRE_OK(training->backward());
            REQUIRE_OK(training->update({.step = step, .learning_rate = 0.03}));
        }
        CHECK(last < 0.5 * first);
    }
}

TEST_CASE("what would hold more than allowed is rejected before it is allocated, on every backend that trains") {
    const Graph graph = small_graph();
    const Weights weights = test::random_weights(graph, 1);
    GraphBuilder builder; // a terabyte of activations
    builder.output(builder.conv("c", builder.input(Shape{1, 1, 2048, 2048, 1024}), Conv{.out_channels = 32}));
    const auto vast = builder.finish();
    REQUIRE_OK(vast);
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const std::int64_t needed = test::compile_training(*backend, graph, weights)->peak_bytes();
        REQUIRE(needed > 0);
        CHECK(test::compile_training(*backend, graph, weights, {.memory_cap = needed})->peak_bytes() == needed);
        const std::int64_t least = test::least_memory_cap(*backend, graph, weights, {}, needed);
        REQUIRE_CODE(backend->compile_training(graph, weights, {.memory_cap = least - 64}), memory_limit);
        const auto rejected =
            backend->compile_training(*vast, test::random_weights(*vast, 1), {.memory_cap = std::int64_t{1} << 30U});
        REQUIRE_CODE(rejected, memory_limit);
        CHECK(rejected.error().message.find("1024 MiB may be used") != std::string::npos);
    }
}

TEST_CASE("computing activations again changes no bit: every gradient case and a network, on every backend that can") {
    for (const Backend* backend : test::training_backends()) {
        if (backend->name() == "reference") // keeps every value
            continue;
        INFO(backend->name());
        const TrainingOptions options{.threads = 1};
        std::int64_t again = 0;
        for (const auto& gradient_case : test::gradient_cases()) {
            INFO(gradient_case.name);
            again += test::check_recomputation(*backend, gradient_case.graph,
                                               test::training_setup(gradient_case.graph, gradient_case.name), options);
        }
        CHECK(again > 10);
        const auto graph = test::GpuNetwork::make({16, 16, 32}, 2);
        REQUIRE_OK(graph);
        CHECK(test::check_recomputation(*backend, *graph, test::training_setup(*graph, "mf-res2net"), options) > 50);
    }
}

TEST_CASE("two steps, state, another executable, two steps: the bits of four steps on every backend that trains") {
    const Graph graph = small_graph();
    const Weights weights = test::random_weights(graph, 1);
    for (const Backend* backend : test::training_backends())
        for (const bool amsgrad : {false, true}) {
            INFO(backend->name() << ", amsgrad " << amsgrad);
            const TrainingOptions options{.threads = 2, .amsgrad = amsgrad};
            const auto whole = test::compile_training(*backend, graph, weights, options);
            const auto before = test::compile_training(*backend, graph, weights, options);
            const auto after = test::compile_training(*backend, graph, test::random_weights(graph, 9), options);
            std::vector<double> losses;
            for (const std::int64_t step : {1, 2}) {
                losses.push_back(train_step(*whole, step, amsgrad));
                CHECK(train_step(*before, step, amsgrad) == losses.back());
            }
            REQUIRE_OK(after->set_state(before->state()));
            for (const std::int64_t step : {3, 4})
                CHECK(train_step(*after, step, amsgrad) == train_step(*whole, step, amsgrad));
            CHECK(same_bits(after->state(), whole->state()));
            CHECK(same_bits(after->weights(), whole->state().weights));
            CHECK(whole->state().largest_second_moment.empty() == !amsgrad);
            CHECK_FALSE(same_bits(whole->weights(), weights));
        }
}

TEST_CASE("running statistics move by the momentum to the batch's mean and unbiased variance") {
    GraphBuilder builder;
    builder.output(builder.batch_norm("bn", builder.input(Shape{2, 2, 1, 1, 2})));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    Weights weights = test::random_weights(*graph, 1);
    weights.at("bn.running_mean")[0] = 1.0F;
    weights.at("bn.running_var")[0] = 2.0F;
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const auto training = test::compile_training(*backend, *graph, weights, {.batch_norm_momentum = 0.5});
        Tensor input(Shape{2, 2, 1, 1, 2}, 0.0F); // channel 0: 1, 3 in the first sample, 5, 7 in the second
        input[0] = 1.0F;
        input[1] = 3.0F;
        input[4] = 5.0F;
        input[5] = 7.0F;
        copy(as_const(view(input)), training->input());
        REQUIRE_OK(training->forward());
        const Weights moved = training->weights();
        CHECK(moved.at("bn.running_mean")[0] == Approx(0.5 * 1 + 0.5 * 4));
        CHECK(moved.at("bn.running_var")[0] == Approx(0.5 * 2 + 0.5 * 20.0 / 3));
        const double scale = weights.at("bn.weight")[0] / std::sqrt(5.0 + 1e-5);
        CHECK(test::dense(training->output())[0] == Approx(weights.at("bn.bias")[0] - 3 * scale));
    }
}

TEST_CASE("backends that train reject states and classes that do not fit, and change nothing") {
    const Graph graph = small_graph();
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const auto training = test::compile_training(*backend, graph, test::random_weights(graph, 1));
        train_step(*training, 1, false);
        const TrainingState good = training->state();
        for (auto map : {&TrainingState::weights, &TrainingState::first_moment, &TrainingState::second_moment}) {
            REQUIRE_CODE(training->set_state(changed(good, [&](auto& s) { (s.*map).erase("conv.weight"); })),
                         model_tensor_missing);
            REQUIRE_CODE(
                training->set_state(changed(good, [&](auto& s) { (s.*map)["conv.weight"] = Tensor(Shape{1}, 0.0F); })),
                model_tensor_shape);
            REQUIRE_CODE(training->set_state(changed(good, [&](auto& s) { (s.*map)["x"] = Tensor(Shape{1}, 0.0F); })),
                         model_tensor_extra);
        }
        const auto statistic = [](TrainingState& s) { s.first_moment["bn.running_mean"] = Tensor(Shape{6}, 0.0F); };
        REQUIRE_CODE(training->set_state(changed(good, statistic)), model_tensor_extra);
        const auto largest = [](TrainingState& s) { s.largest_second_moment = s.second_moment; };
        REQUIRE_CODE(training->set_state(changed(good, largest)), model_tensor_extra);
        CHECK(same_bits(training->state(), good));

        const auto with_amsgrad =
            test::compile_training(*backend, graph, test::random_weights(graph, 1), {.amsgrad = true});
        REQUIRE_CODE(with_amsgrad->set_state(good), model_tensor_missing);

        REQUIRE_CODE(backend->compile_training(graph, {}, {}), model_tensor_missing);
    }
}

TEST_CASE("a gradient that is not finite stops an update before it changes anything") {
    const Graph graph = small_graph();
    for (const Backend* backend : test::training_backends()) {
        INFO(backend->name());
        const auto training = test::compile_training(*backend, graph, test::random_weights(graph, 1));
        train_step(*training, 1, false);
        const Tensor gradient(Shape{2, 2, 4, 5, 3}, std::numeric_limits<float>::infinity());
        copy(view(gradient), training->output_gradient());
        REQUIRE_OK(training->backward());
        const TrainingState before = training->state();
        REQUIRE_CODE(training->update({.step = 2}), training_diverged);
        CHECK(same_bits(training->state(), before));
    }
}

TEST_CASE("the reference backend trains to the same bits whatever the threads, and reports its work") {
    const Graph graph = small_graph();
    const Weights weights = test::random_weights(graph, 1);
    const Backend& reference = **find_backend("reference");
    const auto one = test::compile_training(reference, graph, weights, {.threads = 1});
    const auto three = test::compile_training(reference, graph, weights, {.threads = 3});
    for (const std::int64_t step : {1, 2, 3})
        CHECK(train_step(*one, step, false) == train_step(*three, step, false));
    CHECK(same_bits(one->state(), three->state()));
    CHECK(one->chosen().size() == 2 * static_cast<std::size_t>(graph.size() - 1));
    std::int64_t values = 0;
    for (const Node& node : graph.nodes())
        values += node.shape.elements() * 4;
    CHECK(one->peak_bytes() > values);
    CHECK(one->peak_bytes() < 3 * values);
}

TEST_CASE("layers that nothing depends on are left out of the backward, and their gradients are zero") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 2, 3, 3, 3});
    const NodeId kept = builder.conv("kept", x, Conv{.out_channels = 2});
    builder.conv("unused", kept, Conv{.out_channels = 2});
    builder.output(kept);
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    const auto training = test::compile_training(**find_backend("reference"), *graph, test::random_weights(*graph, 1));
    const Tensor input = test::random_tensor(graph->node(0).shape, 2);
    copy(view(input), training->input());
    REQUIRE_OK(training->forward());
    copy(view(input), training->output_gradient());
    REQUIRE_OK(training->backward());
    const Weights gradients = training->gradients();
    double squares = 0.0;
    for (const float value : input.values())
        squares += double{value} * double{value};
    // dL/dw of w * x with dL/dy = x: the trace of the weight's gradient is sum x^2.
    CHECK(gradients.at("kept.weight")[0] + gradients.at("kept.weight")[3] == Approx(squares));
    for (const float value : gradients.at("unused.weight").values())
        CHECK(value == 0.0F);
}

TEST_CASE("Adam: a constant gradient moves a parameter by the learning rate each step") {
    const Graph graph = vector_graph(3);
    for (const bool amsgrad : {false, true}) {
        HostParameters parameters = vector_parameters(graph, {1, 2, 3}, amsgrad);
        for (std::int64_t step = 1; step <= 5; ++step) {
            float* gradient = parameters.gradient("w.weight");
            gradient[0] = 3.0F;
            gradient[1] = -1e-3F;
            gradient[2] = 0.0F;
            const auto norm =
                update_parameters(parameters, {.step = step, .learning_rate = 0.1, .l2 = 0, .amsgrad = amsgrad});
            REQUIRE_OK(norm);
            CHECK(*norm == Approx(std::sqrt(9 + 1e-6)));
        }
        CHECK(parameters.values("w.weight")[0] == Approx(0.5));
        CHECK(parameters.values("w.weight")[1] == Approx(2.5).epsilon(1e-4));
        CHECK(parameters.values("w.weight")[2] == 3.0F);
    }
}

TEST_CASE("L2 pulls a parameter without gradient to zero, and clipping does not touch it") {
    const Graph graph = vector_graph(2);
    HostParameters parameters = vector_parameters(graph, {2, -2});
    parameters.clear_gradients();
    REQUIRE_OK(update_parameters(parameters, {.step = 1, .learning_rate = 0.25, .l2 = 1e-3, .clip_norm = 1e-9}));
    CHECK(parameters.values("w.weight")[0] == Approx(1.75).epsilon(1e-4));
    CHECK(parameters.values("w.weight")[1] == Approx(-1.75).epsilon(1e-4));
}

TEST_CASE("AMSGrad keeps the largest second moment where Adam forgets it") {
    const Graph graph = vector_graph(1);
    const auto last_change = [&](bool amsgrad) {
        HostParameters parameters = vector_parameters(graph, {0}, amsgrad);
        float before = 0.0F;
        for (std::int64_t step = 1; step <= 30; ++step) {
            before = parameters.values("w.weight")[0];
            parameters.gradient("w.weight")[0] = step == 1 ? 100.0F : 1.0F;
            REQUIRE_OK(
                update_parameters(parameters, {.step = step, .beta1 = 0, .beta2 = 0.5, .l2 = 0, .amsgrad = amsgrad}));
        }
        return double{before} - double{parameters.values("w.weight")[0]};
    };
    CHECK(last_change(false) == Approx(1e-3).epsilon(1e-3));
    // The largest second moment is that of step 1: 0.5 * 100^2.
    CHECK(last_change(true) == Approx(1e-3 / std::sqrt(0.5 * 1e4)).epsilon(1e-2));
}
