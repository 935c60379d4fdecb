// SPDX-License-Identifier: MIT
// Parameters, gradients and moments on the device, in the layout of HostParameters, which gives them their names: so a
// checkpoint does not tell where it was made.
#pragma once

#include "backends/cuda/engine.h"
#include "backends/planned/host_parameters.h"

namespace mfres::cuda {

class DeviceParameters {
  public:
    /// Throws EngineError. Precondition: check_weights(graph, weights) is ok.
    DeviceParameters(Engine& engine, const Graph& graph, const Weights& weights, bool amsgrad);

    float* values(std::string_view parameter) const { return at(Array::values, parameter); }
    float* gradient(std::string_view parameter) const { return at(Array::gradients, parameter); }

    /// See TrainingExecutable; gradients have been scaled by `scale`. All may throw EngineError.
    Weights weights() const;
    Weights gradients(double scale) const;
    TrainingState state() const;
    Status set_state(const TrainingState& state);
    /// Where the gradient of a parameter begins in the flat array of all of them, and what follows there.
    std::size_t offset(const Parameter& parameter) const {
        return static_cast<std::size_t>(host_.offset(parameter.name));
    }
    std::size_t floats() const { return mirror(Array::gradients).size(); }
    float* flat_gradients() const { return data(Array::gradients); }
    /// The Euclidean norm of the gradient.
    double norm(double scale) const;
    /// The change that goes with that norm.
    void update(const OptimiserStep& step, double norm, double scale) const;

    std::int64_t bytes() const;

  private:
    enum class Array : std::uint8_t { values, gradients, first_moment, second_moment, largest_second_moment };
    static constexpr std::size_t arrays = 5;

    float* at(Array array, std::string_view parameter) const {
        return blocks_[static_cast<std::size_t>(array)].as<float>() + host_.offset(parameter);
    }
    float* data(Array array) const { return blocks_[static_cast<std::size_t>(array)].as<float>(); }
    std::span<float> mirror(Array array) const;
    void fetch(Array array) const;
    void send(Array array) const;
    UpdateArguments arguments() const;

    Engine& engine_;
    mutable HostParameters host_; ///< a mirror, filled when somebody asks
    std::int64_t lines_ = 0;
    Block blocks_[arrays];
    Block learned_, sums_;
};

} // namespace mfres::cuda
