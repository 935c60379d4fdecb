// SPDX-License-Identifier: MIT
// One operation of a network in training: what it needs, bound to memory and run, forward and backward.
#pragma once

#include "backends/distributed/communicator.h"
#include "backends/onednn/kernels.h"
#include "backends/planned/host_parameters.h"
#include "backends/planned/training_schedule.h"

#include <dnnl.hpp>

#include <memory>
#include <string>

namespace mfres::onednn {

/// Life of a step: needs, bind to what was planned for it, then forward and backward as often as wanted.
class TrainingStep {
  public:
    TrainingStep() = default;
    TrainingStep(const TrainingStep&) = delete;
    TrainingStep& operator=(const TrainingStep&) = delete;
    virtual ~TrainingStep() = default;

    /// The main node's name, and what is computed, e.g. "batch_norm + relu".
    virtual std::string node() const = 0;
    virtual std::string operation() const = 0;
    /// oneDNN's name of the kernel, or "mfres:<what>" for a loop of our own; empty if nothing is done.
    virtual std::string forward_implementation() const = 0;
    virtual std::string backward_implementation() const = 0;
    /// Memory outside the plan.
    virtual std::int64_t constant_bytes() const { return 0; }

    virtual StepNeeds needs() const = 0;
    /// `step` is what of the memory is this step's. May throw dnnl::error, StepFailure and std::bad_alloc, as may what
    /// follows.
    virtual void bind(const Binding& binding, const StepPlan& step) = 0;

    /// `again`: a second time in the same step of the optimiser, into other arrays and with the statistics of the
    /// first.
    virtual void forward(dnnl::stream& stream, bool again) = 0;
    virtual void backward(dnnl::stream& stream) = 0;
};

/// What every step of one compilation shares.
struct TrainingContext {
    const Graph& graph;
    const std::vector<char>& with_gradient; ///< see values_with_gradient
    HostParameters& parameters;
    dnnl::engine engine;
    const NormStatistics& statistics; ///< of the step that runs
    double batch_norm_momentum = 0.1;
    int threads = 1;
    Communicator& ranks;
    ValueType type = ValueType::f32; ///< of values and gradients between steps

    /// Values and gradient of a node's parameter.
    float* values(const Node& node, std::size_t index) const { return parameters.values(node.parameters[index].name); }
    float* gradient(const Node& node, std::size_t index) const {
        return parameters.gradient(node.parameters[index].name);
    }
};

} // namespace mfres::onednn
