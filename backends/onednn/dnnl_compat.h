// SPDX-License-Identifier: MIT
// Wrappers for the calls that differ between oneDNN's API v2 (2.x) and v3 (3.x). v3 has no operation descriptors: a
// primitive descriptor is made in one call. Its element-wise post-op has no scale. Integer results are scaled by an
// argument of execute instead of an attribute, and before the bias is added instead of after. The tests of this backend
// have been run with 2.6.3 (Debian 12) and, for v3, with 3.2 (without int8).
#pragma once

#include "graph/rewrite.h"

#include <dnnl.hpp>

#include <unordered_map>
#include <vector>

namespace mfres::onednn {

/// The operands of a convolution as oneDNN describes them. Dilations are those of the graph minus one, and the padding
/// may differ between the two ends of an axis.
struct ConvolutionGeometry {
    dnnl::memory::desc source, weights, bias, destination;
    dnnl::memory::dims strides, dilations, padding_low, padding_high;
};

/// A forward convolution, for inference or training. That of training is the hint for both backward primitives. A bias
/// descriptor without dimensions means none. This and the two below throw dnnl::error if there is no implementation.
inline dnnl::convolution_forward::primitive_desc describe(const ConvolutionGeometry& g,
                                                          const dnnl::primitive_attr& attributes,
                                                          const dnnl::engine& engine,
                                                          dnnl::prop_kind kind = dnnl::prop_kind::forward_inference) {
    constexpr auto algorithm = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
    return {engine,        kind,      algorithm,   g.source,      g.weights,      g.bias,
            g.destination, g.strides, g.dilations, g.padding_low, g.padding_high, attributes};
#else
    return {{kind, algorithm, g.source, g.weights, g.bias, g.destination, g.strides, g.dilations, g.padding_low,
             g.padding_high},
            attributes,
            engine};
#endif
}

/// Gradient of the source from that of the destination.
inline dnnl::convolution_backward_data::primitive_desc
describe_backward_data(const ConvolutionGeometry& g, const dnnl::primitive_attr& attributes, const dnnl::engine& engine,
                       const dnnl::convolution_forward::primitive_desc& hint) {
    constexpr auto algorithm = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
    return {engine,      algorithm,     g.source,       g.weights, g.destination, g.strides,
            g.dilations, g.padding_low, g.padding_high, hint,      attributes};
#else
    return {{algorithm, g.source, g.weights, g.destination, g.strides, g.dilations, g.padding_low, g.padding_high},
            attributes,
            engine,
            hint};
#endif
}

/// Gradients of the weights, and of the bias where there is one.
inline dnnl::convolution_backward_weights::primitive_desc
describe_backward_weights(const ConvolutionGeometry& g, const dnnl::primitive_attr& attributes,
                          const dnnl::engine& engine, const dnnl::convolution_forward::primitive_desc& hint) {
    constexpr auto algorithm = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
    return {engine,    algorithm,   g.source,      g.weights,      g.bias, g.destination,
            g.strides, g.dilations, g.padding_low, g.padding_high, hint,   attributes};
#else
    return {
        {algorithm, g.source, g.weights, g.bias, g.destination, g.strides, g.dilations, g.padding_low, g.padding_high},
        attributes,
        engine,
        hint};
#endif
}

/// Makes an int8 convolution multiply its sums by one scale per output channel. `grouped`: the weights have an axis of
/// groups.
inline void set_channel_scales(dnnl::primitive_attr& attributes, const std::vector<float>& scales, bool grouped) {
#if DNNL_VERSION_MAJOR >= 3
    (void)scales; // an argument of execute, see add_channel_scales
    attributes.set_scales_mask(DNNL_ARG_WEIGHTS, grouped ? 3 : 1);
#else
    (void)grouped;
    attributes.set_output_scales(1 << 1, scales);
#endif
}

/// Adds the arguments that set_channel_scales needs; `scales` has to outlive them.
inline void add_channel_scales(std::unordered_map<int, dnnl::memory>& arguments, std::vector<float>& scales,
                               const dnnl::engine& engine) {
#if DNNL_VERSION_MAJOR >= 3
    const auto count = static_cast<dnnl::memory::dim>(scales.size());
    arguments.emplace(
        DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS,
        dnnl::memory({{count}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a}, engine, scales.data()));
#else
    (void)arguments, (void)scales, (void)engine;
#endif
}

/// The bias argument that adds `bias` to the scaled sum.
inline float bias_before_scale(float bias, float scale) {
#if DNNL_VERSION_MAJOR >= 3
    (void)scale;
    return bias;
#else
    return bias / scale;
#endif
}

/// eltwise_relu of oneDNN multiplies values <= 0 by a slope, which is 0 for ReLU.
inline void append_activation(dnnl::post_ops& operations, const Activation& activation) {
    if (activation.kind == Activation::Kind::none)
        return;
#if DNNL_VERSION_MAJOR >= 3
    operations.append_eltwise(dnnl::algorithm::eltwise_relu, activation.slope, 0.0F);
#else
    operations.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, activation.slope, 0.0F);
#endif
}

} // namespace mfres::onednn
