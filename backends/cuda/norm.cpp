// SPDX-License-Identifier: MIT
#include "backends/cuda/ops.h"

#include <cmath>

namespace mfres::cuda {

std::unique_ptr<InferenceOp> make_batch_norm(const OpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    std::vector<float> scale, shift;
    for (std::int64_t c = 0; c < node.shape[1]; ++c) {
        const double factor = double{context.parameter(op, 0)[c]} /
                              std::sqrt(double{context.parameter(op, 3)[c]} + node.as<BatchNorm>().epsilon);
        scale.push_back(static_cast<float>(factor));
        shift.push_back(
            static_cast<float>(double{context.parameter(op, 1)[c]} - double{context.parameter(op, 2)[c]} * factor));
    }
    Operand operand;
    operand.factor = context.constants.add(scale);
    operand.offset = context.constants.add(shift);
    return make_sum(context, op, "batch_norm", {operand}, op.activation);
}

std::unique_ptr<InferenceOp> make_instance_norm(const OpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    const Chunking chunks = chunking(node.shape);
    const std::int64_t tables = chunks.samples * chunks.channels;
    const SumSpace space(chunks, chunks.samples, 2);
    NormTables norm;
    norm.groups = chunks.samples;
    norm.channels = chunks.channels;
    norm.voxels = chunks.voxels;
    norm.epsilon = node.as<InstanceNorm>().epsilon;
    norm.scale = context.constant(op, 0);
    norm.shift = context.constant(op, 1);
    auto* const counters = context.constants.counters(chunks.channels);
    const auto run = [&context, &shape = node.shape, chunks, tables, space, counters, norm,
                      activation = op.activation](const OpArguments& a) mutable {
        StatisticsArguments statistics;
        statistics.chunks = chunks;
        statistics.groups = norm.groups;
        statistics.x = all_channels(a.inputs[0], chunks.channels);
        statistics.partials = reinterpret_cast<double*>(a.workspace);
        statistics.totals = reinterpret_cast<double*>(a.workspace + space.partials);
        norm.deviation = reinterpret_cast<double*>(a.workspace + space.bytes());
        norm.mean = reinterpret_cast<float*>(norm.deviation + tables);
        norm.factor = norm.mean + tables;
        norm.offset = norm.factor + tables;
        statistics.pivot = norm.offset + tables;
        norm.totals = statistics.totals;
        norm.pivot = statistics.pivot;
        statistics.counters = counters;
        statistics.with_tables = true;
        statistics.tables = norm;
        context.kernels().statistics(context.stream(), context.type, statistics);
        Operand operand;
        operand.x = statistics.x;
        operand.mean = norm.mean;
        operand.factor = norm.factor;
        operand.offset = norm.offset;
        operand.group_voxels = chunks.voxels;
        run_sum(context, shape, {operand}, activation, a.output);
    };
    return make_function_op({"mfres:instance_norm", run, space.bytes() + tables * (8 + 4 * 4)});
}

} // namespace mfres::cuda
