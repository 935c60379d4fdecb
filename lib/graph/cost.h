// What a step of a network costs at the least: what bounds its time from below, whatever runs it.
#pragma once

#include "graph/fuse.h"

#include <cstdint>
#include <vector>

namespace mfres {

struct StepCost {
    /// Bytes if every operand is read once and the result written once, all in f32: the inputs of the step's main
    /// node, the residual, the parameters, the output.
    std::int64_t bytes = 0;
    /// Multiply-accumulates of a convolution, ComplexityCounts::macs; 0 for everything else.
    std::int64_t macs = 0;
};

/// The cost of each step, in their order.
std::vector<StepCost> step_costs(const Graph& graph, const std::vector<Step>& steps);

/// The same for tasks: of a region only what enters and leaves it counts as bytes, with the parameters of all its
/// steps.
std::vector<StepCost> task_costs(const Graph& graph, const std::vector<Task>& tasks);

} // namespace mfres
