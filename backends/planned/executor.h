// SPDX-License-Identifier: MIT
// Inference on an engine whose memory is planned before it runs.
//
// compile_planned() is the part that all such engines share. It takes a graph in its inference form (graph/rewrite.h),
// fuses ops, forms fusion groups (graph/fuse.h), plans the memory of all values and of the workspace of the ops
// (graph/memory_plan.h), makes the ops, and returns an Executable that runs them with progress and cancellation.
//
// An engine implements InferenceEngine: it makes the ops, allocates the planned memory, and copies the input to it and
// the outputs from it.
#pragma once

#include "backends/backend.h"
#include "core/interface.h"
#include "core/line_spans.h"
#include "graph/fuse.h"
#include "graph/memory_plan.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// The operands of an op. All pointers are to memory of the engine, in its element type and layout.
struct OpArguments {
    /// For a single op: one per input of its main node. If the input is a channel range of a larger array, the pointer
    /// is to that array (PlannedNetwork::ranges). For a group of several ops: one per value of values_read().
    std::vector<const void*> inputs;
    const void* residual = nullptr; ///< null without one
    /// May be `residual`, or the first input of a pointwise op (see BufferRules and plan_value_buffers).
    void* output = nullptr;
    std::byte* workspace = nullptr; ///< of InferenceOp::workspace_bytes() bytes, aligned to MemoryPlan::alignment

    template <typename T>
    const T* input(std::size_t index) const {
        return static_cast<const T*>(inputs[index]);
    }
};

/// The implementation of a fused op or of a fusion group, with its weights in the layout of the kernel.
class InferenceOp : public Interface {
  public:
    /// The engine's name of the kernel, e.g. "brgconv:avx512_core", or "mfres:<name>" for a kernel of this project.
    virtual std::string implementation() const = 0;
    /// Memory that is used only during run(). All ops of a network share it.
    virtual std::int64_t workspace_bytes() const { return 0; }
    /// Memory of weights and tables that the op owns.
    virtual std::int64_t constant_bytes() const { return 0; }
    /// Called once, before the first run().
    virtual void bind(const OpArguments& arguments) = 0;
    virtual void run() = 0;

    /// Tells which voxels of the output are needed from the next run on. Returns whether it computes these only; the
    /// others are then 0. Allocates at the first call only; may throw std::bad_alloc.
    virtual bool restrict_to(const LineSpans&) { return false; }
    /// After restrict_to() returned true: adds the voxels of operand `index` (OpArguments::inputs) that are read to `read`,
    /// which is all() or of the operand's grid.
    virtual void add_reads(std::size_t, LineSpans& read) { read.set_all(); }
};

/// An op that calls `body` with its arguments.
struct OpFunction {
    std::string implementation;
    std::function<void(const OpArguments&)> body;
    std::int64_t workspace_bytes = 0;
    std::int64_t constant_bytes = 0;
};
std::unique_ptr<InferenceOp> make_function_op(OpFunction function);

/// A network as the executor runs it: one InferenceOp for each group.
struct PlannedNetwork {
    Network network; ///< in its inference form; the weights of a group are dropped once its op is made
    std::vector<FusionGroup> groups;
    std::vector<ChannelRange> ranges; ///< by node, see channel_ranges
};

/// The memory of a network: one block, and where in it the input and the outputs of the network are.
struct ArrayPlan {
    struct Array {
        Shape shape; ///< [batch, channel, x, y, z]
        std::int64_t offset = 0;
    };
    std::int64_t bytes = 0;
    Array input;
    std::vector<Array> outputs;
};

/// The interface that an engine implements. Functions may throw what guarded() catches, except where noted. The
/// executor calls them from one thread at a time, inside enter(), in this order: begin, value_bytes and make_op at
/// compilation; allocate once; then for each run start_run, convert_input, the ops, finish_run.
class InferenceEngine : public Interface {
  public:
    /// Backend::name(), for messages. Does not throw.
    virtual std::string_view name() const = 0;
    /// Calls `body`, which compiles or runs `node`, and returns its exceptions as an error that names the node. Does
    /// not throw.
    virtual Status guarded(const std::string& node, const std::function<void()>& body) const = 0;
    /// Calls `body` with the state of the calling thread that the engine needs: its thread pool, its current device.
    virtual Status enter(const std::function<Status()>& body) { return body(); }

    // Compilation

    /// The cost model for fusion groups; null if the engine runs each op alone. Does not throw.
    virtual const FusionModel* fusion_model() const { return nullptr; }
    /// Joins neighbouring groups that the engine runs as one, and leaves out slices that it reads in place. Does not throw
    /// but std::bad_alloc.
    virtual void join_groups(const Graph&, std::vector<FusionGroup>&) const {}
    virtual BufferRules buffer_rules() const { return {}; }
    /// Called before the first make_op. `planned` outlives the ops.
    virtual void begin(const PlannedNetwork& planned) = 0;
    /// Bytes of the value of a node if its elements are not of BufferRules::element_bytes, else 0.
    virtual std::int64_t value_bytes(NodeId) const { return 0; }
    /// `residual_in_output`: the output overwrites the residual in place.
    virtual std::unique_ptr<InferenceOp> make_op(const FusionGroup& group, bool residual_in_output) = 0;

    /// See Executable::warnings. Called once everything is compiled.
    virtual std::vector<std::string> warnings() const { return {}; }

    // Arrays

    virtual void allocate(const ArrayPlan& plan) = 0;
    /// The block of ArrayPlan::bytes bytes. Does not throw.
    virtual std::byte* block() const = 0;
    /// Bytes allocated in addition to the block and to InferenceOp::constant_bytes. Does not throw.
    virtual std::int64_t other_bytes() const { return 0; }
    /// Where the caller writes the input and reads an output. Does not throw.
    virtual StridedView<float> input() = 0;
    virtual StridedView<const float> output(std::size_t index) const = 0;
    /// Computes the class of each voxel of output `index`, a batch of 1, by a kernel of the engine. Returns false if it
    /// has none or if a logit is not finite; the executor then computes the classes from output().
    virtual bool labels(std::size_t, std::span<std::uint8_t>) const { return false; }

    // Runs

    /// Copies what was written to input() to the engine.
    virtual void start_run() {}
    /// Converts the input to the layout and type of the ops, into the block. Like the ops, it may be recorded.
    virtual void convert_input() {}
    /// Whether run_all() may be used for runs without a RunObserver.
    virtual bool records() const { return false; }
    /// Calls `ops`, which runs all ops, or replays a recording of an earlier call (a CUDA graph).
    virtual void run_all(const std::function<void()>& ops) { ops(); }
    /// Returns when all work submitted so far is done.
    virtual void wait() {}
    /// When it returns, the outputs of the run can be read.
    virtual void finish_run() { wait(); }
    /// See Executable::barriers(). Does not throw.
    virtual std::int64_t barriers() const { return 0; }
};

/// The fusion groups of a graph in its inference form for an engine with this cost model; null: each op alone.
std::vector<FusionGroup> planned_groups(const Graph& form, const FusionModel* model);

/// Implements Backend::planned_activations for an engine with this cost model and these rules. `graph` need not be in
/// its inference form.
std::int64_t planned_activation_bytes(const Graph& graph, const FusionModel* model, const BufferRules& rules = {});

/// Compiles a network in its inference form. Errors: memory_limit, and those of InferenceEngine::guarded.
/// May throw std::bad_alloc.
Result<std::unique_ptr<Executable>> compile_planned(std::unique_ptr<InferenceEngine> engine, Network form);

} // namespace mfres
