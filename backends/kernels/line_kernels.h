// SPDX-License-Identifier: MIT
// Arithmetic on rows: lines of voxels along z, one channel each, as fusion groups use them. Planar rows need no shift
// for kernels that do not reach along z, and fill vectors whatever the number of channels. Compiled once for each
// instruction set (SSE4, AVX2, AVX-512, NEON, ...) with Highway and chosen at run time. NaN passes through.
//
// Every row starts on a 64-byte boundary, has zeros in the `row_margin` floats in front of it, and is computed up to a
// multiple of `row_multiple` floats; what lies between its last voxel and there the caller puts to zero.
#pragma once

#include "graph/rewrite.h"

#include <array>
#include <cstdint>

namespace mfres::kernels {

constexpr std::int64_t row_margin = 16;
constexpr std::int64_t row_multiple = 16;
/// Output channels whose weights lie together.
constexpr std::int64_t row_block = 4;

/// outputs[o] = activation(bias[o] + sum over rows r and shifts s of weight(o, r, s) * inputs[r] shifted by
/// first_shift + s * shift_step voxels along z + residual[o]). Weights in blocks of row_block output channels, the last as many as are left:
/// [block][row][shift][channel in the block].
struct RowConvolution {
    const float* const* inputs = nullptr;
    std::int64_t rows = 0;
    std::int64_t shifts = 1;
    std::int64_t first_shift = 0;
    std::int64_t shift_step = 1;
    const float* weights = nullptr;
    const float* bias = nullptr;
    const float* const* residual = nullptr; ///< null without one
    float* const* outputs = nullptr;
    std::int64_t channels = 0; ///< of the output
    std::int64_t floats = 0;   ///< a multiple of row_multiple
    Activation activation;
};

/// outputs[c] = activation(sum over k < terms of inputs[k * channels + c]).
struct RowSum {
    const float* const* inputs = nullptr;
    std::int64_t terms = 0;
    float* const* outputs = nullptr;
    std::int64_t channels = 0;
    std::int64_t floats = 0;
    Activation activation;
};

/// outputs[c] = activation(upsampled + residual[c]): four lines of `voxels` channels-last voxels weighted and added,
/// then twice as many voxels along z by trilinear interpolation (half-pixel centres). Writes 2 * voxels rounded up to
/// 2 * row_multiple floats. Of a part of a line, the voxels next to it are read as well.
struct RowUpsampling {
    std::array<const float*, 4> lines{}; ///< `before` + voxels + `after` voxels
    std::array<float, 4> weights{};
    std::int64_t before = 0; ///< 0 or 1 voxels of the line in front of the part
    std::int64_t voxels = 0;
    std::int64_t after = 0; ///< 0 or 1 voxels of the line behind the part
    const float* const* residual = nullptr;
    float* const* outputs = nullptr;
    std::int64_t channels = 0;
    Activation activation;
    float* blend = nullptr; ///< (before + voxels + after) * channels floats of memory to work in
    /// As many rows as channels to work in, with room for a margin behind as well; each begins `before` floats in front of
    /// a 64-byte boundary.
    float* const* rows = nullptr;
};

/// Channels-last voxels, `stride` floats apart, of which `channels` consecutive floats are meant.
struct Voxels {
    std::int64_t stride = 0;
    std::int64_t channels = 0;
    std::int64_t count = 0;
};

struct LineKernels {
    const char* name; ///< of the instruction set, as Highway calls it
    int lanes;        ///< floats in a vector; 1 where there is no instruction set to use
    void (*convolve)(const RowConvolution&);
    void (*add)(const RowSum&);
    void (*upsample)(const RowUpsampling&);
    void (*to_rows)(const Voxels&, const float* voxels, float* const* rows);
    void (*to_voxels)(const Voxels&, const float* const* rows, float* voxels);
    /// Lets other threads see what to_voxels wrote; called once by the thread that did.
    void (*finish_stores)();
};

/// The kernels for this processor; see dispatch.h.
const LineKernels& line_kernels();

} // namespace mfres::kernels
