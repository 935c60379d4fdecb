// SPDX-License-Identifier: MIT
// Rematerialization: reduces the peak memory of a training step by computing values twice.
//
// Without it, every value that the backward part reads is live from its forward op to its last backward op.
// rematerialize() evicts values after the forward part and schedules their recomputation directly before the first
// backward op that reads them. A recomputed op reads values that were not evicted, or that are recomputed too. The
// results are bitwise identical. This is the scheme of Chen et al. 2016, "Training deep nets with sublinear memory
// cost", with single values in place of segments.
//
// The choice is greedy:
// 1. While the schedule exceeds the limit: of the values that are live but not used at the time of peak memory, evict
//    the one with the lowest cost, which is the number of multiply-accumulates per byte. The cost of all ops but
//    convolutions is 0. Of equal costs the largest value is evicted. An eviction that would raise the peak is undone.
// 2. Then every eviction that the limit does not require is undone, the most expensive first.
//
// Outputs of the graph and slices that are read in place are never evicted.
#pragma once

#include "backends/planned/training_schedule.h"

#include <cstdint>
#include <vector>

namespace mfres {

/// A schedule with its memory plan, of at most `memory_limit` bytes (0 = no limit); if none was found, the schedule
/// with the smallest plan. For the other arguments see schedule_training().
TrainingSchedule rematerialize(const Graph& graph, const std::vector<FusedTrainingOp>& ops,
                               const std::vector<OpWorkspace>& workspaces, const ScheduleRules& rules,
                               std::int64_t memory_limit);

} // namespace mfres
