// SPDX-License-Identifier: MIT
// Static memory planning: all values of a network are stored in one block of memory, at offsets that are chosen at
// compilation. Values whose lifetimes do not overlap share memory.
//
// Time is counted in ops: a buffer is live from the op that writes it to the last op that reads it.
#pragma once

#include "graph/fuse.h"

#include <cstdint>
#include <vector>

namespace mfres {

/// A buffer of `bytes` bytes with its lifetime: it is live from time `first` to time `last`, both included.
struct BufferRequest {
    std::int64_t bytes = 0;
    int first = 0;
    int last = 0;
};

struct MemoryPlan {
    std::vector<std::int64_t> offsets; ///< bytes, one per request, multiples of `alignment`
    std::int64_t bytes = 0;            ///< size of the block
    std::int64_t lower_bound = 0;      ///< peak_memory of the requests: no plan can be smaller

    static constexpr std::int64_t alignment = 64;
};

/// The largest sum of bytes that are live at the same time, and the first such time.
struct PeakMemory {
    std::int64_t bytes = 0;
    int time = 0;
};
PeakMemory peak_memory(const std::vector<BufferRequest>& requests);

/// The sum of bytes that are live at each time, from 0 to the last one.
std::vector<std::int64_t> live_bytes(const std::vector<BufferRequest>& requests);

/// Assigns offsets so that buffers with overlapping lifetimes do not overlap in memory. Greedy: each request in turn is
/// placed at the lowest offset that is free for its whole lifetime. Several orders are tried (by size, by
/// start, by size times length, by length) and the smallest plan is kept.
MemoryPlan plan_memory(const std::vector<BufferRequest>& requests);

/// The buffers of the values of a network that is run group by group.
struct ValueBuffers {
    /// Time 0 is the writing of the input, group i runs at time i + 1, and outputs are read at time groups.size() + 1.
    std::vector<BufferRequest> requests;
    /// By node: index into `requests`; -1 for a value that is not stored.
    std::vector<int> buffer_of;
};

/// How an engine stores values, and what its ops may overwrite.
struct BufferRules {
    std::int64_t element_bytes = sizeof(float);
    bool over_residual = true; ///< whether the output of an op may overwrite its residual in place
};

/// One buffer for the input and one for the output of each group. Values inside a group have no buffer, nor have slices
/// that were removed (remove_slices): the array that contains the slice is live as long as the slice is read.
///
/// The output of a single op overwrites, in place, an operand that is not read afterwards: its residual, the operand of
/// a normalisation, activation or softmax, or the first operand of a sum. The output of a group of several ops never
/// overwrites its inputs, because the group reads the neighbours of each voxel (halo).
ValueBuffers plan_value_buffers(const Graph& graph, const std::vector<FusionGroup>& groups,
                                const BufferRules& rules = {});

/// The same without fusion groups.
ValueBuffers plan_value_buffers(const Graph& graph, const std::vector<FusedOp>& ops, const BufferRules& rules = {});

} // namespace mfres
