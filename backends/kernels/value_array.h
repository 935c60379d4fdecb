// SPDX-License-Identifier: MIT
// An array of values or of gradients in training, stored in f32 or bf16. Loops compute in f32: a block of bf16 is
// converted into a workspace that fits the first-level cache, and results are rounded once, when they are stored. In
// f32 a block is read and computed in place.
#pragma once

#include "backends/kernels/threads.h"
#include "backends/kernels/vector_loops.h"
#include "backends/planned/training_plan.h"

#include <algorithm>
#include <cstdint>

namespace mfres::kernels {

enum class ValueType : std::uint8_t { f32, bf16 };

constexpr std::int64_t bytes_of(ValueType type) {
    return type == ValueType::f32 ? 4 : 2;
}

/// A dense array that somebody else owns. Copies are of the same array.
class ValueArray {
  public:
    ValueArray() = default;
    ValueArray(float* data, ValueType type) : data_(data), type_(type) {}

    explicit operator bool() const { return data_ != nullptr; }
    bool rounds() const { return type_ == ValueType::bf16; }
    void* data() const { return data_; }
    /// Precondition: of the type that it has.
    float* f32() const { return data_; }
    std::uint16_t* bf16() const { return reinterpret_cast<std::uint16_t*>(data_); }

    /// Values [first, first + count) as floats: in place, or converted into `workspace`.
    const float* read(std::int64_t first, std::int64_t count, float* workspace) const {
        if (!rounds())
            return f32() + first;
        vector_loops().from_bf16(count, bf16() + first, workspace);
        return workspace;
    }
    /// Where to compute values from `first` on, for store(): in place, or `workspace`.
    float* target(std::int64_t first, float* workspace) const { return rounds() ? workspace : f32() + first; }
    void store(std::int64_t first, std::int64_t count, const float* values) const {
        if (rounds())
            vector_loops().to_bf16(count, values, bf16() + first);
        else if (values != f32() + first)
            std::copy_n(values, count, f32() + first);
    }

    /// The same for the first `count` values at once, by up to `threads` threads.
    const float* read_all(std::int64_t count, int threads, float* workspace) const {
        if (!rounds())
            return f32();
        by_parts(count, threads,
                 [&](std::int64_t begin, std::int64_t end) { read(begin, end - begin, workspace + begin); });
        return workspace;
    }
    void store_all(std::int64_t count, int threads, const float* values) const {
        if (rounds() || values != f32())
            by_parts(count, threads,
                     [&](std::int64_t begin, std::int64_t end) { store(begin, end - begin, values + begin); });
    }

  private:
    template <typename Body>
    static void by_parts(std::int64_t count, int threads, const Body& body) {
        constexpr std::int64_t least_values = 65536; // fewer take less time than waiting for another thread may
        parallel_for(count, static_cast<int>(std::clamp<std::int64_t>(count / least_values, 1, threads)),
                     [&](std::int64_t begin, std::int64_t end, int) { body(begin, end); });
    }

    float* data_ = nullptr;
    ValueType type_ = ValueType::f32;
};

/// The memory that was planned for a compilation.
struct Binding {
    const TrainingPlan& plan;
    float* block = nullptr;
    ValueType type = ValueType::f32; ///< of values and gradients

    ValueArray values(ArrayId id) const { return {plan.at(block, id), type}; }
    float* workspace(ArrayId id) const { return plan.at(block, id); }
};

} // namespace mfres::kernels
