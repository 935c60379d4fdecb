// SPDX-License-Identifier: MIT
#include "backends/onednn/conv_formulation.h"

#include "core/try.h"

#include <algorithm>

namespace mfres::onednn {

namespace {

using dnnl::memory;

/// Extents without x, which joins the batch.
memory::dims activation_dims(const Shape& shape, bool planes, std::int64_t extra_z) {
    if (planes)
        return {shape[0] * shape[2], shape[1], shape[3], shape[4] + extra_z};
    return {shape[0], shape[1], shape[2], shape[3], shape[4] + extra_z};
}

memory::dims axes_dims(const Axes& axes, bool planes, std::int64_t subtract = 0) {
    memory::dims dims;
    for (std::size_t axis = planes ? 1 : 0; axis < 3; ++axis)
        dims.push_back(axes[axis] - subtract);
    return dims;
}

/// Number of weights of one output channel.
std::int64_t row_count(const ConvolutionShape& shape) {
    const Conv& conv = shape.conv;
    return shape.in[1] / conv.groups * conv.kernel[0] * conv.kernel[1] * conv.kernel[2];
}

/// Calls body(row, position) for every output channel with the position of its group among the merged ones.
template <typename Body>
void for_rows(const ConvolutionShape& shape, std::int64_t merged, const Body& body) {
    const std::int64_t out_per_group = shape.conv.out_channels / shape.conv.groups;
    for (std::int64_t o = 0; o < shape.conv.out_channels; ++o)
        body(o, o * merged + o / out_per_group % merged);
}

bool contains(const std::string& name, const char* part) {
    return name.find(part) != std::string::npos;
}

/// brgemm, a kernel compiled for blocks of small products, is not the gemm of whole matrices.
bool is_gemm(const std::string& implementation) {
    return contains(implementation, "gemm") && !contains(implementation, "brg");
}

} // namespace

std::string describe(const Formulation& form) {
    std::string name;
    if (form.merged_groups > 1)
        name += text(", groups merged by ", form.merged_groups);
    if (form.planes)
        name += ", as planes";
    if (form.padded_copy)
        name += ", padded copy";
    if (form.residual_copy)
        name += ", residual copied";
    return name;
}

Speed speed_of(const std::string& implementation) {
    if (is_gemm(implementation)) // also gemm:ref, a blocked loop in C++: slower than gemm:jit, faster than ref:any
        return Speed::gemm;
    return contains(implementation, "ref") ? Speed::naive : Speed::compiled;
}

bool adds_operand_correctly(const std::string& implementation) {
    if (is_gemm(implementation))
        return false;
    const auto starts_with = [&](const char* start) { return implementation.rfind(start, 0) == 0; };
    return starts_with("jit") || starts_with("brg") || starts_with("ref");
}

std::vector<Formulation> grouping_formulations(const ConvolutionShape& shape) {
    constexpr std::int64_t most_merged_channels = 64; // beyond that, products with zero cost more than they save
    const Conv& conv = shape.conv;
    const bool as_planes = conv.kernel[0] == 1 && conv.stride[0] == 1 && conv.padding[0] == 0;
    std::vector<Formulation> all;
    for (std::int64_t merged = 1; merged <= conv.groups; merged *= 2) {
        if (conv.groups % merged != 0 || (merged > 1 && shape.in[1] / conv.groups * merged > most_merged_channels))
            break;
        all.push_back({.merged_groups = merged});
        if (as_planes)
            all.push_back({.merged_groups = merged, .planes = true});
    }
    return all;
}

memory::dims weight_dims(const ConvolutionShape& shape, const Formulation& form) {
    memory::dims dims;
    const std::int64_t groups = shape.conv.groups / form.merged_groups;
    if (groups > 1)
        dims = {groups};
    dims.push_back(shape.conv.out_channels / groups);
    dims.push_back(shape.in[1] / groups);
    for (const auto extent : axes_dims(shape.conv.kernel, form.planes))
        dims.push_back(extent);
    return dims;
}

ConvolutionGeometry geometry(const ConvolutionShape& shape, const Formulation& form, const OperandTypes& types) {
    constexpr auto f32 = memory::data_type::f32;
    const Conv& conv = shape.conv;
    const auto channels_last = form.planes ? memory::format_tag::nhwc : memory::format_tag::ndhwc;
    const std::int64_t margins = form.padded_copy ? 2 * conv.padding[2] : 0;

    ConvolutionGeometry g;
    g.source = {activation_dims(shape.in, form.planes, margins), types.source, channels_last};
    g.weights = {weight_dims(shape, form), types.weights, memory::format_tag::any};
    g.bias = {{conv.out_channels}, f32, memory::format_tag::a};
    g.destination = {activation_dims(shape.out, form.planes, 0), types.destination, channels_last};
    g.strides = axes_dims(conv.stride, form.planes);
    g.dilations = axes_dims(conv.dilation, form.planes, 1);
    g.padding_low = axes_dims(conv.padding, form.planes);
    if (form.padded_copy)
        g.padding_low.back() = 0;
    g.padding_high = g.padding_low;
    return g;
}

memory::desc plain_weights(const memory::dims& dims) {
    memory::dims strides(dims.size(), 1);
    for (std::size_t i = dims.size() - 1; i-- > 0;)
        strides[i] = strides[i + 1] * dims[i + 1];
    return {dims, memory::data_type::f32, strides};
}

std::int64_t merged_weight_count(const ConvolutionShape& shape, std::int64_t merged) {
    return shape.conv.out_channels * row_count(shape) * merged;
}

void merge_groups(const ConvolutionShape& shape, std::int64_t merged, const float* weights, float* merged_weights) {
    const std::int64_t row = row_count(shape);
    std::fill_n(merged_weights, merged_weight_count(shape, merged), 0.0F);
    for_rows(shape, merged, [&](std::int64_t o, std::int64_t position) {
        std::copy_n(weights + o * row, row, merged_weights + position * row);
    });
}

void split_groups(const ConvolutionShape& shape, std::int64_t merged, const float* merged_weights, float* weights) {
    const std::int64_t row = row_count(shape);
    for_rows(shape, merged, [&](std::int64_t o, std::int64_t position) {
        std::copy_n(merged_weights + position * row, row, weights + o * row);
    });
}

} // namespace mfres::onednn
