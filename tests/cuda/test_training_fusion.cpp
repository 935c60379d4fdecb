// SPDX-License-Identifier: MIT
// What this backend alone fuses in training: where convolutions of the same value run as one and slices are not stored, and
// that nothing comes out otherwise.
#include "backends/planned/rematerialization.h"
#include "cuda/on_host.h"
#include "support/catch.h"
#include "support/check_backend.h"
#include "support/loss_cases.h"
#include "support/rank_cases.h"
#include "support/ranks.h"

#include <algorithm>
#include <vector>

using namespace mfres;

namespace {

constexpr Conv pointwise(std::int64_t channels) {
    return Conv{.out_channels = channels};
}

constexpr Conv cubic(std::int64_t channels) {
    return Conv{.out_channels = channels, .kernel = {3, 3, 3}, .padding = {1, 1, 1}};
}

NodeId normed(GraphBuilder& builder, const std::string& name, NodeId x) {
    return builder.relu(name + ".relu", builder.batch_norm(name + ".bn", x));
}

/// Around one value: five pointwise convolutions that can be one, whose results a norm with and without an activation, norms
/// of one sum and an upsampling read; two of 3 x 3 x 3; and some that are like them but for a bias, groups or who reads them.
Graph branches(std::int64_t batch = 2) {
    GraphBuilder builder;
    const NodeId x = normed(builder, "stem", builder.conv("stem", builder.input(Shape{batch, 3, 4, 6, 2}), cubic(8)));
    const NodeId up = builder.upsample2("up", builder.conv("p1", x, pointwise(3)));
    const NodeId a = normed(builder, "p2", builder.conv("p2", x, pointwise(4)));
    Conv biased = pointwise(4);
    biased.bias = true;
    const NodeId b = builder.upsample2("biased.up", builder.conv("biased", x, biased));
    Conv grouped = pointwise(4);
    grouped.groups = 2;
    const NodeId c = normed(builder, "grouped", builder.conv("grouped", x, grouped));
    const NodeId d = builder.relu("direct.relu", builder.conv("direct", x, pointwise(5)));
    const NodeId p3 = builder.instance_norm("p3.in", builder.conv("p3", x, pointwise(6)));
    const NodeId p4 = builder.batch_norm("p4.bn", builder.conv("p4", x, pointwise(6)));
    const NodeId e = builder.leaky_relu("sum.relu", builder.sum("sum", {p3, p4}), 0.1);
    const NodeId f = normed(builder, "c1", builder.conv("c1", x, cubic(2)));
    const NodeId g = normed(builder, "c2", builder.conv("c2", builder.concat("inner", {f, a}), cubic(2)));
    const NodeId h = builder.batch_norm("c3.bn", builder.conv("c3", x, cubic(1)));
    const NodeId all = builder.concat("all", {a, c, d, e, f, g, h});
    const NodeId fine =
        builder.concat("fine", {up, b, builder.upsample2("all.up", builder.conv("p5", all, pointwise(7)))});
    builder.output(builder.conv("head", fine, Conv{.out_channels = 4, .bias = true}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

/// A unit whose norm is cut into a slice for a concat, one for a convolution and two that are added; a norm by sample whose
/// slices overlap; and norms with slices that a scaled add reads or of which all are added.
Graph slices(std::int64_t batch = 2) {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{batch, 3, 4, 6, 2});
    const auto slice = [&](const char* name, NodeId y, std::int64_t begin, std::int64_t end) {
        return builder.slice(name, y, begin, end);
    };
    const NodeId u = normed(builder, "u", builder.conv("u", x, cubic(12)));
    const NodeId k2 = normed(builder, "k2", builder.conv("k2", slice("u2", u, 3, 6), cubic(3)));
    const NodeId sum3 = builder.sum("sum3", {slice("u3", u, 6, 9), k2});
    const NodeId k3 = normed(builder, "k3", builder.conv("k3", sum3, cubic(3)));
    const NodeId sum4 = builder.relu("sum4.relu", builder.sum("sum4", {k3, slice("u4", u, 9, 12)}));
    const NodeId k4 =
        builder.leaky_relu("k4.relu", builder.instance_norm("k4.in", builder.conv("k4", sum4, cubic(3))), 0.1);
    const NodeId unit = builder.concat("unit", {slice("u1", u, 0, 3), k2, k3, k4});
    const NodeId v = builder.instance_norm("v.in", builder.conv("v", unit, pointwise(8)));
    const NodeId t = builder.batch_norm("t.bn", builder.conv("t", slice("v2", v, 3, 8), cubic(5)));
    const NodeId w = builder.relu("w.relu", builder.sum("w", {t, slice("v1", v, 0, 5)}));
    const NodeId y = normed(builder, "y", builder.conv("y", w, cubic(6)));
    const NodeId halves = builder.sum("halves", {slice("y1", y, 0, 3), slice("y2", y, 3, 6)});
    const NodeId z = normed(builder, "z", builder.conv("z", w, cubic(5)));
    const NodeId weighted =
        builder.scaled_add("weighted", {slice("z1", z, 0, 2), builder.conv("s", slice("z2", z, 2, 5), cubic(2))});
    const NodeId all = builder.concat("all", {halves, weighted});
    builder.output(builder.conv("head", all, Conv{.out_channels = 4, .bias = true}));
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

/// Two steps with and without recomputation in every precision, and the gradients on several ranks.
void check_training(const Graph& graph, const std::string& name) {
    test::check_gradient_case(test::on_host(), {name, graph});
    test::TrainingSetup made = test::training_setup(graph, name);
    CHECK(test::check_recomputation(test::on_host(), graph, made) > 0);
    for (const int size : {2, 3})
        test::check_on_ranks(test::on_host(), graph, test::hash(name), size, NormStatistics::batch);
    for (double& value : made.cotangent)
        value *= 0x1p-10; // which the loss scale of fp16 does not carry beyond what it can hold
    for (const Precision precision : {Precision::bf16, Precision::fp16}) {
        INFO(to_string(precision));
        CHECK(test::check_recomputation(test::on_host(), graph, made, {.precision = precision}) > 0);
    }
}

std::vector<std::vector<std::string>> joined(const Graph& graph) {
    std::vector<std::vector<std::string>> all;
    for (const FusedTrainingOp& op : fuse_training_ops(graph, {.join_convolutions = true})) {
        if (op.joined.empty())
            continue;
        all.emplace_back();
        for (const NodeId id : op.results())
            all.back().push_back(graph.node(id).name);
    }
    return all;
}

} // namespace

TEST_CASE(
    "convolutions of one value run as one where they differ in their channels alone and channel ranges are read") {
    const Graph graph = branches();
    CHECK(joined(graph) == std::vector<std::vector<std::string>>{{"p1", "p2", "p3", "p4"}, {"c1", "c3"}});
    for (const FusedTrainingOp& op : fuse_training_ops(graph))
        CHECK(op.joined.empty());

    const auto training = test::compile_training(test::on_host(), graph, test::random_weights(graph, 1));
    std::vector<std::string> ops;
    for (const Chosen& chosen : training->chosen())
        ops.push_back(chosen.node + ": " + chosen.operation);
    for (const char* const op : {"p1: conv + conv + conv + conv", "p1: conv + conv + conv + conv backward",
                                 "c1: conv + conv", "c1: conv + conv backward", "biased: conv", "direct: conv"}) {
        INFO(op);
        CHECK(std::count(ops.begin(), ops.end(), op) == 1);
    }
    for (const char* const op : {"p2: conv", "p3: conv", "p4: conv", "c3: conv"})
        CHECK(std::count(ops.begin(), ops.end(), op) == 0);
}

TEST_CASE("gradients of joined convolutions are written to one array, which is not gathered") {
    const Graph graph = branches();
    const auto ops = fuse_training_ops(graph, {.join_convolutions = true});
    const TrainingSchedule schedule =
        schedule_training(graph, ops, std::vector<OpWorkspace>(ops.size()), {.concat_in_place = true});
    for (std::size_t i = 0; i < ops.size(); ++i) {
        if (ops[i].joined.empty())
            continue;
        const OpArrays& arrays = schedule.ops[i];
        REQUIRE(arrays.has_backward);
        CHECK(arrays.summed == -1);
        REQUIRE(arrays.gradient >= 0);
        CHECK(arrays.contributions.size() == ops[i].results().size());
        for (const GradientContribution& contribution : arrays.contributions) {
            CHECK(contribution.from.array == arrays.gradient);
            CHECK(contribution.from.begin == contribution.to);
        }
        std::int64_t channels = 0;
        std::int64_t macs = 0;
        for (const NodeId id : ops[i].results()) {
            channels += graph.node(id).shape[1];
            macs += graph.node(id).shape.elements() * graph.node(id).parameters[0].shape.elements() /
                    graph.node(id).shape[1];
        }
        CHECK(arrays.forwards[0].outputs.size() == 1);
        CHECK(arrays.forwards[0].outputs[0].channels.count == channels);
        CHECK(forward_macs(graph, ops[i]) == macs);
    }
}

TEST_CASE("joined convolutions train as the reference does, with activations computed again and on several ranks too") {
    check_training(branches(), "joined convolutions");
}

TEST_CASE("sums over ranks begin once all convolutions of a joined one are done, whatever the size of their parts") {
    const Graph graph = branches(1);
    const Weights weights = test::random_weights(graph, 1);
    const Tensor cotangent = test::random_tensor(graph.node(graph.outputs()[0]).shape, 3);
    std::vector<Weights> by_size;
    for (const std::int64_t bucket_bytes : {std::int64_t{1} << 40U, std::int64_t{1}, std::int64_t{500}}) {
        std::vector<Weights> gradients(2);
        test::require_on_ranks(2, [&](Communicator& ranks) -> Status {
            MFRES_TRY(const auto training, test::on_host().compile_training(
                                               graph, weights, {.ranks = &ranks, .bucket_bytes = bucket_bytes}));
            const auto own = static_cast<std::size_t>(ranks.rank());
            copy(view(test::random_tensor(graph.node(0).shape, 5 + own)), training->input());
            MFRES_CHECK(training->forward());
            copy(view(cotangent), training->output_gradient());
            MFRES_CHECK(training->backward());
            gradients[own] = training->gradients();
            return {};
        });
        CHECK(test::same_bits(gradients[0], gradients[1]));
        by_size.push_back(gradients[0]);
    }
    CHECK(test::same_bits(by_size[0], by_size[1]));
    CHECK(test::same_bits(by_size[0], by_size[2]));
}

TEST_CASE("a slice of a norm that an add alone reads is not stored, and the add computes it from what the norm reads") {
    const Graph graph = slices();
    std::vector<std::string> unstored;
    for (const FusedTrainingOp& op : fuse_training_ops(graph, {.unstored_slices = true})) {
        for (const NodeId slice : op.sum.unstored) {
            unstored.push_back(graph.node(slice).name);
            CHECK(std::count(op.sum.slices.begin(), op.sum.slices.end(), slice) == 0);
        }
        for (const SumOperand& operand : op.sum.operands)
            if (operand.unstored) {
                CHECK(op.sum.main == graph.consumers()[static_cast<std::size_t>(operand.value)][0]);
                CHECK(operand.unstored->x == graph.node(operand.unstored->of).inputs[0]);
                CHECK(operand.unstored->begin == graph.node(operand.value).as<Slice>().begin);
            }
    }
    CHECK(unstored == std::vector<std::string>{"u3", "u4", "v1"});
    for (const FusedTrainingOp& op : fuse_training_ops(graph))
        CHECK(op.sum.unstored.empty());
    const auto bytes = [&](const TrainingFusionRules& rules) {
        const auto ops = fuse_training_ops(graph, rules);
        return rematerialize(graph, ops, std::vector<OpWorkspace>(ops.size()), {.concat_in_place = true}, 0).bytes;
    };
    CHECK(bytes({.unstored_slices = true}) <= bytes({}));
}

TEST_CASE("slices that are not stored train as the reference does, with activations computed again and on ranks too") {
    check_training(slices(), "slices that are not stored");
}
