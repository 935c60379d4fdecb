// SPDX-License-Identifier: MIT
// Rematerialization: the schedule under a memory limit.
#include "backends/planned/rematerialization.h"
#include "networks/registry.h"
#include "support/catch.h"

#include <map>
#include <set>

using namespace mfres;

namespace {

Graph network(const char* name, const std::array<std::int64_t, 3>& size, std::int64_t batch) {
    const auto variant = parse_variant(name);
    REQUIRE_OK(variant);
    auto graph = build_network(*variant, size, batch);
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

TrainingSchedule schedule(const Graph& graph, std::int64_t limit) {
    const auto ops = fuse_training_ops(graph);
    return rematerialize(graph, ops, std::vector<OpWorkspace>(ops.size()), {}, limit);
}

} // namespace

TEST_CASE("a plan within its limit is left as it is, and one beyond it is brought below it if that can be done") {
    const Graph graph = network("mf-res2net", {64, 64, 64}, 2);
    const TrainingSchedule plain = schedule(graph, 0);
    CHECK(plain.bytes_without_recomputation == plain.bytes);
    CHECK(schedule(graph, plain.bytes).recomputed_ops == 0);
    CHECK(schedule(graph, plain.bytes).bytes == plain.bytes);

    std::int64_t fewest_macs = -1;
    for (const int percent : {90, 80, 70, 60, 50}) {
        INFO(percent << " %");
        const std::int64_t limit = plain.bytes * percent / 100;
        const TrainingSchedule made = schedule(graph, limit);
        CHECK(made.bytes <= limit);
        CHECK(made.bytes_without_recomputation == plain.bytes);
        CHECK(made.recomputed_ops > 0);
        CHECK(made.recomputed_macs >= fewest_macs); // less memory is not had for less
        fewest_macs = made.recomputed_macs;
        if (percent >= 70) // everything but convolutions comes first, which is enough down to there
            CHECK(made.recomputed_macs == 0);
        // Every backward op runs once, after what it reads; no op is recomputed more than once.
        std::map<std::size_t, int> recomputed;
        std::set<std::size_t> backward;
        for (const ScheduledOp& scheduled : made.backward) {
            if (scheduled.recompute) {
                CHECK(++recomputed[scheduled.op] == 1);
                CHECK(backward.count(scheduled.op) == 0);
                CHECK(made.ops[scheduled.op].forwards.size() == 2);
            } else {
                CHECK(backward.insert(scheduled.op).second);
            }
        }
        CHECK(static_cast<std::int64_t>(recomputed.size()) == made.recomputed_ops);
    }

    // What cannot be met says what can, and that can.
    const TrainingSchedule least = schedule(graph, 1);
    CHECK(least.bytes > 1);
    CHECK(2 * least.bytes < plain.bytes);
    CHECK(schedule(graph, least.bytes).bytes <= least.bytes);
}

TEST_CASE("training of mf-res2net at 128^3 and batch 2 is planned within half of what it takes without a cap") {
    const Graph graph = network("mf-res2net", {128, 128, 128}, 2);
    const TrainingSchedule plain = schedule(graph, 0);
    CHECK(plain.bytes < std::int64_t{11000000000});
    const TrainingSchedule half = schedule(graph, plain.bytes / 2);
    CHECK(half.bytes <= plain.bytes / 2);
    std::int64_t macs = 0; // of the whole forward
    for (const Node& node : graph.nodes())
        if (node.kind() == OpKind::conv)
            macs += node.shape.elements() * node.parameters[0].shape.elements() / node.shape[1];
    CHECK(half.recomputed_macs < macs / 5);
}
