// SPDX-License-Identifier: MIT
// A network as plain tensor operations: the few that every inference runtime has, on dense tensors of up to five axes,
// with every constant in place. What a graph is lowered to (lower.h) before it is written for another runtime or handed
// to an engine that knows less than five axes.
#pragma once

#include "graph/op.h"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace mfres::plain {

/// 0 is the program's input, i + 1 what step i leaves.
using ValueId = std::int32_t;
/// Index into Program::constants.
using ConstantId = std::int32_t;
inline constexpr ConstantId none = -1;

struct Constant {
    std::string name;
    Tensor values;
};

/// Cross-correlation of [n, c, spatial...] with weight [out, c/groups, kernel...]; one entry per spatial axis in each
/// list; zeros around.
struct Conv {
    std::vector<std::int64_t> stride, dilation, padding;
    std::int64_t groups = 1;
    ConstantId weight = none;
    ConstantId bias = none; ///< [out]
};

/// Transposed convolution of [n, c, spatial...] with weight [c, out/groups, kernel...], see mfres::ConvTranspose.
struct ConvTranspose {
    std::vector<std::int64_t> stride, padding, output_padding;
    std::int64_t groups = 1;
    ConstantId weight = none;
    ConstantId bias = none; ///< [out]
};

/// (x - mean) / sqrt(variance + epsilon) * scale + shift along axis 1.
struct BatchNorm {
    double epsilon = 1e-5;
    ConstantId scale = none, shift = none, mean = none, variance = none;
};

/// The same with mean and variance of each [n, c] over all further axes.
struct InstanceNorm {
    double epsilon = 1e-5;
    ConstantId scale = none, shift = none;
};

/// The same over `groups` groups of channels. In programs of volumes alone.
struct GroupNorm {
    std::int64_t groups = 1;
    double epsilon = 1e-5;
    ConstantId scale = none, shift = none; ///< [c, 1, ...], as many axes as the value has behind the batch
};

struct Relu {};

struct LeakyRelu {
    double slope = 0.01;
};

/// See mfres::PRelu; slope [c, 1, ...] with as many axes as the value has behind the batch.
struct PRelu {
    ConstantId slope = none;
};

struct Elu {
    double alpha = 1.0;
};

struct Sigmoid {};

/// Sum of inputs of one shape, each times a one-element constant where `factors` is not empty.
struct Sum {
    std::vector<ConstantId> factors;
};

/// Product of two values; the second may have extent 1 along axes from the second on.
struct Multiply {};

struct Concat {
    int axis = 1;
};

/// [begin, end) along every axis.
struct Slice {
    std::vector<std::int64_t> begin, end;
};

/// Maximum over windows of the spatial axes (from axis 2 on), no padding, incomplete windows dropped.
struct MaxPool {
    std::vector<std::int64_t> kernel, stride;
};

/// Resampling of the spatial axes to the step's shape, sampled as mfres::Upsample says, linear in as many axes as
/// there are.
struct Resize {
    Interpolation mode = Interpolation::trilinear;
};

/// Along axis 1.
struct Softmax {};

/// The same values in the same order under the step's shape.
struct Reshape {};

/// Axis i of the result is axis order[i] of the input.
struct Transpose {
    std::vector<int> order;
};

/// Zeros before and after one axis.
struct Pad {
    int axis = 0;
    std::int64_t before = 0, after = 0;
};

/// [rows, k] times a constant matrix [k, columns].
struct Product {
    ConstantId matrix = none;
};

using Op = std::variant<Conv, ConvTranspose, BatchNorm, InstanceNorm, GroupNorm, Relu, LeakyRelu, PRelu, Elu, Sigmoid,
                        Sum, Multiply, Concat, Slice, MaxPool, Resize, Softmax, Reshape, Transpose, Pad, Product>;

struct Step {
    std::string name; ///< unique; that of the graph's node, with "/..." behind it where a node became several steps
    Op op;
    std::vector<ValueId> inputs;
    Shape shape; ///< of the value it leaves
};

/// Steps in execution order.
struct Program {
    std::string input_name;
    Shape input;
    std::vector<Constant> constants;
    std::vector<Step> steps;
    std::vector<ValueId> outputs;

    const Shape& shape(ValueId value) const {
        return value == 0 ? input : steps[static_cast<std::size_t>(value - 1)].shape;
    }
    const Constant& constant(ConstantId id) const { return constants[static_cast<std::size_t>(id)]; }
};

} // namespace mfres::plain
