// SPDX-License-Identifier: MIT
// Training on an engine whose memory is planned before it runs.
//
// compile_planned_training() does for every such engine what does not depend on one: it fuses ops, schedules forward,
// loss and backward, plans the memory of all values, gradients and workspaces with recomputation under a memory limit,
// and returns a TrainingExecutable. The executable checks all arguments, runs the ops in order, computes the loss from
// the engine's passes over the voxels, sums gradients over the ranks in buckets, and applies optimiser steps.
//
// An engine supplies three things, through TrainingEngine: the implementation of each op, arrays, and parameters.
#pragma once

#include "backends/planned/loss_terms.h"
#include "backends/planned/op_failure.h"
#include "backends/planned/parameter_store.h"
#include "backends/planned/training_schedule.h"
#include "backends/training.h"
#include "core/interface.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// What the ops and the engine of one training share. The executor changes the last two members.
struct TrainingNetwork {
    Graph graph;
    std::vector<FusedTrainingOp> ops;
    std::vector<char> with_gradient; ///< see values_with_gradient
    Communicator& ranks;
    double batch_norm_momentum = 0.1;

    NormStatistics statistics = NormStatistics::batch; ///< of the current or last forward
    LossScale scale;                                   ///< of all gradients

    const Shape& input_shape() const { return graph.node(graph.input()).shape; }
    const Shape& output_shape(std::size_t index) const { return graph.node(graph.outputs()[index]).shape; }
};

/// The planned arrays in the memory of the engine.
struct ArrayPlacement {
    const TrainingPlan& plan; ///< placed
    std::byte* block = nullptr;

    /// Null for -1.
    std::byte* at(ArrayId id) const { return id < 0 ? nullptr : block + plan.offset(id); }
};

/// The implementation of a fused op in training. Calls may throw what TrainingEngine::guarded catches.
class TrainingOp : public Interface {
  public:
    /// The library's name of the kernel, or "mfres:<name>" for a kernel of this project.
    virtual std::string forward_implementation() const = 0;
    /// Called after bind() and only for ops with OpArrays::has_backward, as backward().
    virtual std::string backward_implementation() const = 0;
    /// Memory of tables that the op owns and that is not part of TrainingEngine::other_bytes.
    virtual std::int64_t constant_bytes() const { return 0; }
    virtual OpWorkspace workspace() const = 0;

    /// Called once, before the first forward().
    virtual void bind(const ArrayPlacement& placement, const OpArrays& arrays) = 0;
    /// `recompute`: the second time in the same step, with the arrays of the recomputation. Statistics are those of the
    /// first time, and running statistics do not change again.
    virtual void forward(bool recompute) = 0;
    virtual void backward() = 0;
};

/// The arrays by which the engine and the caller exchange values.
struct TrainingEnds {
    ArrayPlacement placement;
    ArrayId input = -1;
    std::vector<ArrayId> outputs, output_gradients; ///< by output
    ArrayId loss_workspace = -1;
};

enum class TrainingPass : std::uint8_t { forward, backward };

/// What an engine supplies. Calls may throw what guarded() catches, except where noted. They are made by one thread at a
/// time, inside enter(), in this order: begin, the make functions, loss_workspace_bytes and other_bytes at compilation;
/// allocate and bind once; then the calls of each step.
class TrainingEngine : public Interface {
  public:
    /// Backend::name(), for messages. Does not throw.
    virtual std::string_view name() const = 0;
    /// Calls `body`, which works on `node`, and returns what it throws as an error that names the node; OpFailure::error
    /// unchanged. Does not throw.
    virtual Status guarded(const std::string& node, const std::function<void()>& body) const = 0;
    /// Calls `body` with everything in effect that the engine needs on the calling thread: its thread pool, its device.
    virtual Status enter(const std::function<Status()>& body) const { return body(); }
    /// A call has failed: this rank takes part in no more collectives. Does not throw.
    virtual void abandon() const {}

    // Compilation

    /// Size of one element of a value or a gradient. Does not throw.
    virtual std::int64_t value_bytes() const { return sizeof(float); }
    /// See ScheduleRules. Does not throw.
    virtual bool concat_in_place() const { return false; }
    /// See fuse_training_ops(). Does not throw.
    virtual TrainingFusionRules fusion_rules() const { return {}; }
    /// `network` outlives the engine's ops.
    virtual void begin(const TrainingNetwork& network) = 0;
    /// Of one node, or of several that are joined.
    virtual std::unique_ptr<TrainingOp> make_convolution(const std::vector<NodeId>& nodes) = 0;
    virtual std::unique_ptr<TrainingOp> make_sum(const FusedSum& sum) = 0;
    /// A concat or a slice: channels are copied in the forward op; there is no backward op.
    virtual std::unique_ptr<TrainingOp> make_copy(NodeId node) = 0;
    /// A max_pool, adaptive_avg_pool, upsample or softmax.
    virtual std::unique_ptr<TrainingOp> make_resampling(NodeId node) = 0;
    virtual std::int64_t loss_workspace_bytes() const = 0;
    /// Bytes held besides the block and the constants of ops, or that will be held once allocate() was called.
    virtual std::int64_t other_bytes() const = 0;

    /// See Executable::warnings. Called once everything is compiled.
    virtual std::vector<std::string> warnings() const { return {}; }

    // Arrays

    virtual void allocate(std::int64_t block_bytes) = 0;
    /// The block. Does not throw.
    virtual std::byte* block() const = 0;
    virtual void bind(const TrainingEnds& ends) = 0;
    // See TrainingExecutable. Errors that a copy from a device has are reported by the next call that returns a status.
    virtual StridedView<float> input() = 0;
    virtual StridedView<const float> output(std::size_t index) const = 0;
    virtual StridedView<float> output_gradient(std::size_t index) = 0;
    /// Allocates the targets of distillation, filled with zeros, if they do not exist.
    virtual void allocate_targets() = 0;
    /// Precondition: allocate_targets() was called.
    virtual StridedView<float> targets() = 0;

    // Parameters

    virtual ParameterStore& parameters() = 0;
    virtual const ParameterStore& parameters() const = 0;
    /// Starts the sum of floats [begin, end) of all gradients over the ranks. Errors: those of Communicator.
    virtual Status start_gradient_sum(std::size_t begin, std::size_t end) = 0;
    /// Returns when all sums are complete, or are work of the engine that precedes what it is asked for later.
    virtual Status finish_gradient_sums() = 0;
    /// What computes sums over several ranks, for Chosen; empty if it is the communicator. Does not throw.
    virtual std::string sums_implementation() const { return {}; }

    // Crops; see TrainingExecutable

    virtual bool cuts_crops() const { return false; }
    /// From here on other_bytes() includes what these crops need.
    virtual void plan_crops(std::span<const CropRequest>) {}
    virtual void start_crops(std::span<const CropRequest>) {}
    virtual void take_crops() {}

    // Passes

    /// Whether run_all() may be used.
    virtual bool records() const { return false; }
    /// Calls `ops`, which runs all ops of the pass, or repeats a recording of an earlier call with the same pass and
    /// statistics. `ops` may be called later too.
    virtual void run_all(TrainingPass, NormStatistics, const std::function<void()>& ops) { ops(); }

    /// Before a forward pass: takes over what the caller wrote to input().
    virtual void start_forward() {}
    /// Writes the input to its planned array. Like the ops, it may be recorded.
    virtual void convert_input() {}
    /// After a forward pass: output() returns the new outputs.
    virtual void finish_forward() {}
    /// Before a backward pass: takes over what the caller wrote to output_gradient().
    virtual void start_backward() {}
    /// After the ops of a backward pass. Like the ops, it may be recorded.
    virtual void finish_backward() {}

    // Loss

    /// Classes of the voxels of output 0. The caller keeps them until the loss is computed.
    virtual void set_classes(std::span<const std::uint8_t> classes) = 0;
    /// Called before the loss of each output. For output 1 and later ones the classes are every n-th of those of output 0.
    virtual void start_loss(std::size_t output, const LossTerms& terms) = 0;
    /// [group][class]; see LossTerms::groups.
    virtual std::vector<ClassSums> class_sums(std::size_t output, const LossTerms& terms) = 0;
    /// Whether class_sums() of a single group are sums over all ranks. Does not throw.
    virtual bool sums_classes_over_ranks() const { return false; }
    /// See CountDigits.
    virtual void count_digits(std::size_t output, const LossTerms& terms, std::uint64_t prefix, int shift,
                              std::span<double> counts) = 0;
    /// Writes the gradient of the loss to that of the output.
    virtual VoxelSums loss_gradient(std::size_t output, const LossTerms& terms) = 0;
};

/// Compiles a training of `graph`. Precondition: the arguments are those that Backend::compile_training has checked.
/// Errors: memory_limit, and those of TrainingEngine::guarded. May throw std::bad_alloc.
Result<std::unique_ptr<TrainingExecutable>>
compile_planned_training(std::unique_ptr<TrainingEngine> engine, const Graph& graph, const TrainingOptions& options);

} // namespace mfres
