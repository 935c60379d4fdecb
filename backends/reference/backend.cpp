// SPDX-License-Identifier: MIT
// The reference backend: every node of the graph as written, one after the other, nothing folded or fused. In bf16 and
// int8 it runs the inference form instead, which is what those are defined on.
#include "backends/backend.h"
#include "backends/reference/low_precision_convolution.h"
#include "backends/reference/ops.h"
#include "backends/reference/training.h"
#include "core/array_memory.h"
#include "core/checked.h"
#include "core/try.h"
#include "graph/memory_plan.h"

namespace mfres::reference {

namespace {

/// One buffer per node, alive from its computation to its last use.
std::vector<BufferRequest> node_buffers(const Graph& graph) {
    std::vector<BufferRequest> requests;
    for (NodeId id = 0; id < graph.size(); ++id) {
        requests.push_back({graph.node(id).shape.elements() * static_cast<std::int64_t>(sizeof(float)), id,
                            graph.is_output(id) ? graph.size() : id});
        for (const NodeId input : graph.node(id).inputs) {
            auto& request = requests[static_cast<std::size_t>(input)];
            request.last = std::max(request.last, id);
        }
    }
    return requests;
}

class ReferenceExecutable final : public Executable {
  public:
    ReferenceExecutable(Network network, const CompileOptions& options, const MemoryPlan& plan)
        : threads_(resolve_threads(options.threads)), plan_(plan), arena_(array_size<std::byte>(plan.bytes)) {
        for (const Node& node : network.graph.nodes())
            reduced_.push_back(LowPrecisionConvolution::make(network, node, options));
        graph_ = std::move(network.graph);
        weights_ = std::move(network.weights);
    }

    StridedView<float> input() override {
        const Shape& shape = graph_.node(graph_.input()).shape;
        return {buffer(graph_.input()), shape, dense_strides(shape)};
    }

    using Executable::run;
    Status run(const RunObserver& observer) override {
        for (NodeId id = 1; id < graph_.size(); ++id) {
            const Node& node = graph_.node(id);
            Operands<float> operands;
            for (const NodeId input : node.inputs) {
                operands.inputs.push_back(buffer(input));
                operands.shapes.push_back(graph_.node(input).shape);
            }
            for (const Parameter& parameter : node.parameters)
                operands.parameters.push_back(weights_.find(parameter.name)->second.data());
            if (const auto& reduced = reduced_[static_cast<std::size_t>(id)])
                reduced->run(operands.inputs[0], buffer(id), threads_);
            else
                forward(node, operands, buffer(id), threads_);
            if (observer && !observer(id, graph_.size() - 1))
                return Error{ErrorCode::interrupted, text("stopped after node ", node.name), node.name};
        }
        return {};
    }

    StridedView<const float> output(std::size_t index) const override {
        const NodeId id = graph_.outputs()[index];
        const Shape& shape = graph_.node(id).shape;
        return {const_cast<ReferenceExecutable*>(this)->buffer(id), shape, dense_strides(shape)};
    }

    std::int64_t peak_bytes() const override {
        std::int64_t bytes = plan_.bytes;
        for (const auto& [name, tensor] : weights_)
            bytes += tensor.elements() * static_cast<std::int64_t>(sizeof(float));
        return bytes;
    }

    std::vector<Chosen> chosen() const override {
        std::vector<Chosen> all;
        std::vector<FusedOp> ops;
        for (NodeId id = 1; id < graph_.size(); ++id)
            ops.push_back({.main = id, .output = id});
        const auto costs = op_costs(graph_, ops);
        for (NodeId id = 1; id < graph_.size(); ++id)
            all.push_back({graph_.node(id).name, std::string(name(graph_.node(id).kind())),
                           reduced_[static_cast<std::size_t>(id)] ? "reference, reduced" : "reference",
                           costs[static_cast<std::size_t>(id) - 1]});
        return all;
    }

  private:
    float* buffer(NodeId id) {
        return reinterpret_cast<float*>(arena_.data() + plan_.offsets[static_cast<std::size_t>(id)]);
    }

    Graph graph_;
    Weights weights_;
    std::vector<std::optional<LowPrecisionConvolution>> reduced_; ///< by node
    int threads_;
    MemoryPlan plan_;
    ArrayBlock arena_;
};

class ReferenceBackend final : public Backend {
  public:
    std::string_view name() const override { return "reference"; }
    std::string description() const override { return "reference (plain loops, double accumulation)"; }
    std::vector<Unsupported> unsupported(const Graph& graph, const CompileOptions& options) const override {
        std::vector<Unsupported> rejected = unsupported_relaxations(graph, options.allow_tf32, options.deterministic);
        if (options.precision == Precision::bf16 || options.precision == Precision::int8)
            append(rejected, unsupported_without_ranges(graph, options));
        else
            append(rejected, unsupported_precision(graph, options.precision));
        return rejected;
    }
    std::int64_t engine_bytes() const override { return 0; }
#ifdef MFRES_WITH_TRAINING
    bool trains() const override {
        return true;
    }
#endif

  protected:
    Result<std::unique_ptr<Executable>> make_executable(const Graph& graph, const Weights& weights,
                                                        const CompileOptions& options) const override {
        Network network{graph, weights};
        if (options.precision != Precision::f32) {
            MFRES_TRY(network, inference_form(graph, weights));
        }
        const MemoryPlan plan = plan_memory(node_buffers(network.graph));
        try {
            return std::unique_ptr<Executable>(
                std::make_unique<ReferenceExecutable>(std::move(network), options, plan));
        } catch (const std::bad_alloc&) {
            return Error{ErrorCode::memory_limit,
                         text("the reference backend needs ", plan.bytes, " bytes for activations and got none"),
                         {}};
        }
    }

#ifdef MFRES_WITH_TRAINING
    Result<std::unique_ptr<TrainingExecutable>> make_training(const Graph& graph, const Weights& weights,
                                                              const TrainingOptions& options) const override {
        return reference::make_training(graph, weights, options);
    }
#endif
};

} // namespace

const Backend& backend() {
    static const ReferenceBackend instance;
    return instance;
}

} // namespace mfres::reference
