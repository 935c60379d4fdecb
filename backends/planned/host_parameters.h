// SPDX-License-Identifier: MIT
// Parameters, gradients and optimiser moments of a network in host memory, for backends that train on a CPU.
#pragma once

#include "backends/planned/parameter_store.h"
#include "core/tensor.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// A ParameterStore in which every parameter starts on a 64-byte boundary. Pointers stay valid for the object's life.
class HostParameters final : public ParameterStore {
  public:
    /// apply() uses up to `threads` threads. Precondition: check_weights(graph, weights) is ok.
    HostParameters(const Graph& graph, const Weights& weights, bool amsgrad, int threads = 1);

    /// Values of one parameter of the graph, dense as its shape says. Precondition: it exists.
    float* values(std::string_view parameter) { return values_.data() + slot(parameter).offset; }
    const float* values(std::string_view parameter) const { return values_.data() + slot(parameter).offset; }
    /// Its gradient. Running statistics have one too, which is not used.
    float* gradient(std::string_view parameter) { return gradients_.data() + slot(parameter).offset; }

    void clear_gradients();
    /// Every gradient in the order of the graph's parameters, with the gaps between them.
    std::span<float> flat_gradients() { return gradients_; }

    /// All arrays, for an engine that keeps copies of the same layout in other memory.
    struct Arrays {
        std::span<float> values, gradients, first_moment, second_moment, largest_second_moment;
    };
    Arrays arrays() { return {values_, gradients_, first_moment_, second_moment_, largest_second_moment_}; }
    /// For every `line` floats of them 1 if they belong to a learnable parameter, else 0.
    std::vector<std::uint8_t> learnable_lines() const;
    static constexpr std::size_t line = 64 / sizeof(float);

    Weights weights() const override { return named(values_, false); }
    /// Precondition: `scale` is 1, as for the other functions.
    Weights gradients(double scale = 1.0) const override;
    TrainingState state() const override;
    Status set_state(const TrainingState& state) override;

    /// The sum of squares is taken in double precision in a fixed order.
    double gradient_norm(double scale = 1.0) const override;
    /// The result does not depend on the number of threads.
    void apply(const OptimiserStep& step, double norm, double scale = 1.0) override;

    std::size_t offset(const Parameter& parameter) const override { return offset(parameter.name); }
    std::size_t offset(std::string_view parameter) const { return slot(parameter).offset; }
    std::size_t floats() const override { return values_.size(); }
    std::int64_t bytes() const override;

  private:
    struct Slot {
        std::string name;
        Shape shape;
        std::size_t offset = 0;
        std::size_t count = 0;
        bool learnable = true;
    };

    const Slot& slot(std::string_view parameter) const { return slots_[index_.find(parameter)->second]; }
    Weights named(const AlignedVector<float>& flat, bool learnable_only) const;
    Status check(const Weights& weights, bool learnable_only, std::string_view what) const;
    void assign(AlignedVector<float>& flat, const Weights& weights) const;

    int threads_;
    std::vector<Slot> slots_;
    std::map<std::string, std::size_t, std::less<>> index_;
    AlignedVector<float> values_;
    AlignedVector<float> gradients_;
    AlignedVector<float> first_moment_;
    AlignedVector<float> second_moment_;
    AlignedVector<float> largest_second_moment_; ///< empty without AMSGrad
};

} // namespace mfres
