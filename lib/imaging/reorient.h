// SPDX-License-Identifier: MIT
// Reorientation of arrays of any type.
#pragma once

#include "imaging/geometry.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace mfres {

/// Copies an array so that output axis c is input axis orientation.axis[c], reversed if flip[c].
template <typename T>
void reorient_into(const T* input, const std::array<std::int64_t, 3>& size, const Orientation& orientation, T* output) {
    const std::array<std::int64_t, 3> input_stride = {1, size[0], size[0] * size[1]};
    std::array<std::int64_t, 3> extent{};
    std::array<std::int64_t, 3> from{}; // input stride for one step along output axis c
    std::int64_t first = 0;
    for (int c = 0; c < 3; ++c) {
        const int axis = orientation.axis[c];
        extent[c] = size[axis];
        from[c] = orientation.flip[c] ? -input_stride[axis] : input_stride[axis];
        if (orientation.flip[c])
            first += (size[axis] - 1) * input_stride[axis];
    }
    const std::array<std::int64_t, 3> to = {1, extent[0], extent[0] * extent[1]};

    // Blocked copy over the axis that is contiguous in the output and the one that is contiguous in the input, so that
    // cache lines of both arrays are used completely.
    const int input_fastest = inverse(orientation).axis[0];
    const int inner = input_fastest == 0 ? 1 : input_fastest;
    const int outer = 3 - inner;
    constexpr std::int64_t block = 32;
    const std::int64_t block0 = input_fastest == 0 ? extent[0] : block;
    for (std::int64_t o = 0; o < extent[outer]; ++o)
        for (std::int64_t n0 = 0; n0 < extent[inner]; n0 += block)
            for (std::int64_t i0 = 0; i0 < extent[0]; i0 += block0)
                for (std::int64_t n = n0; n < std::min(n0 + block, extent[inner]); ++n) {
                    const T* source = input + first + o * from[outer] + n * from[inner];
                    T* destination = output + o * to[outer] + n * to[inner];
                    for (std::int64_t i = i0; i < std::min(i0 + block0, extent[0]); ++i)
                        destination[i] = source[i * from[0]];
                }
}

/// The same as a new array.
template <typename T, typename Allocator>
std::vector<T, Allocator> reorient(const std::vector<T, Allocator>& input, const std::array<std::int64_t, 3>& size,
                                   const Orientation& orientation) {
    std::vector<T, Allocator> output(input.size());
    reorient_into(input.data(), size, orientation, output.data());
    return output;
}

} // namespace mfres
