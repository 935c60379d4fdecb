// Which steps of a network run as one pass. Between two steps a value is written to memory and read again; where a
// level has few channels and many voxels that takes longer than the arithmetic. A region is a run of such steps on one
// grid which leaves a single value: a backend streams it line by line, and what lies inside never leaves the cache.
//
// The pattern knows no network by name. It grows a region from each step as far as the operations are known ones, and
// moves steps out of the way that read nothing of it (convolutions before an upsampling, on the coarser grid). What it
// does not know ends the region and stays an ordinary step, and so does a region in which a model of bytes and
// multiply-adds sees no gain: wide levels are bound by arithmetic, which a library's convolutions do best.
#pragma once

#include "graph/rewrite.h"

#include <cstdint>
#include <vector>

namespace mfres {

/// One step, or the steps of a region, in execution order. The value of the last is what remains.
struct Task {
    std::vector<Step> steps;

    bool fused() const { return steps.size() > 1; }
    NodeId output() const { return steps.back().output; }
};

/// What one thread of the machine does, for the choice of regions. The figures are those of a server with AVX-512; only
/// their ratios matter, and only for levels near the balance.
struct FusionModel {
    double bytes_per_ns = 10.0;         ///< values read and written by ordinary steps
    double ordinary_macs_per_ns = 80.0; ///< by an ordinary convolution with whole vectors of output channels
    double fused_bytes_per_ns = 40.0;   ///< values inside a region, from the cache
    double fused_macs_per_ns = 55.0;    ///< by a region's convolutions
    /// Widest margin along x that a region may have to compute twice, in voxels.
    std::int64_t most_halo = 4;
    /// Least gain for which a region is made, as a share of the time of its steps; what lies below is within the
    /// model's error.
    double least_gain = 0.2;
};

/// Every value that the task reads and does not compute itself, in the order of first reading, each once. `ranges` as
/// from channel_ranges.
std::vector<NodeId> values_read(const Graph& graph, const std::vector<ChannelRange>& ranges, const Task& task);

/// How far along x a region reads beyond what it leaves, in voxels.
std::int64_t halo_of(const Graph& graph, const std::vector<ChannelRange>& ranges, const Task& task);

/// All steps, in an order in which every task comes after what it reads; a region is one task with several steps.
/// Known in a region are: convolutions of one group with kernel extents 1 and 3 which keep the grid, sums, concats,
/// slices, ReLU and leaky ReLU, and trilinear upsampling by two along z of a value from outside.
std::vector<Task> form_fusion_groups(const Graph& graph, const std::vector<Step>& steps, const FusionModel& model);

/// Each step as a task of its own.
std::vector<Task> separate_tasks(const std::vector<Step>& steps);

/// All steps of the tasks, in their order.
std::vector<Step> steps_of(const std::vector<Task>& tasks);

} // namespace mfres
