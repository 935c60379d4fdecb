// Static memory planning: where in one block of memory each value lives, decided before anything runs.
#pragma once

#include "graph/fuse.h"

#include <cstdint>
#include <vector>

namespace mfres {

/// A block of bytes that must exist from step `first` to step `last`, both included.
struct BufferRequest {
    std::int64_t bytes = 0;
    int first = 0;
    int last = 0;
};

struct MemoryPlan {
    std::vector<std::int64_t> offsets; ///< one per request, multiples of `alignment`
    std::int64_t bytes = 0;            ///< size of the block that holds everything
    std::int64_t lower_bound = 0;      ///< most bytes alive at one step: no plan for these requests can be smaller

    static constexpr std::int64_t alignment = 64;
};

/// The step at which the most bytes are alive (the first of several), and how many.
struct PeakMemory {
    std::int64_t bytes = 0;
    int time = 0;
};
PeakMemory peak_memory(const std::vector<BufferRequest>& requests);

/// Assigns offsets so that requests whose lifetimes meet do not overlap. Greedy placement (each request at the lowest
/// gap that fits) in several orders, the best of which is kept; in practice within a few per cent of `lower_bound`.
MemoryPlan plan_memory(const std::vector<BufferRequest>& requests);

/// Which buffer each value of a graph's tasks lives in, and for how long.
struct StepBuffers {
    /// Times: 0 is the writing of the input, task i (step i, where each is a task) is i + 1, and tasks.size() + 1 is
    /// the reading of the outputs.
    std::vector<BufferRequest> requests;
    std::vector<int> buffer_of; ///< by node: index into requests, -1 for values that never exist on their own
};

struct StepBufferRules {
    std::int64_t element_bytes = sizeof(float);
    bool over_residual = true; ///< false for an engine that may not write its result over a residual
};

/// One buffer per step output and one for the input; a slice that was left out of the steps has none, and what it
/// is cut from lives as long as the slice is read. Where a step can write over an operand that nobody needs afterwards
/// (a residual; the operand of a normalisation or activation; the first operand of an add), both share a buffer.
StepBuffers plan_step_buffers(const Graph& graph, const std::vector<Step>& steps, const StepBufferRules& rules = {});

/// The same where steps run together: what lies inside a region has no buffer, and what a region leaves shares none
/// with what it reads, as it reads around each voxel.
StepBuffers plan_step_buffers(const Graph& graph, const std::vector<Task>& tasks, const StepBufferRules& rules = {});

} // namespace mfres
