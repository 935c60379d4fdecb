// SPDX-License-Identifier: MIT
// The execution order of a training step and the arrays of every op in it: forward ops, loss, and backward ops with the
// forward ops that are recomputed between them.
#pragma once

#include "backends/planned/training_fusion.h"
#include "backends/planned/training_plan.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mfres {

/// What an engine's implementation of a fused op needs besides the arrays of values and gradients.
struct OpWorkspace {
    // Bytes.
    std::int64_t forward = 0;
    std::int64_t recompute = 0; ///< of a forward op that is recomputed: it does not measure statistics
    std::int64_t backward = 0;
    /// The backward op reads up to so many gradient contributions directly. More are added in one dense array first.
    std::size_t contributions_in_place = 0;
};

/// What decides whether a gradient passes through an activation: the sign of n(x), which is computed again from the
/// operand x, or the sign of an array.
enum class MaskBy : std::uint8_t { nothing, operand, array };

/// The arrays of one fused op.
struct OpArrays {
    /// An array, and the first channel of the op's result that it contains.
    struct Output {
        Channels channels;
        std::int64_t first = 0;
    };
    struct Forward {
        std::vector<Channels> inputs;
        std::vector<Output> outputs; ///< several if the result is stored as slices
        ArrayId workspace = -1;
    };
    /// The forward op and, if it is recomputed, its recomputation.
    std::vector<Forward> forwards;

    bool has_backward = false; ///< whether the op has a backward op; the members below are set only if it has
    std::vector<GradientContribution> contributions; ///< to the gradient of the result
    /// The gradient of the result as one dense array: the one that the contributions cover, or `summed`. -1 if the
    /// contributions are read directly.
    ArrayId gradient = -1;
    ArrayId summed = -1;          ///< where contributions are added, after the mask of a sum; -1 if they are not
    std::vector<Channels> inputs; ///< of the forward op, in its order; array -1 if the backward op does not read it
    Channels output;              ///< likewise the result of a softmax
    MaskBy mask = MaskBy::nothing;
    Channels mask_array;
    /// By input: where its gradient is written, a dense array or, of a convolution that is joined with others, its
    /// channels of theirs; array -1 if it is not computed.
    std::vector<Channels> input_gradients;
    ArrayId workspace = -1;
};

/// An op in the backward part of the schedule.
struct ScheduledOp {
    std::size_t op = 0;     ///< index of the fused op
    bool recompute = false; ///< the forward op once more, not the backward op
};

struct TrainingSchedule {
    TrainingPlan plan;
    std::vector<OpArrays> ops;
    std::vector<ScheduledOp> backward;
    ArrayId input = -1, loss_workspace = -1;
    std::vector<ArrayId> outputs, output_gradients; ///< by output of the graph

    /// When the result of an op is used.
    struct Uses {
        static constexpr int never = 0x7fffffff;
        int forward_end = 0;        ///< last time in the forward part, the loss included
        int backward_begin = never; ///< first time in the backward part
    };
    std::vector<Uses> uses; ///< by op

    std::int64_t recomputed_ops = 0;
    std::int64_t recomputed_macs = 0; ///< multiply-accumulates of recomputed convolutions

    /// Assigns offsets to all arrays.
    void place() { bytes = plan.place(); }
    std::int64_t bytes = 0; ///< of the block; set by place()
    /// Size of the block if nothing was recomputed; set by rematerialize().
    std::int64_t bytes_without_recomputation = 0;
};

struct ScheduleRules {
    std::int64_t value_bytes = sizeof(float); ///< of one element of a value or a gradient
    std::int64_t loss_workspace = 0;          ///< bytes
    /// Operands of a concat that a sum or an upsampling computes, and that only sums and concats read, are written to its
    /// array: the engine writes channel ranges. Not done where something is recomputed.
    bool concat_in_place = false;
};

/// Schedules the ops of fuse_training_ops() with one entry of `workspaces` for each. The results of `evicted` ops (empty:
/// none) are live until their last use in the forward part only. They are recomputed directly before the first backward
/// op that reads them, together with the evicted results that they depend on. Every op is recomputed at most once.
TrainingSchedule schedule_training(const Graph& graph, const std::vector<FusedTrainingOp>& ops,
                                   const std::vector<OpWorkspace>& workspaces, const ScheduleRules& rules,
                                   const std::vector<bool>& evicted = {});

/// The values that the op computes: its result, those of all joined convolutions, or the slices of it that are stored.
std::vector<NodeId> values_computed(const FusedTrainingOp& op);

/// Multiply-accumulates of the forward op; 0 for all ops but convolutions.
std::int64_t forward_macs(const Graph& graph, const FusedTrainingOp& op);

/// Of a copy: the channels of its inputs that are not in its result already, and where they begin in it.
std::vector<GradientContribution> copied_channels(const Node& node, const OpArrays::Forward& forward);

} // namespace mfres
