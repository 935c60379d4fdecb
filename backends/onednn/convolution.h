// Convolutions through oneDNN: which of several equal formulations gets a compiled (jit) kernel, in f32 and in reduced
// precision.
#pragma once

#include "backends/onednn/formulation.h"
#include "backends/onednn/operation.h"
#include "graph/quantization.h"

#include <memory>
#include <optional>

namespace mfres::onednn {

/// Values with fewer bits than f32: u8 or s8 by a quantizer, or bf16.
struct Storage {
    dnnl::memory::data_type type = dnnl::memory::data_type::f32;
    Quantizer quantizer; ///< of u8 and s8

    bool reduced() const { return type != dnnl::memory::data_type::f32; }
    bool integer() const { return type == dnnl::memory::data_type::u8 || type == dnnl::memory::data_type::s8; }
    std::int64_t element_bytes() const { return integer() ? 1 : reduced() ? 2 : 4; }

    friend bool operator==(const Storage& a, const Storage& b) {
        return a.type == b.type && (!a.integer() || a.quantizer.scale == b.quantizer.scale);
    }
};

/// How a convolution is computed with fewer bits: source and weights rounded, sums in 32 bits, the rest in f32.
struct LowPrecision {
    Storage source;
    std::vector<float> largest;   ///< of integers: the magnitude per output channel that becomes 127
    bool source_is_there = false; ///< the source's array holds such values; otherwise f32, rounded to scratch memory
    Storage output;               ///< the convolution's own rounding of its result: none, u8 or bf16
};

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
    std::optional<LowPrecision> reduction; ///< without one all is f32
};

/// Throws dnnl::error and std::bad_alloc.
std::unique_ptr<Operation> make_convolution(const ConvolutionStep& step, const dnnl::engine& engine);

/// Whether oneDNN has a compiled kernel for the step with its reduction; weights and bias are not looked at.
bool has_compiled_kernel(const ConvolutionStep& step, const dnnl::engine& engine);

} // namespace mfres::onednn
