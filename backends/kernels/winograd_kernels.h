// SPDX-License-Identifier: MIT
// The transforms of convolutions by Winograd's minimal filtering F(4 x 4, 3 x 3), on channels-last arrays: Lavin and Gray
// 2016, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308, eq. 8 with the matrices of section 4.3.
// For each channel of a tile of 6 x 6 input voxels d, a kernel g and 4 x 4 output voxels y
//     y = A' [(G g G') * (B' d B)] A
// where * multiplies element by element: 36 products for 16 voxels in place of 144. Compiled once for each instruction set
// with Highway and chosen at run time.
#pragma once

#include "graph/rewrite.h"

#include <array>
#include <cstddef>
#include <cstdint>

namespace mfres::kernels {

constexpr std::int64_t winograd_outputs = 4; ///< voxels of a tile along either axis
constexpr std::int64_t winograd_inputs = 6;
constexpr std::int64_t winograd_products = winograd_inputs * winograd_inputs;

/// G g: what three weights along one axis contribute to each of the six products. The rows of 24 G are 6 0 0, -4 -4 -4,
/// -4 4 -4, 1 2 4, 1 -2 4 and 0 0 24.
inline std::array<double, winograd_inputs> transformed_weights(const std::array<double, 3>& g) {
    const double outer = (g[0] + g[2]) * (1.0 / 6);
    const double inner = g[1] * (1.0 / 6);
    const double even = g[0] * (1.0 / 24) + g[2] * (1.0 / 6);
    const double odd = g[1] * (1.0 / 12);
    return {g[0] * 0.25, -outer - inner, inner - outer, even + odd, even - odd, g[2]};
}

/// Along the two axes of a tile.
using WinogradAxes = std::array<std::int64_t, 2>;

/// output[p * plane + c] = element p of B' d B, where d is channel c of the 6 x 6 voxels.
struct WinogradInput {
    const float* voxels = nullptr; ///< the first of the 6 x 6 voxels
    WinogradAxes stride{};         ///< floats from voxel to voxel
    WinogradAxes begin{}, end{};   ///< those of the voxels that are inside the volume; the others are zero
    std::int64_t channels = 0;     ///< a multiple of the lanes
    float* output = nullptr;
    std::int64_t plane = 0;

    bool whole() const { return begin == WinogradAxes{0, 0} && end == WinogradAxes{winograd_inputs, winograd_inputs}; }
};

/// Of the voxels (i, j), i < count[0] and j < count[1], of a tile:
/// output[i * stride[0] + j * stride[1] + c] = activation(bias[c] + element (i, j) of A' m A + residual at the same place),
/// where element p of m is products[p * plane + c].
struct WinogradOutput {
    const float* products = nullptr;
    std::int64_t plane = 0;
    const float* bias = nullptr;
    const float* residual = nullptr; ///< null without one
    float* output = nullptr;         ///< may be `residual`
    WinogradAxes stride{};
    WinogradAxes count{};
    std::int64_t channels = 0; ///< a multiple of the lanes
    Activation activation;
};

/// The same along one axis, F(4, 3), for rows along z of six lines (line_kernels.h): y = A' [(G g) * (B' d)], 6 products for
/// 4 lines in place of 12. outputs[p * channels + c] = element p of B' d, where d are rows inputs[line * channels + c].
struct WinogradLines {
    const float* const* inputs = nullptr;
    float* const* outputs = nullptr;
    std::int64_t channels = 0;
    std::int64_t floats = 0; ///< of a row, a multiple of row_multiple
};

/// Of the lines n < count: outputs[n * channels + c] = activation(bias[c] + element n of A' m + residual[n * channels + c]),
/// where m are rows products[p * channels + c].
struct WinogradSums {
    const float* const* products = nullptr;
    const float* bias = nullptr;
    const float* const* residual = nullptr; ///< null without one
    float* const* outputs = nullptr;
    std::int64_t count = 0;
    std::int64_t channels = 0;
    std::int64_t floats = 0; ///< of a row, a multiple of row_multiple
    Activation activation;
};

struct WinogradKernels {
    const char* name; ///< of the instruction set, as Highway calls it
    int lanes;        ///< floats in a vector
    void (*transform_input)(const WinogradInput&);
    void (*transform_output)(const WinogradOutput&);
    void (*transform_lines)(const WinogradLines&);
    void (*sum_lines)(const WinogradSums&);
};

/// The kernels for this processor; see dispatch.h.
const WinogradKernels& winograd_kernels();

} // namespace mfres::kernels
