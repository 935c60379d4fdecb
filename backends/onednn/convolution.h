// Convolutions through oneDNN: which of several equal formulations gets a compiled (jit) kernel.
#pragma once

#include "backends/onednn/operation.h"
#include "graph/rewrite.h"

#include <memory>

namespace mfres::onednn {

/// out = activation(conv(in) + residual)
struct ConvolutionStep {
    Conv conv;
    Shape in, out;                   ///< [batch, channel, x, y, z]
    const Tensor* weights = nullptr; ///< copied
    const Tensor* bias = nullptr;    ///< copied; null without one
    bool residual = false;           ///< a value is added
    bool residual_in_output = false; ///< and it already lies where the output goes
    Activation activation;
    int threads = 1;
};

/// Throws dnnl::error and std::bad_alloc.
std::unique_ptr<Operation> make_convolution(const ConvolutionStep& step, const dnnl::engine& engine);

} // namespace mfres::onednn
