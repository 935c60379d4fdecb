// SPDX-License-Identifier: MIT
// Where an engine keeps the parameters, gradients and optimiser moments of a network, and the optimiser step on them.
#pragma once

#include "backends/training.h"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace mfres {

/// Parameters of a graph with their gradients and moments. Each kind is one flat array of floats in the order of the
/// graph's parameters. Calls may throw what the engine's guarded() catches.
class ParameterStore {
  public:
    ParameterStore() = default;
    ParameterStore(const ParameterStore&) = default;
    ParameterStore(ParameterStore&&) = default;
    ParameterStore& operator=(const ParameterStore&) = default;
    ParameterStore& operator=(ParameterStore&&) = default;
    virtual ~ParameterStore() = default;

    // See TrainingExecutable. All stored gradients are multiplied by `scale`, which the results are not.
    virtual Weights weights() const = 0;
    virtual Weights gradients(double scale) const = 0;
    virtual TrainingState state() const = 0;
    virtual Status set_state(const TrainingState& state) = 0;

    /// Euclidean norm of the gradient of all learnable parameters.
    virtual double gradient_norm(double scale) const = 0;
    /// OptimiserStep on every learnable parameter, given the norm of the gradient.
    virtual void apply(const OptimiserStep& step, double norm, double scale) = 0;

    /// Where a parameter begins in the flat arrays.
    virtual std::size_t offset(const Parameter& parameter) const = 0;
    /// Length of a flat array.
    virtual std::size_t floats() const = 0;
    virtual std::int64_t bytes() const = 0;
};

/// The factor by which gradients are scaled up from step to step: LossScaling in fp16, always 1 otherwise.
class LossScale {
  public:
    explicit LossScale(Precision precision = Precision::f32) : scales_(precision == Precision::fp16) {}

    double value() const { return scales_ ? now_.scale : 1.0; }
    /// Whether the factor can become smaller.
    bool reducible() const { return scales_ && now_.scale > 1.0; }
    std::optional<LossScaling> state() const { return scales_ ? std::optional(now_) : std::nullopt; }
    void set(const std::optional<LossScaling>& state) { now_ = state.value_or(LossScaling()); }

    /// After a step whose gradient was not finite.
    void overflowed();
    /// After any other step.
    void succeeded();

  private:
    bool scales_;
    LossScaling now_;
};

/// TrainingExecutable::update. Errors: those of check_optimiser_step, training_diverged. Throws what `parameters` throws.
Result<double> update_parameters(ParameterStore& parameters, const OptimiserStep& step, LossScale& scale);
/// The same for gradients that are not scaled.
inline Result<double> update_parameters(ParameterStore& parameters, const OptimiserStep& step) {
    LossScale none;
    return update_parameters(parameters, step, none);
}

} // namespace mfres
