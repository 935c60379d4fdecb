// SPDX-License-Identifier: MIT
#include "backends/kernels/gradient_loops.h"

#include "backends/kernels/threads.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mfres::kernels {

namespace {

struct Range {
    std::int64_t begin = 0, end = 0;
};

/// Calls body(output voxel, its window along y and z, the part of its window along x that lies in owned planes) for
/// every output voxel whose window reaches planes [first, end) of a sample; `window(axis, i)` is that of output i.
template <typename Window, typename Body>
void for_windows_of(const Shape& out, Range owned, const Window& window, const Body& body) {
    for (std::int64_t x = 0; x < out[2]; ++x) {
        const Range wx = window(0, x);
        const Range mine{std::max(wx.begin, owned.begin), std::min(wx.end, owned.end)};
        if (mine.begin >= mine.end)
            continue;
        for (std::int64_t y = 0; y < out[3]; ++y)
            for (std::int64_t z = 0; z < out[4]; ++z)
                body((x * out[3] + y) * out[4] + z, wx, window(1, y), window(2, z), mine);
    }
}

/// body(sample, owned planes of dx) by every thread, which may write nothing else.
template <typename Body>
void for_owned_planes(const Shape& in, int threads, const Body& body) {
    parallel_for(in[0] * in[2], threads, [&](std::int64_t begin, std::int64_t end, int) {
        while (begin < end) {
            const std::int64_t sample = begin / in[2];
            const std::int64_t last = std::min(end, (sample + 1) * in[2]);
            body(sample, Range{begin - sample * in[2], last - sample * in[2]});
            begin = last;
        }
    });
}

} // namespace

void max_pool_gradient(const Domain& domain, const MaxPool& op, const Shape& in, const float* x, const float* dy,
                       float* dx) {
    constexpr std::int64_t block = 64; // channels whose places are known at once
    const std::int64_t channels = domain.channels();
    const std::int64_t plane = in[3] * in[4] * channels;
    const auto window = [&](std::size_t axis, std::int64_t i) {
        return Range{i * op.stride[axis], i * op.stride[axis] + op.kernel[axis]};
    };
    for_owned_planes(in, domain.useful_threads(), [&](std::int64_t sample, Range owned) {
        const float* from = x + sample * in[2] * plane;
        float* to = dx + sample * in[2] * plane;
        const float* g = dy + sample * domain.shape[2] * domain.shape[3] * domain.shape[4] * channels;
        std::fill(to + owned.begin * plane, to + owned.end * plane, 0.0F);
        for_windows_of(domain.shape, owned, window, [&](std::int64_t voxel, Range wx, Range wy, Range wz, Range) {
            for (std::int64_t c0 = 0; c0 < channels; c0 += block) {
                const std::int64_t count = std::min(block, channels - c0);
                std::array<float, block> most;
                std::array<std::int64_t, block> place;
                most.fill(-std::numeric_limits<float>::infinity());
                place.fill((wx.begin * in[3] + wy.begin) * in[4] + wz.begin);
                for (std::int64_t a = wx.begin; a < wx.end; ++a)
                    for (std::int64_t b = wy.begin; b < wy.end; ++b)
                        for (std::int64_t d = wz.begin; d < wz.end; ++d) {
                            const std::int64_t here = (a * in[3] + b) * in[4] + d;
                            const float* value = from + here * channels + c0;
                            for (std::int64_t c = 0; c < count; ++c) {
                                const auto k = static_cast<std::size_t>(c);
                                const bool takes = value[c] > most[k] || std::isnan(value[c]);
                                most[k] = takes ? value[c] : most[k];
                                place[k] = takes ? here : place[k];
                            }
                        }
                for (std::int64_t c = 0; c < count; ++c) {
                    const std::int64_t at = place[static_cast<std::size_t>(c)];
                    const std::int64_t px = at / (in[3] * in[4]);
                    if (px >= owned.begin && px < owned.end)
                        to[at * channels + c0 + c] += g[voxel * channels + c0 + c];
                }
            }
        });
    });
}

void adaptive_avg_pool_gradient(const Domain& domain, const Shape& in, const float* dy, float* dx) {
    const std::int64_t channels = domain.channels();
    const std::int64_t plane = in[3] * in[4] * channels;
    const auto window = [&](std::size_t axis, std::int64_t i) {
        const std::int64_t from = in[static_cast<int>(axis) + 2];
        const std::int64_t to = domain.shape[static_cast<int>(axis) + 2];
        return Range{i * from / to, ((i + 1) * from + to - 1) / to};
    };
    for_owned_planes(in, domain.threads, [&](std::int64_t sample, Range owned) {
        float* to = dx + sample * in[2] * plane;
        const float* g = dy + sample * domain.shape[2] * domain.shape[3] * domain.shape[4] * channels;
        std::fill(to + owned.begin * plane, to + owned.end * plane, 0.0F);
        for_windows_of(domain.shape, owned, window, [&](std::int64_t voxel, Range wx, Range wy, Range wz, Range mine) {
            const auto count = static_cast<float>((wx.end - wx.begin) * (wy.end - wy.begin) * (wz.end - wz.begin));
            const float* own = g + voxel * channels;
            for (std::int64_t a = mine.begin; a < mine.end; ++a)
                for (std::int64_t b = wy.begin; b < wy.end; ++b)
                    for (std::int64_t d = wz.begin; d < wz.end; ++d) {
                        float* at = to + ((a * in[3] + b) * in[4] + d) * channels;
                        MFRES_SIMD
                        for (std::int64_t c = 0; c < channels; ++c)
                            at[c] += own[c] / count;
                    }
        });
    });
}

Transposed transposed_axis(Interpolation mode, std::int64_t from, std::int64_t to) {
    std::vector<std::vector<float>> weights(static_cast<std::size_t>(from));
    Transposed transposed;
    transposed.first.assign(static_cast<std::size_t>(from), 0);
    // Along an axis the sources of a target move in one direction, so the targets of a source follow each other.
    const auto add = [&](std::int64_t source, std::int64_t target, float weight) {
        auto& own = weights[static_cast<std::size_t>(source)];
        auto& first = transposed.first[static_cast<std::size_t>(source)];
        if (own.empty())
            first = target;
        own.resize(static_cast<std::size_t>(target - first) + 1, 0.0F);
        own.back() += weight;
    };
    for (std::int64_t i = 0; i < to; ++i) {
        const Neighbours n = neighbours(mode, i, from, to);
        add(n.low, i, n.low_weight);
        if (n.high_weight > 0.0F)
            add(n.high, i, n.high_weight);
    }
    transposed.begin.push_back(0);
    for (const auto& own : weights) {
        transposed.weights.insert(transposed.weights.end(), own.begin(), own.end());
        transposed.begin.push_back(static_cast<std::int64_t>(transposed.weights.size()));
    }
    return transposed;
}

namespace {

std::int64_t rounded(std::int64_t floats) {
    return (floats + 15) / 16 * 16;
}

} // namespace

std::vector<Blend> blends_along(Interpolation mode, std::int64_t from, std::int64_t to) {
    std::vector<Blend> blends;
    for (std::int64_t i = 0; i < to; ++i) {
        const Neighbours n = neighbours(mode, i, from, to);
        blends.push_back({n.low, n.high, n.low_weight, n.high_weight});
    }
    return blends;
}

std::int64_t upsample_values_workspace(const Domain& domain, const Shape& in, ValueType type) {
    const std::int64_t fine_line = type == ValueType::f32 ? 0 : rounded(domain.shape[4] * domain.channels());
    return domain.threads * (rounded(in[4] * domain.channels()) + fine_line);
}

void upsample_values(const Domain& domain, const std::array<std::vector<Blend>, 3>& blends, const Shape& in,
                     const float* x, float* workspace, const ValueArray& y) {
    const VectorLoops& loops = vector_loops();
    const Shape& out = domain.shape;
    const std::int64_t line = in[4] * in[1];
    const std::int64_t fine_line = out[4] * in[1];
    const std::int64_t per_thread = rounded(line) + (y.rounds() ? rounded(fine_line) : 0);
    parallel_for(
        out[0] * out[2] * out[3], domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int thread) {
            float* blend = workspace + thread * per_thread;
            for (std::int64_t index = begin; index < end; ++index) {
                const Blend& ty = blends[1][static_cast<std::size_t>(index % out[3])];
                const Blend& tx = blends[0][static_cast<std::size_t>(index / out[3] % out[2])];
                const float* sample = x + index / out[3] / out[2] * in[2] * in[3] * line;
                const auto at = [&](std::int64_t a, std::int64_t b) { return sample + (a * in[3] + b) * line; };
                const std::array<const float*, 4> lines = {at(tx.low, ty.low), at(tx.low, ty.high), at(tx.high, ty.low),
                                                           at(tx.high, ty.high)};
                const std::array<float, 4> weights = {tx.low_weight * ty.low_weight, tx.low_weight * ty.high_weight,
                                                      tx.high_weight * ty.low_weight, tx.high_weight * ty.high_weight};
                loops.blend_lines(line, lines.data(), weights.data(), blend);
                float* const to = y.target(index * fine_line, blend + rounded(line));
                loops.expand_line(blends[2].data(), out[4], in[1], blend, to);
                y.store(index * fine_line, fine_line, to);
            }
        });
}

std::int64_t upsample_gradient_workspace(const Domain& domain, const Shape& in) {
    const std::int64_t fine_line = rounded(domain.shape[4] * domain.channels());
    const std::int64_t line = rounded(in[4] * domain.channels());
    return domain.threads * (fine_line + line + in[3] * line);
}

void upsample_gradient(const Domain& domain, const std::array<std::vector<Blend>, 3>& blends, const Transposed& along_z,
                       const Shape& in, const RowReader& dy, float* workspace, float* dx) {
    const VectorLoops& loops = vector_loops();
    const Shape& out = domain.shape;
    const std::int64_t channels = domain.channels();
    const std::int64_t line = in[4] * channels;
    const std::int64_t plane = in[3] * line;
    const std::int64_t per_thread = upsample_gradient_workspace(domain, in) / domain.threads;
    // Adds plane x of dy, reduced along y and z, to `to`.
    const auto reduce_plane = [&](std::int64_t x, float* memory, float* to) {
        float* reduced = memory + rounded(out[4] * channels);
        for (std::int64_t y = 0; y < out[3]; ++y) {
            loops.reduce_line(along_z.first.data(), along_z.begin.data(), along_z.weights.data(), in[4], channels,
                              dy.rows((x * out[3] + y) * out[4], out[4], memory), reduced);
            const Blend& n = blends[1][static_cast<std::size_t>(y)];
            loops.add_scaled(line, n.low_weight, reduced, to + n.low * line);
            if (n.high_weight > 0.0F)
                loops.add_scaled(line, n.high_weight, reduced, to + n.high * line);
        }
    };
    parallel_for(in[0] * in[2], domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int thread) {
        float* memory = workspace + thread * per_thread;
        float* reduced = memory + rounded(out[4] * channels) + rounded(line);
        std::fill(dx + begin * plane, dx + end * plane, 0.0F);
        const auto give = [&](std::int64_t to, float weight) {
            if (weight > 0.0F && to >= begin && to < end)
                loops.add_scaled(plane, weight, reduced, dx + to * plane);
        };
        for (std::int64_t x = 0; x < out[0] * out[2]; ++x) {
            const Blend& n = blends[0][static_cast<std::size_t>(x % out[2])];
            const std::int64_t sample = x / out[2] * in[2];
            if (sample + n.high < begin || sample + n.low >= end)
                continue;
            std::fill_n(reduced, plane, 0.0F);
            reduce_plane(x, memory, reduced);
            give(sample + n.low, n.low_weight);
            give(sample + n.high, n.high_weight);
        }
    });
}

void softmax_gradient(const Domain& domain, const float* y, const float* dy, float* dx) {
    const std::int64_t channels = domain.channels();
    parallel_for(domain.voxels(), domain.useful_threads(), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin * channels; i < end * channels; i += channels) {
            float sum = 0.0F;
            for (std::int64_t c = i; c < i + channels; ++c)
                sum += y[c] * dy[c];
            for (std::int64_t c = i; c < i + channels; ++c)
                dx[c] = y[c] * (dy[c] - sum);
        }
    });
}

} // namespace mfres::kernels
