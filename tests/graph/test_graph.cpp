// SPDX-License-Identifier: MIT
// Shape inference of every operation, what each rejects, and the rules of building a graph.
#include "graph/graph.h"
#include "support/catch.h"

#include <functional>

using namespace mfres;

namespace {

using Build = std::function<void(GraphBuilder&, NodeId)>;

/// The error of a graph with one input [2, 6, 8, 9, 10] and whatever `build` adds.
Result<Graph> built(const Build& build) {
    GraphBuilder builder;
    const NodeId input = builder.input({2, 6, 8, 9, 10});
    build(builder, input);
    builder.output(0);
    return builder.finish();
}

void check_refused(const char* what, const std::vector<std::string>& says, const Build& build) {
    INFO(what);
    const auto graph = built(build);
    REQUIRE_CODE(graph, graph_invalid);
    CHECK(graph.error().where == "n");
    CHECK(graph.error().message.rfind("node n: ", 0) == 0);
    for (const std::string& words : says)
        CHECK(graph.error().message.find(words) != std::string::npos);
}

/// The shape of the last node that `build` adds.
Shape shape_of(const Build& build) {
    const auto graph = built(build);
    REQUIRE_OK(graph);
    return graph->node(graph->size() - 1).shape;
}

Conv conv_of(std::int64_t out, Axes kernel, Axes stride = {1, 1, 1}, Axes padding = {0, 0, 0},
             Axes dilation = {1, 1, 1}, std::int64_t groups = 1) {
    return Conv{out, kernel, stride, dilation, padding, groups, false};
}

} // namespace

TEST_CASE("convolutions infer their output from kernel, stride, dilation and padding") {
    // floor((in + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1, worked out by hand.
    const auto conv = [](const Conv& attributes) {
        return shape_of([&](GraphBuilder& b, NodeId x) { b.conv("n", x, attributes); });
    };
    CHECK(conv(conv_of(5, {1, 1, 1})) == Shape{2, 5, 8, 9, 10});
    CHECK(conv(conv_of(5, {3, 3, 3})) == Shape{2, 5, 6, 7, 8});
    CHECK(conv(conv_of(5, {3, 3, 1}, {1, 1, 1}, {1, 1, 0})) == Shape{2, 5, 8, 9, 10});
    CHECK(conv(conv_of(5, {3, 3, 3}, {2, 2, 2}, {1, 1, 1})) == Shape{2, 5, 4, 5, 5});
    CHECK(conv(conv_of(5, {3, 3, 3}, {1, 2, 3}, {0, 2, 4}, {2, 2, 2})) == Shape{2, 5, 4, 5, 5});
    CHECK(conv(conv_of(9, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}, {1, 1, 1}, 3)) == Shape{2, 9, 4, 4, 5});
    CHECK(conv(conv_of(1, {8, 9, 10})) == Shape{2, 1, 1, 1, 1});
}

TEST_CASE("parameters have the names, shapes and roles of the field") {
    const auto graph = built([](GraphBuilder& b, NodeId x) {
        Conv conv = conv_of(9, {3, 2, 1}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 3);
        conv.bias = true;
        const NodeId c = b.conv("c", x, conv);
        const NodeId n = b.batch_norm("n", c);
        const NodeId i = b.instance_norm("i", n);
        b.scaled_add("s", {c, n, i});
    });
    REQUIRE_OK(graph);
    std::vector<std::string> names;
    for (const Node& node : graph->nodes())
        for (const Parameter& parameter : node.parameters)
            names.push_back(parameter.name + " " + to_string(parameter.shape) +
                            (parameter.learnable() ? "" : " state"));
    CHECK(names == std::vector<std::string>{"c.weight 9x2x3x2x1", "c.bias 9", "n.weight 9", "n.bias 9",
                                            "n.running_mean 9 state", "n.running_var 9 state", "i.weight 9", "i.bias 9",
                                            "s.weight1 1", "s.weight2 1", "s.weight3 1"});
}

TEST_CASE("the other operations infer their shapes") {
    const Shape input{2, 6, 8, 9, 10};
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.batch_norm("n", x); }) == input);
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.instance_norm("n", x); }) == input);
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.relu("n", x); }) == input);
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.leaky_relu("n", x, 0.1); }) == input);
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.softmax("n", x); }) == input);
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.sum("n", {x, x, x}); }) == input);
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.scaled_add("n", {x, x}); }) == input);
    CHECK(shape_of([](GraphBuilder& b, NodeId x) {
              b.concat("n", {x, b.slice("s", x, 1, 3), x});
          }) == Shape{2, 14, 8, 9, 10});
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.slice("n", x, 2, 6); }) == Shape{2, 4, 8, 9, 10});
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.max_pool("n", x); }) == Shape{2, 6, 4, 4, 5});
    CHECK(shape_of([](GraphBuilder& b, NodeId x) {
              b.max_pool("n", x, {{3, 2, 1}, {1, 3, 4}});
          }) == Shape{2, 6, 6, 3, 3});
    CHECK(shape_of([](GraphBuilder& b, NodeId x) {
              b.adaptive_avg_pool("n", x, {3, 9, 20});
          }) == Shape{2, 6, 3, 9, 20});
    CHECK(shape_of([](GraphBuilder& b, NodeId x) {
              b.upsample("n", x, Interpolation::nearest, {1, 30, 10});
          }) == Shape{2, 6, 1, 30, 10});
    CHECK(shape_of([](GraphBuilder& b, NodeId x) { b.upsample2("n", x); }) == Shape{2, 6, 16, 18, 20});
}

TEST_CASE("every operation rejects what it cannot do, naming the node and the values") {
    using B = GraphBuilder;
    const auto conv = [](const Conv& attributes) {
        return [attributes](B& b, NodeId x) { b.conv("n", x, attributes); };
    };
    check_refused("no output channels", {"6", "0"}, conv(conv_of(0, {1, 1, 1})));
    check_refused("groups do not divide the input", {"6 to 8", "4"},
                  conv(conv_of(8, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 4)));
    check_refused("groups do not divide the output", {"6 to 8", "3"},
                  conv(conv_of(8, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 3)));
    check_refused("no groups", {"0"}, conv(conv_of(8, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 0)));
    check_refused("kernel 0", {"axis 1", "0"}, conv(conv_of(8, {1, 0, 1})));
    check_refused("stride 0", {"axis 2", "0"}, conv(conv_of(8, {1, 1, 1}, {1, 1, 0})));
    check_refused("dilation 0", {"axis 0", "0"}, conv(conv_of(8, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 1, 1})));
    check_refused("padding -1", {"axis 0", "-1"}, conv(conv_of(8, {1, 1, 1}, {1, 1, 1}, {-1, 0, 0})));
    check_refused("kernel 1025", {"1025", "1024"}, conv(conv_of(8, {1025, 1, 1})));
    check_refused("kernel larger than the map", {"axis 1", "9", "10"}, conv(conv_of(8, {1, 10, 1})));
    check_refused("dilated kernel larger than the map", {"axis 0", "8", "9"},
                  conv(conv_of(8, {3, 3, 3}, {1, 1, 1}, {0, 0, 0}, {4, 1, 1})));
    check_refused("epsilon 0", {"0"}, [](B& b, NodeId x) { b.batch_norm("n", x, 0.0); });
    check_refused("epsilon negative", {"-1"}, [](B& b, NodeId x) { b.instance_norm("n", x, -1.0); });
    check_refused("sum of one", {"add", "1 inputs"}, [](B& b, NodeId x) { b.sum("n", {x}); });
    check_refused("sum of different shapes", {"2x6x8x9x10", "2x1x8x9x10"}, [](B& b, NodeId x) {
        b.sum("n", {x, b.slice("s", x, 0, 1)});
    });
    check_refused("weighted sum of different shapes", {"2x6x8x9x10", "2x6x4x4x5"}, [](B& b, NodeId x) {
        b.scaled_add("n", {x, b.max_pool("p", x)});
    });
    check_refused("concatenation of nothing", {"concat", "0 inputs"}, [](B& b, NodeId) { b.concat("n", {}); });
    check_refused("concatenation of different extents", {"2x6x8x9x10", "2x6x4x4x5"}, [](B& b, NodeId x) {
        b.concat("n", {x, b.max_pool("p", x)});
    });
    check_refused("slice beyond the channels", {"2", "7", "6"}, [](B& b, NodeId x) { b.slice("n", x, 2, 7); });
    check_refused("empty slice", {"3 to 3"}, [](B& b, NodeId x) { b.slice("n", x, 3, 3); });
    check_refused("slice from -1", {"-1"}, [](B& b, NodeId x) { b.slice("n", x, -1, 3); });
    check_refused("pooling window larger than the map", {"9", "10"}, [](B& b, NodeId x) {
        b.max_pool("n", x, {{1, 10, 1}, {1, 1, 1}});
    });
    check_refused("pooling stride 0", {"0"}, [](B& b, NodeId x) { b.max_pool("n", x, {{2, 2, 2}, {2, 0, 2}}); });
    check_refused("pooling to nothing", {"axis 2", "0"}, [](B& b, NodeId x) {
        b.adaptive_avg_pool("n", x, {1, 1, 0});
    });
    check_refused("upsampling to nothing", {"axis 0", "-4"}, [](B& b, NodeId x) {
        b.upsample("n", x, Interpolation::trilinear, {-4, 1, 1});
    });
    check_refused("too many elements", {"elements"}, [](B& b, NodeId x) {
        b.upsample("n", x, Interpolation::nearest, {1 << 20, 1 << 20, 1 << 20});
    });
    check_refused("extent beyond 31 bits", {"extent"}, [](B& b, NodeId x) {
        b.upsample("n", x, Interpolation::nearest, {std::int64_t{1} << 32, 1, 1});
    });
    check_refused("two inputs for one operation", {"relu", "2 inputs"}, [](B& b, NodeId x) {
        b.add("n", Relu{}, {x, x});
    });
    check_refused("a node that does not exist yet", {"7"}, [](B& b, NodeId) { b.relu("n", 7); });
    check_refused("a second input", {"input"}, [](B& b, NodeId) { b.add("n", Input{{1, 1, 1, 1, 1}}, {}); });
    check_refused("a name that is taken", {"'n'"}, [](B& b, NodeId x) { b.relu("n", b.relu("n", x)); });
}

TEST_CASE("inputs have five positive axes and come first") {
    GraphBuilder flat;
    flat.input({1, 4, 8, 8});
    flat.output(0);
    REQUIRE_CODE(flat.finish(), graph_invalid);
    GraphBuilder empty;
    empty.input({1, 4, 0, 8, 8});
    empty.output(0);
    REQUIRE_CODE(empty.finish(), graph_invalid);
    GraphBuilder late;
    late.relu("n", 0);
    late.output(0);
    REQUIRE_CODE(late.finish(), graph_invalid);
}

TEST_CASE("a graph needs an output, and the first error wins") {
    GraphBuilder none;
    none.input({1, 1, 2, 2, 2});
    REQUIRE_CODE(none.finish(), graph_invalid);

    GraphBuilder wrong;
    wrong.input({1, 1, 2, 2, 2});
    wrong.output(3);
    REQUIRE_CODE(wrong.finish(), graph_invalid);

    GraphBuilder builder;
    const NodeId x = builder.input({1, 1, 2, 2, 2});
    const NodeId bad = builder.slice("first", x, 0, 9);
    CHECK(bad == -1);
    CHECK(builder.shape(bad).rank() == 0);
    CHECK(builder.relu("second", bad) == -1);
    builder.fail("third", "the caller's own");
    builder.output(bad);
    const auto graph = builder.finish();
    REQUIRE_CODE(graph, graph_invalid);
    CHECK(graph.error().where == "first");

    GraphBuilder own;
    own.input({1, 1, 2, 2, 2});
    own.fail("place", "cannot be split");
    const auto failed = own.finish();
    REQUIRE_CODE(failed, graph_invalid);
    CHECK(failed.error().message == "node place: cannot be split");
}

TEST_CASE("consumers list every reader, twice where it reads twice") {
    const auto graph = built([](GraphBuilder& b, NodeId x) {
        const NodeId r = b.relu("r", x);
        b.sum("s", {r, r});
        b.concat("c", {x, r});
    });
    REQUIRE_OK(graph);
    const auto consumers = graph->consumers();
    CHECK(consumers[0] == std::vector<NodeId>{1, 3});
    CHECK(consumers[1] == std::vector<NodeId>{2, 2, 3});
    CHECK(consumers[3].empty());
    CHECK(graph->is_output(0));
    CHECK_FALSE(graph->is_output(1));
}

TEST_CASE("check_weights finds what is missing, wrong or too much") {
    const auto graph = built([](GraphBuilder& b, NodeId x) { b.batch_norm("n", x); });
    REQUIRE_OK(graph);
    Weights weights;
    for (const char* name : {"n.weight", "n.bias", "n.running_mean", "n.running_var"})
        weights.emplace(name, Tensor(Shape{6}, 1.0F));
    REQUIRE_OK(check_weights(*graph, weights));

    Weights missing = weights;
    missing.erase("n.running_var");
    REQUIRE_CODE(check_weights(*graph, missing), model_tensor_missing);
    CHECK(check_weights(*graph, missing).error().where == "n.running_var");

    Weights wrong = weights;
    wrong.insert_or_assign("n.bias", Tensor(Shape{7}, 1.0F));
    REQUIRE_CODE(check_weights(*graph, wrong), model_tensor_shape);
    CHECK(check_weights(*graph, wrong).error().message.find("7") != std::string::npos);

    Weights extra = weights;
    extra.emplace("n.other", Tensor(Shape{1}, 1.0F));
    REQUIRE_CODE(check_weights(*graph, extra), model_tensor_extra);
    CHECK(check_weights(*graph, extra).error().where == "n.other");

    Weights negative = weights;
    negative.at("n.running_var")[4] = -0.25F;
    REQUIRE_CODE(check_weights(*graph, negative), model_not_finite);
    CHECK(check_weights(*graph, negative).error().message.find("-0.25 at index 4") != std::string::npos);
    negative.at("n.running_var")[4] = 0.0F;
    REQUIRE_OK(check_weights(*graph, negative));
}
