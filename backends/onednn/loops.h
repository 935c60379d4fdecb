// Loops of our own over channels-last arrays, [batch, x, y, z, channel]: everything that is bound by memory and not by
// arithmetic, where a plain loop is as fast as memory is or oneDNN has no fast kernel. Threads split independent
// outputs, and sums over voxels are cut into planes, so no result depends on the number of threads.
// NaN passes through all of them.
#pragma once

#include "core/tensor.h"
#include "graph/op.h"
#include "graph/rewrite.h"

#include <cstddef>
#include <vector>

namespace mfres::onednn {

/// The array a loop fills, [batch, channel, x, y, z] though stored channels-last, and by how many threads.
struct Domain {
    Shape shape;
    int threads = 1;

    std::int64_t channels() const { return shape[1]; }
    std::int64_t voxels() const { return shape[0] * shape[2] * shape[3] * shape[4]; }
};

/// y = x
void copy_values(const Domain& domain, const float* x, float* y);

/// Copies an array of the domain's shape with `margin` zero voxels before and after every line along z.
void pad_z(const Domain& domain, const float* x, std::int64_t margin, float* y);

/// y = activation(x); y may be x.
void activate(const Domain& domain, const Activation& activation, const float* x, float* y);

/// y = activation(sum of weights[k] * inputs[k]); y may be inputs[0]. An empty `weights` means ones.
void weighted_sum(const Domain& domain, const Activation& activation, const std::vector<const float*>& inputs,
                  const std::vector<float>& weights, float* y);

/// y = activation(x * scale + shift) with one pair per channel; y may be x.
void scale_shift(const Domain& domain, const Activation& activation, const float* x, const float* scale,
                 const float* shift, float* y);

/// Bytes of scratch memory instance_norm needs.
std::int64_t instance_norm_scratch(const Shape& shape);

/// y = activation((x - mean) / sqrt(variance + epsilon) * weight + bias), mean and variance of each sample's channel in
/// double precision; y may be x.
void instance_norm(const Domain& domain, const Activation& activation, double epsilon, const float* weight,
                   const float* bias, const float* x, std::byte* scratch, float* y);

/// Copies `count` channels of every voxel, from channel `from` of x with `x_channels` to channel `to` of the domain.
struct ChannelCopy {
    const float* x = nullptr;
    std::int64_t x_channels = 0;
    std::int64_t from = 0;
    std::int64_t to = 0;
    std::int64_t count = 0;
};

/// Fills the channels that the copies name.
void copy_channels(const Domain& domain, const std::vector<ChannelCopy>& copies, float* y);

/// Maximum over windows of x, whose shape is `in`.
void max_pool(const Domain& domain, const MaxPool& op, const Shape& in, const float* x, float* y);

/// Means over windows of x as AdaptiveAvgPool defines them, accumulated in double.
void adaptive_avg_pool(const Domain& domain, const Shape& in, const float* x, float* y);

/// Bytes of scratch memory upsample needs.
std::int64_t upsample_scratch(const Domain& domain, const Shape& in);

/// y = activation(upsampled x + residual); a null residual counts as zeros, and y may be it.
void upsample(const Domain& domain, Interpolation mode, const Activation& activation, const Shape& in, const float* x,
              const float* residual, std::byte* scratch, float* y);

/// Softmax over the channels of every voxel; y may be x.
void softmax(const Domain& domain, const float* x, float* y);

} // namespace mfres::onednn
