// SPDX-License-Identifier: MIT
// Small pieces that inference and training share: constants on the device, shapes as kernels want them, and work that
// is more than one kernel can take.
#pragma once

#include "backends/cuda/engine.h"
#include "graph/memory_plan.h"

#include <algorithm>
#include <array>
#include <list>
#include <utility>
#include <vector>

namespace mfres::cuda {

inline Extents extents_of(const Shape& shape) {
    return {shape[0], shape[2], shape[3], shape[4], shape[1]};
}

inline std::int64_t voxels_of(const Shape& shape) {
    return shape[2] * shape[3] * shape[4];
}

inline Chunking chunking(const Shape& shape) {
    return chunking(shape[0], voxels_of(shape), shape[1]);
}

inline WeightOrder weight_order(const Shape& weight) {
    return {weight[0], weight[1], weight[2] * weight[3] * weight[4]};
}

/// Where a workspace of a library begins: at a multiple of this many bytes.
constexpr std::int64_t workspace_alignment = 256;

/// Bytes rounded up to where the next part of a workspace may begin.
inline std::int64_t padded(std::int64_t bytes) {
    return (bytes + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
}

/// What is asked of a memory plan, which places arrays at coarser multiples only by chance, for so many bytes at
/// aligned(); 0 for 0.
inline std::int64_t aligned_bytes(std::int64_t bytes) {
    return bytes == 0 ? 0 : padded(bytes) + workspace_alignment - MemoryPlan::alignment;
}
inline std::byte* aligned(std::byte* workspace) {
    const auto address = reinterpret_cast<std::uintptr_t>(workspace);
    return workspace + static_cast<std::uintptr_t>(padded(static_cast<std::int64_t>(address))) - address;
}

/// Arrays that are filled once, in a few blocks of memory.
class Constants {
  public:
    explicit Constants(Engine& engine) : engine_(engine) {}

    template <typename T>
    const T* add(const std::vector<T>& values) {
        const auto bytes = static_cast<std::int64_t>(values.size() * sizeof(T));
        T* memory = static_cast<T*>(space(bytes));
        engine_.upload(memory, values.data(), bytes);
        return memory;
    }
    /// Zeros.
    void* space(std::int64_t bytes) {
        constexpr std::int64_t least = std::int64_t{1} << 16U, most = std::int64_t{1} << 22U;
        const std::int64_t wanted = padded(bytes);
        if (blocks_.empty() || wanted > blocks_.back().bytes() - used_) {
            blocks_.emplace_back(engine_, std::max(wanted, std::clamp(bytes_ / 4, least, most)));
            bytes_ += blocks_.back().bytes();
            used_ = 0;
        }
        return blocks_.back().template as<std::byte>() + std::exchange(used_, used_ + wanted);
    }
    /// Of a sum by channel; see StatisticsArguments.
    std::uint32_t* counters(std::int64_t channels) { return static_cast<std::uint32_t*>(space(channels * 4)); }
    std::int64_t bytes() const { return bytes_; }

  private:
    Engine& engine_;
    std::list<Block> blocks_;
    std::int64_t used_ = 0; ///< bytes of the last block
    std::int64_t bytes_ = 0;
};

/// The axes of an upsampling from `in` to `out`, in constant memory.
std::array<AxisTable, 3> upsample_tables(Constants& constants, Interpolation mode, const Shape& in, const Shape& out);

/// Parts as launches of at most Parts::most: the result of each is an input of the next.
void gather(const Engine& engine, ElementType type, const Chunking& chunks, const std::vector<Part>& parts, void* to);

/// The same for a sum of any number of operands.
void sum(const Engine& engine, ElementType type, SumArguments arguments, const std::vector<Operand>& operands);

/// Double-precision sums of a normalisation: partials and totals of `kinds` kinds.
struct SumSpace {
    std::int64_t partials = 0, totals = 0; ///< bytes

    SumSpace(const Chunking& chunks, std::int64_t groups, std::int64_t kinds)
        : partials(chunks.chunks() * kinds * chunks.channels * 8), totals(groups * kinds * chunks.channels * 8) {}
    std::int64_t bytes() const { return partials + totals; }
};

} // namespace mfres::cuda
