// SPDX-License-Identifier: MIT
#include "graph/op.h"

namespace mfres {

std::string_view name(OpKind kind) noexcept {
    switch (kind) {
    case OpKind::input: return "input";
    case OpKind::conv: return "conv";
    case OpKind::conv_transpose: return "conv_transpose";
    case OpKind::batch_norm: return "batch_norm";
    case OpKind::instance_norm: return "instance_norm";
    case OpKind::group_norm: return "group_norm";
    case OpKind::relu: return "relu";
    case OpKind::leaky_relu: return "leaky_relu";
    case OpKind::prelu: return "prelu";
    case OpKind::elu: return "elu";
    case OpKind::sigmoid: return "sigmoid";
    case OpKind::add: return "add";
    case OpKind::scaled_add: return "scaled_add";
    case OpKind::multiply: return "multiply";
    case OpKind::concat: return "concat";
    case OpKind::slice: return "slice";
    case OpKind::max_pool: return "max_pool";
    case OpKind::adaptive_avg_pool: return "adaptive_avg_pool";
    case OpKind::upsample: return "upsample";
    case OpKind::softmax: return "softmax";
    }
    return "unknown";
}

bool is_inference_only(OpKind kind) noexcept {
    switch (kind) {
    case OpKind::conv_transpose:
    case OpKind::group_norm:
    case OpKind::prelu:
    case OpKind::elu:
    case OpKind::sigmoid:
    case OpKind::multiply: return true;
    case OpKind::input:
    case OpKind::conv:
    case OpKind::batch_norm:
    case OpKind::instance_norm:
    case OpKind::relu:
    case OpKind::leaky_relu:
    case OpKind::add:
    case OpKind::scaled_add:
    case OpKind::concat:
    case OpKind::slice:
    case OpKind::max_pool:
    case OpKind::adaptive_avg_pool:
    case OpKind::upsample:
    case OpKind::softmax: return false;
    }
    return false;
}

std::string_view name(Interpolation mode) noexcept {
    switch (mode) {
    case Interpolation::nearest: return "nearest";
    case Interpolation::trilinear: return "trilinear";
    }
    return "unknown";
}

} // namespace mfres
