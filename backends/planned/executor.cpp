// SPDX-License-Identifier: MIT
#include "backends/planned/executor.h"

#include "backends/planned/operand_reads.h"
#include "core/argmax.h"
#include "core/try.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace mfres {

namespace {

class FunctionOp final : public InferenceOp {
  public:
    explicit FunctionOp(OpFunction function) : function_(std::move(function)) {}

    std::string implementation() const override { return function_.implementation; }
    std::int64_t workspace_bytes() const override { return function_.workspace_bytes; }
    std::int64_t constant_bytes() const override { return function_.constant_bytes; }
    void bind(const OpArguments& arguments) override { arguments_ = arguments; }
    void run() override { function_.body(arguments_); }

  private:
    OpFunction function_;
    OpArguments arguments_;
};

/// "conv + add + relu", or "14 ops from dec4.unit.mf1.conv"
std::string describe_group(const Graph& graph, const FusionGroup& group) {
    if (group.fused())
        return text(group.ops.size(), " ops from ", graph.node(group.ops[0].main).name);
    return describe(graph, group.ops[0]);
}

class PlannedExecutable final : public Executable {
  public:
    PlannedExecutable(std::unique_ptr<InferenceEngine> engine, Network form) : engine_(std::move(engine)) {
        planned_.groups = planned_groups(form.graph, engine_->fusion_model());
        engine_->join_groups(form.graph, planned_.groups);
        planned_.ranges = channel_ranges(form.graph, ops_of(planned_.groups));
        planned_.network = std::move(form);
        needed_.resize(static_cast<std::size_t>(graph().size()));
    }

    Status compile() {
        return engine_->enter([&]() -> Status {
            MFRES_CHECK(engine_->guarded("(all)", [&] { engine_->begin(planned_); }));
            buffers_ = plan_value_buffers(graph(), planned_.groups, engine_->buffer_rules());
            for (NodeId id = 0; id < graph().size(); ++id)
                if (const std::int64_t bytes = engine_->value_bytes(id); bytes > 0)
                    buffers_.requests[buffer_of(id)].bytes = bytes;
            const std::size_t first_workspace = buffers_.requests.size();
            MFRES_CHECK(make_ops());
            const MemoryPlan plan = plan_memory(buffers_.requests);
            MFRES_CHECK(allocate(plan));
            for (std::size_t i = 0; i < ops_.size(); ++i)
                MFRES_CHECK(engine_->guarded(ops_[i].chosen.node,
                                             [&] { ops_[i].op->bind(arguments(i, plan, first_workspace + i)); }));
            peak_bytes_ = plan.bytes + engine_->other_bytes();
            for (const Op& each : ops_)
                peak_bytes_ += each.op->constant_bytes();
            return {};
        });
    }

    StridedView<float> input() override { return engine_->input(); }

    Status compute_only(const LineSpans& of_outputs) override {
        try {
            restrict_ops(of_outputs);
            return {};
        } catch (const std::bad_alloc&) {
            return Error{ErrorCode::memory_limit, "no memory was left to note which voxels are needed", {}};
        }
    }

    using Executable::run;
    Status run(const RunObserver& observer) override {
        return engine_->enter([&]() -> Status {
            MFRES_CHECK(engine_->guarded("input", [&] { engine_->start_run(); }));
            if (!observer && engine_->records())
                MFRES_CHECK(engine_->guarded("(all)", [&] {
                    engine_->run_all([this] {
                        engine_->convert_input();
                        for (const Op& each : ops_)
                            each.op->run();
                    });
                }));
            else
                MFRES_CHECK(run_one_by_one(observer));
            return engine_->guarded("output", [&] { engine_->finish_run(); });
        });
    }

    StridedView<const float> output(std::size_t index) const override { return engine_->output(index); }

    Status labels(std::size_t index, std::span<std::uint8_t> classes, int threads) const override {
        const Shape& shape = graph().node(graph().outputs()[index]).shape;
        bool done = false;
        if (shape.rank() == 5 && shape[0] == 1 &&
            static_cast<std::int64_t>(classes.size()) == shape[2] * shape[3] * shape[4])
            MFRES_CHECK(enter([&] {
                const auto label = [&] { done = engine_->labels(index, classes); };
                return engine_->guarded("labels", std::cref(label));
            }));
        return done ? Status() : assign_labels(output(index), {}, classes, threads, needed(graph().outputs()[index]));
    }

    std::int64_t peak_bytes() const override { return peak_bytes_; }
    std::int64_t barriers() const override { return engine_->barriers(); }

    std::vector<std::string> warnings() const override { return engine_->warnings(); }

    std::vector<Chosen> chosen() const override {
        std::vector<Chosen> all;
        for (const Op& each : ops_)
            all.push_back(each.chosen);
        return all;
    }

  private:
    struct Op {
        Chosen chosen;
        std::unique_ptr<InferenceOp> op;
        std::vector<NodeId> reads; ///< see values_read
    };

    /// engine_->enter(body) without an allocation.
    template <typename Body>
    Status enter(const Body& body) const {
        return engine_->enter(std::cref(body));
    }

    const Graph& graph() const { return planned_.network.graph; }
    /// Precondition: the value is stored.
    std::size_t buffer_of(NodeId id) const {
        return static_cast<std::size_t>(buffers_.buffer_of[static_cast<std::size_t>(id)]);
    }

    /// Makes the op of each group and requests its workspace for the time at which it runs.
    Status make_ops() {
        const auto costs = group_costs(graph(), planned_.groups);
        for (std::size_t i = 0; i < planned_.groups.size(); ++i) {
            const FusionGroup& group = planned_.groups[i];
            const FusedOp& last = group.ops.back();
            const std::string& node = graph().node(last.main).name;
            const bool in_output = last.residual && buffer_of(*last.residual) == buffer_of(last.output);
            Op& made = ops_.emplace_back();
            MFRES_CHECK(engine_->guarded(node, [&] {
                made.op = engine_->make_op(group, in_output);
                made.reads = values_read(graph(), planned_.ranges, group);
                made.chosen = {node, describe_group(graph(), group), made.op->implementation(), costs[i]};
            }));
            drop_weights(group); // what the next op allocates takes their place
            const int now = static_cast<int>(i) + 1;
            buffers_.requests.push_back({made.op->workspace_bytes(), now, now});
        }
        return {};
    }

    void drop_weights(const FusionGroup& group) {
        for (const FusedOp& op : group.ops)
            for (const Parameter& parameter : graph().node(op.main).parameters)
                planned_.network.weights.erase(parameter.name);
    }

    Status allocate(const MemoryPlan& plan) {
        const auto array = [&](NodeId id) {
            return ArrayPlan::Array{graph().node(id).shape, plan.offsets[buffer_of(id)]};
        };
        ArrayPlan arrays{plan.bytes, array(graph().input()), {}};
        for (const NodeId id : graph().outputs())
            arrays.outputs.push_back(array(id));
        Status allocated = engine_->guarded("(all)", [&] { engine_->allocate(arrays); });
        if (!allocated && allocated.error().code == ErrorCode::memory_limit)
            return Error{ErrorCode::memory_limit,
                         text("the ", engine_->name(), " backend needs ", plan.bytes,
                              " bytes for activations and could not allocate them"),
                         {}};
        return allocated;
    }

    /// Of op `index`.
    OpArguments arguments(std::size_t index, const MemoryPlan& plan, std::size_t workspace) const {
        const FusionGroup& group = planned_.groups[index];
        const auto at = [&](std::size_t request) { return engine_->block() + plan.offsets[request]; };
        const FusedOp& last = group.ops.back();
        OpArguments made;
        if (group.fused()) {
            for (const NodeId value : ops_[index].reads)
                made.inputs.push_back(at(buffer_of(value)));
        } else {
            for (const NodeId input : graph().node(last.main).inputs)
                made.inputs.push_back(at(buffer_of(planned_.ranges[static_cast<std::size_t>(input)].value)));
            made.residual = last.residual ? at(buffer_of(*last.residual)) : nullptr;
        }
        made.output = at(buffer_of(last.output));
        made.workspace = at(workspace);
        return made;
    }

    /// Of the value of a node, by compute_only().
    LineSpans& needed(NodeId id) { return needed_[static_cast<std::size_t>(id)]; }
    const LineSpans& needed(NodeId id) const { return needed_[static_cast<std::size_t>(id)]; }

    /// From the last op to the first: what an op needs of its operands is known once it is known what is needed of it.
    void restrict_ops(const LineSpans& of_outputs) {
        const auto grid = [&](NodeId id) {
            const Shape& shape = graph().node(id).shape;
            return LineSpans::Size{shape[2], shape[3], shape[4]};
        };
        for (NodeId id = 0; id < graph().size(); ++id)
            needed(id).clear(grid(id));
        for (const NodeId id : graph().outputs())
            if (of_outputs.all() || grid(id) == of_outputs.size())
                needed(id).add(of_outputs);
            else
                needed(id).set_all();
        for (std::size_t i = ops_.size(); i-- > 0;) {
            const FusionGroup& group = planned_.groups[i];
            const Node& node = graph().node(group.ops[0].main);
            const LineSpans& here = needed(group.output());
            const bool restricted = ops_[i].op->restrict_to(here);
            for (std::size_t k = 0; k < ops_[i].reads.size(); ++k) {
                const NodeId value = ops_[i].reads[k];
                if (restricted)
                    ops_[i].op->add_reads(k, needed(value));
                else if (group.fused())
                    needed(value).set_all();
                else
                    add_operand_reads(node, graph().node(value).shape, here, work_, needed(value));
            }
        }
    }

    Status run_one_by_one(const RunObserver& observer) {
        MFRES_CHECK(engine_->guarded("input", [&] { engine_->convert_input(); }));
        int done = 0;
        for (const Op& each : ops_) {
            const std::string& node = each.chosen.node;
            const auto run_op = [&] {
                each.op->run();
                if (observer)
                    engine_->wait();
            };
            MFRES_CHECK(engine_->guarded(node, std::cref(run_op))); // held without an allocation
            if (observer && !observer(++done, static_cast<int>(ops_.size())))
                return Error{ErrorCode::interrupted, text("stopped after node ", node), node};
        }
        return {};
    }

    std::unique_ptr<InferenceEngine> engine_; // first: ops and arrays are its
    PlannedNetwork planned_;
    ValueBuffers buffers_; ///< with the workspaces of ops behind the values
    std::vector<Op> ops_;
    std::vector<LineSpans> needed_; ///< by node; those of outputs and of values that ops read have a meaning
    LineSpans work_;                ///< of restrict_ops
    std::int64_t peak_bytes_ = 0;
};

} // namespace

std::unique_ptr<InferenceOp> make_function_op(OpFunction function) {
    return std::make_unique<FunctionOp>(std::move(function));
}

std::vector<FusionGroup> planned_groups(const Graph& form, const FusionModel* model) {
    const auto ops = remove_slices(form, fuse_ops(form));
    return model ? form_fusion_groups(form, ops, *model) : separate_groups(ops);
}

std::int64_t planned_activation_bytes(const Graph& graph, const FusionModel* model, const BufferRules& rules) {
    const Graph form = inference_form(graph);
    return plan_memory(plan_value_buffers(form, planned_groups(form, model), rules).requests).bytes;
}

Result<std::unique_ptr<Executable>> compile_planned(std::unique_ptr<InferenceEngine> engine, Network form) {
    auto executable = std::make_unique<PlannedExecutable>(std::move(engine), std::move(form));
    MFRES_CHECK(executable->compile());
    return std::unique_ptr<Executable>(std::move(executable));
}

} // namespace mfres
