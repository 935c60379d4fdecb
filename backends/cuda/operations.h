// The steps of an inference as work for the engine.
#pragma once

#include "backends/cuda/device_arrays.h"
#include "graph/rewrite.h"

#include <functional>
#include <string>
#include <vector>

namespace mfres::cuda {

/// What all steps of one compilation share.
struct Compilation {
    const Graph& graph;
    const Weights& weights;
    std::vector<ChannelRange> ranges; ///< see channel_ranges
    ElementType type;
    ConvolutionRules rules;
    Engine& engine;
    Constants& constants;
};

/// Where a step's values lie.
struct Place {
    std::vector<const void*> inputs; ///< of what ChannelRange::value says
    const void* residual = nullptr;
    void* output = nullptr;
    std::byte* scratch = nullptr;
};

struct Operation {
    std::string implementation;
    std::int64_t scratch_bytes = 0;
    std::function<void(const Place&)> run; ///< throws EngineError
};

/// Throws EngineError.
Operation make_operation(const Compilation& compilation, const Step& step);

} // namespace mfres::cuda
