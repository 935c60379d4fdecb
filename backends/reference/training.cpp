// SPDX-License-Identifier: MIT
#include "backends/reference/training.h"

#include "backends/distributed/data_parallel.h"
#include "backends/planned/host_parameters.h"
#include "backends/planned/loss_terms.h"
#include "backends/reference/gradients.h"
#include "core/try.h"
#include "graph/memory_plan.h"

#include <algorithm>

namespace mfres::reference {

namespace {

std::int64_t bytes_of(const Shape& shape) {
    return shape.elements() * static_cast<std::int64_t>(sizeof(float));
}

std::int64_t output_bytes(const Graph& graph) {
    std::int64_t bytes = 0;
    for (const NodeId output : graph.outputs())
        bytes += bytes_of(graph.node(output).shape);
    return bytes;
}

/// The gradients that the backward pass computes. The backward op of node n runs at time size - 1 - n.
struct BackwardPlan {
    std::vector<bool> wanted; ///< by node: an output depends on it, and it depends on a parameter
    std::vector<NodeId>
        last_consumer; ///< by node: the consumer whose backward op is first; the node itself if it has none
    MemoryPlan memory; ///< by node: its gradient; no bytes if it is not wanted
};

BackwardPlan plan_backward(const Graph& graph) {
    const auto size = static_cast<std::size_t>(graph.size());
    std::vector<bool> learns(size);
    std::vector<bool> matters(size);
    BackwardPlan plan{std::vector<bool>(size), std::vector<NodeId>(size), {}};
    for (std::size_t id = 0; id < size; ++id) {
        const Node& node = graph.nodes()[id];
        plan.last_consumer[id] = static_cast<NodeId>(id);
        learns[id] = !node.parameters.empty();
        for (const NodeId input : node.inputs)
            learns[id] = learns[id] || learns[static_cast<std::size_t>(input)];
    }
    for (const NodeId output : graph.outputs())
        matters[static_cast<std::size_t>(output)] = true;
    for (std::size_t id = size; id-- > 0;)
        for (const NodeId input : graph.nodes()[id].inputs)
            if (matters[id]) {
                const auto read = static_cast<std::size_t>(input);
                matters[read] = true;
                plan.last_consumer[read] = std::max(plan.last_consumer[read], static_cast<NodeId>(id));
            }
    std::vector<BufferRequest> requests;
    const auto time_of = [&](NodeId id) { return graph.size() - 1 - id; };
    for (std::size_t id = 0; id < size; ++id) {
        plan.wanted[id] = learns[id] && matters[id];
        const bool is_output = graph.is_output(static_cast<NodeId>(id)); // written before the backward pass
        requests.push_back({plan.wanted[id] ? bytes_of(graph.nodes()[id].shape) : 0,
                            is_output ? 0 : time_of(plan.last_consumer[id]), time_of(static_cast<NodeId>(id))});
    }
    plan.memory = plan_memory(requests);
    return plan;
}

/// All values are live at once, because the backward pass reads them.
MemoryPlan plan_values(const Graph& graph) {
    std::vector<BufferRequest> requests;
    for (const Node& node : graph.nodes())
        requests.push_back({bytes_of(node.shape), 0, 1});
    return plan_memory(requests);
}

/// Floats of one block, by node.
class Arena {
  public:
    explicit Arena(MemoryPlan plan)
        : plan_(std::move(plan)), floats_(static_cast<std::size_t>(plan_.bytes) / sizeof(float), 0.0F) {}
    float* at(NodeId id) {
        return floats_.data() + static_cast<std::size_t>(plan_.offsets[static_cast<std::size_t>(id)]) / sizeof(float);
    }
    std::int64_t bytes() const { return plan_.bytes; }

  private:
    MemoryPlan plan_;
    AlignedVector<float> floats_;
};

class ReferenceTraining final : public TrainingExecutable {
  public:
    ReferenceTraining(const Graph& graph, HostParameters parameters, MemoryPlan values, BackwardPlan backward,
                      const TrainingOptions& options)
        : graph_(graph), parameters_(std::move(parameters)), threads_(resolve_threads(options.threads)),
          momentum_(options.batch_norm_momentum), values_(std::move(values)), backward_(std::move(backward)),
          gradients_(backward_.memory), ranks_(ranks_of(options)),
          gradient_sum_(
              graph_, parameters_, options,
              [this](std::size_t begin, std::size_t end) {
                  return ranks_.start_sum(parameters_.flat_gradients().subspan(begin, end - begin));
              },
              [this] { return ranks_.finish_sums(); }) {
        for (const NodeId output : graph_.outputs())
            output_gradients_.emplace_back(static_cast<std::size_t>(graph_.node(output).shape.elements()), 0.0F);
    }

    StridedView<float> input() override {
        const Shape& shape = graph_.node(graph_.input()).shape;
        return {values_.at(graph_.input()), shape, dense_strides(shape)};
    }

    Status forward(NormStatistics statistics) override {
        statistics_ = statistics;
        for (NodeId id = 1; id < graph_.size(); ++id) {
            const Node& node = graph_.node(id);
            RunningStatistics<float> running;
            for (const Parameter& parameter : node.parameters) {
                if (parameter.role == ParameterRole::running_mean)
                    running.mean = parameters_.values(parameter.name);
                if (parameter.role == ParameterRole::running_var)
                    running.variance = parameters_.values(parameter.name);
            }
            running.momentum = momentum_;
            running.used = statistics;
            MFRES_CHECK(forward_training(node, operands(node), values_.at(id), running, threads_, ranks_));
        }
        return {};
    }

    std::size_t outputs() const override { return graph_.outputs().size(); }

    StridedView<const float> output(std::size_t index) const override {
        const Shape& shape = output_node(index).shape;
        return {const_cast<ReferenceTraining*>(this)->values_.at(graph_.outputs()[index]), shape, dense_strides(shape)};
    }

    StridedView<float> output_gradient(std::size_t index) override {
        const Shape& shape = output_node(index).shape;
        return {output_gradients_[index].data(), shape, dense_strides(shape)};
    }

    Result<StridedView<float>> targets() override {
        const Shape& shape = output_node(0).shape;
        targets_.resize(static_cast<std::size_t>(shape.elements()));
        return StridedView<float>{targets_.data(), shape, dense_strides(shape)};
    }

    Result<double> loss(std::span<const std::uint8_t> classes, const Loss& loss) override {
        MFRES_CHECK(check_output_weights(loss, outputs()));
        return sum_over_outputs(loss, outputs(), [&](std::size_t k, const Loss& own) {
            if (k == 0)
                return loss_of(0, classes, own);
            return loss_of(k, every_nth_class(classes, output_node(0).shape, output_node(k).shape), own);
        });
    }

    Status backward() override {
        parameters_.clear_gradients();
        for (std::size_t k = 0; k < outputs(); ++k)
            if (const NodeId output = graph_.outputs()[k]; wanted(output))
                std::copy(output_gradients_[k].begin(), output_gradients_[k].end(), gradients_.at(output));
        gradient_sum_.begin();
        for (NodeId id = graph_.size() - 1; id > 0; --id)
            if (wanted(id)) {
                MFRES_CHECK(node_backward(id));
                MFRES_CHECK(gradient_sum_.finished(id));
            }
        return gradient_sum_.finish();
    }

    Weights gradients() const override { return parameters_.gradients(); }
    Result<double> update(const OptimiserStep& step) override { return update_parameters(parameters_, step); }
    Weights weights() const override { return parameters_.weights(); }
    TrainingState state() const override { return parameters_.state(); }
    Status set_state(const TrainingState& state) override { return parameters_.set_state(state); }

    std::int64_t peak_bytes() const override {
        return parameters_.bytes() + values_.bytes() + gradients_.bytes() + output_bytes(graph_) +
               static_cast<std::int64_t>(targets_.size() * sizeof(float));
    }

    std::vector<Chosen> chosen() const override {
        std::vector<Chosen> all;
        for (NodeId id = 1; id < graph_.size(); ++id)
            all.push_back({graph_.node(id).name, std::string(name(graph_.node(id).kind())), "reference"});
        for (NodeId id = graph_.size() - 1; id > 0; --id)
            if (wanted(id))
                all.push_back(
                    {graph_.node(id).name, std::string(name(graph_.node(id).kind())) + " backward", "reference"});
        return all;
    }

  private:
    const Node& output_node(std::size_t index) const { return graph_.node(graph_.outputs()[index]); }

    Result<double> loss_of(std::size_t index, std::span<const std::uint8_t> classes, const Loss& loss) {
        if (loss.distillation.weight != 0.0)
            MFRES_CHECK(targets()); // zeros unless the caller has written them
        return loss_and_gradient(output_node(index).shape, output(index).data, classes, loss,
                                 output_gradients_[index].data(), threads_, ranks_,
                                 static_cast<const float*>(targets_.data()));
    }
    bool wanted(NodeId id) const { return backward_.wanted[static_cast<std::size_t>(id)]; }

    Operands<float> operands(const Node& node) {
        Operands<float> all;
        for (const NodeId input : node.inputs) {
            all.inputs.push_back(values_.at(input));
            all.shapes.push_back(graph_.node(input).shape);
        }
        for (const Parameter& parameter : node.parameters)
            all.parameters.push_back(parameters_.values(parameter.name));
        return all;
    }

    Status node_backward(NodeId id) {
        const Node& node = graph_.node(id);
        Gradients<float> gradients{values_.at(id), gradients_.at(id), {}, {}};
        for (const NodeId input : node.inputs) {
            const bool first_use =
                backward_.last_consumer[static_cast<std::size_t>(input)] == id && !graph_.is_output(input);
            if (wanted(input) && first_use)
                std::fill_n(gradients_.at(input), graph_.node(input).shape.elements(), 0.0F);
            gradients.of_inputs.push_back(wanted(input) ? gradients_.at(input) : nullptr);
        }
        for (const Parameter& parameter : node.parameters)
            gradients.of_parameters.push_back(parameters_.gradient(parameter.name));
        return reference::backward(node, operands(node), gradients, statistics_, threads_, ranks_);
    }

    Graph graph_;
    HostParameters parameters_;
    int threads_;
    double momentum_;
    NormStatistics statistics_ = NormStatistics::batch; ///< of the last forward
    Arena values_;
    BackwardPlan backward_;
    Arena gradients_;
    std::vector<AlignedVector<float>> output_gradients_;
    AlignedVector<float> targets_; ///< once asked for
    Communicator& ranks_;
    GradientSum gradient_sum_;
};

} // namespace

Result<std::unique_ptr<TrainingExecutable>> make_training(const Graph& graph, const Weights& weights,
                                                          const TrainingOptions& options) {
    try {
        HostParameters parameters(graph, weights, options.amsgrad, resolve_threads(options.threads));
        MemoryPlan values = plan_values(graph);
        BackwardPlan backward = plan_backward(graph);
        MFRES_CHECK(check_training_memory(
            "reference", parameters.bytes() + values.bytes + backward.memory.bytes + output_bytes(graph), 0, options));
        return std::unique_ptr<TrainingExecutable>(std::make_unique<ReferenceTraining>(
            graph, std::move(parameters), std::move(values), std::move(backward), options));
    } catch (const std::bad_alloc&) {
        return Error{ErrorCode::memory_limit,
                     text("the reference backend needs ", plan_values(graph).bytes,
                          " bytes for the activations of training alone and got too few"),
                     {}};
    }
}

} // namespace mfres::reference
