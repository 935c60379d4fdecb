// SPDX-License-Identifier: MIT
// What of move_pointwise_before_upsample (rewrite.h) a network in training allows.
#pragma once

#include "graph/graph.h"

namespace mfres {

/// Runs pointwise convolutions before the upsampling they read, as move_pointwise_before_upsample, but only where they
/// read the upsampled value itself: no weight is split then, and every parameter keeps its name and its gradient.
Graph move_pointwise_before_whole_upsample(const Graph& graph);

} // namespace mfres
