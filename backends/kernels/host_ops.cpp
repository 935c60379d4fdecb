// SPDX-License-Identifier: MIT
#include "backends/kernels/host_ops.h"

#include "backends/kernels/elementwise.h"
#include "backends/kernels/inference_only.h"
#include "backends/kernels/norm.h"
#include "backends/kernels/resample.h"
#include "backends/kernels/softmax.h"

#include <algorithm>
#include <cmath>

namespace mfres::kernels {

namespace {

/// Where the inputs of an op lie: in which channels of which array.
std::vector<ChannelRead> channel_reads(const HostOpContext& context, const FusedOp& op) {
    std::vector<ChannelRead> reads;
    for (const NodeId input : context.main(op).inputs) {
        const ChannelRange& range = context.range(input);
        reads.push_back(
            {nullptr, context.graph().node(range.value).shape[1], range.begin, context.graph().node(input).shape[1]});
    }
    return reads;
}

void set_arrays(std::vector<ChannelRead>& reads, const OpArguments& arguments) {
    for (std::size_t k = 0; k < reads.size(); ++k)
        reads[k].x = arguments.input<float>(k);
}

std::unique_ptr<InferenceOp> make_weighted_sum(const HostOpContext& context, const FusedOp& op, const std::string& name,
                                               std::vector<float> weights) {
    const auto bytes = static_cast<std::int64_t>(weights.size() * sizeof(float));
    return make_function_op(
        {"mfres:" + name,
         [domain = context.domain(op), activation = op.activation, weights = std::move(weights),
          inputs = std::vector<const float*>(context.main(op).inputs.size())](const OpArguments& a) mutable {
             for (std::size_t k = 0; k < inputs.size(); ++k)
                 inputs[k] = a.input<float>(k);
             weighted_sum(domain, activation, inputs, weights, static_cast<float*>(a.output));
         },
         0, bytes});
}

std::unique_ptr<InferenceOp> make_copy(const HostOpContext& context, const FusedOp& op, const std::string& name,
                                       std::vector<ChannelRead> reads) {
    return make_function_op(
        {"mfres:" + name, [domain = context.domain(op), reads = std::move(reads)](const OpArguments& a) mutable {
             set_arrays(reads, a);
             copy_channels(domain, reads, static_cast<float*>(a.output));
         }});
}

} // namespace

std::unique_ptr<InferenceOp> make_activation(const HostOpContext& context, const FusedOp& op,
                                             const Activation& activation) {
    return make_function_op({"mfres:" + std::string(name(context.main(op).kind())),
                             [domain = context.domain(op), activation](const OpArguments& a) {
                                 activate(domain, activation, a.input<float>(0), static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_add(const HostOpContext& context, const FusedOp& op) {
    auto reads = channel_reads(context, op);
    if (std::all_of(reads.begin(), reads.end(), [](const ChannelRead& read) { return read.count == read.x_channels; }))
        return make_weighted_sum(context, op, "add", {});
    return make_function_op({"mfres:add", [domain = context.domain(op), activation = op.activation,
                                           reads = std::move(reads)](const OpArguments& a) mutable {
                                 set_arrays(reads, a);
                                 add_channels(domain, activation, reads, static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_scaled_add(const HostOpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    std::vector<float> weights;
    for (std::size_t k = 0; k < node.parameters.size(); ++k)
        weights.push_back(context.parameter(node, k)[0]);
    return make_weighted_sum(context, op, "scaled_add", std::move(weights));
}

std::unique_ptr<InferenceOp> make_concat(const HostOpContext& context, const FusedOp& op) {
    return make_copy(context, op, "concat", channel_reads(context, op));
}

std::unique_ptr<InferenceOp> make_slice(const HostOpContext& context, const FusedOp& op) {
    const auto& slice = context.main(op).as<Slice>();
    return make_copy(context, op, "slice",
                     {{nullptr, context.input_shape(op, 0)[1], slice.begin, slice.end - slice.begin}});
}

std::unique_ptr<InferenceOp> make_batch_norm(const HostOpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    const Domain domain = context.domain(op);
    std::vector<float> scale;
    std::vector<float> shift;
    for (std::int64_t c = 0; c < domain.channels(); ++c) {
        const double factor = double{context.parameter(node, 0)[c]} /
                              std::sqrt(double{context.parameter(node, 3)[c]} + node.as<BatchNorm>().epsilon);
        scale.push_back(static_cast<float>(factor));
        shift.push_back(
            static_cast<float>(double{context.parameter(node, 1)[c]} - double{context.parameter(node, 2)[c]} * factor));
    }
    return make_function_op({"mfres:batch_norm",
                             [domain, activation = op.activation, scale = std::move(scale),
                              shift = std::move(shift)](const OpArguments& a) {
                                 scale_shift(domain, activation, a.input<float>(0), scale.data(), shift.data(),
                                             static_cast<float*>(a.output));
                             },
                             0, 2 * domain.channels() * static_cast<std::int64_t>(sizeof(float))});
}

std::unique_ptr<InferenceOp> make_instance_norm(const HostOpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    const Domain domain = context.domain(op);
    const auto values = [&](std::size_t index) {
        const auto all = context.parameter(node, index).values();
        return std::vector<float>(all.begin(), all.end());
    };
    return make_function_op({"mfres:instance_norm",
                             [domain, activation = op.activation, epsilon = node.as<InstanceNorm>().epsilon,
                              weight = values(0), bias = values(1)](const OpArguments& a) {
                                 instance_norm(domain, activation, epsilon, weight.data(), bias.data(),
                                               a.input<float>(0), a.workspace, static_cast<float*>(a.output));
                             },
                             instance_norm_workspace(domain.shape),
                             2 * domain.channels() * static_cast<std::int64_t>(sizeof(float))});
}

std::unique_ptr<InferenceOp> make_max_pool(const HostOpContext& context, const FusedOp& op) {
    return make_function_op({"mfres:max_pool", [domain = context.domain(op), pool = context.main(op).as<MaxPool>(),
                                                in = context.input_shape(op, 0)](const OpArguments& a) {
                                 max_pool(domain, pool, in, a.input<float>(0), static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_adaptive_avg_pool(const HostOpContext& context, const FusedOp& op) {
    return make_function_op({"mfres:adaptive_avg_pool",
                             [domain = context.domain(op), in = context.input_shape(op, 0)](const OpArguments& a) {
                                 adaptive_avg_pool(domain, in, a.input<float>(0), static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_upsample(const HostOpContext& context, const FusedOp& op) {
    const Interpolation mode = context.main(op).as<Upsample>().mode;
    const Domain domain = context.domain(op);
    const Shape& in = context.input_shape(op, 0);
    return make_function_op({"mfres:upsample_" + std::string(name(mode)),
                             [domain, activation = op.activation, mode, in](const OpArguments& a) {
                                 upsample(domain, mode, activation, in, a.input<float>(0),
                                          static_cast<const float*>(a.residual), a.workspace,
                                          static_cast<float*>(a.output));
                             },
                             upsample_workspace(domain, in)});
}

std::unique_ptr<InferenceOp> make_softmax(const HostOpContext& context, const FusedOp& op) {
    return make_function_op({"mfres:softmax", [domain = context.domain(op)](const OpArguments& a) {
                                 softmax(domain, a.input<float>(0), static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_inference_only(const HostOpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    std::vector<std::vector<float>> values; // parameters
    std::int64_t bytes = 0;
    for (std::size_t i = 0; i < node.parameters.size(); ++i) {
        const Tensor& parameter = context.parameter(node, i);
        if (i == 0 && node.kind() == OpKind::conv_transpose)
            values.push_back(transposed_weight(node.as<ConvTranspose>(), parameter));
        else
            values.emplace_back(parameter.values().begin(), parameter.values().end());
        bytes += parameter.elements() * static_cast<std::int64_t>(sizeof(float));
    }
    std::vector<Shape> shapes;
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
        shapes.push_back(context.input_shape(op, i));
    const auto run = [domain = context.domain(op), attributes = node.op, values = std::move(values),
                      shapes = std::move(shapes)](const OpArguments& a) {
        const float* x = a.input<float>(0);
        auto* y = static_cast<float*>(a.output);
        if (const auto* conv = std::get_if<ConvTranspose>(&attributes))
            conv_transpose(domain, *conv, shapes[0], x, values[0].data(), conv->bias ? values[1].data() : nullptr, y);
        else if (const auto* norm = std::get_if<GroupNorm>(&attributes))
            group_norm(domain, *norm, values[0].data(), values[1].data(), x, y);
        else if (std::holds_alternative<PRelu>(attributes))
            prelu(domain, values[0].data(), x, y);
        else if (const auto* activation = std::get_if<Elu>(&attributes))
            elu(domain, static_cast<float>(activation->alpha), x, y);
        else if (std::holds_alternative<Sigmoid>(attributes))
            sigmoid(domain, x, y);
        else if (std::holds_alternative<Multiply>(attributes))
            multiply(domain, shapes[1], x, a.input<float>(1), y);
    };
    return make_function_op({"mfres:" + std::string(name(node.kind())), run, 0, bytes});
}

} // namespace mfres::kernels
