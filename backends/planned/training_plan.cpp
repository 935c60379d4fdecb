// SPDX-License-Identifier: MIT
#include "backends/planned/training_plan.h"

#include <algorithm>

namespace mfres {

namespace {

/// An entry of a table by node or by array.
template <typename Values>
decltype(auto) entry(Values& values, std::int32_t id) {
    return values[static_cast<std::size_t>(id)];
}

} // namespace

TrainingPlan::TrainingPlan(const Graph& graph, std::int64_t value_bytes) : graph_(graph), value_bytes_(value_bytes) {
    const auto count = static_cast<std::size_t>(graph.size());
    values_.resize(count);
    redirected_.resize(count, 0);
    gradients_.resize(count);
    needs_gradient_ = values_with_gradient(graph);
}

std::vector<char> values_with_gradient(const Graph& graph) {
    std::vector<char> all;
    for (const Node& node : graph.nodes()) {
        bool needed = std::any_of(node.parameters.begin(), node.parameters.end(),
                                  [](const Parameter& parameter) { return parameter.learnable(); });
        for (const NodeId input : node.inputs)
            needed = needed || entry(all, input);
        all.push_back(needed ? 1 : 0);
    }
    return all;
}

ArrayId TrainingPlan::workspace(std::int64_t bytes) {
    requests_.push_back({(bytes + 3) / 4 * 4, now_, now_});
    pending_uses_.push_back(0);
    pinned_.push_back(0);
    return static_cast<ArrayId>(requests_.size()) - 1;
}

void TrainingPlan::use(ArrayId id) {
    auto& request = entry(requests_, id);
    request.last = std::max(request.last, now_);
}

Channels TrainingPlan::define(NodeId id) {
    const Shape& shape = graph_.node(id).shape;
    define(id, Channels{array(shape.elements()), shape[1], 0, shape[1]});
    return entry(values_, id);
}

Channels TrainingPlan::value(NodeId id) {
    use(entry(values_, id).array);
    return entry(values_, id);
}

void TrainingPlan::add_gradient(NodeId id, const std::vector<GradientContribution>& contributions) {
    std::int64_t begin = 0;
    while (entry(redirected_, id)) {
        const Node& slice = graph_.node(id);
        begin += slice.as<Slice>().begin;
        id = slice.inputs[0];
    }
    if (!needs_gradient(id))
        return;
    for (const GradientContribution& contribution : moved(contributions, begin)) {
        ++entry(pending_uses_, contribution.from.array);
        entry(gradients_, id).push_back(contribution);
    }
}

std::vector<GradientContribution> TrainingPlan::take_gradient(NodeId id) {
    std::vector<GradientContribution> contributions = std::move(entry(gradients_, id));
    entry(gradients_, id).clear();
    for (const GradientContribution& contribution : contributions) {
        --entry(pending_uses_, contribution.from.array);
        use(contribution.from.array);
    }
    return contributions;
}

bool TrainingPlan::free_after_now(ArrayId id) const {
    return entry(pending_uses_, id) == 0 && !entry(pinned_, id);
}

void TrainingPlan::pin(ArrayId id) {
    entry(pinned_, id) = 1;
}

std::int64_t TrainingPlan::place() {
    MemoryPlan plan = plan_memory(final_requests());
    offsets_ = std::move(plan.offsets);
    return plan.bytes;
}

PeakMemory TrainingPlan::peak() const {
    return peak_memory(final_requests());
}

std::vector<BufferRequest> TrainingPlan::final_requests() const {
    std::vector<BufferRequest> requests = requests_;
    for (std::size_t i = 0; i < requests.size(); ++i)
        if (pinned_[i])
            requests[i].last = now_;
    return requests;
}

std::vector<GradientContribution> restricted(const std::vector<GradientContribution>& contributions, std::int64_t begin,
                                             std::int64_t count) {
    std::vector<GradientContribution> inside;
    for (const GradientContribution& contribution : contributions) {
        const std::int64_t first = std::max(begin, contribution.to);
        const std::int64_t end = std::min(begin + count, contribution.to + contribution.from.count);
        if (first >= end)
            continue;
        GradientContribution part = contribution;
        part.from.begin += first - contribution.to;
        part.from.count = end - first;
        part.to = first - begin;
        inside.push_back(part);
    }
    return inside;
}

std::vector<GradientContribution> moved(std::vector<GradientContribution> contributions, std::int64_t begin) {
    for (GradientContribution& contribution : contributions)
        contribution.to += begin;
    return contributions;
}

bool covers(const std::vector<GradientContribution>& contributions) {
    std::vector<GradientContribution> in_order = contributions;
    std::sort(in_order.begin(), in_order.end(), [](const auto& a, const auto& b) { return a.to < b.to; });
    std::int64_t end = 0;
    for (const auto& [from, to] : in_order) {
        if (from.array != in_order[0].from.array || from.begin != end || to != end)
            return false;
        end += from.count;
    }
    return end > 0 && end == in_order[0].from.channels;
}

bool is_dense(const std::vector<GradientContribution>& contributions, std::int64_t channels) {
    return contributions.size() == 1 && contributions[0].from.whole() && contributions[0].from.count == channels;
}

} // namespace mfres
