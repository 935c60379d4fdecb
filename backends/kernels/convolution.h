// SPDX-License-Identifier: MIT
// Convolutions of any kernel, stride, dilation and number of groups, on channels-last arrays of floats.
//
// The output is cut into tiles of a few voxels that follow each other in memory, whichever lines they lie in, and of a
// few vectors of output channels (tile_kernels.h). Weights are packed once, [block of output channels][kernel offset]
// [input channel][channel of the block]. Threads share out ranges of tiles. Within a range, strips of tiles go through
// all blocks of output channels, so that weights of a block and inputs of a strip stay in the cache.
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
};

/// Sums do not depend on the number of threads. The output may be the residual. Throws std::bad_alloc.
std::unique_ptr<InferenceOp> make_convolution(const ConvolutionSpec& spec);

} // namespace mfres::kernels
