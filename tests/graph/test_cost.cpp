// SPDX-License-Identifier: MIT
// Lower bounds of the cost of ops, against numbers worked out by hand.
#include "graph/cost.h"
#include "support/catch.h"

using namespace mfres;

TEST_CASE("an op reads its operands once and writes its result once") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 4, 6, 5, 7}); // 210 voxels
    const NodeId c = builder.conv("c", x, Conv{.out_channels = 8, .kernel = {3, 3, 1}, .padding = {1, 1, 0}});
    const NodeId s = builder.conv("s", x, Conv{.out_channels = 8, .bias = true});
    builder.output(builder.relu("r", builder.sum("a", {c, s})));
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    const auto ops = fuse_ops(*graph);
    const auto costs = op_costs(*graph, ops);
    REQUIRE(costs.size() == ops.size());
    REQUIRE(ops.size() == 2); // the sum and the ReLU are fused into one convolution
    std::int64_t macs = 0;
    for (std::size_t i = 0; i < ops.size(); ++i) {
        const bool wide = graph->node(ops[i].main).name == "c";
        const std::int64_t parameters = wide ? 4 * 8 * 9 : 4 * 8 + 8;
        const std::int64_t residual = ops[i].residual ? 8 * 210 : 0;
        CHECK(costs[i].bytes == 4 * (4 * 210 + 8 * 210 + parameters + residual));
        CHECK(costs[i].macs == (wide ? 4 * 8 * 9 * 210 : 4 * 8 * 210));
        macs += costs[i].macs;
    }
    CHECK((ops[0].residual.has_value() != ops[1].residual.has_value()));
    CHECK(macs == 4 * 8 * 10 * 210);
}

TEST_CASE("what is no convolution has bytes and no multiply-adds") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{2, 3, 4, 4, 4});
    builder.output(builder.batch_norm("bn", builder.upsample2("up", x)));
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    const auto costs = op_costs(*graph, fuse_ops(*graph));
    REQUIRE(costs.size() == 2);
    CHECK(costs[0].bytes == 4 * (2 * 3 * 64 + 2 * 3 * 512));
    CHECK(costs[1].bytes == 4 * (2 * 2 * 3 * 512 + 4 * 3)); // scale, shift, mean, variance
    CHECK(costs[0].macs + costs[1].macs == 0);
}

TEST_CASE("a graph that the paper's conventions cannot count has costs all the same") {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 4, 8, 8, 8});
    builder.output(builder.conv("c", builder.adaptive_avg_pool("pool", x, {2, 2, 2}), Conv{.out_channels = 3}));
    const auto graph = builder.finish();
    REQUIRE_OK(graph);
    const auto costs = op_costs(*graph, fuse_ops(*graph));
    REQUIRE(costs.size() == 2);
    CHECK(costs[1].macs == 4 * 3 * 8);
}
