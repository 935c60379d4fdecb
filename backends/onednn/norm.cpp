// SPDX-License-Identifier: MIT
#include "backends/kernels/norm.h"

#include "backends/kernels/elementwise.h"
#include "backends/onednn/ops.h"

#include <cmath>

namespace mfres::onednn {

std::unique_ptr<InferenceOp> make_batch_norm(const OpContext& context, const FusedOp& op) {
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

std::unique_ptr<InferenceOp> make_instance_norm(const OpContext& context, const FusedOp& op) {
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

} // namespace mfres::onednn
