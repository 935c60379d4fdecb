// SPDX-License-Identifier: MIT
#include "backends/cuda/ops.h"

#include <algorithm>

namespace mfres::cuda {

namespace {

PoolArguments pool_arguments(const OpContext& context, const FusedOp& op) {
    PoolArguments pool;
    pool.in = extents_of(context.input_shape(op, 0));
    pool.out = extents_of(context.main(op).shape);
    return pool;
}

std::unique_ptr<InferenceOp> make_pool(const OpContext& context, const std::string& name, PoolArguments pool,
                                       void (*kernel)(Stream, ElementType, const PoolArguments&)) {
    return make_function_op({"mfres:" + name, [&context, pool, kernel](const OpArguments& a) mutable {
                                 pool.x = a.inputs[0];
                                 pool.y = a.output;
                                 kernel(context.stream(), context.type, pool);
                             }});
}

} // namespace

std::unique_ptr<InferenceOp> make_max_pool(const OpContext& context, const FusedOp& op) {
    const auto& max_pool = context.main(op).as<MaxPool>();
    PoolArguments pool = pool_arguments(context, op);
    for (std::size_t axis = 0; axis < 3; ++axis) {
        pool.kernel[axis] = max_pool.kernel[axis];
        pool.stride[axis] = max_pool.stride[axis];
    }
    return make_pool(context, "max_pool", pool, context.kernels().max_pool);
}

std::unique_ptr<InferenceOp> make_adaptive_avg_pool(const OpContext& context, const FusedOp& op) {
    return make_pool(context, "adaptive_avg_pool", pool_arguments(context, op), context.kernels().average_pool);
}

std::unique_ptr<InferenceOp> make_upsample(const OpContext& context, const FusedOp& op) {
    const Node& node = context.main(op);
    const Interpolation mode = node.as<Upsample>().mode;
    UpsampleArguments arguments;
    arguments.in = extents_of(context.input_shape(op, 0));
    arguments.out = extents_of(node.shape);
    arguments.activation = op.activation;
    const auto tables = upsample_tables(context.constants, mode, context.input_shape(op, 0), node.shape);
    std::copy(tables.begin(), tables.end(), arguments.axes);
    return make_function_op(
        {"mfres:upsample_" + std::string(name(mode)), [&context, arguments](const OpArguments& a) mutable {
             arguments.x = a.inputs[0];
             arguments.residual = a.residual;
             arguments.y = a.output;
             context.kernels().upsample(context.stream(), context.type, arguments);
         }});
}

} // namespace mfres::cuda
