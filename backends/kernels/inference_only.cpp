// SPDX-License-Identifier: MIT
#include "backends/kernels/inference_only.h"

#include <algorithm>
#include <cmath>

namespace mfres::kernels {

namespace {

/// Calls body(first value of the voxel, its x, y, z, sample) for every voxel of the domain.
template <typename Body>
void for_each_voxel(const Domain& domain, const Body& body) {
    const Shape& s = domain.shape;
    parallel_for(domain.voxels(), domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t v = begin; v < end; ++v)
            body(v * s[1], Axes{v / s[4] / s[3] % s[2], v / s[4] % s[3], v % s[4]}, v / s[4] / s[3] / s[2]);
    });
}

/// y = f(x, channel), value by value.
template <typename Function>
void by_channel(const Domain& domain, const float* x, float* y, const Function& f) {
    for_each_voxel(domain, [&](std::int64_t at, const Axes&, std::int64_t) {
        for (std::int64_t c = 0; c < domain.channels(); ++c)
            y[at + c] = f(x[at + c], c);
    });
}

} // namespace

std::vector<float> transposed_weight(const ConvTranspose& op, const Tensor& weight) {
    const Shape& w = weight.shape();
    const std::int64_t taps = w[2] * w[3] * w[4];
    const std::int64_t in = w[0] / op.groups;
    std::vector<float> turned(static_cast<std::size_t>(weight.elements()));
    for (std::int64_t i = 0; i < w[0]; ++i)
        for (std::int64_t o = 0; o < w[1]; ++o)
            for (std::int64_t tap = 0; tap < taps; ++tap)
                turned[static_cast<std::size_t>(((i / in * taps + tap) * in + i % in) * w[1] + o)] =
                    weight[(i * w[1] + o) * taps + tap];
    return turned;
}

void conv_transpose(const Domain& domain, const ConvTranspose& op, const Shape& in, const float* x, const float* weight,
                    const float* bias, float* y) {
    const std::int64_t channels = domain.channels();
    const std::int64_t from = in[1] / op.groups;
    const std::int64_t to = channels / op.groups;
    const Axes extents{in[2], in[3], in[4]};
    const std::int64_t taps = op.kernel[0] * op.kernel[1] * op.kernel[2];
    for_each_voxel(domain, [&](std::int64_t at, const Axes& voxel, std::int64_t sample) {
        for (std::int64_t c = 0; c < channels; ++c)
            y[at + c] = bias != nullptr ? bias[c] : 0.0F;
        for (std::int64_t tap = 0; tap < taps; ++tap) {
            const Axes k{tap / op.kernel[2] / op.kernel[1], tap / op.kernel[2] % op.kernel[1], tap % op.kernel[2]};
            std::int64_t source = sample; // the voxel that this tap spreads here, if there is one
            bool inside = true;
            for (std::size_t a = 0; a < 3; ++a) {
                const std::int64_t spread = voxel[a] + op.padding[a] - k[a];
                inside = inside && spread >= 0 && spread % op.stride[a] == 0 && spread / op.stride[a] < extents[a];
                source = source * extents[a] + spread / op.stride[a];
            }
            if (!inside)
                continue;
            for (std::int64_t group = 0; group < op.groups; ++group) {
                const float* values = x + source * in[1] + group * from;
                const float* w = weight + (group * taps + tap) * from * to;
                float* sums = y + at + group * to;
                for (std::int64_t i = 0; i < from; ++i)
                    for (std::int64_t o = 0; o < to; ++o)
                        sums[o] += values[i] * w[i * to + o];
            }
        }
    });
}

void group_norm(const Domain& domain, const GroupNorm& op, const float* scale, const float* shift, const float* x,
                float* y) {
    const std::int64_t channels = domain.channels();
    const std::int64_t width = channels / op.groups;
    const std::int64_t voxels = domain.voxels() / domain.shape[0];
    parallel_for(domain.shape[0] * op.groups, domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t first = i / op.groups * voxels * channels + i % op.groups * width;
            const auto sum = [&](const auto& f) {
                double total = 0.0;
                for (std::int64_t v = 0; v < voxels; ++v)
                    for (std::int64_t c = 0; c < width; ++c)
                        total += f(double{x[first + v * channels + c]});
                return total / static_cast<double>(voxels * width);
            };
            const double mean = sum([](double value) { return value; });
            const double variance = sum([&](double value) { return (value - mean) * (value - mean); });
            const double inverse = 1.0 / std::sqrt(variance + op.epsilon);
            for (std::int64_t v = 0; v < voxels; ++v)
                for (std::int64_t c = 0; c < width; ++c) {
                    const std::int64_t channel = i % op.groups * width + c;
                    const std::int64_t at = first + v * channels + c;
                    y[at] = static_cast<float>((double{x[at]} - mean) * inverse * double{scale[channel]} +
                                               double{shift[channel]});
                }
        }
    });
}

void prelu(const Domain& domain, const float* slopes, const float* x, float* y) {
    by_channel(domain, x, y, [&](float value, std::int64_t c) { return value > 0.0F ? value : slopes[c] * value; });
}

void elu(const Domain& domain, float alpha, const float* x, float* y) {
    by_channel(domain, x, y,
               [&](float value, std::int64_t) { return value > 0.0F ? value : alpha * std::expm1(value); });
}

void sigmoid(const Domain& domain, const float* x, float* y) {
    by_channel(domain, x, y, [](float value, std::int64_t) { return 1.0F / (1.0F + std::exp(-value)); });
}

void multiply(const Domain& domain, const Shape& second, const float* a, const float* b, float* y) {
    const Shape& s = second;
    for_each_voxel(domain, [&](std::int64_t at, const Axes& voxel, std::int64_t sample) {
        const auto along = [&](int axis) { return s[axis] == 1 ? 0 : voxel[static_cast<std::size_t>(axis - 2)]; };
        const float* factors = b + (((sample * s[2] + along(2)) * s[3] + along(3)) * s[4] + along(4)) * s[1];
        for (std::int64_t c = 0; c < domain.channels(); ++c)
            y[at + c] = a[at + c] * factors[s[1] == 1 ? 0 : c];
    });
}

} // namespace mfres::kernels
