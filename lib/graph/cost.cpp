#include "graph/cost.h"

namespace mfres {

namespace {

std::int64_t bytes_of(const Shape& shape) {
    return shape.elements() * static_cast<std::int64_t>(sizeof(float));
}

/// Not from count_operations, which rejects graphs that its other conventions have no rule for.
std::int64_t macs_of(const Node& node) {
    if (node.kind() != OpKind::conv)
        return 0;
    return node.parameters[0].shape.elements() * (node.shape.elements() / node.shape[1]);
}

} // namespace

std::vector<StepCost> step_costs(const Graph& graph, const std::vector<Step>& steps) {
    std::vector<StepCost> costs;
    for (const Step& step : steps) {
        const Node& node = graph.node(step.main);
        StepCost cost{bytes_of(graph.node(step.output).shape), macs_of(node)};
        for (const NodeId input : node.inputs)
            cost.bytes += bytes_of(graph.node(input).shape);
        if (step.residual)
            cost.bytes += bytes_of(graph.node(*step.residual).shape);
        for (const Parameter& parameter : node.parameters)
            cost.bytes += bytes_of(parameter.shape);
        costs.push_back(cost);
    }
    return costs;
}

std::vector<StepCost> task_costs(const Graph& graph, const std::vector<Task>& tasks) {
    const auto steps = steps_of(tasks);
    const auto each = step_costs(graph, steps);
    const auto ranges = channel_ranges(graph, steps);
    std::vector<StepCost> costs;
    std::size_t position = 0;
    for (const Task& task : tasks) {
        StepCost cost = each[position];
        if (task.fused()) {
            cost = {bytes_of(graph.node(task.output()).shape), 0};
            for (const NodeId value : values_read(graph, ranges, task))
                cost.bytes += bytes_of(graph.node(value).shape);
            for (std::size_t i = 0; i < task.steps.size(); ++i) {
                cost.macs += each[position + i].macs;
                for (const Parameter& parameter : graph.node(task.steps[i].main).parameters)
                    cost.bytes += bytes_of(parameter.shape);
            }
        }
        costs.push_back(cost);
        position += task.steps.size();
    }
    return costs;
}

} // namespace mfres
