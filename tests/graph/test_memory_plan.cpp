// SPDX-License-Identifier: MIT
// Memory plans: nothing that is needed is ever overwritten, and lifetimes and aliases are as they should be.
#include "core/random.h"
#include "graph/memory_plan.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/graphs.h"

#include <algorithm>

using namespace mfres;
using test::finished;

namespace {

struct Planned {
    Graph graph;
    std::vector<FusedOp> ops;
    ValueBuffers buffers;
    MemoryPlan memory;
};

Planned planned(const Graph& graph, bool slices_in_place = false) {
    Planned p{graph, fuse_ops(graph), {}, {}};
    if (slices_in_place)
        p.ops = remove_slices(graph, std::move(p.ops));
    p.buffers = plan_value_buffers(p.graph, p.ops);
    p.memory = plan_memory(p.buffers.requests);
    return p;
}

/// Plays a plan with a memory that remembers, for every 64 bytes, which node's value lies there.
class Simulation {
  public:
    explicit Simulation(const Planned& p)
        : p_(p), owner_(static_cast<std::size_t>(p.memory.bytes / MemoryPlan::alignment), -1) {}

    void run() {
        write(p_.graph.input());
        const auto ranges = channel_ranges(p_.graph, p_.ops);
        for (const FusedOp& op : p_.ops) {
            std::vector<NodeId> operands;
            for (const NodeId input : p_.graph.node(op.main).inputs)
                operands.push_back(ranges[static_cast<std::size_t>(input)].value);
            if (op.residual)
                operands.push_back(*op.residual);
            for (const NodeId operand : operands)
                check_intact(operand);
            check_overlap(op, operands);
            write(op.output);
        }
        for (const NodeId output : p_.graph.outputs())
            check_intact(output);
    }

  private:
    struct Blocks {
        std::int64_t begin, end;
    };

    Blocks blocks(NodeId id) const {
        const int buffer = p_.buffers.buffer_of[static_cast<std::size_t>(id)];
        REQUIRE(buffer >= 0);
        const std::int64_t offset = p_.memory.offsets[static_cast<std::size_t>(buffer)];
        REQUIRE(offset % MemoryPlan::alignment == 0);
        const std::int64_t bytes = p_.graph.node(id).shape.elements() * 4;
        REQUIRE(offset + bytes <= p_.memory.bytes);
        return {offset / MemoryPlan::alignment, (offset + bytes + MemoryPlan::alignment - 1) / MemoryPlan::alignment};
    }

    void write(NodeId id) {
        const Blocks range = blocks(id);
        std::fill(owner_.begin() + range.begin, owner_.begin() + range.end, id);
    }

    void check_intact(NodeId id) const {
        const Blocks range = blocks(id);
        INFO("value of " << p_.graph.node(id).name);
        REQUIRE(std::all_of(owner_.begin() + range.begin, owner_.begin() + range.end,
                            [&](NodeId owner) { return owner == id; }));
    }

    /// An op may write only over an operand that it reads element by element, once, at the very same place.
    void check_overlap(const FusedOp& op, const std::vector<NodeId>& operands) const {
        const Blocks target = blocks(op.output);
        for (const NodeId operand : operands) {
            const Blocks source = blocks(operand);
            if (source.end <= target.begin || target.end <= source.begin)
                continue;
            INFO("op " << p_.graph.node(op.main).name << " writes over " << p_.graph.node(operand).name);
            REQUIRE(source.begin == target.begin);
            REQUIRE(source.end == target.end);
            REQUIRE(std::count(operands.begin(), operands.end(), operand) == 1);
            const OpKind kind = p_.graph.node(op.main).kind();
            const bool elementwise = kind == OpKind::batch_norm || kind == OpKind::instance_norm ||
                                     kind == OpKind::relu || kind == OpKind::leaky_relu || kind == OpKind::add ||
                                     kind == OpKind::scaled_add || kind == OpKind::softmax;
            REQUIRE((elementwise || (op.residual && *op.residual == operand)));
        }
    }

    const Planned& p_;
    std::vector<NodeId> owner_;
};

Conv point(std::int64_t channels) {
    Conv conv;
    conv.out_channels = channels;
    return conv;
}

int buffer(const Planned& p, NodeId id) {
    return p.buffers.buffer_of[static_cast<std::size_t>(id)];
}

} // namespace

TEST_CASE("no network's plan overwrites a value that is still needed") {
    for (const std::string& name : network_names())
        for (const Axes& size : {Axes{32, 32, 32}, Axes{64, 32, 48}}) {
            INFO(name);
            const auto built = build_network(*parse_variant(name), size);
            REQUIRE_OK(built);
            const Graph folded = fold_batch_norm(*built);
            for (const Graph& graph : {*built, folded, move_pointwise_before_upsample(folded)})
                for (const bool slices_in_place : {false, true}) {
                    const Planned p = planned(graph, slices_in_place);
                    CHECK(p.memory.bytes >= p.memory.lower_bound);
                    CHECK(p.memory.bytes <= p.memory.lower_bound * 5 / 4);
                    Simulation(p).run();
                }
        }
}

TEST_CASE("requests that live together never overlap, whatever they are") {
    Random random(99);
    for (int round = 0; round < 200; ++round) {
        std::vector<BufferRequest> requests;
        const auto count = 1 + random.below(40);
        for (std::uint64_t i = 0; i < count; ++i) {
            const int first = static_cast<int>(random.below(20));
            requests.push_back(
                {static_cast<std::int64_t>(1 + random.below(5000)), first, first + static_cast<int>(random.below(8))});
        }
        const MemoryPlan plan = plan_memory(requests);
        REQUIRE(plan.offsets.size() == requests.size());
        std::int64_t most = 0;
        for (int op = 0; op < 30; ++op) {
            std::int64_t alive = 0;
            for (const BufferRequest& request : requests)
                if (request.first <= op && op <= request.last)
                    alive += (request.bytes + 63) / 64 * 64;
            most = std::max(most, alive);
        }
        CHECK(plan.lower_bound == most);
        CHECK(plan.bytes >= plan.lower_bound);
        for (std::size_t a = 0; a < requests.size(); ++a) {
            REQUIRE(plan.offsets[a] % MemoryPlan::alignment == 0);
            REQUIRE(plan.offsets[a] + requests[a].bytes <= plan.bytes);
            for (std::size_t b = 0; b < a; ++b) {
                const bool together = requests[a].first <= requests[b].last && requests[b].first <= requests[a].last;
                const bool apart = plan.offsets[a] + requests[a].bytes <= plan.offsets[b] ||
                                   plan.offsets[b] + requests[b].bytes <= plan.offsets[a];
                REQUIRE((!together || apart));
            }
        }
    }
    CHECK(plan_memory({}).bytes == 0);
    CHECK(plan_memory({}).lower_bound == 0);
}

TEST_CASE("a residual that nobody needs afterwards is written over") {
    GraphBuilder b;
    const NodeId x = b.input({1, 4, 4, 4, 4});
    const NodeId a = b.conv("a", x, point(4));
    const NodeId c = b.conv("c", a, point(4));
    const NodeId s = b.sum("s", {c, x});
    const Planned p = planned(finished(b, b.relu("r", s)));
    REQUIRE(p.ops.size() == 2);
    CHECK(buffer(p, 4) == buffer(p, x)); // x is dead after the sum
    CHECK(buffer(p, a) != buffer(p, x));
    CHECK(buffer(p, c) == -1); // never exists on its own
    CHECK(buffer(p, s) == -1);
    CHECK(p.buffers.requests.size() == 2);
    CHECK(p.memory.bytes == 2 * 4 * 64 * 4);
}

TEST_CASE("what a slice is cut from lives, unchanged, while the slice is read in place") {
    GraphBuilder b;
    const NodeId x = b.input({1, 4, 4, 4, 4});
    const NodeId a = b.conv("a", x, point(4));
    const NodeId cut = b.slice("cut", a, 2, 4);
    const NodeId c = b.relu("r", b.conv("c", a, point(2)));
    const NodeId s = b.sum("s", {cut, c});
    const Planned p = planned(finished(b, b.concat("cat", {s, b.slice("rest", cut, 1, 2)})), true);
    REQUIRE(p.ops.size() == 4);
    CHECK(buffer(p, cut) == -1);
    CHECK(buffer(p, s) != buffer(p, a)); // its first operand is only a part of that buffer
    CHECK(p.buffers.requests[static_cast<std::size_t>(buffer(p, a))].last == 4);
    Simulation(p).run();
}

TEST_CASE("a residual that is read later, or by the convolution itself, keeps its place") {
    GraphBuilder later;
    NodeId x = later.input({1, 4, 4, 4, 4});
    NodeId a = later.conv("a", x, point(4));
    NodeId s = later.sum("s", {later.conv("c", a, point(4)), x});
    const Planned read_later = planned(finished(later, later.concat("cat", {s, x})));
    CHECK(buffer(read_later, s) != buffer(read_later, x));

    GraphBuilder own;
    x = own.input({1, 4, 4, 4, 4});
    s = own.sum("s", {own.conv("c", x, point(4)), x});
    const Planned own_input = planned(finished(own, s));
    REQUIRE(own_input.ops.size() == 1);
    CHECK(buffer(own_input, s) != buffer(own_input, x));

    GraphBuilder visible;
    x = visible.input({1, 4, 4, 4, 4});
    a = visible.conv("a", x, point(4));
    s = visible.sum("s", {visible.conv("c", a, point(4)), x});
    visible.output(x);
    const Planned output = planned(finished(visible, s));
    CHECK(buffer(output, s) != buffer(output, x));
}

TEST_CASE("pointwise operations work in place, but not on a value they read twice") {
    GraphBuilder b;
    NodeId x = b.input({1, 4, 4, 4, 4});
    const NodeId n = b.batch_norm("n", x);
    const NodeId m = b.instance_norm("m", n);
    const NodeId r = b.softmax("r", m);
    const NodeId twice = b.sum("twice", {r, r});
    const NodeId pool = b.max_pool("pool", twice);
    const Planned p = planned(finished(b, pool));
    CHECK(buffer(p, n) == buffer(p, x));
    CHECK(buffer(p, m) == buffer(p, x));
    CHECK(buffer(p, r) == buffer(p, x));
    CHECK(buffer(p, twice) != buffer(p, r));
    CHECK(buffer(p, pool) != buffer(p, twice));
    // Alive together at most: r and its double.
    CHECK(p.memory.lower_bound == 2 * 4 * 64 * 4);
}

TEST_CASE("a weighted sum writes over its first operand only") {
    GraphBuilder b;
    const NodeId x = b.input({1, 4, 4, 4, 4});
    const NodeId first = b.conv("first", x, point(4));
    const NodeId second = b.conv("second", x, point(4));
    const NodeId w = b.scaled_add("w", {first, second});
    const Planned p = planned(finished(b, w));
    CHECK(buffer(p, w) == buffer(p, first));
    CHECK(buffer(p, w) != buffer(p, second));
}
