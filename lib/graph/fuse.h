// SPDX-License-Identifier: MIT
// Fusion groups: sequences of ops that run in one pass over the volume.
//
// Between two ops a value is written to memory and read again. At levels with few channels and many voxels that takes
// longer than the arithmetic. A backend runs the ops of a fusion group line by line, so that values between them stay in
// the cache; only the value of the last op is stored.
//
// Groups are found greedily. Starting at each op in turn, a group takes the following ops on the same voxel grid. Ops on
// other grids that read nothing of the group (such as convolutions on the coarser grid before an upsampling) are
// scheduled in front of it. A group ends at an op of an unsupported kind. A group is kept only if a cost model of memory
// traffic and multiply-adds predicts a gain; wide levels are bound by arithmetic and stay separate ops.
#pragma once

#include "graph/rewrite.h"

#include <mfres/export.h>

#include <cstdint>
#include <vector>

namespace mfres {

/// Ops that run as one, in execution order. Only the value of the last op is stored. A group of one op is that op.
struct FusionGroup {
    std::vector<FusedOp> ops;

    bool fused() const { return ops.size() > 1; }
    NodeId output() const { return ops.back().output; }
};

/// The cost model: throughput of one thread. The figures are those of a server with AVX-512. Only their ratios matter,
/// and only for levels where both costs are similar.
struct FusionModel {
    double bytes_per_ns = 10.0;         ///< memory traffic of separate ops
    double separate_macs_per_ns = 80.0; ///< of a separate convolution that fills its vectors with output channels
    double fused_bytes_per_ns = 40.0;   ///< cache traffic inside a group
    double fused_macs_per_ns = 55.0;    ///< of the convolutions of a group
    std::int64_t max_halo = 4;          ///< voxels along x that neighbouring tiles may both compute, see halo_of
    /// Smallest predicted gain, as a share of the time of the separate ops. Smaller gains are within the model's error.
    double min_gain = 0.2;
};

/// The values that a group reads and does not compute itself, each once, in the order of first use. `ranges` as from
/// channel_ranges.
MFRES_EXPORT std::vector<NodeId> values_read(const Graph& graph, const std::vector<ChannelRange>& ranges,
                                             const FusionGroup& group);

/// The halo of a group: how many voxels along x beyond its output the group reads.
MFRES_EXPORT std::int64_t halo_of(const Graph& graph, const std::vector<ChannelRange>& ranges,
                                  const FusionGroup& group);

/// All ops as fusion groups, in an order in which every group runs after those it reads. Groups of several ops hold:
/// ungrouped convolutions with kernel extents 1 and 3 that keep the grid, sums, concats, slices, ReLU and leaky ReLU,
/// and a trilinear upsampling by two along z of a value from outside the group.
MFRES_EXPORT std::vector<FusionGroup> form_fusion_groups(const Graph& graph, const std::vector<FusedOp>& ops,
                                                         const FusionModel& model);

/// Each op as a group of its own.
MFRES_EXPORT std::vector<FusionGroup> separate_groups(const std::vector<FusedOp>& ops);

/// The ops of all groups, in their order.
MFRES_EXPORT std::vector<FusedOp> ops_of(const std::vector<FusionGroup>& groups);

} // namespace mfres
