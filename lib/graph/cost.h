// SPDX-License-Identifier: MIT
// Lower bounds of what an op costs, independent of the implementation: bytes moved and multiply-adds.
#pragma once

#include "graph/fuse.h"

#include <mfres/export.h>

#include <cstdint>
#include <vector>

namespace mfres {

struct OpCost {
    /// Bytes if every operand is read once and the result is written once, all in f32: inputs, residual, parameters,
    /// output.
    std::int64_t bytes = 0;
    /// Multiply-accumulates of a convolution, as ComplexityCounts::macs; 0 for other ops.
    std::int64_t macs = 0;
};

/// The cost of each op, in their order.
MFRES_EXPORT std::vector<OpCost> op_costs(const Graph& graph, const std::vector<FusedOp>& ops);

/// The cost of each fusion group. In a group of several ops, bytes are those of values that enter and leave the group,
/// and of all parameters.
MFRES_EXPORT std::vector<OpCost> group_costs(const Graph& graph, const std::vector<FusionGroup>& groups);

} // namespace mfres
