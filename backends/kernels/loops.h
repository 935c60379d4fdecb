// SPDX-License-Identifier: MIT
// Helpers of loops over channels-last arrays, [batch, x, y, z, channel].
//
// Ops that are bound by memory bandwidth are plain loops, which are as fast as the memory. Threads share out independent outputs, and sums over voxels are
// taken plane by plane, so no result depends on the number of threads. NaN is passed through.
#pragma once

#include "backends/kernels/pragmas.h"
#include "backends/kernels/threads.h"
#include "core/tensor.h"
#include "graph/rewrite.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

namespace mfres::kernels {

/// Strides of a channels-last array in the order of its shape, [batch, channel, x, y, z].
inline std::array<std::int64_t, Shape::max_rank> channels_last_strides(const Shape& shape) {
    const std::int64_t z = shape[1];
    const std::int64_t y = z * shape[4];
    const std::int64_t x = y * shape[3];
    return {x * shape[2], 1, x, y, z};
}

/// The array that a loop writes, [batch, channel, x, y, z] though stored channels-last, and by how many threads.
struct Domain {
    Shape shape;
    int threads = 1;

    std::int64_t channels() const { return shape[1]; }
    /// Threads to use: below this many values per thread, waiting for another thread takes longer than the work.
    int useful_threads() const {
        constexpr std::int64_t min_values = 16384;
        return static_cast<int>(std::clamp<std::int64_t>(shape.elements() / min_values, 1, threads));
    }
    std::int64_t voxels() const { return shape[0] * shape[2] * shape[3] * shape[4]; }
};

/// Calls body(f) with f(x) the activation, so that its kind is decided outside the loops. Comparisons are written so that
/// NaN stays NaN.
template <typename Body>
void with_activation(const Activation& activation, const Body& body) {
    const float slope = activation.slope;
    switch (activation.kind) {
    case Activation::Kind::none: return body([](float x) { return x; });
    case Activation::Kind::relu: return body([](float x) { return x <= 0.0F ? 0.0F : x; });
    case Activation::Kind::leaky_relu: return body([slope](float x) { return x > 0.0F ? x : slope * x; });
    }
}

/// Calls body(n) with the number of channels, as a constant if it is a small power of two: a loop of known length over a
/// few floats is one instruction, one of unknown length a call or a dozen branches.
template <typename Body>
void with_count(std::int64_t count, const Body& body) {
    switch (count) {
    case 1: return body(std::integral_constant<std::int64_t, 1>{});
    case 2: return body(std::integral_constant<std::int64_t, 2>{});
    case 4: return body(std::integral_constant<std::int64_t, 4>{});
    case 8: return body(std::integral_constant<std::int64_t, 8>{});
    case 16: return body(std::integral_constant<std::int64_t, 16>{});
    case 32: return body(std::integral_constant<std::int64_t, 32>{});
    }
    return body(count);
}

/// Calls body(begin, end) over the values of the domain.
template <typename Body>
void for_values(const Domain& domain, const Body& body) {
    parallel_for(domain.shape.elements(), domain.useful_threads(),
                 [&](std::int64_t begin, std::int64_t end, int) { body(begin, end); });
}

} // namespace mfres::kernels
