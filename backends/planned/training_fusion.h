// SPDX-License-Identifier: MIT
// A graph as the steps that training runs: which operations go together and what is read in place. What an engine makes
// of a step is its own business.
#pragma once

#include "graph/rewrite.h"

#include <cstdint>
#include <vector>

namespace mfres {

/// What a sum reads: a value, and the norm that it goes through first.
struct SumOperand {
    NodeId value = -1;
    NodeId norm = -1; ///< -1 without one
};

/// y = activation(sum of n_k(x_k)), where n_k normalises, multiplies with a learnable weight, or leaves its operand
/// alone.
struct SumStep {
    NodeId main = -1;   ///< the node that gives its name and, for a scaled_add, its weights
    NodeId output = -1; ///< the node whose value is computed
    std::vector<SumOperand> operands;
    Activation activation;
    std::vector<NodeId> slices; ///< if not empty, these are computed instead: slices of the output, its only readers
};

struct FormedStep {
    enum class Kind : std::uint8_t {
        convolution,
        sum,
        copy,           ///< a concat, or a slice that somebody needs as an array of its own
        slice_in_place, ///< a slice whose readers find it in what it is cut from
        resampling,     ///< max_pool, adaptive_avg_pool, upsample or softmax
    };
    Kind kind = Kind::convolution;
    NodeId node = -1;
    SumStep sum; ///< of Kind::sum
};

/// The steps in execution order. A norm takes a following activation with it; a sum the norms in front of it and the
/// activation behind it; and what only slices read is written as these slices. Slices that are read by sums and copies
/// are read in place.
std::vector<FormedStep> form_training_steps(const Graph& graph);

} // namespace mfres
