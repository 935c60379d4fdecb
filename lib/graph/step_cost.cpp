#include "graph/step_cost.h"

#include "core/try.h"
#include "graph/complexity.h"

namespace mfres {

Result<std::vector<StepCost>> step_costs(const Graph& graph, const std::vector<Step>& steps) {
    MFRES_TRY(const GraphCounts counts, count_operations(graph));
    const auto bytes_of = [](const Shape& shape) {
        return shape.elements() * static_cast<std::int64_t>(sizeof(float));
    };
    std::vector<StepCost> costs;
    for (const Step& step : steps) {
        const Node& node = graph.node(step.main);
        StepCost cost{bytes_of(graph.node(step.output).shape), counts.nodes[static_cast<std::size_t>(step.main)].macs};
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

} // namespace mfres
