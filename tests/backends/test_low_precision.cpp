// SPDX-License-Identifier: MIT
// bf16 and int8 of the oneDNN backend against the reference's definition of them.
#include "support/graphs.h"
#include "support/op_cases.h"
#include "support/run_graph.h"

#include <algorithm>
#include <cmath>

using namespace mfres;
using test::finished;
using test::network;

namespace {

Conv same(std::int64_t channels, const Axes& kernel, std::int64_t groups = 1) {
    return {.out_channels = channels,
            .kernel = kernel,
            .padding = {kernel[0] / 2, kernel[1] / 2, kernel[2] / 2},
            .groups = groups,
            .bias = true};
}

const Backend& the_reference() {
    return **find_backend("reference");
}

/// Null where oneDNN is absent or its processor cannot; says so.
const Backend* onednn_for(const Graph& graph, const CompileOptions& options) {
    const Backend* backend = test::backend_or_skip("onednn");
    if (!backend)
        return nullptr;
    if (const auto rejected = backend->unsupported(graph, options); !rejected.empty()) {
        std::printf("SKIPPED: %s\n", rejected.front().reason.c_str());
        return nullptr;
    }
    return backend;
}

struct Comparison {
    double largest = 0.0;    ///< magnitude of the reference
    double difference = 0.0; ///< largest
    double different = 0.0;  ///< share of values off by more than 1e-5 of the largest
    int reduced = 0;         ///< convolutions that ran with fewer bits
    int kept = 0;            ///< of those that left their result so
};

Comparison compare(const Backend& backend, const Graph& graph, const Weights& weights, const CompileOptions& options) {
    const Tensor input = test::random_tensor(graph.node(graph.input()).shape, 4);
    const auto executable = backend.compile(graph, weights, options);
    REQUIRE_OK(executable);
    const auto fast = test::run(**executable, input);
    const auto again = test::run(**executable, input);
    const auto truth = test::run(the_reference(), graph, weights, input, options);
    REQUIRE_OK(fast);
    REQUIRE_OK(again);
    REQUIRE_OK(truth);
    CHECK(std::equal(fast->values().begin(), fast->values().end(), again->values().begin()));
    Comparison result;
    for (const float value : truth->values())
        result.largest = std::max(result.largest, std::abs(double{value}));
    for (std::int64_t i = 0; i < truth->elements(); ++i) {
        const double off = std::abs(double{(*fast)[i]} - double{(*truth)[i]});
        result.difference = std::max(result.difference, off);
        result.different += off > 1e-5 * result.largest ? 1.0 / static_cast<double>(truth->elements()) : 0.0;
    }
    for (const Chosen& step : (*executable)->chosen()) {
        const std::string& name = step.implementation;
        result.reduced += name.find("int8") != std::string::npos || name.find("bf16") != std::string::npos;
        result.kept += name.find("out") != std::string::npos;
    }
    return result;
}

/// One convolution behind a ReLU or not (unsigned or signed integers), with or without a residual and a ReLU.
struct Single {
    std::int64_t in, out;
    Axes kernel;
    std::int64_t groups;
    std::int64_t stride;
    bool positive, residual;
};

constexpr Single singles[] = {
    {32, 32, {3, 3, 3}, 1, 1, true, false},  {32, 48, {1, 3, 3}, 1, 1, false, false},
    {48, 32, {3, 3, 1}, 1, 1, true, false},  {32, 32, {3, 3, 3}, 1, 2, false, false},
    {32, 32, {1, 3, 3}, 1, 1, true, true},   {40, 40, {3, 3, 3}, 1, 1, false, true},
    {256, 256, {1, 1, 1}, 1, 1, true, true}, {64, 64, {3, 3, 3}, 2, 1, true, false},
};

Graph single_graph(const Single& s, const Axes& grid = {9, 10, 11}) {
    GraphBuilder builder;
    NodeId x = builder.input(Shape{1, s.in, grid[0], grid[1], grid[2]});
    // So that bf16 sees neither the first nor the last convolution.
    x = builder.conv("first", x, same(s.in, {1, 1, 1}));
    if (s.positive)
        x = builder.relu("positive", x);
    Conv conv = same(s.out, s.kernel, s.groups);
    conv.stride = {s.stride, s.stride, s.stride};
    NodeId y = builder.conv("conv", x, conv);
    if (s.residual)
        y = builder.sum("sum", {y, x});
    y = builder.relu("relu", y);
    return finished(builder, builder.max_pool("pool", y, {{1, 1, 1}, {1, 1, 1}}));
}

std::string describe(const Single& s) {
    return std::to_string(s.in) + " to " + std::to_string(s.out) + " channels, kernel " + std::to_string(s.kernel[0]) +
           std::to_string(s.kernel[1]) + std::to_string(s.kernel[2]) + ", groups " + std::to_string(s.groups) +
           ", stride " + std::to_string(s.stride) + (s.positive ? ", u8" : ", s8") + (s.residual ? ", residual" : "");
}

} // namespace

TEST_CASE("an int8 convolution of oneDNN is the reference's, sum for sum") {
    int reduced = 0;
    for (const Single& s : singles) {
        INFO(describe(s));
        const Graph graph = single_graph(s);
        // Some values lie beyond the range, so that clamping is seen.
        const CompileOptions options{
            .threads = 2, .precision = Precision::int8, .ranges = {{"conv", {s.positive ? 0.0F : -4.0F, 4.0F}}}};
        const Backend* backend = onednn_for(graph, options);
        if (!backend)
            return;
        const Comparison result = compare(*backend, graph, test::random_weights(graph, 3), options);
        // What "first" leaves may be rounded across a half in one of the two, by another order of its sum: one step.
        CHECK(result.different <= 0.002);
        CHECK(result.difference <= 0.02 * result.largest);
        reduced += result.reduced;
    }
    CHECK(reduced == static_cast<int>(std::size(singles)));
}

TEST_CASE("a bf16 convolution of oneDNN is the reference's") {
    int reduced = 0;
    for (const Single& s : singles) {
        INFO(describe(s));
        const Graph graph = single_graph(s, {9, 5, 11}); // too few lines along y for Winograd's filtering
        CompileOptions options{.threads = 2, .precision = Precision::bf16};
        const Backend* backend = onednn_for(graph, options);
        if (!backend)
            return;
        const Comparison result = compare(*backend, graph, test::random_weights(graph, 3), options);
        // The reference rounds what "first" reads as well; oneDNN leaves it in f32.
        CHECK(result.difference <= 0.02 * result.largest);
        reduced += result.reduced;
    }
    CHECK(reduced == static_cast<int>(std::size(singles)));
}

TEST_CASE("where Winograd's filtering gains more than bf16, a convolution stays in f32") {
    GraphBuilder builder;
    NodeId x = builder.input(Shape{1, 64, 4, 16, 16});
    x = builder.relu("positive", builder.conv("first", x, same(64, {1, 1, 1})));
    x = builder.relu("relu", builder.conv("plane", x, same(64, {1, 3, 3})));
    x = builder.relu("relu2", builder.conv("cube", x, same(64, {3, 3, 3})));
    const Graph graph = finished(builder, builder.max_pool("pool", x, {{1, 1, 1}, {1, 1, 1}}));
    const Weights weights = test::random_weights(graph, 3);
    const auto implementation = [&](const Backend& backend, const CompileOptions& options, const std::string& node) {
        const auto executable = backend.compile(graph, weights, options);
        REQUIRE_OK(executable);
        const auto chosen = (*executable)->chosen();
        const auto found =
            std::find_if(chosen.begin(), chosen.end(), [&](const Chosen& step) { return step.node == node; });
        REQUIRE(found != chosen.end());
        return found->implementation;
    };
    const CompileOptions bf16{.threads = 2, .precision = Precision::bf16};
    if (const Backend* backend = onednn_for(graph, bf16)) {
        CHECK(implementation(*backend, bf16, "plane").find("winograd") != std::string::npos);
        CHECK(implementation(*backend, bf16, "cube").find("bf16") != std::string::npos);
        const Comparison result = compare(*backend, graph, weights, bf16);
        CHECK(result.reduced == 1);
        CHECK(result.difference <= 0.02 * result.largest); // the reference rounds what "first" and "plane" read as well
    }
    const CompileOptions int8{.threads = 2, .precision = Precision::int8, .ranges = {{"plane", {0.0F, 4.0F}}}};
    if (const Backend* backend = onednn_for(graph, int8))
        CHECK(implementation(*backend, int8, "plane").find("int8") != std::string::npos);
}

TEST_CASE("integers kept between two convolutions are those that the second would have made") {
    GraphBuilder builder;
    NodeId x = builder.input(Shape{1, 32, 8, 9, 10});
    x = builder.relu("r0", builder.conv("a", x, same(32, {3, 3, 3})));
    x = builder.relu("r1", builder.conv("b", x, same(48, {3, 3, 3})));
    x = builder.conv("c", x, same(32, {1, 3, 3}));
    const Graph graph = finished(builder, x);
    const CompileOptions options{.threads = 2,
                                 .precision = Precision::int8,
                                 .ranges = {{"a", {-3.0F, 3.0F}}, {"b", {0.0F, 5.0F}}, {"c", {0.0F, 6.0F}}}};
    const Backend* backend = onednn_for(graph, options);
    if (!backend)
        return;
    const Comparison result = compare(*backend, graph, test::random_weights(graph, 6), options);
    CHECK(result.reduced == 3);
    CHECK(result.kept == 2);
    CHECK(result.different <= 0.02); // a value on a half goes either way; its readers see one step more or less
    CHECK(result.difference <= 0.01 * result.largest);
}

TEST_CASE("the reference's int8 is the arithmetic that its header defines") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 2, 1, 1, 2});
    const Graph graph = finished(builder, builder.conv("conv", x, same(1, {1, 1, 1})));
    Weights weights;
    Tensor weight(Shape{1, 2, 1, 1, 1});
    weight[0] = 127.0F;
    weight[1] = 0.5F; // to even: 0
    weights.emplace("conv.weight", std::move(weight));
    weights.emplace("conv.bias", Tensor(Shape{1}, 10.0F));
    Tensor input(Shape{1, 2, 1, 1, 2});
    input[0] = 5.0F;   // of 2.5 steps: 2
    input[1] = 600.0F; // clamped to 255
    input[2] = input[3] = 100.0F;
    const auto output = test::run(the_reference(), graph, weights, input,
                                  {.precision = Precision::int8, .ranges = {{"conv", {0.0F, 510.0F}}}});
    REQUIRE_OK(output);
    CHECK((*output)[0] == 2.0F * 2.0F * 127.0F + 10.0F);
    CHECK((*output)[1] == 2.0F * 255.0F * 127.0F + 10.0F);
    const auto f32 = test::run(the_reference(), graph, weights, input,
                               {.precision = Precision::int8, .ranges = {{"another", {0.0F, 510.0F}}}});
    REQUIRE_OK(f32);
    CHECK((*f32)[0] == 5.0F * 127.0F + 50.0F + 10.0F);
}

TEST_CASE("a whole network in int8 labels nearly as the reference's quantized arithmetic does") {
    const Graph graph = network(R"({"network":"mf-res2net"})", {32, 32, 32});
    const Weights weights = test::random_weights(graph, 7);
    CompileOptions options{.threads = 2, .precision = Precision::int8};
    const Graph form = inference_form(graph);
    for (const Node& node : form.nodes())
        if (node.kind() == OpKind::conv && node.inputs[0] != form.input())
            options.ranges.emplace(node.name, ActivationRange{-20.0F, 20.0F});
    const Backend* backend = onednn_for(graph, options);
    if (!backend)
        return;
    const auto executable = backend->compile(graph, weights, options);
    REQUIRE_OK(executable);
    // What runs in f32 here, for speed, stays in f32 there.
    CompileOptions same_ranges = options;
    same_ranges.ranges.clear();
    for (const Chosen& step : (*executable)->chosen())
        if (step.implementation.find("int8") != std::string::npos)
            same_ranges.ranges.emplace(step.node, options.ranges.at(step.node));
    CHECK(same_ranges.ranges.size() >= 10);
    const Tensor input = test::random_tensor(graph.node(graph.input()).shape, 4);
    const auto fast = test::run(**executable, input);
    const auto truth = test::run(the_reference(), graph, weights, input, same_ranges);
    REQUIRE_OK(fast);
    REQUIRE_OK(truth);
    // Fusion groups run in bf16 where the processor has it, and in f32 in the reference.
    CHECK(test::normalised_squared_error(*fast, truth->values()) <= 2e-3);
}

TEST_CASE("precisions are found by name, and int8 without ranges is rejected") {
    for (const Precision precision : {Precision::f32, Precision::bf16, Precision::fp16, Precision::int8}) {
        const auto parsed = parse_precision(to_string(precision));
        REQUIRE_OK(parsed);
        CHECK(*parsed == precision);
    }
    const auto other = parse_precision("int4");
    REQUIRE_CODE(other, invalid_argument);
    CHECK(other.error().message.find("f32, bf16, fp16, int8") != std::string::npos);
    const Graph graph = single_graph(singles[0]);
    const auto rejected =
        the_reference().compile(graph, test::random_weights(graph, 1), {.precision = Precision::int8});
    REQUIRE_CODE(rejected, operation_unsupported);
    CHECK(rejected.error().message.find("calibrate") != std::string::npos);
}
