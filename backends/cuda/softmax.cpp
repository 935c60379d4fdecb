// SPDX-License-Identifier: MIT
#include "backends/cuda/ops.h"

namespace mfres::cuda {

std::unique_ptr<InferenceOp> make_softmax(const OpContext& context, const FusedOp& op) {
    const Shape& shape = context.main(op).shape;
    SoftmaxArguments arguments;
    arguments.channels = shape[1];
    arguments.voxels = shape[0] * voxels_of(shape);
    return make_function_op({"mfres:softmax", [&context, arguments](const OpArguments& a) mutable {
                                 arguments.x = a.inputs[0];
                                 arguments.y = a.output;
                                 context.kernels().softmax(context.stream(), context.type, arguments);
                             }});
}

} // namespace mfres::cuda
