// SPDX-License-Identifier: MIT
// Convolutions through oneDNN, in f32 and in low precision.
#pragma once

#include "backends/onednn/conv_formulation.h"
#include "backends/planned/executor.h"
#include "graph/quantization.h"

#include <memory>
#include <optional>
#include <vector>

namespace mfres::onednn {

/// How the values of an array are stored: f32, bf16, or u8 and s8 with a quantizer.
struct ValueFormat {
    dnnl::memory::data_type type = dnnl::memory::data_type::f32;
    Quantizer quantizer; ///< of u8 and s8

    bool reduced() const { return type != dnnl::memory::data_type::f32; }
    bool integer() const { return type == dnnl::memory::data_type::u8 || type == dnnl::memory::data_type::s8; }
    std::int64_t element_bytes() const { return integer() ? 1 : reduced() ? 2 : 4; }

    friend bool operator==(const ValueFormat& a, const ValueFormat& b) {
        return a.type == b.type && (!a.integer() || a.quantizer.scale == b.quantizer.scale);
    }
};

/// A convolution in low precision: source and weights are rounded, sums have 32 bits, everything else is f32.
struct LowPrecision {
    ValueFormat source;
    std::vector<float> largest;    ///< int8: the weight magnitude that becomes 127, per output channel
    bool source_is_stored = false; ///< the source array has this format; otherwise it is f32 and converted in workspace
    ValueFormat output;            ///< of the output array: f32, u8 or bf16
};

/// out = activation(conv(in) + residual)
struct ConvSpec {
    Conv conv;
    Shape in, out;                   ///< [batch, channel, x, y, z]
    const Tensor* weights = nullptr; ///< copied
    const Tensor* bias = nullptr;    ///< copied; null without one
    bool residual = false;           ///< a residual is added
    bool residual_in_output = false; ///< the output has the address of the residual
    Activation activation;
    int threads = 1;
    std::optional<LowPrecision> low_precision; ///< none: f32
};

/// Chooses the first formulation (conv_formulation.h) for which oneDNN has a compiled (jit) kernel.
/// Throws dnnl::error and std::bad_alloc.
std::unique_ptr<InferenceOp> make_conv(const ConvSpec& spec, const dnnl::engine& engine);

/// Whether oneDNN has a compiled kernel for the convolution in its precision. Weights and bias are not used.
bool has_compiled_kernel(const ConvSpec& spec, const dnnl::engine& engine);

} // namespace mfres::onednn
