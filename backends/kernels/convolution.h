// SPDX-License-Identifier: MIT
// Convolutions of any kernel, stride, dilation and number of groups, on channels-last arrays of floats: by tiles
// (tile_convolution.h), by Winograd's filtering of 3 x 3 voxels in a plane (winograd_convolution.h) or, where few channels
// would leave most of a vector empty, by rows (row_convolution.h).
#pragma once

#include "backends/planned/executor.h"
#include "core/tensor.h"

#include <memory>

namespace mfres::kernels {

/// out = activation(conv(in) + residual)
struct ConvolutionSpec {
    Conv conv;
    Shape in, out;                   ///< [batch, channel, x, y, z]
    const Tensor* weights = nullptr; ///< copied
    const Tensor* bias = nullptr;    ///< copied; null without one
    Activation activation;
    int threads = 1;

    std::int64_t taps() const { return conv.kernel[0] * conv.kernel[1] * conv.kernel[2]; }
    std::int64_t inputs_per_group() const { return in[1] / conv.groups; }
    std::int64_t outputs_per_group() const { return out[1] / conv.groups; }
    std::int64_t output_voxels() const { return out.elements() / out[1]; }
    /// How many parts threads share out, of at most `most`: not so small that waiting for another thread takes longer
    /// than the part, not so large that a preempted thread delays the others.
    std::int64_t parts(std::int64_t most) const;
};

/// By a way that multiplies fewer vectors than the plain sum over channels-last voxels, where that is predicted to be faster:
/// Winograd's filtering or rows. Null elsewhere. As make_convolution.
std::unique_ptr<InferenceOp> make_reduced_convolution(const ConvolutionSpec& spec);

/// Whether Winograd's filtering is predicted to be more than `times` as fast as the plain sum. Needs no weights.
bool winograd_is_faster_by(const ConvolutionSpec& spec, double times);

/// The fastest of these ways. Sums do not depend on the number of threads. The output may be the residual. Throws
/// std::bad_alloc.
std::unique_ptr<InferenceOp> make_convolution(const ConvolutionSpec& spec);

} // namespace mfres::kernels
