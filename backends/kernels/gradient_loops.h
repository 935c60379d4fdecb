// SPDX-License-Identifier: MIT
// Gradients of pooling, upsampling and softmax over channels-last arrays: dx from dy. Every thread owns planes of dx
// and adds what reaches them in a fixed order, so no result depends on the number of threads.
#pragma once

#include "backends/kernels/blocked_loops.h"
#include "backends/kernels/resample.h"
#include "backends/kernels/vector_loops.h"

#include <vector>

namespace mfres::kernels {

/// Every window's gradient goes to the first of its largest values (or to the last NaN). `in` is the shape of x and dx,
/// `domain` that of dy.
void max_pool_gradient(const Domain& domain, const MaxPool& op, const Shape& in, const float* x, const float* dy,
                       float* dx);

/// A window's gradient is shared equally by its voxels.
void adaptive_avg_pool_gradient(const Domain& domain, const Shape& in, const float* dy, float* dx);

/// For each source position along an axis the target positions that it takes part in, which follow each other.
struct Transposed {
    std::vector<std::int64_t> first; ///< first target
    std::vector<std::int64_t> begin; ///< where its weights begin; one more than positions
    std::vector<float> weights;      ///< of the targets from `first` on
    std::int64_t count(std::int64_t i) const {
        return begin[static_cast<std::size_t>(i) + 1] - begin[static_cast<std::size_t>(i)];
    }
};

/// The transpose of resampling `from` positions to `to`.
Transposed transposed_axis(Interpolation mode, std::int64_t from, std::int64_t to);

/// What every target position along an axis is made of.
std::vector<Blend> blends_along(Interpolation mode, std::int64_t from, std::int64_t to);

/// Floats of workspace that upsample_values needs for a y of that type.
std::int64_t upsample_values_workspace(const Domain& domain, const Shape& in, ValueType type);

/// y = x upsampled; `blends` for x, y and z.
void upsample_values(const Domain& domain, const std::array<std::vector<Blend>, 3>& blends, const Shape& in,
                     const float* x, float* workspace, const ValueArray& y);

/// Floats of workspace that upsample_gradient needs.
std::int64_t upsample_gradient_workspace(const Domain& domain, const Shape& in);

/// The transpose of upsample_values, one axis after the other; `along_z` is the transpose of the last one.
void upsample_gradient(const Domain& domain, const std::array<std::vector<Blend>, 3>& blends, const Transposed& along_z,
                       const Shape& in, const RowReader& dy, float* workspace, float* dx);

/// dx_k = y_k (dy_k - sum_j y_j dy_j)
void softmax_gradient(const Domain& domain, const float* y, const float* dy, float* dx);

} // namespace mfres::kernels
