// SPDX-License-Identifier: MIT
// Fusion groups, as onednn and native run them: their results against the reference, and against the same ops run alone.
#include "support/catch.h"
#include "support/graphs.h"
#include "support/op_cases.h"
#include "support/paths.h"
#include "support/run_graph.h"

#if defined(MFRES_WITH_ONEDNN) || defined(MFRES_WITH_NATIVE)
#include "backends/kernels/fusion_group.h"
#include "core/random.h"
#include "core/try.h"

#include "backends/kernels/pair_kernels.h"
#ifdef MFRES_WITH_NATIVE
#include "backends/native/inference.h"
#endif
#ifdef MFRES_WITH_ONEDNN
#include "backends/onednn/inference.h"
#endif

#include <cmath>

using namespace mfres;
using test::finished;
using test::network;

namespace {

/// Forms every group that is possible, whatever the predicted gain.
FusionModel eager() {
    FusionModel model;
    model.min_gain = -1e30;
    return model;
}

Result<std::unique_ptr<Executable>> compiled(const Network& form, int threads, const FusionModel* model) {
    MFRES_TRY(auto pool, ThreadPool::create({.threads = threads}));
#ifdef MFRES_WITH_NATIVE
    return native::compile_inference(form, std::move(pool), model);
#else
    return onednn::compile_inference(form, std::move(pool), model);
#endif
}

struct Outcome {
    Tensor values;
    int groups = 0; ///< of several ops
};

Outcome outcome(const Graph& graph, const Tensor& input, int threads, const FusionModel* model) {
    const auto network = inference_form(graph, test::random_weights(graph, 3));
    REQUIRE_OK(network);
    auto executable = compiled(*network, threads, model);
    REQUIRE_OK(executable);
    const auto values = test::run(**executable, input);
    REQUIRE_OK(values);
    Outcome result{*values, 0};
    for (const Chosen& op : (*executable)->chosen())
        result.groups += op.implementation.rfind("mfres:fused", 0) == 0;
    // A second run does not depend on the first.
    const auto again = test::run(**executable, input);
    REQUIRE_OK(again);
    REQUIRE(std::equal(values->values().begin(), values->values().end(), again->values().begin()));
    return result;
}

/// Parts of a volume: a ball, one voxel, random spans, nothing.
std::vector<LineSpans> parts_of(const Shape& shape) {
    const LineSpans::Size size = {shape[2], shape[3], shape[4]};
    std::vector<LineSpans> parts(4, LineSpans(size));
    Random random(7);
    const auto below = [&](std::int64_t bound) {
        return static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(bound)));
    };
    parts[1].add(size[0] / 2, size[1] / 2, size[2] / 2, size[2] / 2 + 1);
    for (std::int64_t x = 0; x < size[0]; ++x)
        for (std::int64_t y = 0; y < size[1]; ++y) {
            const auto along = [](std::int64_t at, std::int64_t edge) {
                return 2.0 * (static_cast<double>(at) + 0.5) / static_cast<double>(edge) - 1.0;
            };
            for (std::int64_t z = 0; z < size[2]; ++z)
                if (std::hypot(along(x, size[0]), along(y, size[1]), along(z, size[2])) < 0.7)
                    parts[0].add(x, y, z, z + 1);
            const std::int64_t from = below(size[2]);
            if (below(4) == 0)
                parts[2].add(x, y, from, from + 1 + below(size[2] - from));
        }
    return parts;
}

/// Compares runs for parts of the output, bit for bit, with the run for all of it.
void check_parts(Executable& executable, const Tensor& input) {
    const auto whole = test::run(executable, input);
    REQUIRE_OK(whole);
    const Shape& shape = whole->shape();
    for (const LineSpans& needed : parts_of(shape)) {
        REQUIRE_OK(executable.compute_only(needed));
        const auto part = test::run(executable, input);
        REQUIRE_OK(part);
        std::int64_t different = 0;
        std::int64_t not_finite = 0;
        std::int64_t index = 0;
        for (std::int64_t row = 0; row < shape[0] * shape[1]; ++row)
            for (std::int64_t x = 0; x < shape[2]; ++x)
                for (std::int64_t y = 0; y < shape[3]; ++y)
                    for (std::int64_t z = 0; z < shape[4]; ++z, ++index) {
                        const LineSpan line = needed.line(x, y);
                        const float value = (*part)[index];
                        not_finite += std::isfinite(value) ? 0 : 1;
                        different += line.begin <= z && z < line.end && value != (*whole)[index] ? 1 : 0;
                    }
        CHECK(different == 0);
        CHECK(not_finite == 0);
    }
    REQUIRE_OK(executable.compute_only(LineSpans()));
    const auto again = test::run(executable, input);
    REQUIRE_OK(again);
    CHECK(std::equal(whole->values().begin(), whole->values().end(), again->values().begin()));
}

void check_parts(const Graph& graph, const Tensor& input, int threads, const FusionModel* model) {
    const auto network = inference_form(graph, test::random_weights(graph, 3));
    REQUIRE_OK(network);
    auto executable = compiled(*network, threads, model);
    REQUIRE_OK(executable);
    check_parts(**executable, input);
}

/// The number of groups, after a comparison with the reference and with other numbers of threads.
int check(const std::string& name, const Graph& graph) {
    INFO(name);
    const FusionModel model = eager();
    const Tensor input = test::random_tensor(graph.node(graph.input()).shape, 4);
    const auto truth = test::run_double(graph, test::random_weights(graph, 3), input);
    const Outcome fused = outcome(graph, input, 1, &model);
    CHECK(test::normalised_squared_error(fused.values, truth) <= 1e-11);
    for (const int threads : {2, 3}) {
        const Outcome other = outcome(graph, input, threads, &model);
        CHECK(std::equal(fused.values.values().begin(), fused.values.values().end(), other.values.values().begin()));
    }
    check_parts(graph, input, 2, &model);
    return fused.groups;
}

Conv same(std::int64_t channels, const Axes& kernel, bool bias = false) {
    return {.out_channels = channels,
            .kernel = kernel,
            .padding = {kernel[0] / 2, kernel[1] / 2, kernel[2] / 2},
            .bias = bias};
}

struct UnitShape {
    std::int64_t from, width, splits;
    bool normalised;
};

/// A unit as MF-RES2Net has them, with a convolution on the shortcut where the width changes.
NodeId unit(GraphBuilder& b, const std::string& name, NodeId x, const UnitShape& shape) {
    const auto layer = [&](const std::string& layer_name, NodeId from, const Conv& conv) {
        NodeId y = b.conv(layer_name, from, conv);
        if (shape.normalised)
            y = b.batch_norm(layer_name + ".bn", y);
        return y;
    };
    const auto active = [&](const std::string& layer_name, NodeId from, const Conv& conv) {
        return b.relu(layer_name + ".relu", layer(layer_name, from, conv));
    };
    NodeId y = active(name + ".mf1", x, same(std::max<std::int64_t>(1, shape.from / 4), {1, 1, 1}));
    y = active(name + ".mf2", y, same(shape.from, {1, 1, 1}));
    y = active(name + ".in", y, same(shape.width, {1, 1, 1}));
    const std::int64_t part = shape.width / shape.splits;
    std::vector<NodeId> parts{b.slice(name + ".x1", y, 0, part)};
    for (std::int64_t i = 1; i < shape.splits; ++i) {
        const std::string n = std::to_string(i + 1);
        NodeId piece = b.slice(name + ".x" + n, y, i * part, (i + 1) * part);
        if (i > 1)
            piece = b.sum(name + ".sum" + n, {piece, parts.back()});
        parts.push_back(active(name + ".k" + n, piece, same(part, {3, 3, 1})));
    }
    y = shape.splits > 1 ? b.concat(name + ".concat", parts) : y;
    y = active(name + ".fuse1", y, same(shape.width, {1, 1, 1}));
    y = layer(name + ".fuse2", y, same(shape.width, {1, 3, 3}, true));
    const NodeId shortcut = shape.from == shape.width ? x : layer(name + ".shortcut", x, same(shape.width, {1, 1, 1}));
    return b.relu(name + ".relu", b.sum(name + ".add", {y, shortcut}));
}

} // namespace

TEST_CASE("a fused unit computes what the reference does, for any width, split, size and batch") {
    if (!kernels::can_fuse()) {
        std::printf("SKIPPED: this processor has no vector instructions for fusion groups\n");
        return;
    }
    const std::vector<UnitShape> shapes = {{16, 16, 4, true}, {16, 8, 4, true},   {48, 16, 4, true}, {8, 4, 4, false},
                                           {4, 12, 2, true},  {20, 20, 4, false}, {7, 5, 1, true},   {12, 18, 3, true},
                                           {5, 3, 3, false},  {16, 20, 5, true}};
    const std::vector<Axes> sizes = {{5, 6, 7}, {16, 3, 16}, {1, 1, 1}, {40, 9, 20}, {2, 17, 33}};
    for (const UnitShape& shape : shapes)
        for (const Axes& size : sizes) {
            const std::int64_t batch = size[0] == 5 ? 2 : 1;
            GraphBuilder b;
            const NodeId x = b.input(Shape{batch, shape.from, size[0], size[1], size[2]});
            const Graph graph = finished(b, unit(b, "unit", x, shape));
            CHECK(check(text("unit ", shape.from, " to ", shape.width, " in ", shape.splits, " at ", size[0], "x",
                             size[1], "x", size[2]),
                        graph) == 1);
        }
}

TEST_CASE("a fusion group filters its last convolution along y where that saves more than it costs") {
    if (!kernels::can_fuse())
        return;
    const FusionModel model = eager();
    for (const std::int64_t width : {4, 8, 16}) {
        GraphBuilder b;
        const NodeId x = b.input(Shape{1, 16, 4, 8, 16});
        const Graph graph = finished(b, unit(b, "unit", x, {16, width, 4, true}));
        const auto network = inference_form(graph, test::random_weights(graph, 3));
        REQUIRE_OK(network);
        auto executable = compiled(*network, 1, &model);
        REQUIRE_OK(executable);
        const auto chosen = (*executable)->chosen();
        CHECK(std::any_of(chosen.begin(), chosen.end(),
                          [](const Chosen& op) { return op.implementation.ends_with(", winograd"); }) == (width >= 8));
    }
}

TEST_CASE("a fused decoder level computes what the reference does: upsampling, skip, unit, head") {
    if (!kernels::can_fuse())
        return;
    for (const Axes& size : {Axes{3, 4, 5}, Axes{8, 8, 16}, Axes{1, 2, 1}, Axes{20, 3, 9}, Axes{3, 4, 33}})
        for (const bool skip : {false, true})
            for (const std::int64_t from : {16, 13}) {
                GraphBuilder b;
                const NodeId x = b.input(Shape{2, from, size[0], size[1], size[2]});
                // The skip is a map of the doubled grid that is computed first.
                NodeId up = b.upsample2("up", x);
                if (skip) {
                    const NodeId fine = b.upsample2("fine", b.conv("thin", x, same(4, {1, 1, 1}, true)));
                    up = b.concat("concat", {up, b.conv("skip", fine, same(6, {3, 3, 3}, true))});
                }
                const NodeId y = unit(b, "unit", up, {from + (skip ? 6 : 0), 8, 4, true});
                const Graph graph = finished(b, b.conv("head", y, same(4, {1, 1, 1}, true)));
                CHECK(check(text("decoder from ", from, skip ? " with" : " without", " skip at ", size[0], "x", size[1],
                                 "x", size[2]),
                            graph) >= 1);
            }
}

TEST_CASE("a fusion group takes every kind of op it may hold, and no other") {
    if (!kernels::can_fuse())
        return;
    const Shape shape{1, 6, 7, 8, 9};
    GraphBuilder b;
    const NodeId x = b.input(shape);
    const NodeId a = b.leaky_relu("a.active", b.conv("a", x, same(5, {3, 3, 3}, true)), 0.2);
    const NodeId joined = b.concat("joined", {a, x, b.slice("cut", x, 1, 4)}); // parts from outside
    const NodeId c = b.conv("c", joined, same(6, {3, 1, 3}));
    const NodeId d = b.relu("d", b.sum("three", {c, x, b.leaky_relu("leaky", c, 0.1)}));
    CHECK(check("every kind", finished(b, b.conv("e", d, same(3, {1, 3, 1})))) == 1);

    GraphBuilder strange;
    NodeId y = strange.input(Shape{1, 8, 6, 6, 6});
    y = strange.conv("grouped", y, Conv{.out_channels = 8, .kernel = {3, 3, 3}, .padding = {1, 1, 1}, .groups = 2});
    y = strange.conv("dilated", y,
                     Conv{.out_channels = 8, .kernel = {3, 3, 3}, .dilation = {2, 2, 2}, .padding = {2, 2, 2}});
    y = strange.instance_norm("norm", y);
    y = strange.upsample("nearest", y, Interpolation::nearest, {12, 12, 12});
    y = strange.conv("wide", y, Conv{.out_channels = 4, .kernel = {5, 5, 5}, .padding = {2, 2, 2}});
    CHECK(check("nothing known", finished(strange, strange.softmax("soft", y))) == 0);
}

TEST_CASE("every operation in the table computes the same in a fusion group, where it may be in one") {
    if (!kernels::can_fuse())
        return;
    int groups = 0;
    for (const test::OpCase& each : test::op_cases()) {
        INFO(each.name);
        const FusionModel model = eager();
        const Tensor input = test::random_tensor(each.graph.node(each.graph.input()).shape, 4);
        const auto truth = test::run_double(each.graph, test::random_weights(each.graph, 3), input);
        const Outcome fused = outcome(each.graph, input, 2, &model);
        CHECK(test::normalised_squared_error(fused.values, truth) <= 1e-10);
        groups += fused.groups;
        check_parts(each.graph, input, 2, &model);
    }
    CHECK(groups >= 5);
}

TEST_CASE("every network computes the same with all possible fusion groups") {
    if (!kernels::can_fuse())
        return;
    const FusionModel model = eager();
    for (const char* name : {"mf-res2net", "dmfnet", "3d-espnet"}) {
        INFO(name);
        const Graph graph = network(name, {16, 48, 32}, 2);
        const Tensor input = test::random_tensor(graph.node(graph.input()).shape, 4);
        const Outcome fused = outcome(graph, input, 2, &model);
        const Outcome separate = outcome(graph, input, 2, nullptr);
        CHECK(separate.groups == 0);
        if (std::string(name) == "mf-res2net")
            CHECK(fused.groups >= 12); // one for each of its units, and more between them
        double difference = 0.0;
        double largest = 0.0;
        for (std::int64_t i = 0; i < fused.values.elements(); ++i) {
            difference = std::max(difference, std::abs(double{fused.values[i]} - double{separate.values[i]}));
            largest = std::max(largest, std::abs(double{separate.values[i]}));
        }
        CHECK(difference <= 1e-4 * largest);
        check_parts(graph, input, 2, &model);
    }
}

#ifdef MFRES_WITH_ONEDNN
TEST_CASE("convolutions of a fusion group in bf16 are the reference's") {
    if (!kernels::can_fuse() || !kernels::pair_kernels()) {
        std::printf("SKIPPED: this processor has no AVX512-BF16\n");
        return;
    }
    const FusionModel model = eager();
    const CompileOptions options{.threads = 2, .precision = Precision::bf16};
    // Splits of one channel, and widths that are odd, stay in f32.
    for (const UnitShape& shape : {UnitShape{16, 16, 4, true}, UnitShape{16, 8, 4, true}, UnitShape{8, 24, 2, false},
                                   UnitShape{8, 4, 4, true}, UnitShape{7, 6, 1, true}})
        for (const Axes& size : {Axes{5, 6, 7}, Axes{20, 3, 70}, Axes{3, 4, 16}}) {
            INFO(shape.from << " to " << shape.width << " in " << shape.splits << ", " << size[2] << " along z");
            // Neither the first nor the last convolution of the network, which stay in f32.
            GraphBuilder b;
            const NodeId x = b.relu("positive", b.input(Shape{1, shape.from, size[0], size[1], size[2]}));
            const NodeId y = b.max_pool("pool", unit(b, "unit", x, shape), {{1, 1, 1}, {1, 1, 1}});
            const Graph graph = finished(b, y);
            const Weights weights = test::random_weights(graph, 3);
            const Tensor input = test::random_tensor(graph.node(graph.input()).shape, 4);
            const auto truth = test::run(**find_backend("reference"), graph, weights, input, options);
            REQUIRE_OK(truth);
            for (const int threads : {1, 3}) {
                auto pool = ThreadPool::create({.threads = threads});
                REQUIRE_OK(pool);
                auto executable = onednn::compile_inference(*inference_form(graph, weights), *pool, &model, options);
                REQUIRE_OK(executable);
                const auto chosen = (*executable)->chosen();
                CHECK(std::any_of(chosen.begin(), chosen.end(), [](const Chosen& op) {
                    return op.implementation.find("mfres:fused:AVX512-BF16") == 0;
                }));
                const auto values = test::run(**executable, input);
                REQUIRE_OK(values);
                if (shape.from % 8 == 0 && shape.width / shape.splits % 2 == 0)
                    CHECK(test::normalised_squared_error(*values, truth->values()) <= 1e-8);
                else // the reference rounds what odd numbers of channels leave in f32
                    CHECK(test::normalised_squared_error(*values, truth->values()) <= 1e-4);
                check_parts(**executable, input);
            }
        }
}
#endif

TEST_CASE("NaN passes through a fusion group") {
    if (!kernels::can_fuse())
        return;
    GraphBuilder b;
    const NodeId x = b.input(Shape{1, 4, 6, 6, 6});
    const Graph graph = finished(b, unit(b, "unit", x, {4, 4, 4, false}));
    Tensor input = test::random_tensor(Shape{1, 4, 6, 6, 6}, 4);
    input[100] = std::numeric_limits<float>::quiet_NaN();
    const FusionModel model = eager();
    const auto values = test::run(**compiled(*inference_form(graph, test::random_weights(graph, 3)), 1, &model), input);
    REQUIRE_OK(values);
    CHECK(std::any_of(values->values().begin(), values->values().end(), [](float v) { return std::isnan(v); }));
}
#endif
