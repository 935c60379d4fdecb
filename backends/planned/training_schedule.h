// SPDX-License-Identifier: MIT
// The order in which a training step runs and where all its arrays lie, for engines that plan their memory: forward,
// loss, backward, and where memory is short forwards of single steps once more in between.
#pragma once

#include "backends/planned/training_fusion.h"
#include "backends/planned/training_plan.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mfres {

/// What an engine's implementation of a formed step asks for besides values and gradients.
struct StepNeeds {
    // Scratch memory in bytes.
    std::int64_t forward = 0;
    std::int64_t again = 0; ///< of a forward that is done a second time: it measures nothing
    std::int64_t backward = 0;
    /// A gradient that is not one dense array is added up in one first if it has more terms than this.
    std::size_t terms_in_place = 0;
};

/// How a gradient gets through an activation: by the sign of n(x), computed again, or by that of an array.
enum class MaskBy : std::uint8_t { nothing, operand, array };

/// The arrays of one formed step.
struct StepPlan {
    /// An array, and the first channel of the step's result that it takes.
    struct Output {
        Channels channels;
        std::int64_t first = 0;
    };
    struct Forward {
        std::vector<Channels> inputs;
        std::vector<Output> outputs; ///< several where the result is written as slices
        ArrayId scratch = -1;
    };
    /// The first, and one more if the step is done again.
    std::vector<Forward> forwards;

    bool has_backward = false;       ///< there is something to compute; what follows is set only then
    std::vector<GradientTerm> terms; ///< of the result's gradient
    /// The gradient as one dense array: that of a term, or `summed`. -1 where terms are read in place.
    ArrayId gradient = -1;
    ArrayId summed = -1;          ///< where the terms are added up, of a sum masked; -1 if they are not
    std::vector<Channels> inputs; ///< of the forward, in its order; array -1 where the backward does not read it
    Channels output;              ///< likewise, of a softmax
    MaskBy mask = MaskBy::nothing;
    Channels mask_array;
    std::vector<ArrayId> input_gradients; ///< by input; -1 where none is computed
    ArrayId scratch = -1;
};

/// A step's turn in the backward pass.
struct Turn {
    std::size_t step = 0;
    bool again = false; ///< its forward once more
};

struct TrainingSchedule {
    TrainingPlan plan; ///< placed
    std::vector<StepPlan> steps;
    std::vector<Turn> backward;
    ArrayId input = -1, loss_scratch = -1;
    std::vector<ArrayId> outputs, output_gradients; ///< by output of the graph
    std::int64_t bytes = 0;                         ///< of the whole block
    std::int64_t plain_bytes = 0;                   ///< what it would be with nothing done again
    std::int64_t steps_again = 0;
    std::int64_t macs_again = 0; ///< multiply-accumulates that are done a second time
};

struct ScheduleRules {
    std::int64_t value_bytes = sizeof(float); ///< of one element of a value or a gradient
    std::int64_t loss_scratch = 0;
    std::int64_t limit = 0; ///< bytes that the block should not exceed, 0 = none
};

/// One entry of `needs` per step of form_training_steps. Where the plan exceeds the limit, results of steps are given
/// up after the forward and computed again just before the backward pass reads them first, together with those they are
/// computed from that were given up too (Chen et al. 2016, with single values in place of segments: a value that is
/// kept is the border of what is recomputed from it). Which ones: at the fullest moment, of the results that only wait
/// for the backward, the one that costs the fewest multiply-accumulates per byte, the largest first where that is equal
/// (everything but convolutions costs none); never one that makes the fullest moment fuller; until the plan fits. Then
/// those that turn out not to be needed are kept after all, the dearest first. No step is done more than twice. If the
/// limit cannot be met, the schedule with the fewest bytes that these rules reach.
TrainingSchedule schedule_training(const Graph& graph, const std::vector<FormedStep>& formed,
                                   const std::vector<StepNeeds>& needs, const ScheduleRules& rules);

/// Terms that are one whole array already.
bool dense(const std::vector<GradientTerm>& terms, std::int64_t channels);

} // namespace mfres
