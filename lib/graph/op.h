// SPDX-License-Identifier: MIT
// The operations a network is made of: one enum value and one plain attribute struct each. To add an operation, follow
// the compiler: every `switch (kind)` in the project is complete and has no default.
#pragma once

#include "core/tensor.h"

#include <mfres/export.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <variant>

namespace mfres {

/// One value per spatial axis of the volume as stored: x, y, z.
using Axes = std::array<std::int64_t, 3>;

enum class OpKind : std::uint8_t {
    input,
    conv,
    conv_transpose,
    batch_norm,
    instance_norm,
    group_norm,
    relu,
    leaky_relu,
    prelu,
    elu,
    sigmoid,
    add,
    scaled_add,
    multiply,
    concat,
    slice,
    max_pool,
    adaptive_avg_pool,
    upsample,
    softmax,
};

/// "conv", "batch_norm", ...
MFRES_EXPORT std::string_view name(OpKind kind) noexcept;

/// Whether such an op is there for networks that are imported: every engine on processors computes it, but it has no
/// gradient and no kernel for GPUs.
MFRES_EXPORT bool is_inference_only(OpKind kind) noexcept;

/// The network's input, [batch, channel, x, y, z].
struct Input {
    static constexpr OpKind kind = OpKind::input;
    Shape shape;
};

/// 3-D convolution (cross-correlation, as every deep-learning framework defines it).
/// weight [out_channels, in/groups, kx, ky, kz]; bias [out_channels] if `bias`.
/// output extent = floor((in + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1 per axis.
struct Conv {
    static constexpr OpKind kind = OpKind::conv;
    std::int64_t out_channels = 0;
    Axes kernel{1, 1, 1};
    Axes stride{1, 1, 1};
    Axes dilation{1, 1, 1};
    Axes padding{0, 0, 0};
    std::int64_t groups = 1;
    bool bias = false;
};

/// The transpose of a convolution, as PyTorch's ConvTranspose3d: y[i * stride - padding + k] += w[k] x[i].
/// weight [in_channels, out/groups, kx, ky, kz]; bias [out_channels] if `bias`.
/// output extent = (in - 1) * stride - 2 * padding + kernel + output_padding per axis, output_padding < stride.
struct ConvTranspose {
    static constexpr OpKind kind = OpKind::conv_transpose;
    std::int64_t out_channels = 0;
    Axes kernel{2, 2, 2};
    Axes stride{2, 2, 2};
    Axes padding{0, 0, 0};
    Axes output_padding{0, 0, 0};
    std::int64_t groups = 1;
    bool bias = false;
};

/// y = (x - running_mean) / sqrt(running_var + epsilon) * weight + bias, per channel (inference form).
struct BatchNorm {
    static constexpr OpKind kind = OpKind::batch_norm;
    double epsilon = 1e-5;
};

/// The same with mean and (population) variance of each sample's own channel; weight and bias are learnable.
struct InstanceNorm {
    static constexpr OpKind kind = OpKind::instance_norm;
    double epsilon = 1e-5;
};

/// The same with mean and variance of each sample's `groups` groups of consecutive channels (Wu and He 2018).
struct GroupNorm {
    static constexpr OpKind kind = OpKind::group_norm;
    std::int64_t groups = 1;
    double epsilon = 1e-5;
};

struct Relu {
    static constexpr OpKind kind = OpKind::relu;
};

/// x > 0 ? x : slope * x
struct LeakyRelu {
    static constexpr OpKind kind = OpKind::leaky_relu;
    double slope = 0.01;
};

/// x > 0 ? x : slope of the channel * x, slopes learned: weight [channels].
struct PRelu {
    static constexpr OpKind kind = OpKind::prelu;
};

/// x > 0 ? x : alpha * (exp(x) - 1)
struct Elu {
    static constexpr OpKind kind = OpKind::elu;
    double alpha = 1.0;
};

/// 1 / (1 + exp(-x))
struct Sigmoid {
    static constexpr OpKind kind = OpKind::sigmoid;
};

/// Sum of two or more tensors of equal shape.
struct Add {
    static constexpr OpKind kind = OpKind::add;
};

/// w1 * x1 + w2 * x2 + ...: one learnable scalar per input (DMFNet's branch weights), parameters weight1, weight2, ...
struct ScaledAdd {
    static constexpr OpKind kind = OpKind::scaled_add;
};

/// Product of two tensors, value by value. The second may have extent 1 along any axis but the batch: its value there
/// counts for all of the axis, as in attention gates and squeeze-and-excitation.
struct Multiply {
    static constexpr OpKind kind = OpKind::multiply;
};

/// Channels of all inputs, one after the other.
struct Concat {
    static constexpr OpKind kind = OpKind::concat;
};

/// Channels [begin, end).
struct Slice {
    static constexpr OpKind kind = OpKind::slice;
    std::int64_t begin = 0;
    std::int64_t end = 0;
};

/// Maximum over windows; windows that would pass the border are dropped (floor), no padding.
struct MaxPool {
    static constexpr OpKind kind = OpKind::max_pool;
    Axes kernel{2, 2, 2};
    Axes stride{2, 2, 2};
};

/// Mean over windows [floor(i * in / out), ceil((i + 1) * in / out)) per axis, PyTorch's definition.
struct AdaptiveAvgPool {
    static constexpr OpKind kind = OpKind::adaptive_avg_pool;
    Axes output{1, 1, 1};
};

enum class Interpolation : std::uint8_t { nearest, trilinear };

/// "nearest", "trilinear"
MFRES_EXPORT std::string_view name(Interpolation mode) noexcept;

/// Resampling to `output` voxels. Trilinear: half-pixel centres (align_corners = false), source position
/// (i + 0.5) * in / out - 0.5 clamped below at 0 and neighbours clamped at the border. Nearest: floor(i * in / out).
struct Upsample {
    static constexpr OpKind kind = OpKind::upsample;
    Interpolation mode = Interpolation::trilinear;
    Axes output{1, 1, 1};
};

/// exp(x_c) / sum over channels of exp(x).
struct Softmax {
    static constexpr OpKind kind = OpKind::softmax;
};

using Op = std::variant<Input, Conv, ConvTranspose, BatchNorm, InstanceNorm, GroupNorm, Relu, LeakyRelu, PRelu, Elu,
                        Sigmoid, Add, ScaledAdd, Multiply, Concat, Slice, MaxPool, AdaptiveAvgPool, Upsample, Softmax>;

inline OpKind kind_of(const Op& op) {
    return std::visit([](const auto& attributes) { return attributes.kind; }, op);
}

} // namespace mfres
