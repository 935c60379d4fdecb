// SPDX-License-Identifier: MIT
// Loops from one voxel grid to another: pooling and upsampling.
#pragma once

#include "backends/kernels/loops.h"
#include "graph/op.h"

#include <cstddef>
#include <cstdint>

namespace mfres::kernels {

/// Maximum over windows of x, whose shape is `in`.
void max_pool(const Domain& domain, const MaxPool& op, const Shape& in, const float* x, float* y);

/// Means over windows of x as AdaptiveAvgPool defines them, accumulated in double precision.
void adaptive_avg_pool(const Domain& domain, const Shape& in, const float* x, float* y);

/// The two source positions of a target position along one axis, and their weights.
struct Neighbours {
    std::int64_t low, high;
    float low_weight, high_weight;
};

/// Half-pixel centres (align_corners = false), or the nearest voxel below.
Neighbours neighbours(Interpolation mode, std::int64_t i, std::int64_t from, std::int64_t to);

/// Bytes of workspace that upsample needs.
std::int64_t upsample_workspace(const Domain& domain, const Shape& in);

/// y = activation(upsampled x + residual); a null residual means zeros, and y may be the residual.
void upsample(const Domain& domain, Interpolation mode, const Activation& activation, const Shape& in, const float* x,
              const float* residual, std::byte* workspace, float* y);

} // namespace mfres::kernels
