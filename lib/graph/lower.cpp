// SPDX-License-Identifier: MIT
#include "graph/lower.h"

#include "core/try.h"

#include <algorithm>
#include <map>

namespace mfres {

namespace {

using plain::ConstantId;
using plain::ValueId;

std::vector<std::int64_t> list(const Axes& axes) {
    return {axes.begin(), axes.end()};
}

/// PyTorch's adaptive average pooling along one axis as a matrix [to, from]; rows sum to 1.
Tensor pooling_matrix(std::int64_t from, std::int64_t to) {
    Tensor matrix(Shape{to, from}, 0.0F);
    for (std::int64_t i = 0; i < to; ++i) {
        const std::int64_t begin = i * from / to;
        const std::int64_t end = ((i + 1) * from + to - 1) / to;
        for (std::int64_t j = begin; j < end; ++j)
            matrix[i * from + j] = static_cast<float>(1.0 / static_cast<double>(end - begin));
    }
    return matrix;
}

/// Nearest resampling along one axis as a matrix [to, from].
Tensor selection_matrix(std::int64_t from, std::int64_t to) {
    Tensor matrix(Shape{to, from}, 0.0F);
    for (std::int64_t i = 0; i < to; ++i)
        matrix[i * from + i * from / to] = 1.0F;
    return matrix;
}

Tensor transposed(const Tensor& matrix) {
    const std::int64_t rows = matrix.shape()[0];
    const std::int64_t columns = matrix.shape()[1];
    Tensor result(Shape{columns, rows});
    for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
            result[j * rows + i] = matrix[i * columns + j];
    return result;
}

Tensor reshaped(const Tensor& tensor, const Shape& shape) {
    Tensor result(shape);
    std::copy(tensor.values().begin(), tensor.values().end(), result.values().begin());
    return result;
}

/// What both lowerings share: the program in the making, and the operations whose attributes are the same in both.
class Lowering {
  public:
    Lowering(const Graph& graph, const Weights& weights) : graph_(graph), weights_(weights) {
        const Node& input = graph.node(graph.input());
        program_.input_name = input.name;
        program_.input = input.shape;
    }

    plain::Program run() {
        values_.push_back(begin());
        for (NodeId id = 1; id < graph_.size(); ++id)
            values_.push_back(
                std::visit([&](const auto& op) { return lower(graph_.node(id), op); }, graph_.node(id).op));
        for (const NodeId output : graph_.outputs())
            program_.outputs.push_back(end(output));
        return std::move(program_);
    }

    virtual ~Lowering() = default;

  protected:
    virtual ValueId begin() { return 0; }
    virtual ValueId end(NodeId output) { return value(output); }
    /// The form in which a node's value is held.
    virtual Shape held(const Shape& shape) const = 0;
    virtual ValueId lower(const Node& node, const Conv& op) = 0;
    virtual ValueId lower(const Node& node, const ConvTranspose& op) = 0;
    virtual ValueId lower(const Node& node, const InstanceNorm& op) = 0;
    virtual ValueId lower(const Node& node, const GroupNorm& op) = 0;
    virtual ValueId lower(const Node& node, const MaxPool& op) = 0;
    virtual ValueId lower(const Node& node, const AdaptiveAvgPool& op) = 0;
    virtual ValueId lower(const Node& node, const Upsample& op) = 0;

    ValueId lower(const Node&, const Input&) { return 0; }
    ValueId lower(const Node& node, const BatchNorm& op) {
        return same(node, plain::BatchNorm{op.epsilon, parameter(node, 0), parameter(node, 1), parameter(node, 2),
                                           parameter(node, 3)});
    }
    ValueId lower(const Node& node, const Relu&) { return same(node, plain::Relu{}); }
    ValueId lower(const Node& node, const LeakyRelu& op) { return same(node, plain::LeakyRelu{op.slope}); }
    ValueId lower(const Node& node, const PRelu&) {
        const std::string& name = node.parameters[0].name;
        return same(node, plain::PRelu{constant(name, of_channels(weight(node, 0)))});
    }
    ValueId lower(const Node& node, const Elu& op) { return same(node, plain::Elu{op.alpha}); }
    ValueId lower(const Node& node, const Sigmoid&) { return same(node, plain::Sigmoid{}); }
    ValueId lower(const Node& node, const Multiply&) { return same(node, plain::Multiply{}); }
    ValueId lower(const Node& node, const Add&) { return same(node, plain::Sum{}); }
    ValueId lower(const Node& node, const ScaledAdd&) {
        plain::Sum sum;
        for (std::size_t i = 0; i < node.parameters.size(); ++i)
            sum.factors.push_back(parameter(node, i));
        return same(node, std::move(sum));
    }
    ValueId lower(const Node& node, const Concat&) { return same(node, plain::Concat{1}); }
    ValueId lower(const Node& node, const Slice& op) {
        Shape begin = held(graph_.node(node.inputs[0]).shape);
        Shape end = begin;
        for (int axis = 0; axis < begin.rank(); ++axis)
            begin[axis] = 0;
        begin[1] = op.begin;
        end[1] = op.end;
        return same(node, plain::Slice{{begin.begin(), begin.end()}, {end.begin(), end.end()}});
    }
    ValueId lower(const Node& node, const Softmax&) { return same(node, plain::Softmax{}); }

    ValueId value(NodeId id) const { return values_[static_cast<std::size_t>(id)]; }
    const Shape& input_shape(const Node& node) const { return graph_.node(node.inputs[0]).shape; }
    const Tensor& weight(const Node& node, std::size_t index) const {
        return weights_.find(node.parameters[index].name)->second;
    }

    /// Values by channel, [c], with the axes behind the channel that a held value has.
    Tensor of_channels(const Tensor& values) const {
        Shape shape =
            held(graph_.node(0).shape).rank() == 5 ? Shape{values.elements(), 1, 1, 1} : Shape{values.elements(), 1, 1};
        return reshaped(values, shape);
    }

    ConstantId constant(std::string name, Tensor values) {
        program_.constants.push_back({std::move(name), std::move(values)});
        return static_cast<ConstantId>(program_.constants.size() - 1);
    }
    /// A parameter of the node under its own name.
    ConstantId parameter(const Node& node, std::size_t index) {
        return constant(node.parameters[index].name, weight(node, index));
    }

    ValueId step(std::string name, plain::Op op, std::vector<ValueId> inputs, const Shape& shape) {
        program_.steps.push_back({std::move(name), std::move(op), std::move(inputs), shape});
        return static_cast<ValueId>(program_.steps.size());
    }
    /// One step that reads the node's inputs and leaves its value.
    ValueId same(const Node& node, plain::Op op) {
        std::vector<ValueId> inputs;
        for (const NodeId input : node.inputs)
            inputs.push_back(value(input));
        return step(node.name, std::move(op), std::move(inputs), held(node.shape));
    }
    ValueId reshape(const std::string& name, ValueId from, const Shape& shape) {
        return program_.shape(from) == shape ? from : step(name, plain::Reshape{}, {from}, shape);
    }

    /// `from`, seen as [before, length, after], times `matrix` [new length, length] along the middle axis: a 1x1
    /// convolution whose channels are that axis, or a plain product where nothing comes after it.
    ValueId along_axis(const std::string& name, ValueId from, std::int64_t before, std::int64_t after,
                       const Tensor& matrix) {
        const std::int64_t to = matrix.shape()[0];
        const std::int64_t length = matrix.shape()[1];
        if (after == 1) {
            const ValueId rows = reshape(name + ".rows", from, Shape{before, length});
            return step(name, plain::Product{constant(name + ".matrix", transposed(matrix))}, {rows},
                        Shape{before, to});
        }
        const ValueId lines = reshape(name + ".lines", from, Shape{before, length, 1, after});
        plain::Conv conv{{1, 1}, {1, 1}, {0, 0}, 1, plain::none, plain::none};
        conv.weight = constant(name + ".matrix", reshaped(matrix, Shape{to, length, 1, 1}));
        return step(name, std::move(conv), {lines}, Shape{before, to, 1, after});
    }

    /// along_axis for the spatial axes of a node, in an order of axes that keeps `outer`, the product of the axes in
    /// front of x, whatever they are: x, then y with `between` channels between x and y, then z.
    ValueId along_all_axes(const Node& node, std::int64_t outer, std::int64_t between,
                           Tensor (*matrix)(std::int64_t, std::int64_t)) {
        const Axes from = spatial(input_shape(node));
        const Axes to = spatial(node.shape);
        ValueId x = value(node.inputs[0]);
        if (from[0] != to[0])
            x = along_axis(node.name + "/x", x, outer, between * from[1] * from[2], matrix(from[0], to[0]));
        const std::int64_t rows = outer * to[0] * between;
        if (from[1] != to[1])
            x = along_axis(node.name + "/y", x, rows, from[2], matrix(from[1], to[1]));
        if (from[2] != to[2])
            x = along_axis(node.name + "/z", x, rows * to[1], 1, matrix(from[2], to[2]));
        return reshape(node.name, x, held(node.shape));
    }

    const Graph& graph_;
    const Weights& weights_;
    plain::Program program_;
    std::vector<ValueId> values_; ///< by node
};

class VolumeLowering final : public Lowering {
  public:
    using Lowering::Lowering;

  private:
    using Lowering::lower;
    Shape held(const Shape& shape) const override { return shape; }

    ValueId lower(const Node& node, const Conv& op) override {
        plain::Conv conv{list(op.stride), list(op.dilation), list(op.padding), op.groups, plain::none, plain::none};
        conv.weight = parameter(node, 0);
        if (op.bias)
            conv.bias = parameter(node, 1);
        return same(node, std::move(conv));
    }
    ValueId lower(const Node& node, const ConvTranspose& op) override {
        plain::ConvTranspose conv{list(op.stride), list(op.padding),   list(op.output_padding),
                                  op.groups,       parameter(node, 0), plain::none};
        if (op.bias)
            conv.bias = parameter(node, 1);
        return same(node, std::move(conv));
    }
    ValueId lower(const Node& node, const GroupNorm& op) override {
        const auto by_channel = [&](std::size_t index) {
            return constant(node.parameters[index].name, of_channels(weight(node, index)));
        };
        const ConstantId scale = by_channel(0);
        return same(node, plain::GroupNorm{op.groups, op.epsilon, scale, by_channel(1)});
    }
    ValueId lower(const Node& node, const InstanceNorm& op) override {
        return same(node, plain::InstanceNorm{op.epsilon, parameter(node, 0), parameter(node, 1)});
    }
    ValueId lower(const Node& node, const MaxPool& op) override {
        return same(node, plain::MaxPool{list(op.kernel), list(op.stride)});
    }
    ValueId lower(const Node& node, const AdaptiveAvgPool&) override {
        return along_all_axes(node, node.shape[0] * node.shape[1], 1, pooling_matrix);
    }
    ValueId lower(const Node& node, const Upsample& op) override { return same(node, plain::Resize{op.mode}); }
};

/// True where resampling by whole source positions cannot depend on how an engine rounds them.
bool plain_nearest(const Axes& from, const Axes& to) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t factor = to[axis] / from[axis];
        if (to[axis] % from[axis] != 0 || (factor & (factor - 1)) != 0)
            return false;
    }
    return true;
}

class PlaneLowering final : public Lowering {
  public:
    PlaneLowering(const Graph& graph, const Weights& weights, Ends ends) : Lowering(graph, weights), ends_(ends) {
        if (ends == Ends::planes)
            program_.input = held(program_.input);
    }

  private:
    using Lowering::lower;

    Shape held(const Shape& s) const override { return {s[0] * s[2], s[1], s[3], s[4]}; }

    ValueId begin() override {
        const Shape& s = graph_.node(graph_.input()).shape;
        if (ends_ == Ends::planes)
            return 0;
        const std::string& name = program_.input_name;
        const ValueId view = step(name + "/view", plain::Reshape{}, {0}, Shape{s[0], s[1], s[2], s[3] * s[4]});
        const ValueId turned =
            step(name + "/turned", plain::Transpose{{0, 2, 1, 3}}, {view}, Shape{s[0], s[2], s[1], s[3] * s[4]});
        return step(name + "/planes", plain::Reshape{}, {turned}, held(s));
    }

    ValueId end(NodeId output) override {
        const Node& node = graph_.node(output);
        const Shape& s = node.shape;
        if (ends_ == Ends::planes)
            return value(output);
        // A graph may have the same output twice, and names must stay unique.
        const std::string name = text(node.name, "/output", program_.outputs.size());
        const ValueId view =
            step(name + ".view", plain::Reshape{}, {value(output)}, Shape{s[0], s[2], s[1], s[3] * s[4]});
        const ValueId turned =
            step(name + ".turned", plain::Transpose{{0, 2, 1, 3}}, {view}, Shape{s[0], s[1], s[2], s[3] * s[4]});
        return step(name, plain::Reshape{}, {turned}, s);
    }

    ValueId lower(const Node& node, const Conv& op) override {
        const ConstantId bias = op.bias ? parameter(node, 1) : plain::none;
        const Shape& in = input_shape(node);
        if (op.kernel[0] == 1 && op.stride[0] == 1 && op.padding[0] == 0)
            return planar_conv(node, node.name, value(node.inputs[0]), 0, 1, bias);
        const ValueId source = strided_planes(node, op);
        const std::vector<Run> runs = plane_runs(op);
        const std::int64_t rows = in[0] * node.shape[2];
        std::vector<ValueId> taps;
        for (const Run& run : runs)
            taps.push_back(planes_of(node, op, source, run));
        if (op.groups == 1) {
            ValueId joined = taps[0];
            if (taps.size() > 1)
                joined = step(node.name + "/joined", plain::Concat{2}, taps,
                              Shape{in[0], node.shape[2], op.kernel[0] * in[1], in[3] * in[4]});
            joined = reshape(node.name + "/planes", joined, Shape{rows, op.kernel[0] * in[1], in[3], in[4]});
            return planar_conv(node, node.name, joined, 0, op.kernel[0], bias);
        }
        std::vector<ValueId> parts;
        for (std::size_t tap = 0; tap < taps.size(); ++tap) {
            const std::string name = text(node.name, "/tap", tap);
            const ValueId planes = reshape(name + ".planes", taps[tap], Shape{rows, in[1], in[3], in[4]});
            const std::string part = taps.size() == 1 ? node.name : name;
            parts.push_back(
                planar_conv(node, part, planes, static_cast<std::int64_t>(tap), 1, tap == 0 ? bias : plain::none));
        }
        return parts.size() == 1 ? parts[0] : step(node.name, plain::Sum{}, parts, held(node.shape));
    }

    /// Consecutive planes of a kernel that lie in the same s planes of the source (s = stride along x).
    struct Run {
        std::int64_t row = 0;   ///< offset in units of the stride
        std::int64_t first = 0; ///< plane within it
        std::int64_t count = 1;
    };

    static std::vector<Run> plane_runs(const Conv& op) {
        std::vector<Run> runs;
        for (std::int64_t tap = 0; tap < op.kernel[0]; ++tap) {
            const std::int64_t row = tap * op.dilation[0] / op.stride[0];
            const std::int64_t plane = tap * op.dilation[0] % op.stride[0];
            const bool grows = op.groups == 1 && !runs.empty() && runs.back().row == row &&
                               runs.back().first + runs.back().count == plane;
            if (grows)
                ++runs.back().count;
            else
                runs.push_back({row, plane, 1});
        }
        return runs;
    }

    /// The planes a convolution can reach, zero-padded along x, as [batch, planes / s, s * channels, y * z].
    ValueId strided_planes(const Node& node, const Conv& op) {
        const Shape& in = input_shape(node);
        const std::int64_t stride = op.stride[0];
        const std::int64_t last_row = (op.kernel[0] - 1) * op.dilation[0] / stride + node.shape[2];
        const std::int64_t needed = std::max(last_row * stride, in[2] + op.padding[0]);
        const std::int64_t planes = (needed + stride - 1) / stride * stride;
        const std::int64_t area = in[3] * in[4];
        ValueId x = reshape(node.name + "/x", value(node.inputs[0]), Shape{in[0], in[2], in[1], area});
        const std::int64_t after = planes - in[2] - op.padding[0];
        if (op.padding[0] > 0 || after > 0)
            x = step(node.name + "/padded", plain::Pad{1, op.padding[0], after}, {x},
                     Shape{in[0], planes, in[1], area});
        return reshape(node.name + "/strided", x, Shape{in[0], planes / stride, stride * in[1], area});
    }

    ValueId planes_of(const Node& node, const Conv& op, ValueId source, const Run& run) {
        const Shape all = program_.shape(source);
        const std::int64_t channels = input_shape(node)[1];
        const plain::Slice slice{{0, run.row, run.first * channels, 0},
                                 {all[0], run.row + node.shape[2], (run.first + run.count) * channels, all[3]}};
        const Shape shape{all[0], node.shape[2], run.count * channels, all[3]};
        if (shape == all)
            return source;
        return step(text(node.name, "/from", run.row * op.stride[0] + run.first), slice, {source}, shape);
    }

    /// The 2-D convolution of kernel planes [tap, tap + taps) over planes whose channels are those planes' channels.
    ValueId planar_conv(const Node& node, const std::string& name, ValueId planes, std::int64_t tap, std::int64_t taps,
                        ConstantId bias) {
        const Conv& op = node.as<Conv>();
        const Tensor& all = weight(node, 0);
        const Shape& w = all.shape(); // [out, in / groups, kx, ky, kz]
        const std::int64_t area = w[3] * w[4];
        Tensor chosen(Shape{w[0], taps * w[1], w[3], w[4]});
        for (std::int64_t out = 0; out < w[0]; ++out)
            for (std::int64_t t = 0; t < taps; ++t)
                for (std::int64_t in = 0; in < w[1]; ++in)
                    std::copy_n(all.data() + ((out * w[1] + in) * w[2] + tap + t) * area, area,
                                chosen.data() + ((out * taps + t) * w[1] + in) * area);
        plain::Conv conv{{op.stride[1], op.stride[2]},
                         {op.dilation[1], op.dilation[2]},
                         {op.padding[1], op.padding[2]},
                         op.groups,
                         plain::none,
                         bias};
        const bool whole = taps == w[2];
        conv.weight = constant(whole ? node.parameters[0].name : name + ".weight", std::move(chosen));
        return step(name, std::move(conv), {planes}, held(node.shape));
    }

    /// One 2-D transposed convolution makes the planes of all taps along x, beside each other as channels.
    ValueId lower(const Node& node, const ConvTranspose& op) override {
        const Shape& in = input_shape(node);
        const Tensor& all = weight(node, 0);
        const Shape& w = all.shape(); // [in, out, kx, ky, kz]
        const std::int64_t area = w[3] * w[4];
        Tensor turned(Shape{w[0], w[2] * w[1], w[3], w[4]});
        for (std::int64_t i = 0; i < w[0]; ++i)
            for (std::int64_t o = 0; o < w[1]; ++o)
                for (std::int64_t tap = 0; tap < w[2]; ++tap)
                    std::copy_n(all.data() + ((i * w[1] + o) * w[2] + tap) * area, area,
                                turned.data() + ((i * w[2] + tap) * w[1] + o) * area);
        plain::ConvTranspose conv{{op.stride[1], op.stride[2]},
                                  {op.padding[1], op.padding[2]},
                                  {op.output_padding[1], op.output_padding[2]},
                                  1,
                                  constant(node.parameters[0].name, std::move(turned)),
                                  plain::none};
        if (op.bias) {
            Tensor bias(Shape{w[2] * w[1]});
            for (std::int64_t i = 0; i < bias.elements(); ++i)
                bias[i] = weight(node, 1)[i % w[1]];
            conv.bias = constant(node.parameters[1].name, std::move(bias));
        }
        const bool whole = w[2] == 1;
        const ValueId x = step(whole ? node.name : node.name + "/taps", std::move(conv), {value(node.inputs[0])},
                               Shape{in[0] * in[2], w[2] * w[1], node.shape[3], node.shape[4]});
        return reshape(node.name, x, held(node.shape));
    }

    /// An instance normalisation of groups, then scale and shift of the channels as a BatchNorm.
    ValueId lower(const Node& node, const GroupNorm& op) override {
        const Shape& s = node.shape;
        const std::int64_t area = s[3] * s[4];
        const Shape planes{s[0], s[2], s[1], area};
        const Shape channels{s[0], s[1], s[2], area};
        const Shape groups{s[0], op.groups, s[1] / op.groups * s[2], area};
        const auto filled = [&](const char* name, std::int64_t count, float fill) {
            return constant(node.name + name, Tensor(Shape{count}, fill));
        };
        ValueId x = reshape(node.name + "/x", value(node.inputs[0]), planes);
        x = step(node.name + "/turned", plain::Transpose{{0, 2, 1, 3}}, {x}, channels);
        x = reshape(node.name + "/groups", x, groups);
        const ConstantId one = filled("/one", op.groups, 1.0F);
        const ConstantId zero = filled("/zero", op.groups, 0.0F);
        x = step(node.name + "/norm", plain::InstanceNorm{op.epsilon, one, zero}, {x}, groups);
        x = reshape(node.name + "/joined", x, channels);
        x = step(node.name + "/back", plain::Transpose{{0, 2, 1, 3}}, {x}, planes);
        x = reshape(node.name + "/planes", x, held(s));
        const ConstantId mean = filled("/mean", s[1], 0.0F);
        const ConstantId variance = filled("/variance", s[1], 1.0F);
        return step(node.name, plain::BatchNorm{0.0, parameter(node, 0), parameter(node, 1), mean, variance}, {x},
                    held(s));
    }

    ValueId lower(const Node& node, const InstanceNorm& op) override {
        const Shape& s = node.shape;
        const Shape planes{s[0], s[2], s[1], s[3] * s[4]};
        const Shape channels{s[0], s[1], s[2], s[3] * s[4]};
        ValueId x = reshape(node.name + "/x", value(node.inputs[0]), planes);
        x = step(node.name + "/turned", plain::Transpose{{0, 2, 1, 3}}, {x}, channels);
        x = step(node.name + "/norm", plain::InstanceNorm{op.epsilon, parameter(node, 0), parameter(node, 1)}, {x},
                 channels);
        x = step(node.name + "/back", plain::Transpose{{0, 2, 1, 3}}, {x}, planes);
        return reshape(node.name, x, held(s));
    }

    ValueId lower(const Node& node, const MaxPool& op) override {
        const Shape& in = input_shape(node);
        ValueId x = value(node.inputs[0]);
        if (op.kernel[1] != 1 || op.kernel[2] != 1 || op.stride[1] != 1 || op.stride[2] != 1)
            x = step(node.name + "/yz", plain::MaxPool{{op.kernel[1], op.kernel[2]}, {op.stride[1], op.stride[2]}}, {x},
                     Shape{in[0] * in[2], in[1], node.shape[3], node.shape[4]});
        const std::int64_t line = in[1] * node.shape[3] * node.shape[4];
        if (op.kernel[0] != 1 || op.stride[0] != 1) {
            x = reshape(node.name + "/lines", x, Shape{in[0], 1, in[2], line});
            x = step(node.name + "/x", plain::MaxPool{{op.kernel[0], 1}, {op.stride[0], 1}}, {x},
                     Shape{in[0], 1, node.shape[2], line});
        }
        return reshape(node.name, x, held(node.shape));
    }

    ValueId lower(const Node& node, const AdaptiveAvgPool&) override {
        return along_all_axes(node, node.shape[0], node.shape[1], pooling_matrix);
    }

    ValueId lower(const Node& node, const Upsample& op) override {
        const Shape& in = input_shape(node);
        const Shape& out = node.shape;
        if (op.mode == Interpolation::nearest && !plain_nearest(spatial(in), spatial(out)))
            return along_all_axes(node, out[0], out[1], selection_matrix);
        ValueId x = value(node.inputs[0]);
        if (in[2] != out[2]) { // along x first, while there are fewer voxels
            const std::int64_t line = in[1] * in[3] * in[4];
            x = reshape(node.name + "/lines", x, Shape{in[0], 1, in[2], line});
            x = step(node.name + "/x", plain::Resize{op.mode}, {x}, Shape{in[0], 1, out[2], line});
            x = reshape(node.name + "/planes", x, Shape{in[0] * out[2], in[1], in[3], in[4]});
        }
        if (in[3] != out[3] || in[4] != out[4])
            x = step(node.name, plain::Resize{op.mode}, {x}, held(out));
        return x;
    }

    Ends ends_;
};

} // namespace

Result<plain::Program> lower_to_volumes(const Graph& graph, const Weights& weights) {
    MFRES_CHECK(check_weights(graph, weights));
    return VolumeLowering(graph, weights).run();
}

std::optional<std::string> why_not_planes(const Graph& graph, const Node& node) {
    if (node.kind() == OpKind::conv_transpose) {
        const auto& op = node.as<ConvTranspose>();
        if (op.groups != 1 || op.kernel[0] != op.stride[0] || op.padding[0] != 0 || op.output_padding[0] != 0)
            return "it is a transposed convolution of groups, or one whose kernel along x is not its stride, which is no "
                   "2-D operation";
    }
    if (node.kind() == OpKind::multiply && !(graph.node(node.inputs[1]).shape == node.shape))
        return "it multiplies tensors of different shapes";
    return std::nullopt;
}

Result<plain::Program> lower_to_planes(const Graph& graph, const Weights& weights, Ends ends) {
    MFRES_CHECK(check_weights(graph, weights));
    for (const Node& node : graph.nodes())
        if (const auto why = why_not_planes(graph, node))
            return Error{ErrorCode::operation_unsupported,
                         text("node ", node.name, " cannot be lowered to planes: ", *why), node.name};
    return PlaneLowering(graph, weights, ends).run();
}

} // namespace mfres
