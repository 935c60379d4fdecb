// SPDX-License-Identifier: MIT
// Inference on an engine whose memory is planned before it runs.
//
// compile_planned() does for every such engine what does not depend on one: it brings the graph into its inference form
// (graph/rewrite.h), fuses ops, forms fusion groups, plans the memory of all values and of the workspace of ops
// (graph/memory_plan.h), makes the ops, and returns an Executable that runs them with progress and cancellation.
//
// An engine supplies two things, through InferenceEngine: the implementation of each op, and arrays, that is, the memory
// that was planned and the transfer of input and output.
#pragma once

#include "backends/backend.h"
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

/// Where an op finds its operands. All pointers are into the memory of the engine, in its element type and layout.
struct OpArguments {
    /// For a single op: one per input of its main node, pointing to the array that PlannedNetwork::ranges names, which is
    /// larger than the input if the input is a removed slice. For a group of several ops: one per value of values_read().
    std::vector<const void*> inputs;
    const void* residual = nullptr; ///< null without one
    /// May be `residual`, or the first input of a pointwise op (see BufferRules and plan_value_buffers).
    void* output = nullptr;
    std::byte* workspace = nullptr; ///< InferenceOp::workspace_bytes() bytes, MemoryPlan::alignment aligned

    template <typename T>
    const T* input(std::size_t index) const {
        return static_cast<const T*>(inputs[index]);
    }
};

/// The implementation of a fused op or of a fusion group, with its weights in the order it wants them.
class InferenceOp {
  public:
    InferenceOp() = default;
    InferenceOp(const InferenceOp&) = delete;
    InferenceOp& operator=(const InferenceOp&) = delete;
    virtual ~InferenceOp() = default;

    /// The library's name of the kernel, e.g. "brgconv:avx512_core", or "mfres:<name>" for a kernel of this project.
    virtual std::string implementation() const = 0;
    /// Memory that is used only while the op runs. Ops share it.
    virtual std::int64_t workspace_bytes() const { return 0; }
    /// Memory of weights and tables that the op owns.
    virtual std::int64_t constant_bytes() const { return 0; }
    /// Called once, before the first run().
    virtual void bind(const OpArguments& arguments) = 0;
    virtual void run() = 0;
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
    Network network; ///< in its inference form; the weights are dropped once all ops are made
    std::vector<FusionGroup> groups;
    std::vector<ChannelRange> ranges; ///< by node, see channel_ranges
};

/// The memory of a network: one block, with the input and the outputs of the network at these offsets.
struct ArrayPlan {
    struct Array {
        Shape shape; ///< [batch, channel, x, y, z]
        std::int64_t offset = 0;
    };
    std::int64_t bytes = 0;
    Array input;
    std::vector<Array> outputs;
};

/// What an engine supplies. Calls may throw what guarded() catches, except where noted. They are made by one thread at a
/// time, inside enter(), in this order: begin, value_bytes and make_op at compilation; allocate once; then for each run
/// start_run, convert_input, the ops, finish_run.
class InferenceEngine {
  public:
    InferenceEngine() = default;
    InferenceEngine(const InferenceEngine&) = delete;
    InferenceEngine& operator=(const InferenceEngine&) = delete;
    virtual ~InferenceEngine() = default;

    /// Backend::name(), for messages. Does not throw.
    virtual std::string_view name() const = 0;
    /// Calls `body`, which works on `node`, and returns what it throws as an error that names the node. Does not throw.
    virtual Status guarded(const std::string& node, const std::function<void()>& body) const = 0;
    /// Calls `body` with everything in effect that the engine needs on the calling thread: its thread pool, its device.
    virtual Status enter(const std::function<Status()>& body) { return body(); }

    // Compilation

    /// The cost model for fusion groups; null if the engine runs each op alone. Does not throw.
    virtual const FusionModel* fusion_model() const { return nullptr; }
    virtual BufferRules buffer_rules() const { return {}; }
    /// Called before the first make_op. `planned` outlives the ops.
    virtual void begin(const PlannedNetwork& planned) = 0;
    /// Bytes of the value of a node if the engine does not store it with BufferRules::element_bytes, else 0.
    virtual std::int64_t value_bytes(NodeId) const { return 0; }
    /// `residual_in_output`: the output has the address of the residual.
    virtual std::unique_ptr<InferenceOp> make_op(const FusionGroup& group, bool residual_in_output) = 0;

    // Arrays

    virtual void allocate(const ArrayPlan& plan) = 0;
    /// The block of ArrayPlan::bytes bytes. Does not throw.
    virtual std::byte* block() const = 0;
    /// Bytes held besides the block and the constants of ops. Does not throw.
    virtual std::int64_t other_bytes() const { return 0; }
    /// Where the caller writes the input and reads an output. Does not throw.
    virtual StridedView<float> input() = 0;
    virtual StridedView<const float> output(std::size_t index) const = 0;
    /// The class of each voxel by a kernel of the engine: `classes` has the voxels of the output, which has one sample.
    /// False if there is no kernel for it or a logit is not finite; the caller then takes the classes from output().
    virtual bool labels(std::size_t, std::span<std::uint8_t>) const { return false; }

    // Runs

    /// Takes over what the caller wrote to input().
    virtual void start_run() {}
    /// Writes the input to the block, in the layout and type that ops read. Like the ops, it may be recorded.
    virtual void convert_input() {}
    /// Whether run_all() may be used for runs that nobody observes.
    virtual bool records() const { return false; }
    /// Calls `ops`, which runs all ops, or repeats a recording of an earlier call.
    virtual void run_all(const std::function<void()>& ops) { ops(); }
    /// Returns when the work so far is done.
    virtual void wait() {}
    /// The outputs of the run are complete when it returns.
    virtual void finish_run() { wait(); }
    /// See Executable::barriers(). Does not throw.
    virtual std::int64_t barriers() const { return 0; }
};

/// The groups that an engine with this cost model (null: none) runs for a graph in its inference form.
std::vector<FusionGroup> planned_groups(const Graph& form, const FusionModel* model);

/// Backend::planned_activations for an engine with this cost model and these rules: `graph` is brought into its
/// inference form here.
std::int64_t planned_activation_bytes(const Graph& graph, const FusionModel* model, const BufferRules& rules = {});

/// Compiles a network in its inference form. Errors: memory_limit, and those of InferenceEngine::guarded.
/// May throw std::bad_alloc.
Result<std::unique_ptr<Executable>> compile_planned(std::unique_ptr<InferenceEngine> engine, Network form);

} // namespace mfres
