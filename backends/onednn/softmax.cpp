// SPDX-License-Identifier: MIT
#include "backends/kernels/softmax.h"

#include "backends/onednn/ops.h"

namespace mfres::onednn {

std::unique_ptr<InferenceOp> make_softmax(const OpContext& context, const FusedOp& op) {
    return make_function_op({"mfres:softmax", [domain = context.domain(op)](const OpArguments& a) {
                                 softmax(domain, a.input<float>(0), static_cast<float*>(a.output));
                             }});
}

} // namespace mfres::onednn
