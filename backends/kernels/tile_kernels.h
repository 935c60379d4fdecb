// SPDX-License-Identifier: MIT
// Convolutions of channels-last arrays: a tile of several voxels by one to four vectors of output channels is summed in
// registers. Each step multiplies one input value of every voxel with the weights of all output channels of the tile.
// Compiled once for each instruction set with Highway and chosen at run time. NaN passes through.
#pragma once

#include "graph/rewrite.h"

#include <cstdint>
#include <span>

namespace mfres::kernels {

/// For each voxel v < `voxels` and channel c < `channels`:
///   output[v * stride + c] = activation(bias[c] + residual[v * stride + c]
///                                       + sum over taps t, i < length of x(t, v)[offset + i] * weights[t][i][c])
/// A tap is an offset of the kernel, or several ones whose input values follow each other in memory.
struct ConvolutionTile {
    /// Of an even tile, one pointer per tap: x(t, v) = inputs[t] + v * step. Of any other, [tap][voxel], with all voxels
    /// of the kernel. A tap whose (first) pointer is null adds nothing.
    const float* const* inputs = nullptr;
    std::int64_t taps = 0;
    std::int64_t length = 0;
    std::int64_t offset = 0;
    bool is_even = false;
    std::int64_t step = 0;           ///< of an even tile
    const float* weights = nullptr;  ///< [tap][i][channel, up to the vectors of the kernel], aligned
    const float* bias = nullptr;     ///< as many channels
    const float* residual = nullptr; ///< null without one
    float* output = nullptr;         ///< may be `residual`
    std::int64_t stride = 0;
    std::int64_t voxels = 0;   ///< that are stored: up to those of the kernel
    std::int64_t channels = 0; ///< that are stored: more than would fit into one vector less
    Activation activation;
};

/// A kernel for tiles of at most `voxels` voxels and `vectors` vectors of output channels.
struct TileKernel {
    int vectors = 0;
    int voxels = 0;
    void (*convolve)(const ConvolutionTile&) = nullptr;
};

struct TileKernels {
    const char* name; ///< of the instruction set, as Highway calls it
    int lanes;        ///< floats in a vector
    /// In pairs with the same number of voxels: of so many vectors, and of one less (or as many, if it is one).
    std::span<const TileKernel> kernels;
};

/// The kernels for this processor; see dispatch.h.
const TileKernels& tile_kernels();

/// The same for so many output channels: those of AVX2 where they do not fill half a vector of AVX-512. Processors compute
/// at least as many products a cycle in vectors of half the length, those that split long ones twice as many.
const TileKernels& tile_kernels(std::int64_t outputs);

} // namespace mfres::kernels
