// SPDX-License-Identifier: MIT
// Parameters, gradients and optimiser moments of a network in host memory: what the backends that train on a CPU share.
#pragma once

#include "backends/training.h"
#include "core/tensor.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// One flat array each for values, gradients and moments, in the order of the graph's parameters, every parameter
/// starting on a 64-byte boundary. Pointers stay valid for the object's life.
class HostParameters {
  public:
    /// Precondition: check_weights(graph, weights) is ok.
    HostParameters(const Graph& graph, const Weights& weights, bool amsgrad);

    /// Values of one parameter of the graph, dense as its shape says. Precondition: it exists.
    float* values(std::string_view parameter) { return values_.data() + slot(parameter).offset; }
    const float* values(std::string_view parameter) const { return values_.data() + slot(parameter).offset; }
    /// Its gradient; running statistics have one too, which nobody reads.
    float* gradient(std::string_view parameter) { return gradients_.data() + slot(parameter).offset; }

    void clear_gradients();
    /// Every gradient in the order of the graph's parameters, with the gaps between them.
    std::span<float> flat_gradients() { return gradients_; }

    /// All arrays as they lie in memory, for an engine that keeps copies in the same layout elsewhere.
    struct Arrays {
        std::span<float> values, gradients, first_moment, second_moment, largest_second_moment;
    };
    Arrays arrays() { return {values_, gradients_, first_moment_, second_moment_, largest_second_moment_}; }
    /// Where a parameter begins in them.
    std::int64_t offset(std::string_view parameter) const { return static_cast<std::int64_t>(slot(parameter).offset); }
    /// For every `line` floats of them 1 where a learnable parameter lies, else 0.
    std::vector<std::uint8_t> learnable_lines() const;
    static constexpr std::size_t line = 64 / sizeof(float);

    /// OptimiserStep on every learnable parameter; norm as TrainingExecutable::update returns it. The sum of squares is
    /// taken in double in a fixed order, so the result does not depend on `threads`.
    Result<double> update(const OptimiserStep& step, int threads);

    Weights weights() const { return named(values_, false); }
    Weights gradients() const { return named(gradients_, true); }
    TrainingState state() const;
    Status set_state(const TrainingState& state);

    std::int64_t bytes() const;

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

    std::vector<Slot> slots_;
    std::map<std::string, std::size_t, std::less<>> index_;
    AlignedVector<float> values_;
    AlignedVector<float> gradients_;
    AlignedVector<float> first_moment_;
    AlignedVector<float> second_moment_;
    AlignedVector<float> largest_second_moment_; ///< empty without AMSGrad
};

} // namespace mfres
