// SPDX-License-Identifier: MIT
#include "backends/kernels/resample.h"

#include "backends/onednn/ops.h"

namespace mfres::onednn {

std::unique_ptr<InferenceOp> make_max_pool(const OpContext& context, const FusedOp& op) {
    return make_function_op({"mfres:max_pool", [domain = context.domain(op), pool = context.main(op).as<MaxPool>(),
                                                in = context.input_shape(op, 0)](const OpArguments& a) {
                                 max_pool(domain, pool, in, a.input<float>(0), static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_adaptive_avg_pool(const OpContext& context, const FusedOp& op) {
    return make_function_op({"mfres:adaptive_avg_pool",
                             [domain = context.domain(op), in = context.input_shape(op, 0)](const OpArguments& a) {
                                 adaptive_avg_pool(domain, in, a.input<float>(0), static_cast<float*>(a.output));
                             }});
}

std::unique_ptr<InferenceOp> make_upsample(const OpContext& context, const FusedOp& op) {
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

} // namespace mfres::onednn
