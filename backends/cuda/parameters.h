// SPDX-License-Identifier: MIT
// Parameters, gradients and moments on the device, in the layout of HostParameters.
#pragma once

#include "backends/cuda/engine.h"
#include "backends/planned/host_parameters.h"

namespace mfres::cuda {

class DeviceParameters final : public ParameterStore {
  public:
    /// Throws EngineError. Precondition: check_weights(graph, weights) is ok.
    DeviceParameters(Engine& engine, const Graph& graph, const Weights& weights, bool amsgrad);

    float* values(std::string_view parameter) const { return at(Array::values, parameter); }
    float* gradient(std::string_view parameter) const { return at(Array::gradients, parameter); }

    /// All gradients, on the device.
    float* flat_gradients() const { return data(Array::gradients); }

    // All may throw EngineError.
    Weights weights() const override;
    Weights gradients(double scale) const override;
    TrainingState state() const override;
    Status set_state(const TrainingState& state) override;
    double gradient_norm(double scale) const override;
    void apply(const OptimiserStep& step, double norm, double scale) override;

    std::size_t offset(const Parameter& parameter) const override { return host_.offset(parameter); }
    std::size_t floats() const override { return host_.floats(); }
    std::int64_t bytes() const override;

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
    mutable HostParameters host_; ///< a copy, which is updated when it is read
    std::int64_t lines_ = 0;
    Block blocks_[arrays];
    Block learned_, sums_;
};

} // namespace mfres::cuda
