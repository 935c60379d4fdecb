// SPDX-License-Identifier: MIT
// One operation of a network in training: what it needs, bound to memory and run, forward and backward.
#pragma once

#include "backends/cuda/device_arrays.h"
#include "backends/cuda/parameters.h"
#include "backends/distributed/data_parallel.h"
#include "backends/planned/training_schedule.h"

#include <memory>
#include <string>

namespace mfres::cuda {

/// Where planned arrays lie.
struct Binding {
    const TrainingPlan& plan;
    std::byte* block;

    std::byte* at(ArrayId id) const { return id < 0 ? nullptr : block + plan.offset(id); }
    Part part(const Channels& channels, std::int64_t to = 0) const {
        return {at(channels.array), channels.channels, channels.begin, to, channels.count};
    }
    std::vector<Part> parts(const std::vector<GradientTerm>& terms) const {
        std::vector<Part> all;
        for (const GradientTerm& term : terms)
            all.push_back(part(term.from, term.to));
        return all;
    }
};

/// Life of a step: needs, bind to what was planned for it, then forward and backward as often as wanted. All but the
/// names may throw EngineError.
class TrainingStep {
  public:
    TrainingStep() = default;
    TrainingStep(const TrainingStep&) = delete;
    TrainingStep& operator=(const TrainingStep&) = delete;
    virtual ~TrainingStep() = default;

    /// The main node's name, and what is computed, e.g. "batch_norm + relu".
    virtual std::string node() const = 0;
    virtual std::string operation() const = 0;
    /// The engine's name of the kernel, or "mfres:<what>" for one of our own; empty if nothing is done.
    virtual std::string forward_implementation() const = 0;
    virtual std::string backward_implementation() const = 0;

    virtual StepNeeds needs() const = 0;
    virtual void bind(const Binding& binding, const StepPlan& plan) = 0;
    /// `again`: a second time in the same step of the optimiser, into other arrays and with the statistics of the
    /// first.
    virtual void forward(bool again) = 0;
    virtual void backward() = 0;
};

/// What every step of one compilation shares.
struct TrainingContext {
    const Graph& graph;
    const std::vector<char>& with_gradient; ///< see values_with_gradient
    const DeviceParameters& parameters;
    Engine& engine;
    Constants& constants;
    ElementType type;
    ConvolutionRules rules;
    const NormStatistics& statistics; ///< of the step that runs
    double batch_norm_momentum;
    DeviceRanks& ranks;

    const Kernels& kernels() const { return engine.kernels(); }
    Stream stream() const { return engine.stream(); }
    float* values(const Node& node, std::size_t index) const { return parameters.values(node.parameters[index].name); }
    float* gradient(const Node& node, std::size_t index) const {
        return parameters.gradient(node.parameters[index].name);
    }
};

/// Bytes rounded up to where the next part of a scratch area may start.
inline std::int64_t padded(std::int64_t bytes) {
    constexpr std::int64_t alignment = 256;
    return (bytes + alignment - 1) / alignment * alignment;
}

std::unique_ptr<TrainingStep> make_convolution_step(const TrainingContext& context, NodeId id);
std::unique_ptr<TrainingStep> make_sum_step(const TrainingContext& context, const SumStep& step);
std::unique_ptr<TrainingStep> make_copy_step(const TrainingContext& context, NodeId id);
std::unique_ptr<TrainingStep> make_resampling_step(const TrainingContext& context, NodeId id);

/// One for each step of form_training_steps.
std::vector<std::unique_ptr<TrainingStep>> make_training_steps(const TrainingContext& context,
                                                               const std::vector<FormedStep>& formed);

} // namespace mfres::cuda
