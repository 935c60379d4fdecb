// SPDX-License-Identifier: MIT
#include "backends/cuda/ops.h"

namespace mfres::cuda {

namespace {

/// The channels of an input within the array that holds it; the data is set when the op runs.
Part part_of(const OpContext& context, const FusedOp& op, std::size_t index) {
    const ChannelRange& range = context.planned.ranges[static_cast<std::size_t>(context.main(op).inputs[index])];
    return {nullptr, context.graph().node(range.value).shape[1], range.begin, 0, context.input_shape(op, index)[1]};
}

std::unique_ptr<InferenceOp> make_copy(const OpContext& context, const FusedOp& op, const std::string& name,
                                       std::vector<Part> parts) {
    return make_function_op(
        {"mfres:" + name,
         [&context, parts = std::move(parts), chunks = chunking(context.main(op).shape)](const OpArguments& a) mutable {
             for (std::size_t k = 0; k < parts.size(); ++k)
                 parts[k].data = a.inputs[k];
             gather(context.engine, context.type, chunks, parts, a.output);
         }});
}

} // namespace

void run_sum(const OpContext& context, const Shape& shape, const std::vector<Operand>& operands,
             const Activation& activation, void* output) {
    SumArguments arguments;
    arguments.activation = activation;
    arguments.voxels = shape[0] * voxels_of(shape);
    arguments.channels = shape[1];
    arguments.y = output;
    sum(context.engine, context.type, arguments, operands);
}

std::unique_ptr<InferenceOp> make_sum(const OpContext& context, const FusedOp& op, const std::string& name,
                                      std::vector<Operand> operands, const Activation& activation) {
    for (std::size_t k = 0; k < operands.size(); ++k)
        operands[k].x = part_of(context, op, k);
    return make_function_op(
        {"mfres:" + name, [&context, &shape = context.main(op).shape, operands = std::move(operands),
                           activation](const OpArguments& a) mutable {
             for (std::size_t k = 0; k < operands.size(); ++k)
                 operands[k].x.data = a.inputs[k];
             run_sum(context, shape, operands, activation, a.output);
         }});
}

std::unique_ptr<InferenceOp> make_activation(const OpContext& context, const FusedOp& op,
                                             const Activation& activation) {
    return make_sum(context, op, "activation", {Operand()}, activation);
}

std::unique_ptr<InferenceOp> make_add(const OpContext& context, const FusedOp& op) {
    return make_sum(context, op, "add", std::vector<Operand>(context.main(op).inputs.size()), op.activation);
}

std::unique_ptr<InferenceOp> make_scaled_add(const OpContext& context, const FusedOp& op) {
    std::vector<Operand> operands(context.main(op).inputs.size());
    for (std::size_t k = 0; k < operands.size(); ++k)
        operands[k].weight = context.constant(op, k);
    return make_sum(context, op, "scaled_add", std::move(operands), op.activation);
}

std::unique_ptr<InferenceOp> make_concat(const OpContext& context, const FusedOp& op) {
    std::vector<Part> parts;
    std::int64_t to = 0;
    for (std::size_t k = 0; k < context.main(op).inputs.size(); ++k) {
        parts.push_back(part_of(context, op, k));
        parts.back().to = to;
        to += parts.back().count;
    }
    return make_copy(context, op, "concat", std::move(parts));
}

std::unique_ptr<InferenceOp> make_slice(const OpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    Part part = part_of(context, op, 0);
    part.from += node.as<Slice>().begin;
    part.count = node.shape[1];
    return make_copy(context, op, "slice", {part});
}

} // namespace mfres::cuda
