// SPDX-License-Identifier: MIT
#include "graph/op.h"

namespace mfres {

std::string_view name(OpKind kind) noexcept {
    switch (kind) {
    case OpKind::input: return "input";
    case OpKind::conv: return "conv";
    case OpKind::batch_norm: return "batch_norm";
    case OpKind::instance_norm: return "instance_norm";
    case OpKind::relu: return "relu";
    case OpKind::leaky_relu: return "leaky_relu";
    case OpKind::add: return "add";
    case OpKind::scaled_add: return "scaled_add";
    case OpKind::concat: return "concat";
    case OpKind::slice: return "slice";
    case OpKind::max_pool: return "max_pool";
    case OpKind::adaptive_avg_pool: return "adaptive_avg_pool";
    case OpKind::upsample: return "upsample";
    case OpKind::softmax: return "softmax";
    }
    return "unknown";
}

std::string_view name(Interpolation mode) noexcept {
    switch (mode) {
    case Interpolation::nearest: return "nearest";
    case Interpolation::trilinear: return "trilinear";
    }
    return "unknown";
}

} // namespace mfres
