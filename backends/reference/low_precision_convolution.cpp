// SPDX-License-Identifier: MIT
#include "backends/reference/low_precision_convolution.h"

#include "core/half.h"

namespace mfres::reference {

namespace {

float rounded_to_bf16(float x) {
    return bf16_to_f32(f32_to_bf16(x));
}

} // namespace

std::optional<LowPrecisionConvolution> LowPrecisionConvolution::make(const Network& network, const Node& conv,
                                                                     const CompileOptions& options) {
    const auto range = options.ranges.find(conv.name);
    const bool quantized = options.precision == Precision::int8 && range != options.ranges.end();
    if (conv.kind() != OpKind::conv || (!quantized && options.precision != Precision::bf16))
        return std::nullopt;
    LowPrecisionConvolution made;
    made.in_ = network.graph.node(conv.inputs[0]).shape;
    made.out_ = conv.shape;
    made.conv_ = conv.as<Conv>();
    const auto channels = static_cast<std::size_t>(conv.shape[1]);
    made.bias_.assign(channels, 0.0);
    if (made.conv_.bias) {
        const Tensor& bias = network.weights.find(conv.name + ".bias")->second;
        made.bias_.assign(bias.values().begin(), bias.values().end());
    }
    made.conv_.bias = false;
    const Tensor& weights = network.weights.find(conv.name + ".weight")->second;
    if (quantized) {
        made.quantiser_ = quantiser_of(range->second);
        const QuantizedWeights whole = quantize_weights(weights, largest_per_channel(network, conv.name));
        made.weights_.assign(whole.values.begin(), whole.values.end());
        for (const float scale : whole.scales)
            made.scales_.push_back(double{scale} * made.quantiser_->scale);
    } else {
        made.scales_.assign(channels, 1.0);
        for (const float weight : weights.values())
            made.weights_.push_back(rounded_to_bf16(weight));
    }
    return made;
}

void LowPrecisionConvolution::run(const float* x, float* y, int threads) const {
    std::vector<double> rounded(static_cast<std::size_t>(in_.elements()));
    for (std::size_t i = 0; i < rounded.size(); ++i)
        rounded[i] = quantiser_ ? quantize(*quantiser_, x[i]) : rounded_to_bf16(x[i]);
    Operands<double> operands;
    operands.inputs = {rounded.data()};
    operands.shapes = {in_};
    operands.parameters = {weights_.data()};
    std::vector<double> sums(static_cast<std::size_t>(out_.elements()));
    conv(conv_, operands, out_, sums.data(), threads);
    const std::int64_t plane = plane_size(out_);
    for (std::int64_t i = 0; i < out_.elements(); ++i) {
        const auto channel = static_cast<std::size_t>(i / plane % out_[1]);
        y[i] = static_cast<float>(sums[static_cast<std::size_t>(i)] * scales_[channel] + bias_[channel]);
    }
}

} // namespace mfres::reference
