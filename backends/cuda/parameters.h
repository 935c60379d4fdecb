// SPDX-License-Identifier: MIT
// Parameters, gradients and moments on the device, in the layout of HostParameters; and those of convolutions in the order and
// type of the engine as well, all packed and unpacked at once.
#pragma once

#include "backends/cuda/engine.h"
#include "backends/planned/host_parameters.h"

#include <vector>

namespace mfres::cuda {

class DeviceParameters final : public ParameterStore {
  public:
    /// Throws EngineError. Precondition: check_weights(graph, weights) is ok.
    DeviceParameters(Engine& engine, const Graph& graph, const Weights& weights, ElementType packed_as, bool amsgrad);

    float* values(std::string_view parameter) const { return at(Array::values, parameter); }
    float* gradient(std::string_view parameter) const { return at(Array::gradients, parameter); }

    /// A convolution's weights and their gradient in the order of the engine, or those of several convolutions whose
    /// output channels follow each other. Called before finish_packing().
    struct Packed {
        void *values, *gradient;
    };
    Packed pack(const std::vector<Parameter>& parameters, ElementType gradient_type);
    /// All that is to be packed is known.
    void finish_packing();
    /// Packs the values unless they are packed already.
    void pack_values();
    /// Floats [begin, end) of the gradients from those that are packed. Both are at the beginning of a parameter or at
    /// the end of all.
    void unpack_gradients(std::size_t begin, std::size_t end) const;

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

    PackingTable packing() const;

    Engine& engine_;
    ElementType packed_as_;
    mutable HostParameters host_; ///< a copy, which is updated when it is read
    std::int64_t lines_ = 0;
    Block blocks_[arrays];
    Block learned_, sums_;
    std::vector<PackedParameter> packed_;
    std::int64_t packed_elements_ = 0; ///< so far
    Block packed_values_, packed_gradients_, packed_table_, packed_lines_;
    bool values_are_packed_ = false;
};

} // namespace mfres::cuda
