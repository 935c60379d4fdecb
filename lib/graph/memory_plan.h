// SPDX-License-Identifier: MIT
// Static memory planning: all values of a network live in one block of memory, at offsets that are chosen before anything
// runs. Values that are never needed at the same time share memory.
//
// Time is counted in ops: a buffer exists from the op that writes it to the last op that reads it.
#pragma once

#include "graph/fuse.h"

#include <cstdint>
#include <vector>

namespace mfres {

/// A buffer of `bytes` bytes with its lifetime: it exists from time `first` to time `last`, both included.
struct BufferRequest {
    std::int64_t bytes = 0;
    int first = 0;
    int last = 0;
};

struct MemoryPlan {
    std::vector<std::int64_t> offsets; ///< one per request, multiples of `alignment`
    std::int64_t bytes = 0;            ///< size of the block
    std::int64_t lower_bound = 0;      ///< peak_memory of the requests: no plan can be smaller

    static constexpr std::int64_t alignment = 64;
};

/// The time at which most bytes are in use (the first of several), and how many.
struct PeakMemory {
    std::int64_t bytes = 0;
    int time = 0;
};
PeakMemory peak_memory(const std::vector<BufferRequest>& requests);

/// Assigns offsets so that buffers with overlapping lifetimes do not overlap in memory. Greedy: requests are placed one
/// after the other, each at the lowest offset that is free for its whole lifetime. Several orders are tried (by size, by
/// start, by size times length, by length) and the smallest plan is kept.
MemoryPlan plan_memory(const std::vector<BufferRequest>& requests);

/// The buffers of the values of a network that is run group by group.
struct ValueBuffers {
    /// Time 0 is the writing of the input, group i runs at time i + 1, and outputs are read at time groups.size() + 1.
    std::vector<BufferRequest> requests;
    /// By node: index into `requests`; -1 for a value that is not stored.
    std::vector<int> buffer_of;
};

/// What the implementations of an engine allow.
struct BufferRules {
    std::int64_t element_bytes = sizeof(float);
    bool over_residual = true; ///< whether an op may write its result over its residual
};

/// One buffer for the input and one for the output of each group. Values inside a group have none, nor have slices that
/// were removed (remove_slices); the array that a slice is cut from lives as long as the slice is read.
///
/// The output of a single op shares the buffer of an operand that it may overwrite and that is not read afterwards: its
/// residual, the operand of a normalisation, activation or softmax, or the first operand of a sum. The output of a group
/// of several ops shares no buffer with its inputs, because the group reads neighbours of each voxel.
ValueBuffers plan_value_buffers(const Graph& graph, const std::vector<FusionGroup>& groups,
                                const BufferRules& rules = {});

/// The same for ops that all run alone.
ValueBuffers plan_value_buffers(const Graph& graph, const std::vector<FusedOp>& ops, const BufferRules& rules = {});

} // namespace mfres
