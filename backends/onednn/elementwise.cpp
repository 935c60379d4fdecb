// SPDX-License-Identifier: MIT
#include "backends/kernels/elementwise.h"

#include "backends/onednn/ops.h"

#include <algorithm>

namespace mfres::onednn {

namespace {

/// Where the inputs of an op lie: in which channels of which array.
std::vector<ChannelRead> channel_reads(const OpContext& context, const FusedOp& op) {
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

std::unique_ptr<InferenceOp> make_weighted_sum(const OpContext& context, const FusedOp& op, const std::string& name,
                                               std::vector<float> weights) {
    const auto bytes = static_cast<std::int64_t>(weights.size() * sizeof(float));
    return make_function_op(
        {"mfres:" + name,
         [domain = context.domain(op), activation = op.activation, weights = std::move(weights)](const OpArguments& a) {
             std::vector<const float*> inputs;
             for (std::size_t k = 0; k < a.inputs.size(); ++k)
                 inputs.push_back(a.input<float>(k));
             weighted_sum(domain, activation, inputs, weights, static_cast<float*>(a.output));
         },
         0, bytes});
}

std::unique_ptr<InferenceOp> make_copy(const OpContext& context, const FusedOp& op, const std::string& name,
                                       std::vector<ChannelRead> reads) {
    return make_function_op(
        {"mfres:" + name, [domain = context.domain(op), reads = std::move(reads)](const OpArguments& a) mutable {
             set_arrays(reads, a);
             copy_channels(domain, reads, static_cast<float*>(a.output));
         }});
}

} // namespace

std::unique_ptr<InferenceOp> make_activation(const OpContext& context, const FusedOp& op,
                                             const Activation& activation) {
    return make_function_op({"mfres:" + std::string(name(context.main(op).kind())),
                             [domain = context.domain(op), activation](const OpArguments& a) {
                                 activate(domain, activation, a.input<float>(0), static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_add(const OpContext& context, const FusedOp& op) {
    auto reads = channel_reads(context, op);
    if (std::all_of(reads.begin(), reads.end(), [](const ChannelRead& read) { return read.count == read.x_channels; }))
        return make_weighted_sum(context, op, "add", {});
    return make_function_op({"mfres:add", [domain = context.domain(op), activation = op.activation,
                                           reads = std::move(reads)](const OpArguments& a) mutable {
                                 set_arrays(reads, a);
                                 add_channels(domain, activation, reads, static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_scaled_add(const OpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    std::vector<float> weights;
    for (std::size_t k = 0; k < node.parameters.size(); ++k)
        weights.push_back(context.parameter(node, k)[0]);
    return make_weighted_sum(context, op, "scaled_add", std::move(weights));
}

std::unique_ptr<InferenceOp> make_concat(const OpContext& context, const FusedOp& op) {
    return make_copy(context, op, "concat", channel_reads(context, op));
}

std::unique_ptr<InferenceOp> make_slice(const OpContext& context, const FusedOp& op) {
    const auto& slice = context.main(op).as<Slice>();
    return make_copy(context, op, "slice",
                     {{nullptr, context.input_shape(op, 0)[1], slice.begin, slice.end - slice.begin}});
}

} // namespace mfres::onednn
