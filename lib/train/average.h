// SPDX-License-Identifier: MIT
// An exponential moving average of a network's parameters.
#pragma once

#include "graph/graph.h"

#include <cstdint>

namespace mfres {

/// average = d * average + (1 - d) * weights for all parameters, running statistics included, with
/// d = min(decay, (1 + step) / (10 + step)): a constant decay would remember the initial weights for 1 / (1 - decay)
/// steps. `step` counts the updates so far, from 0. Precondition: equal names and shapes.
void update_average(Weights& average, const Weights& weights, double decay, std::int64_t step);

} // namespace mfres
