// SPDX-License-Identifier: MIT
// The implementation of an inference op, chosen by the kind of its main node.
#pragma once

#include "backends/planned/executor.h"

#include <memory>

namespace mfres {

/// `Context` is what the ops of an engine share. Its namespace declares a function make_<kind>(context, op) for every kind
/// of op, and make_inference_only for the kinds of which is_inference_only() is true. The function of a convolution also
/// takes `residual_in_output`, that of an activation the activation. Throws what these functions throw.
template <typename Context>
std::unique_ptr<InferenceOp> make_op(const Context& context, const FusedOp& op, bool residual_in_output) {
    const Node& node = context.main(op);
    switch (node.kind()) {
    case OpKind::input: break; // is no op
    case OpKind::conv_transpose:
    case OpKind::group_norm:
    case OpKind::prelu:
    case OpKind::elu:
    case OpKind::sigmoid:
    case OpKind::multiply: return make_inference_only(context, op);
    case OpKind::conv: return make_conv(context, op, residual_in_output);
    case OpKind::batch_norm: return make_batch_norm(context, op);
    case OpKind::instance_norm: return make_instance_norm(context, op);
    case OpKind::relu: return make_activation(context, op, Activation{Activation::Kind::relu, 0.0F});
    case OpKind::leaky_relu:
        return make_activation(
            context, op, Activation{Activation::Kind::leaky_relu, static_cast<float>(node.as<LeakyRelu>().slope)});
    case OpKind::add: return make_add(context, op);
    case OpKind::scaled_add: return make_scaled_add(context, op);
    case OpKind::concat: return make_concat(context, op);
    case OpKind::slice: return make_slice(context, op);
    case OpKind::max_pool: return make_max_pool(context, op);
    case OpKind::adaptive_avg_pool: return make_adaptive_avg_pool(context, op);
    case OpKind::upsample: return make_upsample(context, op);
    case OpKind::softmax: return make_softmax(context, op);
    }
    return nullptr;
}

} // namespace mfres
