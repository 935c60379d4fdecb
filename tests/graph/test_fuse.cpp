// SPDX-License-Identifier: MIT
// Which ops form a fusion group, in which order groups run, and that the memory plan follows.
#include "graph/cost.h"
#include "graph/fuse.h"
#include "graph/memory_plan.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/graphs.h"

#include <algorithm>
#include <string>

using namespace mfres;
using test::finished;

namespace {

FusionModel eager() {
    FusionModel model;
    model.min_gain = -1e30;
    return model;
}

Conv same(std::int64_t channels, const Axes& kernel) {
    return {.out_channels = channels, .kernel = kernel, .padding = {kernel[0] / 2, kernel[1] / 2, kernel[2] / 2}};
}

std::vector<FusionGroup> groups_of(const Graph& graph, const FusionModel& model) {
    return form_fusion_groups(graph, remove_slices(graph, fuse_ops(graph)), model);
}

/// "a b [c d] e": groups by the names of their main nodes, those of several ops in brackets.
std::string written(const Graph& graph, const std::vector<FusionGroup>& groups) {
    std::string line;
    for (const FusionGroup& group : groups) {
        std::string names;
        for (const FusedOp& op : group.ops)
            names += (names.empty() ? "" : " ") + graph.node(op.main).name;
        line += (line.empty() ? "" : " ") + (group.fused() ? "[" + names + "]" : names);
    }
    return line;
}

Graph mf_res2net(const Axes& size) {
    const auto variant = parse_variant("mf-res2net");
    REQUIRE_OK(variant);
    const auto graph = build_network(*variant, size, 1);
    REQUIRE_OK(graph);
    return inference_form(*graph);
}

/// Every op once, and every value computed before it is read.
void check_order(const Graph& graph, const std::vector<FusionGroup>& groups) {
    const auto ops = ops_of(groups);
    CHECK(ops.size() == remove_slices(graph, fuse_ops(graph)).size());
    const auto ranges = channel_ranges(graph, ops);
    std::vector<bool> there(static_cast<std::size_t>(graph.size()), false);
    there[static_cast<std::size_t>(graph.input())] = true;
    for (const FusedOp& op : ops) {
        for (const NodeId input : graph.node(op.main).inputs)
            REQUIRE(there[static_cast<std::size_t>(ranges[static_cast<std::size_t>(input)].value)]);
        if (op.residual)
            REQUIRE(there[static_cast<std::size_t>(*op.residual)]);
        REQUIRE_FALSE(there[static_cast<std::size_t>(op.output)]);
        there[static_cast<std::size_t>(op.output)] = true;
    }
}

} // namespace

TEST_CASE("a fusion group takes ops on its grid and schedules ops on coarser grids in front") {
    GraphBuilder b;
    const NodeId x = b.input(Shape{1, 4, 8, 8, 8});
    const NodeId coarse = b.conv("coarse", x, same(6, {5, 5, 5}));
    const NodeId up = b.upsample2("up", coarse);
    const NodeId a = b.conv("a", up, same(6, {3, 3, 1}));
    const NodeId late = b.conv("late", x, same(6, {5, 5, 5}));
    const NodeId sum = b.sum("sum", {a, b.upsample2("up2", late)});
    const Graph graph = finished(b, b.conv("c", b.relu("r", sum), same(3, {1, 3, 3})));
    const auto groups = groups_of(graph, eager());
    CHECK(written(graph, groups) == "coarse late [up a up2 c]");
    check_order(graph, groups);
    const auto ranges = channel_ranges(graph, ops_of(groups));
    CHECK(values_read(graph, ranges, groups.back()) == std::vector<NodeId>{coarse, late});
    CHECK(halo_of(graph, ranges, groups.back()) == 1);
    CHECK(groups.back().output() == graph.outputs()[0]);
}

TEST_CASE("an op of an unsupported kind ends a fusion group") {
    const auto middle = [](const std::function<NodeId(GraphBuilder&, NodeId)>& build) {
        GraphBuilder b;
        NodeId x = b.conv("b", b.conv("a", b.input(Shape{1, 4, 8, 8, 8}), same(4, {1, 1, 1})), same(4, {1, 3, 3}));
        x = build(b, x);
        x = b.conv("d", b.conv("c", x, same(4, {1, 1, 1})), same(4, {1, 3, 3}));
        const Graph graph = finished(b, x);
        const auto groups = groups_of(graph, eager());
        check_order(graph, groups);
        return written(graph, groups);
    };
    CHECK(middle([](GraphBuilder& b, NodeId x) { return b.conv("x", x, same(4, {3, 3, 3})); }) == "[a b x c d]");
    CHECK(middle([](GraphBuilder& b, NodeId x) { return b.conv("x", x, same(4, {5, 1, 1})); }) == "[a b] x [c d]");
    CHECK(middle([](GraphBuilder& b, NodeId x) {
              return b.conv("x", x, Conv{.out_channels = 4, .kernel = {3, 3, 3}, .padding = {1, 1, 1}, .groups = 2});
          }) == "[a b] x [c d]");
    CHECK(middle([](GraphBuilder& b, NodeId x) {
              return b.conv("x", x,
                            Conv{.out_channels = 4, .kernel = {3, 3, 3}, .stride = {2, 2, 2}, .padding = {1, 1, 1}});
          }) == "[a b] x [c d]");
    CHECK(middle([](GraphBuilder& b, NodeId x) {
              return b.conv("x", x, Conv{.out_channels = 4, .kernel = {3, 1, 1}}); // loses the border
          }) == "[a b] x [c d]");
    CHECK(middle([](GraphBuilder& b, NodeId x) { return b.instance_norm("x", x); }) == "[a b] x [c d]");
    CHECK(middle([](GraphBuilder& b, NodeId x) { return b.softmax("x", x); }) == "[a b] x [c d]");
    CHECK(middle([](GraphBuilder& b, NodeId x) { return b.upsample2("x", x, Interpolation::nearest); }) ==
          "[a b] x [c d]");
    CHECK(middle([](GraphBuilder& b, NodeId x) { return b.upsample2("x", x); }) == "[a b] [x c d]");
    CHECK(middle([](GraphBuilder& b, NodeId x) {
              return b.upsample("x", x, Interpolation::trilinear, {16, 16, 24});
          }) == "[a b] x [c d]");
}

TEST_CASE("a fusion group stores one value, and only that may be an output of the network") {
    GraphBuilder b;
    const NodeId x = b.input(Shape{1, 4, 8, 8, 8});
    const NodeId a = b.conv("a", x, same(4, {1, 1, 1}));
    const NodeId c = b.conv("c", a, same(4, {1, 1, 1}));
    const NodeId d = b.conv("d", c, same(4, {1, 1, 1}));
    b.output(c);
    const Graph graph = finished(b, d);
    CHECK(written(graph, groups_of(graph, eager())) == "[a c] d");

    GraphBuilder later;
    const NodeId y = later.input(Shape{1, 4, 8, 8, 8});
    const NodeId e = later.conv("e", later.conv("before", y, same(4, {1, 1, 1})), same(4, {1, 1, 1}));
    const NodeId f = later.conv("f", e, same(4, {1, 1, 1}));
    const NodeId g = later.softmax("g", f);
    const Graph read_later = finished(later, later.sum("sum", {g, e}));
    CHECK(written(read_later, groups_of(read_later, eager())) == "[before e] f g sum");
}

TEST_CASE("a halo beyond the model's ends a fusion group") {
    GraphBuilder b;
    NodeId x = b.input(Shape{1, 4, 8, 8, 8});
    for (const char* name : {"a", "b", "c", "d", "e", "f"})
        x = b.conv(name, x, same(4, {3, 3, 1}));
    const Graph graph = finished(b, x);
    CHECK(written(graph, groups_of(graph, eager())) == "[a b c d] [e f]");
    FusionModel narrow = eager();
    narrow.max_halo = 2;
    CHECK(written(graph, groups_of(graph, narrow)) == "[a b] [c d] [e f]");
}

TEST_CASE("the model fuses the narrow levels of MF-RES2Net and leaves the wide ones") {
    const Graph graph = mf_res2net({128, 128, 128});
    const auto groups = groups_of(graph, {});
    check_order(graph, groups);
    std::vector<std::string> last;
    for (const FusionGroup& group : groups)
        if (group.fused())
            last.push_back(graph.node(group.ops.back().main).name);
    const auto has = [&](const char* name) { return std::count(last.begin(), last.end(), name) == 1; };
    CHECK(has("enc1.unit1.fuse2.conv"));
    CHECK(has("enc1.unit2.fuse2.conv"));
    CHECK(has("dec3.unit.shortcut.conv.up"));
    CHECK(has("head.conv"));
    for (const std::string& name : last)
        CHECK((name.rfind("enc3", 0) != 0 && name.rfind("enc4", 0) != 0 && name.rfind("dec1", 0) != 0));

    FusionModel never;
    never.min_gain = 1.0;
    const auto separate = groups_of(graph, never);
    CHECK(std::none_of(separate.begin(), separate.end(), [](const FusionGroup& group) { return group.fused(); }));
    CHECK(separate.size() == ops_of(groups).size());
}

TEST_CASE("values inside a fusion group have no buffer and count no bytes") {
    const Graph graph = mf_res2net({64, 64, 64});
    const auto groups = groups_of(graph, {});
    const auto ranges = channel_ranges(graph, ops_of(groups));
    const ValueBuffers buffers = plan_value_buffers(graph, groups);
    const auto costs = group_costs(graph, groups);
    const auto single = op_costs(graph, ops_of(groups));
    std::size_t op = 0;
    std::int64_t macs = 0;
    std::int64_t single_macs = 0;
    for (std::size_t i = 0; i < groups.size(); ++i) {
        std::int64_t bytes = 0;
        for (std::size_t k = 0; k < groups[i].ops.size(); ++k, ++op) {
            const auto id = static_cast<std::size_t>(groups[i].ops[k].output);
            CHECK((buffers.buffer_of[id] >= 0) == (k + 1 == groups[i].ops.size()));
            bytes += single[op].bytes;
            single_macs += single[op].macs;
        }
        macs += costs[i].macs;
        if (!groups[i].fused()) {
            CHECK(costs[i].bytes == bytes);
            continue;
        }
        CHECK(costs[i].bytes < bytes);
        // What the group reads exists while it runs, in other buffers than its output.
        const int now = static_cast<int>(i) + 1;
        const int written_to = buffers.buffer_of[static_cast<std::size_t>(groups[i].output())];
        for (const NodeId value : values_read(graph, ranges, groups[i])) {
            const int buffer = buffers.buffer_of[static_cast<std::size_t>(value)];
            REQUIRE(buffer >= 0);
            CHECK(buffer != written_to);
            CHECK(buffers.requests[static_cast<std::size_t>(buffer)].first < now);
            CHECK(buffers.requests[static_cast<std::size_t>(buffer)].last >= now);
        }
    }
    CHECK(macs == single_macs);
    const std::int64_t fused = plan_memory(buffers.requests).bytes;
    const std::int64_t separate = plan_memory(plan_value_buffers(graph, ops_of(groups)).requests).bytes;
    CHECK(fused * 2 < separate);
}
