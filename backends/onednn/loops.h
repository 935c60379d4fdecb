// Loops of our own over channels-last arrays, [batch, x, y, z, channel]: everything that is bound by memory and not by
// arithmetic, where a plain loop is as fast as memory is or oneDNN has no fast kernel. Threads split independent
// outputs, and sums over voxels are cut into planes, so no result depends on the number of threads.
// NaN passes through all of them.
#pragma once

#include "core/tensor.h"
#include "graph/op.h"
#include "graph/rewrite.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace mfres::onednn {

/// The array a loop fills, [batch, channel, x, y, z] though stored channels-last, and by how many threads.
struct Domain {
    Shape shape;
    int threads = 1;

    std::int64_t channels() const { return shape[1]; }
    /// Threads worth starting: a part of fewer values takes less time than waiting for another thread may.
    int useful_threads() const {
        constexpr std::int64_t least_values = 16384;
        return static_cast<int>(std::clamp<std::int64_t>(shape.elements() / least_values, 1, threads));
    }
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

/// `count` channels of every voxel of x, which has `x_channels`, from channel `from` on.
struct ChannelRead {
    const float* x = nullptr;
    std::int64_t x_channels = 0;
    std::int64_t from = 0;
    std::int64_t count = 0;
};

/// The channels read, one after the other; together they are those of the domain.
void copy_channels(const Domain& domain, const std::vector<ChannelRead>& reads, float* y);

/// y = activation(sum of the channels read), each as many as the domain's; y may be the first x if that is read whole.
void add_channels(const Domain& domain, const Activation& activation, const std::vector<ChannelRead>& reads, float* y);

/// Maximum over windows of x, whose shape is `in`.
void max_pool(const Domain& domain, const MaxPool& op, const Shape& in, const float* x, float* y);

/// Means over windows of x as AdaptiveAvgPool defines them, accumulated in double.
void adaptive_avg_pool(const Domain& domain, const Shape& in, const float* x, float* y);

/// The two source positions of a target position along one axis and their weights.
struct Neighbours {
    std::int64_t low, high;
    float low_weight, high_weight;
};

/// Half-pixel centres, align_corners = false, or the nearest voxel below.
Neighbours neighbours(Interpolation mode, std::int64_t i, std::int64_t from, std::int64_t to);

/// Bytes of scratch memory upsample needs.
std::int64_t upsample_scratch(const Domain& domain, const Shape& in);

/// y = activation(upsampled x + residual); a null residual counts as zeros, and y may be it.
void upsample(const Domain& domain, Interpolation mode, const Activation& activation, const Shape& in, const float* x,
              const float* residual, std::byte* scratch, float* y);

/// Softmax over the channels of every voxel; y may be x.
void softmax(const Domain& domain, const float* x, float* y);

} // namespace mfres::onednn
