// The steps of a network as operations of this backend.
#pragma once

#include "backends/onednn/low_precision.h"
#include "backends/onednn/operation.h"
#include "graph/fuse.h"

#include <memory>
#include <string>

namespace mfres::onednn {

/// What every step of one compilation shares.
struct Compilation {
    const Graph& graph;
    const Weights& weights;
    std::vector<ChannelRange> ranges; ///< where to read each node's value
    dnnl::engine engine;
    int threads = 1;
    LowPrecisionOps reductions; ///< empty: all in f32
};

/// `residual_in_output`: the step's output takes over the residual's memory. Weights are copied.
/// Throws dnnl::error and std::bad_alloc.
std::unique_ptr<Operation> make_operation(const Compilation& compilation, const Step& step, bool residual_in_output);

/// "conv + add + relu", or for a region "14 steps from dec4.unit.mf1.conv"
std::string describe(const Graph& graph, const Task& task);

} // namespace mfres::onednn
