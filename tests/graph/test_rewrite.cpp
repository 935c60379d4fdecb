// SPDX-License-Identifier: MIT
// Folding BatchNorm preserves results; ops are fused exactly where they may be.
#include "graph/rewrite.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/network_runs.h"

#include <functional>

using namespace mfres;

namespace {

Graph finished(GraphBuilder& builder, std::initializer_list<NodeId> outputs) {
    for (const NodeId output : outputs)
        builder.output(output);
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

Conv point(std::int64_t channels, bool bias = false) {
    Conv conv;
    conv.out_channels = channels;
    conv.bias = bias;
    return conv;
}

int count(const Graph& graph, OpKind kind) {
    int found = 0;
    for (const Node& node : graph.nodes())
        found += node.kind() == kind ? 1 : 0;
    return found;
}

/// "main [+ residual] [kind] -> output" of every op.
std::vector<std::string> described(const Graph& graph) {
    std::vector<std::string> all;
    for (const FusedOp& op : fuse_ops(graph)) {
        std::string line = graph.node(op.main).name;
        if (op.residual)
            line += " + " + graph.node(*op.residual).name;
        if (op.activation.kind == Activation::Kind::relu)
            line += " relu";
        if (op.activation.kind == Activation::Kind::leaky_relu)
            line += " leaky_relu";
        if (op.output != op.main)
            line += " -> " + graph.node(op.output).name;
        all.push_back(line);
    }
    return all;
}

using Lines = std::vector<std::string>;

} // namespace

TEST_CASE("folded networks compute what unfolded ones compute, running statistics included") {
    for (
        const char* json :
        {R"({"network": "mf-res2net", "widths": [8, 16], "decoder": [8, 8], "units": [2, 1], "decoder_units": [1, 2]})",
         R"({"network": "mf-res2net", "widths": [8, 8], "decoder": [8, 4], "units": [1, 1], "decoder_units": [1, 1],
              "order": "pre"})",
         R"({"network": "dmfnet", "n": 8, "channels": 8, "groups": 4})",
         R"({"network": "3d-espnet", "widths": [4, 8, 8, 16], "spatial_kernels": [3, 5]})",
         R"({"network": "3d-unet", "widths": [4, 8, 8], "decoder_convs": [1, 2]})",
         R"({"network": "3d-unetpp", "widths": [4, 4, 8]})", R"({"network": "no-new-net", "widths": [4, 4, 8]})"}) {
        INFO(json);
        const auto variant = parse_variant(json);
        REQUIRE_OK(variant);
        const auto graph = build_network(*variant, {16, 32, 16});
        REQUIRE_OK(graph);
        const Weights weights = test::random_weights(*graph, 11);
        const auto folded = fold_batch_norm(*graph, weights);
        REQUIRE_OK(folded);
        REQUIRE_OK(check_weights(folded->graph, folded->weights));
        CHECK(fold_batch_norm(*graph).size() == folded->graph.size());

        const Tensor input = test::random_tensor({1, 4, 16, 32, 16}, 12);
        const Tensor expected = test::run_reference(*graph, weights, input);
        const Tensor actual = test::run_reference(folded->graph, folded->weights, input);
        CHECK(test::largest(expected) > 1e-3);
        CHECK(test::largest_difference(actual, expected) <= 1e-4 * test::largest(expected));
    }
}

TEST_CASE("every BatchNorm of mf-res2net folds, those in front of convolutions stay") {
    const auto mf = build_network(*parse_variant("mf-res2net"), {32, 32, 32});
    REQUIRE_OK(mf);
    CHECK(count(*mf, OpKind::batch_norm) == 104);
    const Graph folded = fold_batch_norm(*mf);
    CHECK(count(folded, OpKind::batch_norm) == 0);
    CHECK(count(folded, OpKind::conv) == 105);
    CHECK(folded.size() == mf->size() - 104);

    // dmfnet: a BatchNorm folds only into a convolution whose value nobody else reads, which within its units is the
    // case behind conv1x1x1_in1, behind conv1x1x1_in2 of plain units, and behind conv3x3x3_m1 of plain units.
    const auto dmf = build_network(*parse_variant("dmfnet"), {32, 32, 32});
    REQUIRE_OK(dmf);
    const int removed = count(*dmf, OpKind::batch_norm) - count(fold_batch_norm(*dmf), OpKind::batch_norm);
    CHECK(removed == 12 + 6 + 6);
}

TEST_CASE("a BatchNorm folds with its formula, an existing bias included") {
    GraphBuilder builder;
    NodeId x = builder.input({1, 1, 1, 1, 1});
    x = builder.batch_norm("n", builder.conv("c", x, point(1, true)), 1.0);
    const Graph graph = finished(builder, {x});
    Weights weights;
    const auto put = [&](const char* name, const Shape& shape, float value) {
        weights.emplace(name, Tensor(shape, value));
    };
    put("c.weight", {1, 1, 1, 1, 1}, 4.0F);
    put("c.bias", {1}, 5.0F);
    put("n.weight", {1}, 3.0F);
    put("n.bias", {1}, 7.0F);
    put("n.running_mean", {1}, 2.0F);
    put("n.running_var", {1}, 8.0F);
    const auto folded = fold_batch_norm(graph, weights);
    REQUIRE_OK(folded);
    // scale = 3 / sqrt(8 + 1) = 1: w' = 4, b' = 7 + (5 - 2) * 1 = 10.
    CHECK(folded->weights.at("c.weight")[0] == Approx(4.0));
    CHECK(folded->weights.at("c.bias")[0] == Approx(10.0));
    CHECK(folded->weights.size() == 2);

    Weights large = weights;
    large.at("c.weight")[0] = 1e38F;
    large.at("n.weight")[0] = 1e38F;
    REQUIRE_CODE(fold_batch_norm(graph, large), model_not_finite);

    weights.erase("n.running_var");
    REQUIRE_CODE(fold_batch_norm(graph, weights), model_tensor_missing);
}

TEST_CASE("values that somebody else needs are not folded away") {
    GraphBuilder shared;
    NodeId x = shared.input({1, 2, 2, 2, 2});
    NodeId c = shared.conv("c", x, point(2));
    CHECK(fold_batch_norm(finished(shared, {shared.sum("s", {c, shared.batch_norm("n", c)})})).size() == 4);

    GraphBuilder visible;
    x = visible.input({1, 2, 2, 2, 2});
    c = visible.conv("c", x, point(2));
    const NodeId n = visible.batch_norm("n", c);
    const Graph kept = fold_batch_norm(finished(visible, {c, n}));
    CHECK(kept.size() == 3);
    CHECK(kept.outputs() == std::vector<NodeId>{1, 2});

    GraphBuilder last;
    x = last.input({1, 2, 2, 2, 2});
    const Graph folded = fold_batch_norm(finished(last, {last.batch_norm("n", last.conv("c", x, point(2)))}));
    CHECK(folded.size() == 2);
    CHECK(folded.outputs() == std::vector<NodeId>{1});
}

TEST_CASE("a residual and an activation are fused into a convolution") {
    GraphBuilder b;
    const NodeId x = b.input({1, 2, 2, 2, 2});
    const NodeId r = b.relu("r", x);
    const NodeId c = b.conv("c", r, point(2));
    const NodeId y = b.relu("y", b.sum("s", {c, r}));
    CHECK(described(finished(b, {y})) == Lines{"r", "c + r relu -> y"});
}

TEST_CASE("of two convolutions that are added, the later gets the add") {
    GraphBuilder b;
    const NodeId x = b.input({1, 2, 2, 2, 2});
    const NodeId c1 = b.conv("c1", x, point(2));
    const NodeId c2 = b.conv("c2", x, point(2));
    const NodeId y = b.leaky_relu("y", b.sum("s", {c1, c2}), 0.25);
    const Graph graph = finished(b, {y});
    CHECK(described(graph) == Lines{"c1", "c2 + c1 leaky_relu -> y"});
    CHECK(fuse_ops(graph)[1].activation.slope == 0.25F);
}

TEST_CASE("normalisations, additions and upsamplings take an activation, other operations do not") {
    GraphBuilder b;
    NodeId x = b.input({1, 2, 4, 4, 4});
    x = b.relu("r1", b.batch_norm("bn", x));
    x = b.relu("r2", b.instance_norm("in", x));
    x = b.relu("r3", b.max_pool("pool", x));
    x = b.relu("r4", b.upsample2("up", x));
    x = b.relu("r5", b.sum("s", {x, x}));
    x = b.relu("r6", b.scaled_add("w", {x, x}));
    x = b.softmax("soft", b.concat("cat", {x, b.slice("cut", x, 0, 1)}));
    CHECK(described(finished(b, {x})) == Lines{"bn relu -> r1", "in relu -> r2", "pool", "r3", "up relu -> r4",
                                               "s relu -> r5", "w", "r6", "cut", "cat", "soft"});
}

TEST_CASE("a sum and an activation are fused into an upsampling") {
    GraphBuilder b;
    const NodeId x = b.input({1, 2, 2, 2, 2});
    const NodeId first = b.upsample2("u1", x);
    const NodeId second = b.upsample2("u2", x, Interpolation::nearest);
    CHECK(described(finished(b, {b.relu("y", b.sum("s", {second, first}))})) == Lines{"u1", "u2 + u1 relu -> y"});
}

namespace {

/// Checks that the moved network computes the same and returns its graph.
Graph moved(const Graph& graph) {
    const Weights weights = test::random_weights(graph, 21);
    const Tensor input = test::random_tensor(graph.node(0).shape, 22);
    const Tensor expected = test::run_reference(graph, weights, input);
    const Network network = move_pointwise_before_upsample(Network{graph, weights});
    REQUIRE_OK(check_weights(network.graph, network.weights));
    const Tensor actual = test::run_reference(network.graph, network.weights, input);
    CHECK(test::largest(expected) > 1e-3);
    CHECK(test::largest_difference(actual, expected) <= 1e-5 * test::largest(expected));
    CHECK(move_pointwise_before_upsample(graph).size() == network.graph.size());
    return network.graph;
}

/// Voxels of the values that convolutions of the graph compute, largest.
std::int64_t most_convolved_voxels(const Graph& graph) {
    std::int64_t most = 0;
    for (const Node& node : graph.nodes())
        if (node.kind() == OpKind::conv)
            most = std::max(most, node.shape.elements() / node.shape[1]);
    return most;
}

} // namespace

TEST_CASE("pointwise convolutions move before the upsampling they read, bias included") {
    for (const auto mode : {Interpolation::nearest, Interpolation::trilinear}) {
        GraphBuilder b;
        const NodeId up = b.upsample("up", b.input({2, 6, 3, 4, 2}), mode, {7, 8, 5});
        const NodeId first = b.conv("c1", up, point(2, true));
        const Graph graph = finished(b, {b.sum("s", {first, b.relu("r", b.conv("c2", up, point(2, false)))})});
        const Graph after = moved(graph);
        CHECK(most_convolved_voxels(after) == 2 * 3 * 4 * 2);
        CHECK(count(after, OpKind::upsample) == 2);
    }
}

TEST_CASE("a pointwise convolution of a concat is split over what was upsampled and what was not") {
    GraphBuilder b;
    const NodeId x = b.input({1, 3, 4, 4, 6});
    const NodeId small = b.max_pool("pool", x);
    const NodeId up = b.upsample2("up", small);
    const NodeId cat = b.concat("cat", {b.relu("r", x), up, x});
    const NodeId c = b.conv("c", cat, point(4, true));
    const NodeId e = b.conv("e", x, point(4));
    const NodeId d = b.conv("d", cat, point(4));
    const Graph after = moved(finished(b, {b.concat("out", {b.relu("rc", c), b.sum("s", {e, d})})}));
    // d's two summands are added to e one after the other, without a sum of their own.
    CHECK(described(after) == Lines{"pool", "r", "c.rest", "c.high", "c.low", "c.up + c.high relu -> rc", "e", "d.rest",
                                    "d.high + e -> s.part", "d.low", "d.up + s.part -> s", "out"});
}

TEST_CASE("only enlarged values that pointwise convolutions alone read are moved past") {
    const auto unchanged = [](const std::function<NodeId(GraphBuilder&, NodeId)>& build) {
        GraphBuilder b;
        const NodeId x = b.input({1, 2, 4, 4, 4});
        const Graph graph = finished(b, {build(b, x)});
        return described(moved(graph)) == described(graph);
    };
    CHECK(unchanged([](GraphBuilder& b, NodeId x) { // more channels after than before
        return b.conv("c", b.upsample2("up", x), point(3));
    }));
    CHECK(unchanged([](GraphBuilder& b, NodeId x) { // shrinks
        return b.conv("c", b.upsample("up", x, Interpolation::trilinear, {2, 2, 2}), point(1));
    }));
    CHECK(unchanged([](GraphBuilder& b, NodeId x) { // a second consumer
        const NodeId up = b.upsample2("up", x);
        return b.sum("s", {b.conv("c", up, point(2)), up});
    }));
    CHECK(unchanged([](GraphBuilder& b, NodeId x) { // not pointwise
        Conv wide = point(1);
        wide.padding = {1, 0, 0};
        return b.conv("c", b.upsample2("up", x), wide);
    }));
    CHECK(unchanged([](GraphBuilder& b, NodeId x) { // grouped
        Conv grouped = point(2);
        grouped.groups = 2;
        return b.conv("c", b.upsample2("up", x), grouped);
    }));
}

TEST_CASE("slices are left out where only sums and concats read them, and found where they are cut from") {
    GraphBuilder b;
    const NodeId x = b.input({1, 8, 2, 2, 2});
    const NodeId convolved = b.slice("convolved", x, 0, 4);
    const NodeId summed = b.slice("summed", x, 4, 8);
    const NodeId nested = b.slice("nested", summed, 1, 3);
    const NodeId residual = b.slice("residual", x, 2, 6);
    const NodeId visible = b.slice("visible", x, 0, 2);
    const NodeId c = b.conv("c", convolved, point(4));
    const NodeId s = b.sum("s", {summed, b.sum("r", {c, residual})});
    const NodeId cat = b.concat("cat", {s, nested, visible});
    const Graph graph = finished(b, {cat, visible});
    const auto ops = remove_slices(graph, fuse_ops(graph));
    Lines left;
    for (const FusedOp& op : ops)
        left.push_back(graph.node(op.main).name);
    CHECK(left == Lines{"convolved", "residual", "visible", "c", "s", "cat"});
    const auto ranges = channel_ranges(graph, ops);
    const auto is = [&](NodeId id, NodeId value, std::int64_t begin) {
        const ChannelRange& range = ranges[static_cast<std::size_t>(id)];
        return range.value == value && range.begin == begin;
    };
    CHECK(is(summed, x, 4));
    CHECK(is(nested, x, 5));
    CHECK(is(convolved, convolved, 0));
    CHECK(is(x, x, 0));
}

TEST_CASE("nothing is fused over a value that somebody else reads or gets") {
    GraphBuilder b;
    const NodeId x = b.input({1, 2, 2, 2, 2});
    const NodeId c = b.conv("c", x, point(2));
    const NodeId r = b.relu("r", c);
    const NodeId d = b.conv("d", r, point(2));
    const NodeId s = b.sum("s", {d, c});
    const NodeId e = b.conv("e", s, point(2));
    const NodeId twice = b.sum("t", {e, e});
    const NodeId three = b.sum("u", {b.conv("f", twice, point(2)), x, r});
    const NodeId z = b.relu("z", three);
    CHECK(described(finished(b, {z, three})) == Lines{"c", "r", "d + c -> s", "e", "t", "f", "u", "z"});
}

TEST_CASE("ops of every network cover every node exactly once and in order") {
    for (const std::string& name : network_names()) {
        INFO(name);
        const auto built = build_network(*parse_variant(name), {32, 32, 32});
        REQUIRE_OK(built);
        const Graph graph = fold_batch_norm(*built);
        std::vector<int> produced(static_cast<std::size_t>(graph.size()), 0);
        produced[0] = 1;
        std::size_t fused = 0;
        for (const FusedOp& op : fuse_ops(graph)) {
            for (const NodeId input : graph.node(op.main).inputs)
                CHECK(produced[static_cast<std::size_t>(input)] == 1);
            if (op.residual)
                CHECK(produced[static_cast<std::size_t>(*op.residual)] == 1);
            CHECK(produced[static_cast<std::size_t>(op.output)]++ == 0);
            fused += op.residual ? 1 : 0;
            fused += op.activation.kind != Activation::Kind::none ? 1 : 0;
        }
        for (const NodeId output : graph.outputs())
            CHECK(produced[static_cast<std::size_t>(output)] == 1);
        CHECK(fuse_ops(graph).size() + fused + 1 == static_cast<std::size_t>(graph.size()));
    }
}
