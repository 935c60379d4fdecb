// SPDX-License-Identifier: MIT
// The ops of imported networks (is_inference_only) over channels-last arrays: plain loops, for any engine on processors.
#pragma once

#include "backends/kernels/loops.h"
#include "graph/op.h"

#include <vector>

namespace mfres::kernels {

/// The weight [in, out/groups, kx, ky, kz] of a transposed convolution as conv_transpose() reads it:
/// [group][kx][ky][kz][in/groups][out/groups].
std::vector<float> transposed_weight(const ConvTranspose& op, const Tensor& weight);

/// `in`: shape of `x`; `weight` of transposed_weight(); `bias` by channel, or null.
void conv_transpose(const Domain& domain, const ConvTranspose& op, const Shape& in, const float* x, const float* weight,
                    const float* bias, float* y);

/// Mean and variance of each sample's groups in double precision; `y` may be `x`.
void group_norm(const Domain& domain, const GroupNorm& op, const float* scale, const float* shift, const float* x,
                float* y);

/// `y` may be `x` in all of these. `slopes` by channel.
void prelu(const Domain& domain, const float* slopes, const float* x, float* y);
void elu(const Domain& domain, float alpha, const float* x, float* y);
void sigmoid(const Domain& domain, const float* x, float* y);
/// `second`: shape of `b`, with 1 along the axes for all of which its values count.
void multiply(const Domain& domain, const Shape& second, const float* a, const float* b, float* y);

} // namespace mfres::kernels
