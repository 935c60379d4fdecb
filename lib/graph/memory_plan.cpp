// SPDX-License-Identifier: MIT
#include "graph/memory_plan.h"

#include <algorithm>
#include <numeric>

namespace mfres {

namespace {

std::int64_t aligned(std::int64_t bytes) {
    return (bytes + MemoryPlan::alignment - 1) / MemoryPlan::alignment * MemoryPlan::alignment;
}

bool alive_together(const BufferRequest& a, const BufferRequest& b) {
    return a.first <= b.last && b.first <= a.last;
}

MemoryPlan place(const std::vector<BufferRequest>& requests, const std::vector<std::size_t>& order) {
    MemoryPlan plan;
    plan.offsets.assign(requests.size(), 0);
    std::vector<std::size_t> placed; // by offset
    for (const std::size_t index : order) {
        const std::int64_t bytes = aligned(requests[index].bytes);
        std::int64_t offset = 0;
        for (const std::size_t other : placed) {
            if (!alive_together(requests[index], requests[other]))
                continue;
            if (plan.offsets[other] >= offset + bytes)
                break; // the gap in front of `other` is large enough
            offset = std::max(offset, plan.offsets[other] + aligned(requests[other].bytes));
        }
        plan.offsets[index] = offset;
        plan.bytes = std::max(plan.bytes, offset + bytes);
        const auto position = std::upper_bound(placed.begin(), placed.end(), offset,
                                               [&](std::int64_t o, std::size_t p) { return o < plan.offsets[p]; });
        placed.insert(position, index);
    }
    return plan;
}

} // namespace

std::vector<std::int64_t> live_bytes(const std::vector<BufferRequest>& requests) {
    int last = 0;
    for (const auto& request : requests)
        last = std::max(last, request.last);
    std::vector<std::int64_t> live(static_cast<std::size_t>(last) + 2, 0);
    for (const auto& request : requests) {
        live[static_cast<std::size_t>(request.first)] += aligned(request.bytes);
        live[static_cast<std::size_t>(request.last) + 1] -= aligned(request.bytes);
    }
    std::partial_sum(live.begin(), live.end(), live.begin());
    live.pop_back();
    return live;
}

PeakMemory peak_memory(const std::vector<BufferRequest>& requests) {
    const std::vector<std::int64_t> live = live_bytes(requests);
    const auto peak = std::max_element(live.begin(), live.end());
    return *peak > 0 ? PeakMemory{*peak, static_cast<int>(peak - live.begin())} : PeakMemory{};
}

MemoryPlan plan_memory(const std::vector<BufferRequest>& requests) {
    std::vector<std::size_t> order(requests.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto length = [&](std::size_t i) { return requests[i].last - requests[i].first; };
    const auto by_size = [&](std::size_t a, std::size_t b) { return requests[a].bytes > requests[b].bytes; };
    const auto by_start = [&](std::size_t a, std::size_t b) { return requests[a].first < requests[b].first; };
    const auto by_area = [&](std::size_t a, std::size_t b) {
        return requests[a].bytes * (length(a) + 1) > requests[b].bytes * (length(b) + 1);
    };
    const auto by_length = [&](std::size_t a, std::size_t b) { return length(a) > length(b); };

    MemoryPlan best;
    const auto attempt = [&](const auto& before) {
        std::vector<std::size_t> sorted = order;
        std::stable_sort(sorted.begin(), sorted.end(), before);
        MemoryPlan plan = place(requests, sorted);
        if (best.offsets.empty() || plan.bytes < best.bytes)
            best = std::move(plan);
    };
    attempt(by_size);
    attempt(by_start);
    attempt(by_area);
    attempt(by_length);
    best.lower_bound = peak_memory(requests).bytes;
    return best;
}

namespace {

/// The operand whose buffer the result of the op may overwrite, or -1.
NodeId overwritable(const Graph& graph, const FusedOp& op, const BufferRules& rules) {
    if (op.residual)
        return rules.over_residual ? *op.residual : -1;
    const Node& main = graph.node(op.main);
    switch (main.kind()) {
    case OpKind::batch_norm:
    case OpKind::instance_norm:
    case OpKind::group_norm:
    case OpKind::relu:
    case OpKind::leaky_relu:
    case OpKind::prelu:
    case OpKind::elu:
    case OpKind::sigmoid:
    case OpKind::add:
    case OpKind::scaled_add:
    case OpKind::multiply:
    case OpKind::softmax: return main.inputs[0];
    case OpKind::input:
    case OpKind::conv:
    case OpKind::conv_transpose:
    case OpKind::concat:
    case OpKind::slice:
    case OpKind::max_pool:
    case OpKind::adaptive_avg_pool:
    case OpKind::upsample: return -1;
    }
    return -1;
}

} // namespace

ValueBuffers plan_value_buffers(const Graph& graph, const std::vector<FusedOp>& ops, const BufferRules& rules) {
    return plan_value_buffers(graph, separate_groups(ops), rules);
}

ValueBuffers plan_value_buffers(const Graph& graph, const std::vector<FusionGroup>& groups, const BufferRules& rules) {
    const int end = static_cast<int>(groups.size()) + 1;
    const auto ranges = channel_ranges(graph, ops_of(groups));
    // The stored values that the main operation of an op reads.
    const auto read_by = [&](const FusedOp& op) {
        std::vector<NodeId> values;
        for (const NodeId input : graph.node(op.main).inputs)
            values.push_back(ranges[static_cast<std::size_t>(input)].value);
        return values;
    };
    std::vector<int> last_use(static_cast<std::size_t>(graph.size()), -1);
    for (std::size_t i = 0; i < groups.size(); ++i)
        for (const NodeId value : values_read(graph, ranges, groups[i]))
            last_use[static_cast<std::size_t>(value)] = static_cast<int>(i) + 1;
    for (const NodeId output : graph.outputs())
        last_use[static_cast<std::size_t>(output)] = end;

    ValueBuffers buffers;
    buffers.buffer_of.assign(static_cast<std::size_t>(graph.size()), -1);
    const auto open = [&](NodeId id, int op) {
        const std::int64_t bytes = graph.node(id).shape.elements() * rules.element_bytes;
        buffers.buffer_of[static_cast<std::size_t>(id)] = static_cast<int>(buffers.requests.size());
        buffers.requests.push_back({bytes, op, std::max(op, last_use[static_cast<std::size_t>(id)])});
    };
    open(graph.input(), 0);
    for (std::size_t i = 0; i < groups.size(); ++i) {
        const int now = static_cast<int>(i) + 1;
        if (groups[i].fused()) {
            open(groups[i].output(), now);
            continue;
        }
        const FusedOp& op = groups[i].ops[0];
        const NodeId reused = overwritable(graph, op, rules);
        const auto main_inputs = read_by(op);
        const bool also_read = op.residual && std::count(main_inputs.begin(), main_inputs.end(), reused) > 0;
        // A value that the op reads twice (x + x, conv(x) + x) must not be overwritten while it runs.
        const bool twice = std::count(main_inputs.begin(), main_inputs.end(), reused) > 1;
        const bool whole = reused >= 0 && ranges[static_cast<std::size_t>(reused)].value == reused;
        if (whole && !also_read && !twice && last_use[static_cast<std::size_t>(reused)] == now) {
            const int buffer = buffers.buffer_of[static_cast<std::size_t>(reused)];
            buffers.buffer_of[static_cast<std::size_t>(op.output)] = buffer;
            auto& request = buffers.requests[static_cast<std::size_t>(buffer)];
            request.last = std::max(request.last, last_use[static_cast<std::size_t>(op.output)]);
        } else {
            open(op.output, now);
        }
    }
    return buffers;
}

} // namespace mfres
