// SPDX-License-Identifier: MIT
// Loops that treat every voxel alike: copies, sums, activations, factors and offsets per channel.
#pragma once

#include "backends/kernels/loops.h"

#include <cstdint>
#include <vector>

namespace mfres::kernels {

/// y = x
void copy_values(const Domain& domain, const float* x, float* y);

/// Copies an array of the shape of the domain with `margin` zero voxels before and after every line along z.
void pad_z(const Domain& domain, const float* x, std::int64_t margin, float* y);

/// y = activation(x); y may be x.
void activate(const Domain& domain, const Activation& activation, const float* x, float* y);

/// y = activation(sum of weights[k] * inputs[k]); y may be inputs[0]. An empty `weights` means ones.
void weighted_sum(const Domain& domain, const Activation& activation, const std::vector<const float*>& inputs,
                  const std::vector<float>& weights, float* y);

/// y = activation(x * scale + shift) with one scale and one shift per channel; y may be x.
void scale_shift(const Domain& domain, const Activation& activation, const float* x, const float* scale,
                 const float* shift, float* y);

/// `count` channels of every voxel of x, which has `x_channels`, from channel `from` on.
struct ChannelRead {
    const float* x = nullptr;
    std::int64_t x_channels = 0;
    std::int64_t from = 0;
    std::int64_t count = 0;
};

/// The channels read, one after the other; their number is that of the domain.
void copy_channels(const Domain& domain, const std::vector<ChannelRead>& reads, float* y);

/// y = activation(sum of the reads), each with as many channels as the domain. y may be the first x if all of its
/// channels are read.
void add_channels(const Domain& domain, const Activation& activation, const std::vector<ChannelRead>& reads, float* y);

} // namespace mfres::kernels
