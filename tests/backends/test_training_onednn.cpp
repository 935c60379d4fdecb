// SPDX-License-Identifier: MIT
// What is particular to training with the oneDNN backend; that it computes every operation's gradient is checked by the
// table of gradient cases.
#include "core/memory_usage.h"
#include "networks/registry.h"
#include "support/graphs.h"
#include "support/network_runs.h"
#include "support/paths.h"
#include "support/training.h"

using namespace mfres;
using test::finished;
using test::network;

namespace {

const Backend* onednn() {
    return test::backend_or_skip("onednn");
}

/// The output and all gradients of one step against double precision, each relative to its own Euclidean norm.
void check_step(const Backend& backend, const Graph& graph, double tolerance) {
    const Weights weights = test::random_weights(graph, 41);
    const Tensor input = test::random_tensor(graph.node(0).shape, 42);
    const Tensor cotangent = test::random_tensor(graph.node(graph.outputs()[0]).shape, 43);
    test::DoubleTraining truth(graph, weights, input);
    const test::Doubles expected = truth.forward();
    truth.backward(test::doubles(cotangent));

    const auto training = test::compile_training(backend, graph, weights);
    copy(view(input), training->input());
    REQUIRE_OK(training->forward());
    CHECK(test::relative_error(test::dense(training->output()).values(), expected) <= tolerance);
    copy(view(cotangent), training->output_gradient());
    REQUIRE_OK(training->backward());
    for (const auto& [name, gradient] : training->gradients()) {
        const test::Doubles& own = truth.gradients.at(name);
        double squares = 0.0;
        for (const double value : own)
            squares += value * value;
        INFO(name << " of norm " << std::sqrt(squares));
        if (squares > 1e-20) // a bias in front of a norm changes nothing: its gradient is rounding
            CHECK(test::relative_error(gradient.values(), own) <= tolerance);
    }
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("the gradients of every network with oneDNN equal those of double precision") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    for (const std::string& name : network_names()) {
        INFO(name);
        const bool heavy = contains(name, "unet") || contains(name, "no-new-net");
        check_step(*backend, test::well_conditioned(network(name, {16, 16, 16}, heavy ? 1 : 2)), 1e-3);
    }
}

TEST_CASE("mf-res2net trains through compiled kernels and loops of our own alone") {
    const Backend* backend = onednn();
    if (!backend)
        return;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx512f")) {
        std::printf("SKIPPED: oneDNN's gradient kernels are complete for AVX-512\n");
        return;
    }
#endif
    const Graph graph = network("mf-res2net", {64, 64, 64});
    const auto training = test::compile_training(*backend, graph, test::random_weights(graph, 1));
    int forward = 0;
    int backward = 0;
    for (const Chosen& step : training->chosen()) {
        INFO(step.node << " (" << step.operation << ") got " << step.implementation);
        CHECK_FALSE(contains(step.implementation, "ref"));
        CHECK_FALSE(contains(step.implementation, "gemm_"));
        if (contains(step.operation, "conv"))
            ++(contains(step.operation, "backward") ? backward : forward);
        else
            CHECK(step.implementation.rfind("mfres:", 0) == 0);
    }
    CHECK(forward > 90);
    CHECK(backward == forward);
}

TEST_CASE("training with oneDNN shows its memory channels-last and needs no more than it says") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    const Graph graph = network("mf-res2net", {64, 64, 32});
    Weights weights = test::random_weights(graph, 9);
    // First what does not depend on this network: the engine itself, its threads, their stacks.
    const Graph small = network("mf-res2net", {16, 16, 16});
    REQUIRE_OK(test::compile_training(*backend, small, weights)->forward());
    const std::int64_t before = resident_bytes();
    const auto training = test::compile_training(*backend, graph, weights);
    weights.clear();
    CHECK(training->input().strides == std::array<std::int64_t, 5>{4 * 64 * 64 * 32, 1, 4 * 64 * 32, 4 * 32, 4});
    CHECK(training->output().strides[1] == 1);
    CHECK(training->output_gradient().strides == training->output().strides);

    const std::vector<std::uint8_t> classes(64 * 64 * 32, 1);
    const auto loss = [](std::span<const ClassSums> sums) {
        return LossValue{sums[0].probability, std::vector<ClassSlope>(sums.size(), ClassSlope{1e-4, 2e-4, 3e-4})};
    };
    for (int step = 1; step <= 2; ++step) {
        REQUIRE_OK(training->forward());
        REQUIRE_OK(training->loss(classes, loss));
        REQUIRE_OK(training->backward());
        REQUIRE_OK(training->update({.step = step}));
    }
    // Values, gradients and two moments of 3.2 million parameters, and at least what the widest level keeps.
    CHECK(training->peak_bytes() >= 4 * 4 * 3'100'000 + 4 * 64 * 64 * 32 * 60);
    if (before > 0 && test::resident_memory_is_ours) {
        // Kernels compiled at run time are no part of the figure: some 10 KB for each of three per convolution.
        const std::int64_t grown = resident_bytes() - before;
        CHECK(grown <= training->peak_bytes() * 11 / 10 + 16'000'000);
    }
}

TEST_CASE("a value of which a single slice is read keeps to its memory in training") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{2, 3, 5, 6, 7});
    const NodeId y = builder.relu("r", builder.batch_norm("bn", builder.conv("c", x, Conv{.out_channels = 8})));
    const NodeId part = builder.slice("part", y, 2, 5);
    check_step(*backend, finished(builder, builder.conv("d", part, Conv{.out_channels = 4})), 1e-4);
}

TEST_CASE("training with oneDNN gives the same bits on one thread and on several where no convolution is split") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{2, 6, 24, 20, 22});
    const NodeId norm = builder.relu("r", builder.batch_norm("bn", x));
    const NodeId fine = builder.upsample2("up", builder.max_pool("pool", norm));
    const NodeId sum = builder.scaled_add("sum", {builder.leaky_relu("l", norm, 0.1), fine});
    const Graph graph = finished(builder, builder.instance_norm("in", builder.concat("cat", {sum, x})));
    const Weights weights = test::random_weights(graph, 3);
    const Tensor input = test::random_tensor(graph.node(0).shape, 4);
    const Tensor cotangent = test::random_tensor(graph.node(graph.outputs()[0]).shape, 5);
    std::vector<Weights> gradients;
    for (const int threads : {1, 2, 5}) {
        const auto training = test::compile_training(*backend, graph, weights, {.threads = threads});
        copy(view(input), training->input());
        REQUIRE_OK(training->forward());
        copy(view(cotangent), training->output_gradient());
        REQUIRE_OK(training->backward());
        gradients.push_back(training->gradients());
    }
    for (const auto& [name, expected] : gradients[0])
        for (std::size_t i = 1; i < gradients.size(); ++i) {
            INFO(name);
            const Tensor& got = gradients[i].at(name);
            CHECK(std::equal(got.values().begin(), got.values().end(), expected.values().begin()));
        }
}

#if !defined(__SANITIZE_ADDRESS__) // which ends the program instead of rejecting the memory
TEST_CASE("training with oneDNN rejects what fits into no memory, and weights that do not belong to the network") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    // 64 values of 4 TB at once are more than 47 bits of addresses.
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 1, 16384, 8192, 8192});
    std::vector<NodeId> values;
    for (int i = 0; i < 64; ++i)
        values.push_back(builder.relu("r" + std::to_string(i), x));
    REQUIRE_CODE(backend->compile_training(finished(builder, builder.sum("s", values)), {}, {}), memory_limit);
    REQUIRE_CODE(backend->compile_training(network("mf-res2net", {16, 16, 16}), {}, {}), model_tensor_missing);
}
#endif
