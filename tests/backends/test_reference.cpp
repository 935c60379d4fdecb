// SPDX-License-Identifier: MIT
// The reference backend is the truth for all others, so it is checked here against definitions written out by hand.
#include "backends/training.h"
#include "support/catch.h"
#include "support/run_graph.h"

using namespace mfres;

namespace {

Tensor tensor(const Shape& shape, std::initializer_list<float> values) {
    Tensor result(shape);
    std::copy(values.begin(), values.end(), result.data());
    return result;
}

Tensor run_one(const Tensor& input, const std::function<NodeId(GraphBuilder&, NodeId)>& build,
               const Weights& weights = {}) {
    GraphBuilder builder;
    builder.output(build(builder, builder.input(input.shape())));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    auto output = test::run(**find_backend("reference"), *graph, weights, input);
    REQUIRE_OK(output);
    return std::move(output).value();
}

void check_values(const Tensor& got, std::initializer_list<double> expected) {
    REQUIRE(got.elements() == static_cast<std::int64_t>(expected.size()));
    std::int64_t i = 0;
    for (const double value : expected)
        CHECK(got[i++] == Approx(value).margin(1e-6));
}

} // namespace

TEST_CASE("convolution equals its definition") {
    const Shape in{2, 6, 5, 7, 6};
    for (const Conv& conv : {Conv{.out_channels = 4,
                            .kernel = {3, 2, 1},
                            .stride = {2, 1, 3},
                            .dilation = {1, 3, 1},
                            .padding = {2, 1, 0},
                            .groups = 2,
                            .bias = true},
                             Conv{.out_channels = 3, .kernel = {1, 3, 3}, .stride = {1, 1, 2}, .padding = {0, 1, 1}}}) {
        const Tensor x = test::random_tensor(in, 5);
        GraphBuilder builder;
        builder.output(builder.conv("c", builder.input(in), conv));
        auto graph = builder.finish();
        REQUIRE_OK(graph);
        const Weights weights = test::random_weights(*graph, 6);
        const auto y = test::run(**find_backend("reference"), *graph, weights, x);
        REQUIRE_OK(y);
        const Tensor& w = weights.at("c.weight");
        const auto vx = view(x);
        const auto vw = view(w);
        const auto vy = view(*y);
        const Shape& out = y->shape();
        const std::int64_t per_group = in[1] / conv.groups;
        for (std::int64_t n = 0; n < out[0]; ++n)
            for (std::int64_t o = 0; o < out[1]; ++o)
                for (std::int64_t a = 0; a < out[2]; ++a)
                    for (std::int64_t b = 0; b < out[3]; ++b)
                        for (std::int64_t c = 0; c < out[4]; ++c) {
                            double sum = conv.bias ? weights.at("c.bias")[o] : 0.0;
                            for (std::int64_t i = 0; i < per_group; ++i)
                                for (std::int64_t ka = 0; ka < conv.kernel[0]; ++ka)
                                    for (std::int64_t kb = 0; kb < conv.kernel[1]; ++kb)
                                        for (std::int64_t kc = 0; kc < conv.kernel[2]; ++kc) {
                                            const auto pa =
                                                a * conv.stride[0] + ka * conv.dilation[0] - conv.padding[0];
                                            const auto pb =
                                                b * conv.stride[1] + kb * conv.dilation[1] - conv.padding[1];
                                            const auto pc =
                                                c * conv.stride[2] + kc * conv.dilation[2] - conv.padding[2];
                                            if (pa < 0 || pb < 0 || pc < 0 || pa >= in[2] || pb >= in[3] || pc >= in[4])
                                                continue;
                                            const auto channel = o / (out[1] / conv.groups) * per_group + i;
                                            sum += static_cast<double>(vw.at(o, i, ka, kb, kc)) *
                                                   vx.at(n, channel, pa, pb, pc);
                                        }
                            REQUIRE(vy.at(n, o, a, b, c) == Approx(sum).margin(1e-5));
                        }
    }
}

TEST_CASE("trilinear upsampling uses half-pixel centres and clamps at the border") {
    const Tensor x = tensor(Shape{1, 1, 1, 1, 2}, {0, 1});
    const auto up = [](const Axes& size) {
        return [size](GraphBuilder& b, NodeId n) { return b.upsample("u", n, Interpolation::trilinear, size); };
    };
    check_values(run_one(x, up({1, 1, 4})), {0, 0.25, 0.75, 1});
    check_values(run_one(x, up({2, 1, 3})), {0, 0.5, 1, 0, 0.5, 1});
    const Tensor cube = tensor(Shape{1, 1, 2, 2, 1}, {0, 1, 2, 3});
    check_values(run_one(cube, up({4, 2, 1})), {0, 1, 0.5, 1.5, 1.5, 2.5, 2, 3});
}

TEST_CASE("nearest upsampling repeats the voxel floor(i * in / out)") {
    const Tensor x = tensor(Shape{1, 1, 1, 2, 2}, {1, 2, 3, 4});
    const auto y = run_one(x, [](GraphBuilder& b, NodeId n) {
        return b.upsample("u", n, Interpolation::nearest, {1, 3, 4});
    });
    check_values(y, {1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4});
}

TEST_CASE("adaptive average pooling takes PyTorch's overlapping windows") {
    const Tensor x = tensor(Shape{1, 1, 1, 1, 5}, {1, 2, 3, 4, 5});
    const auto y = run_one(x, [](GraphBuilder& b, NodeId n) { return b.adaptive_avg_pool("p", n, {1, 1, 3}); });
    check_values(y, {1.5, 3, 4.5}); // windows [0,2) [1,4) [3,5)
}

TEST_CASE("max pooling drops the windows that pass the border") {
    const Tensor x = tensor(Shape{1, 1, 1, 2, 5}, {1, 2, 3, 9, 8, 7, -6, 5, 4, 3});
    const auto y = run_one(x, [](GraphBuilder& b, NodeId n) {
        return b.max_pool("p", n, MaxPool{{1, 2, 2}, {1, 2, 2}});
    });
    check_values(y, {7, 9});
}

// OpenCV's own maximum passes over a NaN; what comes out of a network is checked for every backend.
TEST_CASE("max pooling keeps a NaN wherever it stands in its window, on every backend but OpenCV's") {
    GraphBuilder builder;
    builder.output(builder.max_pool("p", builder.input(Shape{1, 1, 1, 2, 8}), MaxPool{{1, 2, 2}, {1, 2, 2}}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    for (const Backend* backend : test::usable_backends())
        for (std::int64_t spoiled = 0; spoiled < 16 && backend->name() != "opencv"; ++spoiled) {
            INFO(backend->name() << ", NaN at " << spoiled);
            Tensor x(Shape{1, 1, 1, 2, 8}, 1.0F);
            x[spoiled] = std::nanf("");
            const auto y = test::run(*backend, *graph, {}, x);
            REQUIRE_OK(y);
            for (std::int64_t window = 0; window < 4; ++window)
                CHECK(std::isnan((*y)[window]) == (window == spoiled % 8 / 2));
        }
}

TEST_CASE("normalisations follow their formulas") {
    const Tensor x = tensor(Shape{1, 2, 1, 1, 2}, {1, 3, 10, 10});
    Weights weights;
    weights.emplace("n.weight", tensor(Shape{2}, {2, 3}));
    weights.emplace("n.bias", tensor(Shape{2}, {0.5, -1}));
    check_values(run_one(
                     x, [](GraphBuilder& b, NodeId n) { return b.instance_norm("n", n, 1.0); }, weights),
                 {0.5 - 2 / std::sqrt(2.0), 0.5 + 2 / std::sqrt(2.0), -1, -1});
    weights.emplace("n.running_mean", tensor(Shape{2}, {1, 4}));
    weights.emplace("n.running_var", tensor(Shape{2}, {3, 8}));
    check_values(run_one(
                     x, [](GraphBuilder& b, NodeId n) { return b.batch_norm("n", n, 1.0); }, weights),
                 {0.5, 2.5, 5, 5});
}

TEST_CASE("softmax runs over channels and survives large logits") {
    const Tensor x = tensor(Shape{1, 2, 1, 1, 2}, {1000, 0, 1000, std::log(3.0F)});
    check_values(run_one(x, [](GraphBuilder& b, NodeId n) { return b.softmax("s", n); }), {0.5, 0.25, 0.5, 0.75});
}

TEST_CASE("results do not depend on the number of threads") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 4, 7, 9, 8});
    const NodeId c = builder.conv("c", x, Conv{.out_channels = 6, .kernel = {3, 3, 3}, .padding = {1, 1, 1}});
    builder.output(builder.softmax("s", builder.instance_norm("n", c)));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    const Weights weights = test::random_weights(*graph, 3);
    const Tensor input = test::random_tensor(Shape{1, 4, 7, 9, 8}, 4);
    const Backend& reference = **find_backend("reference");
    const auto one = test::run(reference, *graph, weights, input, {.threads = 1});
    const auto five = test::run(reference, *graph, weights, input, {.threads = 5});
    REQUIRE_OK(one);
    REQUIRE_OK(five);
    CHECK(std::equal(one->values().begin(), one->values().end(), five->values().begin()));
}

TEST_CASE("backends are found by name, and wrong names are told apart") {
    CHECK(backends().back()->name() == "reference");
    REQUIRE_OK(find_backend("auto"));
    CHECK((*find_backend("auto")) == test::usable_backends().front());
    REQUIRE_CODE(find_backend("tensorflow"), backend_unknown);
}

TEST_CASE("a precision that a backend does not have is rejected, not replaced") {
    GraphBuilder builder;
    builder.output(builder.conv("c", builder.input(Shape{1, 2, 3, 3, 3}), Conv{.out_channels = 2}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    const Weights weights = test::random_weights(*graph, 1);
    for (const Backend* backend : test::usable_backends()) {
        INFO(backend->name());
        for (const Precision precision : {Precision::bf16, Precision::fp16}) {
            if (backend->unsupported(*graph, {.precision = precision}).empty())
                continue;
            CHECK(backend->name() != "cuda");
            REQUIRE_CODE(backend->compile(*graph, weights, {.precision = precision}), operation_unsupported);
            REQUIRE_CODE(backend->compile_training(*graph, weights, {.precision = precision}), operation_unsupported);
        }
        CHECK(backend->unsupported(*graph, {.precision = Precision::f32}).empty());
    }
}

TEST_CASE("TF32 and unequal bits are rejected by backends that have neither") {
    GraphBuilder builder;
    builder.output(builder.conv("c", builder.input(Shape{1, 2, 3, 3, 3}), Conv{.out_channels = 2}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    const Weights weights = test::random_weights(*graph, 1);
    for (const Backend* backend : test::usable_backends()) {
        INFO(backend->name());
        const bool has_them = backend->name() == "cuda";
        for (const auto& [tf32, deterministic] : {std::pair{true, true}, {false, false}}) {
            const auto compiled =
                backend->compile(*graph, weights, {.allow_tf32 = tf32, .deterministic = deterministic});
            const auto training =
                backend->compile_training(*graph, weights, {.allow_tf32 = tf32, .deterministic = deterministic});
            CHECK(compiled.ok() == has_them);
            CHECK(training.ok() == has_them);
            if (has_them)
                continue;
            REQUIRE_CODE(compiled, operation_unsupported);
            REQUIRE_CODE(training, operation_unsupported);
            CHECK(compiled.error().message.find(tf32 ? "TF32" : "equal bits") != std::string::npos);
        }
    }
}

TEST_CASE("compile rejects weights that do not belong to the graph") {
    GraphBuilder builder;
    builder.output(builder.conv("c", builder.input(Shape{1, 2, 3, 3, 3}), Conv{.out_channels = 2}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    for (const Backend* backend : test::usable_backends()) {
        INFO(backend->name());
        Weights weights = test::random_weights(*graph, 1);
        weights.emplace("stray", Tensor(Shape{1}, 0.0F));
        REQUIRE_CODE(backend->compile(*graph, weights, {}), model_tensor_extra);
        weights.clear();
        REQUIRE_CODE(backend->compile(*graph, weights, {}), model_tensor_missing);
        weights.emplace("c.weight", Tensor(Shape{2, 1, 1, 1, 1}, 0.0F));
        REQUIRE_CODE(backend->compile(*graph, weights, {}), model_tensor_shape);
    }
}
