// SPDX-License-Identifier: MIT
// Programs of plain tensor operations (graph/plain.h) executed by the book, value by value in double precision.
#pragma once

#include "graph/plain.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace mfres::test {

/// Runs a program; the outputs in order, dense.
class PlainInterpreter {
  public:
    explicit PlainInterpreter(const plain::Program& program) : program_(program) {}

    std::vector<std::vector<double>> run(const Tensor& input) {
        values_.assign(1, {input.values().begin(), input.values().end()});
        for (const plain::Step& step : program_.steps) {
            std::vector<double> out(static_cast<std::size_t>(step.shape.elements()));
            std::visit([&](const auto& op) { compute(step, op, out); }, step.op);
            values_.push_back(std::move(out));
        }
        std::vector<std::vector<double>> outputs;
        for (const plain::ValueId id : program_.outputs)
            outputs.push_back(values_[static_cast<std::size_t>(id)]);
        return outputs;
    }

  private:
    using Values = std::vector<double>;
    using Index = std::vector<std::int64_t>;

    const Values& in(const plain::Step& step, std::size_t i = 0) const {
        return values_[static_cast<std::size_t>(step.inputs[i])];
    }
    const Shape& shape(const plain::Step& step, std::size_t i = 0) const { return program_.shape(step.inputs[i]); }
    float constant(plain::ConstantId id, std::int64_t i) const { return program_.constant(id).values[i]; }

    static std::size_t offset(const Shape& shape, const Index& index) {
        std::int64_t position = 0;
        for (int axis = 0; axis < shape.rank(); ++axis)
            position = position * shape[axis] + index[static_cast<std::size_t>(axis)];
        return static_cast<std::size_t>(position);
    }

    /// Calls body(index) for every element of a shape in order.
    template <typename Body>
    static void each(const Shape& shape, const Body& body) {
        Index index(static_cast<std::size_t>(shape.rank()), 0);
        for (std::int64_t i = 0; i < shape.elements(); ++i) {
            std::int64_t rest = i;
            for (int axis = shape.rank() - 1; axis >= 0; --axis) {
                index[static_cast<std::size_t>(axis)] = rest % shape[axis];
                rest /= shape[axis];
            }
            body(index);
        }
    }

    static Shape spatial_part(const std::vector<std::int64_t>& extents) { return Shape(std::span(extents)); }

    /// The spatial extents or attributes of a convolution as three axes, ones in front.
    template <typename Range>
    static std::array<std::int64_t, 3> three(const Range& values, std::int64_t filler) {
        std::array<std::int64_t, 3> all{filler, filler, filler};
        std::copy(values.begin(), values.end(), all.end() - (values.end() - values.begin()));
        return all;
    }
    static std::array<std::int64_t, 3> spatial_extents(const Shape& shape) {
        return three(std::vector<std::int64_t>(shape.begin() + 2, shape.end()), 1);
    }

    void compute(const plain::Step& step, const plain::Conv& op, Values& out) const {
        const Shape& weight = program_.constant(op.weight).values.shape();
        const auto kernel = spatial_extents(weight);
        const auto from = spatial_extents(shape(step));
        const auto to = spatial_extents(step.shape);
        const auto stride = three(op.stride, 1);
        const auto dilation = three(op.dilation, 1);
        const auto padding = three(op.padding, 0);
        const std::int64_t group_in = weight[1];
        const std::int64_t group_out = weight[0] / op.groups;
        const Values& source = in(step);
        const float* taps = program_.constant(op.weight).values.data();
        const auto at = [&](std::int64_t channel, std::int64_t x, std::int64_t y, std::int64_t z) { // of the input
            return x < 0 || y < 0 || z < 0 || x >= from[0] || y >= from[1] || z >= from[2]
                       ? 0.0
                       : source[static_cast<std::size_t>(((channel * from[0] + x) * from[1] + y) * from[2] + z)];
        };
        each(Shape{step.shape[0], step.shape[1], to[0], to[1], to[2]}, [&](const Index& i) {
            double sum = op.bias == plain::none ? 0.0 : double{constant(op.bias, i[1])};
            const float* tap = taps + i[1] * group_in * kernel[0] * kernel[1] * kernel[2];
            for (std::int64_t c = 0; c < group_in; ++c)
                for (std::int64_t kx = 0; kx < kernel[0]; ++kx)
                    for (std::int64_t ky = 0; ky < kernel[1]; ++ky)
                        for (std::int64_t kz = 0; kz < kernel[2]; ++kz)
                            sum += double{*tap++} * at(i[0] * shape(step)[1] + i[1] / group_out * group_in + c,
                                                       i[2] * stride[0] - padding[0] + kx * dilation[0],
                                                       i[3] * stride[1] - padding[1] + ky * dilation[1],
                                                       i[4] * stride[2] - padding[2] + kz * dilation[2]);
            out[offset(Shape{step.shape[0], step.shape[1], to[0], to[1], to[2]}, i)] = sum;
        });
    }
    /// Spreads every input value, as the definition says.
    void compute(const plain::Step& step, const plain::ConvTranspose& op, Values& out) const {
        const Shape& weight = program_.constant(op.weight).values.shape();
        const auto kernel = spatial_extents(weight);
        const auto from = spatial_extents(shape(step));
        const auto to = spatial_extents(step.shape);
        const auto stride = three(op.stride, 1);
        const auto padding = three(op.padding, 0);
        const std::int64_t group_in = weight[0] / op.groups;
        const Shape all{step.shape[0], step.shape[1], to[0], to[1], to[2]};
        each(all, [&](const Index& i) {
            out[offset(all, i)] = op.bias == plain::none ? 0.0 : double{constant(op.bias, i[1])};
        });
        const Shape source{shape(step)[0], shape(step)[1], from[0], from[1], from[2]};
        each(source, [&](const Index& i) {
            each(Shape{weight[1], kernel[0], kernel[1], kernel[2]}, [&](const Index& k) {
                Index target{i[0], i[1] / group_in * weight[1] + k[0]};
                for (std::size_t a = 0; a < 3; ++a) {
                    target.push_back(i[a + 2] * stride[a] - padding[a] + k[a + 1]);
                    if (target.back() < 0 || target.back() >= to[a])
                        return;
                }
                const std::size_t tap = offset(Shape{weight[0], weight[1], kernel[0], kernel[1], kernel[2]},
                                               {i[1], k[0], k[1], k[2], k[3]});
                out[offset(all, target)] +=
                    in(step)[offset(source, i)] * double{constant(op.weight, static_cast<std::int64_t>(tap))};
            });
        });
    }
    void compute(const plain::Step& step, const plain::BatchNorm& op, Values& out) const {
        each(step.shape, [&](const Index& i) {
            const std::size_t at = offset(step.shape, i);
            out[at] = (in(step)[at] - constant(op.mean, i[1])) /
                          std::sqrt(double{constant(op.variance, i[1])} + op.epsilon) * constant(op.scale, i[1]) +
                      constant(op.shift, i[1]);
        });
    }
    void compute(const plain::Step& step, const plain::InstanceNorm& op, Values& out) const {
        const std::int64_t channels = step.shape[0] * step.shape[1];
        const std::int64_t area = step.shape.elements() / channels;
        for (std::int64_t c = 0; c < channels; ++c) {
            const auto begin = in(step).begin() + c * area;
            double mean = 0.0;
            double square = 0.0;
            std::for_each(begin, begin + area, [&](double v) { mean += v / static_cast<double>(area); });
            std::for_each(begin, begin + area,
                          [&](double v) { square += (v - mean) * (v - mean) / static_cast<double>(area); });
            const std::int64_t channel = c % step.shape[1];
            std::transform(begin, begin + area, out.begin() + c * area, [&](double v) {
                return (v - mean) / std::sqrt(square + op.epsilon) * constant(op.scale, channel) +
                       constant(op.shift, channel);
            });
        }
    }
    void compute(const plain::Step& step, const plain::GroupNorm& op, Values& out) const {
        const std::int64_t size = step.shape.elements() / step.shape[0] / op.groups;
        const std::int64_t plane = step.shape.elements() / step.shape[0] / step.shape[1];
        for (std::int64_t first = 0; first < step.shape.elements(); first += size) {
            const auto begin = in(step).begin() + first;
            double mean = 0.0;
            double square = 0.0;
            std::for_each(begin, begin + size, [&](double v) { mean += v / static_cast<double>(size); });
            std::for_each(begin, begin + size,
                          [&](double v) { square += (v - mean) * (v - mean) / static_cast<double>(size); });
            for (std::int64_t i = first; i < first + size; ++i) {
                const std::int64_t channel = i / plane % step.shape[1];
                out[static_cast<std::size_t>(i)] = (in(step)[static_cast<std::size_t>(i)] - mean) /
                                                       std::sqrt(square + op.epsilon) * constant(op.scale, channel) +
                                                   constant(op.shift, channel);
            }
        }
    }
    void compute(const plain::Step& step, const plain::PRelu& op, Values& out) const {
        each(step.shape, [&](const Index& i) {
            const double value = in(step)[offset(step.shape, i)];
            out[offset(step.shape, i)] = value > 0.0 ? value : constant(op.slope, i[1]) * value;
        });
    }
    void compute(const plain::Step& step, const plain::Elu& op, Values& out) const {
        std::transform(in(step).begin(), in(step).end(), out.begin(),
                       [&](double v) { return v > 0.0 ? v : op.alpha * (std::exp(v) - 1.0); });
    }
    void compute(const plain::Step& step, const plain::Sigmoid&, Values& out) const {
        std::transform(in(step).begin(), in(step).end(), out.begin(),
                       [](double v) { return std::exp(v) / (1.0 + std::exp(v)); });
    }
    void compute(const plain::Step& step, const plain::Multiply&, Values& out) const {
        each(step.shape, [&](const Index& i) {
            Index second = i;
            for (std::size_t axis = 0; axis < second.size(); ++axis)
                second[axis] = shape(step, 1)[static_cast<int>(axis)] == 1 ? 0 : second[axis];
            out[offset(step.shape, i)] = in(step)[offset(step.shape, i)] * in(step, 1)[offset(shape(step, 1), second)];
        });
    }
    void compute(const plain::Step& step, const plain::Relu&, Values& out) const {
        std::transform(in(step).begin(), in(step).end(), out.begin(), [](double v) { return v > 0.0 ? v : 0.0; });
    }
    void compute(const plain::Step& step, const plain::LeakyRelu& op, Values& out) const {
        std::transform(in(step).begin(), in(step).end(), out.begin(),
                       [&](double v) { return v > 0.0 ? v : op.slope * v; });
    }
    void compute(const plain::Step& step, const plain::Sum& op, Values& out) const {
        for (std::size_t term = 0; term < step.inputs.size(); ++term)
            for (std::size_t i = 0; i < out.size(); ++i)
                out[i] += in(step, term)[i] * (op.factors.empty() ? 1.0 : double{constant(op.factors[term], 0)});
    }
    void compute(const plain::Step& step, const plain::Concat& op, Values& out) const {
        std::int64_t before = 0;
        for (std::size_t part = 0; part < step.inputs.size(); ++part) {
            const Shape& from = shape(step, part);
            each(from, [&](Index i) {
                const double value = in(step, part)[offset(from, i)];
                i[static_cast<std::size_t>(op.axis)] += before;
                out[offset(step.shape, i)] = value;
            });
            before += from[op.axis];
        }
    }
    void compute(const plain::Step& step, const plain::Slice& op, Values& out) const {
        each(step.shape, [&](const Index& i) {
            Index source = i;
            for (std::size_t axis = 0; axis < i.size(); ++axis)
                source[axis] += op.begin[axis];
            out[offset(step.shape, i)] = in(step)[offset(shape(step), source)];
        });
    }
    void compute(const plain::Step& step, const plain::MaxPool& op, Values& out) const {
        each(step.shape, [&](const Index& to) {
            double most = -std::numeric_limits<double>::infinity();
            each(spatial_part(op.kernel), [&](const Index& k) {
                Index source{to[0], to[1]};
                for (std::size_t a = 0; a < k.size(); ++a)
                    source.push_back(to[a + 2] * op.stride[a] + k[a]);
                most = std::max(most, in(step)[offset(shape(step), source)]);
            });
            out[offset(step.shape, to)] = most;
        });
    }
    void compute(const plain::Step& step, const plain::Resize& op, Values& out) const {
        const Shape& from = shape(step);
        const int axes = from.rank() - 2;
        each(step.shape, [&](const Index& to) {
            double sum = 0.0;
            for (int corner = 0; corner < (1 << axes); ++corner) {
                Index source{to[0], to[1]};
                double share = 1.0;
                for (int a = 0; a < axes; ++a) {
                    const std::int64_t extent = from[a + 2];
                    const std::int64_t i = to[static_cast<std::size_t>(a) + 2];
                    const bool upper = (corner >> a) % 2 == 1;
                    if (op.mode == Interpolation::nearest) {
                        share *= upper ? 0.0 : 1.0;
                        source.push_back(i * extent / step.shape[a + 2]);
                        continue;
                    }
                    const double position = std::max(0.0, (static_cast<double>(i) + 0.5) * static_cast<double>(extent) /
                                                                  static_cast<double>(step.shape[a + 2]) -
                                                              0.5);
                    const auto low = std::min(static_cast<std::int64_t>(position), extent - 1);
                    const double fraction = position - static_cast<double>(low);
                    share *= upper ? fraction : 1.0 - fraction;
                    source.push_back(std::min(low + (upper ? 1 : 0), extent - 1));
                }
                sum += share * in(step)[offset(from, source)];
            }
            out[offset(step.shape, to)] = sum;
        });
    }
    void compute(const plain::Step& step, const plain::Softmax&, Values& out) const {
        const Shape& s = step.shape;
        each(s, [&](const Index& to) {
            double sum = 0.0;
            const double own = in(step)[offset(s, to)];
            for (std::int64_t c = 0; c < s[1]; ++c) {
                Index other = to;
                other[1] = c;
                sum += std::exp(in(step)[offset(s, other)] - own);
            }
            out[offset(s, to)] = 1.0 / sum;
        });
    }
    void compute(const plain::Step& step, const plain::Reshape&, Values& out) const { out = in(step); }
    void compute(const plain::Step& step, const plain::Transpose& op, Values& out) const {
        each(step.shape, [&](const Index& to) {
            Index source(to.size());
            for (std::size_t axis = 0; axis < to.size(); ++axis)
                source[static_cast<std::size_t>(op.order[axis])] = to[axis];
            out[offset(step.shape, to)] = in(step)[offset(shape(step), source)];
        });
    }
    void compute(const plain::Step& step, const plain::Pad& op, Values& out) const {
        each(shape(step), [&](const Index& from) {
            Index to = from;
            to[static_cast<std::size_t>(op.axis)] += op.before;
            out[offset(step.shape, to)] = in(step)[offset(shape(step), from)];
        });
    }
    void compute(const plain::Step& step, const plain::Product& op, Values& out) const {
        const std::int64_t length = shape(step)[1];
        const std::int64_t columns = step.shape[1];
        each(step.shape, [&](const Index& to) {
            double sum = 0.0;
            for (std::int64_t i = 0; i < length; ++i)
                sum +=
                    in(step)[static_cast<std::size_t>(to[0] * length + i)] * constant(op.matrix, i * columns + to[1]);
            out[offset(step.shape, to)] = sum;
        });
    }

    const plain::Program& program_;
    std::vector<Values> values_;
};

} // namespace mfres::test
