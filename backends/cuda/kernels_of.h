// SPDX-License-Identifier: MIT
// The kernels themselves: a function per element, and what calls it with the right types. Included once by kernels.cu
// and once by kernels_host.cpp, with another MFRES_KERNELS each.
#include "backends/axis_weights.h"
#include "backends/cuda/launch.h"

#include <cmath>
#include <cstddef>

namespace mfres::cuda::MFRES_KERNELS {

// What a launch reads and writes, for a log of launches (launch_log.h): every array of values once. Every body of a launch
// has a name, `kernel`, and bytes(count) or bytes(chunks).

template <typename T>
constexpr std::int64_t size_of = static_cast<std::int64_t>(sizeof(T));

inline std::int64_t elements(const Extents& extents) {
    return extents.batch * extents.voxels() * extents.channels;
}

inline std::int64_t elements(const Chunking& chunks) {
    return chunks.samples * chunks.voxels * chunks.channels;
}

inline std::int64_t channels_of(const Parts& parts) {
    std::int64_t channels = 0;
    for (int k = 0; k < parts.count; ++k)
        channels += parts.parts[k].count;
    return channels;
}

/// Channels per voxel that a gradient reads and writes.
inline std::int64_t read_channels(const GradientArguments& a, const Chunking& chunks) {
    const int whole = (a.mask == Mask::by_array ? 1 : 0) + (a.operand.x.data != nullptr ? 1 : 0) +
                      (a.second.x.data != nullptr ? 1 : 0) + (a.store != nullptr ? 1 : 0);
    return channels_of(a.gradient) + whole * chunks.channels;
}

/// `element`: bytes of a value; `weight`: of a weight, 0 where none is read.
inline std::int64_t convolution_bytes(const ConvolutionArguments& a, std::int64_t element, std::int64_t weight) {
    const std::int64_t weights = a.out.channels * a.in_group * a.taps();
    return (elements(a.in) + elements(a.out)) * element + weights * weight;
}

inline std::int64_t wide_bytes(const CropArguments& a) {
    std::int64_t bytes = 0;
    for (const bool wide : a.wide)
        bytes += wide ? 2 : 1;
    return bytes;
}

// Several neighbouring channels at once: one wide load in place of many narrow ones.

template <typename T, int W>
struct alignas(sizeof(T) * W) Pack {
    T values[W];
};

template <typename T, int W>
MFRES_ANYWHERE inline void load(const void* data, std::int64_t index, float (&to)[W]) {
    const Pack<T, W> pack = *reinterpret_cast<const Pack<T, W>*>(static_cast<const T*>(data) + index);
    for (int w = 0; w < W; ++w)
        to[w] = widen(pack.values[w]);
}

template <typename T, int W>
MFRES_ANYWHERE inline void store(void* data, std::int64_t index, const float (&from)[W]) {
    Pack<T, W> pack;
    for (int w = 0; w < W; ++w)
        narrow(from[w], pack.values[w]);
    *reinterpret_cast<Pack<T, W>*>(static_cast<T*>(data) + index) = pack;
}

/// Channels [channel, channel + W) of a part, counted as `to` counts. Precondition: it covers them.
template <typename T, int W>
MFRES_ANYWHERE inline void load(const Part& part, std::int64_t voxel, std::int64_t channel, float (&to)[W]) {
    load<T, W>(part.data, voxel * part.stride + part.from + channel - part.to, to);
}

template <typename T, int W>
MFRES_ANYWHERE inline void load(const Parts& parts, std::int64_t voxel, std::int64_t channel, float (&to)[W]) {
    for (int w = 0; w < W; ++w)
        to[w] = 0.0F;
    for (int k = 0; k < parts.count; ++k) {
        const Part& part = parts.parts[k];
        if (channel < part.to || channel >= part.to + part.count)
            continue;
        float values[W];
        load<T, W>(part, voxel, channel, values);
        for (int w = 0; w < W; ++w)
            to[w] += values[w];
    }
}

/// NaN passes through.
MFRES_ANYWHERE inline float activated(const Activation& activation, float x) {
    switch (activation.kind) {
    case Activation::Kind::none: return x;
    case Activation::Kind::relu: return !(x <= 0.0F) ? x : 0.0F;
    case Activation::Kind::leaky_relu: return x > 0.0F ? x : activation.slope * x;
    }
    return x;
}

/// dL/dx of y = activation(x) from dL/dy and a value with the sign of x.
MFRES_ANYWHERE inline float masked(const Activation& activation, float gradient, float sign) {
    switch (activation.kind) {
    case Activation::Kind::none: return gradient;
    case Activation::Kind::relu: return !(sign <= 0.0F) ? gradient : 0.0F;
    case Activation::Kind::leaky_relu: return sign > 0.0F ? gradient : activation.slope * gradient;
    }
    return gradient;
}

struct Place {
    std::int64_t voxel, channel;
};

/// Of the pack with that index.
template <int W>
MFRES_ANYWHERE inline Place place_of(std::int64_t index, std::int64_t channels) {
    const std::int64_t packs = channels / W;
    const std::int64_t voxel = quotient(index, packs);
    return {voxel, (index - voxel * packs) * W};
}

/// n(x) without its shape's mean where it has none; `table` is the place of the channel in the tables.
MFRES_ANYWHERE inline float normalised(const Operand& operand, float x, std::int64_t table) {
    if (operand.mean != nullptr)
        x -= operand.mean[table];
    if (operand.factor != nullptr)
        x *= operand.factor[table];
    if (operand.offset != nullptr)
        x += operand.offset[table];
    if (operand.weight != nullptr)
        x *= operand.weight[0];
    return x;
}

MFRES_ANYWHERE inline std::int64_t table_of(std::int64_t voxel, std::int64_t group_voxels, std::int64_t channels) {
    return voxel < group_voxels ? 0 : voxel / group_voxels * channels;
}

template <typename T, int W>
struct Sum {
    SumArguments a;
    std::int64_t table_channels; ///< of the operands' tables where they do not say

    static constexpr const char* kernel = "sum";
    std::int64_t bytes(std::int64_t count) const { return (a.count + 1) * count * W * size_of<T>; }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Place place = place_of<W>(index, a.channels);
        const std::int64_t channel = a.first + place.channel;
        float sum[W] = {};
        for (int k = 0; k < a.count; ++k) {
            const Operand& operand = a.operands[k];
            float x[W];
            load<T, W>(operand.x, place.voxel, channel, x);
            const std::int64_t row = operand.table_channels == 0 ? table_channels : operand.table_channels;
            const std::int64_t table = table_of(place.voxel, operand.group_voxels, row) + channel;
            for (int w = 0; w < W; ++w) {
                const float n = activated(operand.activation, normalised(operand, x[w], table + w));
                sum[w] = k == 0 ? n : sum[w] + n;
            }
        }
        for (int w = 0; w < W; ++w)
            sum[w] = activated(a.activation, sum[w]);
        store<T, W>(a.y, place.voxel * a.stride() + a.y_from + place.channel, sum);
    }
};

/// Values near the means of W channels, from a few voxels of the group that begins at `first`.
template <typename T, int W>
MFRES_ANYWHERE inline void find_pivots(const Part& x, std::int64_t first, std::int64_t group_voxels,
                                       std::int64_t channel, float (&pivots)[W]) {
    constexpr std::int64_t probes = 32; // a power of two: the products are exact
    for (int w = 0; w < W; ++w)
        pivots[w] = 0.0F;
    for (std::int64_t i = 0; i < probes; ++i) {
        float probe[W];
        load<T, W>(x, first + group_voxels * i / probes, channel, probe);
        for (int w = 0; w < W; ++w)
            pivots[w] += probe[w] / static_cast<float>(probes);
    }
}

template <typename T, int W>
struct Squares {
    Part x;
    std::int64_t group_voxels;

    static constexpr const char* kernel = "statistics";
    std::int64_t bytes(const Chunking& chunks) const { return elements(chunks) * size_of<T>; }

    struct OfChunk {
        Part x;
        float pivot[W];

        MFRES_ANYWHERE void operator()(std::int64_t voxel, std::int64_t channel, float (&sums)[2][W]) const {
            float values[W];
            load<T, W>(x, voxel, channel, values);
            for (int w = 0; w < W; ++w) {
                const float distance = values[w] - pivot[w];
                sums[0][w] += distance;
                sums[1][w] += distance * distance;
            }
        }
    };
};

/// Every block finds the pivots of its channels itself.
template <typename T, int W>
MFRES_ANYWHERE inline typename Squares<T, W>::OfChunk of_chunk(const Squares<T, W>& body, std::int64_t first,
                                                               std::int64_t channel) {
    typename Squares<T, W>::OfChunk chunk{body.x, {}};
    find_pivots<T, W>(body.x, first / body.group_voxels * body.group_voxels, body.group_voxels, channel, chunk.pivot);
    return chunk;
}

struct FinishNorm {
    NormTables a;

    static constexpr const char* kernel = "norm_tables";
    std::int64_t bytes(std::int64_t count) const { return count * 48; }

    /// Group by group, as the running statistics of a batch have only one.
    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const std::int64_t group = index / a.channels;
        const std::int64_t channel = index % a.channels;
        const double* totals = a.totals + group * 2 * a.channels + channel;
        const auto count = static_cast<double>(a.voxels);
        const double from_pivot = totals[0] / count;
        const double spread = totals[a.channels] / count - from_pivot * from_pivot;
        const double variance = spread < 0.0 ? 0.0 : spread; // a maximum would turn NaN into 0
        const double deviation = 1.0 / sqrt(variance + a.epsilon);
        const double mean = static_cast<double>(a.pivot[index]) + from_pivot;
        a.mean[index] = static_cast<float>(mean);
        a.factor[index] = static_cast<float>(static_cast<double>(a.scale[channel]) * deviation);
        a.offset[index] = a.shift[channel];
        a.deviation[index] = deviation;
        if (a.running_mean != nullptr) {
            move(a.running_mean[channel], mean);
            move(a.running_variance[channel], count > 1.0 ? variance * count / (count - 1.0) : variance);
        }
    }

    MFRES_ANYWHERE void move(float& running, double batch) const {
        running = static_cast<float>((1.0 - a.momentum) * static_cast<double>(running) + a.momentum * batch);
    }
};

template <typename T>
struct FinishStatistics {
    StatisticsArguments a;
    std::int64_t group_voxels;

    MFRES_ANYWHERE void operator()(std::int64_t channel) const {
        for (std::int64_t group = 0; group < a.groups; ++group) {
            const std::int64_t index = group * a.chunks.channels + channel;
            float pivot[1];
            find_pivots<T, 1>(a.x, group * group_voxels, group_voxels, channel, pivot);
            a.pivot[index] = pivot[0];
            if (a.with_tables)
                FinishNorm{a.tables}(index);
        }
    }
};

/// With d = pivot - running mean: S (x - r) = S (x - p) + n d, S (x - r)^2 = S (x - p)^2 + 2 d S (x - p) + n d^2.
struct MovePivot {
    NormTables a;
    float* pivot;
    double voxels;
    double* totals;

    static constexpr const char* kernel = "move_pivot";
    std::int64_t bytes(std::int64_t count) const { return count * 40; }

    MFRES_ANYWHERE void operator()(std::int64_t channel) const {
        const double distance = static_cast<double>(pivot[channel]) - static_cast<double>(a.running_mean[channel]);
        const double sum = totals[channel];
        totals[channel] = sum + voxels * distance;
        totals[a.channels + channel] += distance * (2.0 * sum + voxels * distance);
        pivot[channel] = a.running_mean[channel];
    }
};

struct FixedNorm {
    NormTables a;

    static constexpr const char* kernel = "fixed_norm_tables";
    std::int64_t bytes(std::int64_t count) const { return count * 40; }

    MFRES_ANYWHERE void operator()(std::int64_t channel) const {
        const double deviation = 1.0 / sqrt(static_cast<double>(a.running_variance[channel]) + a.epsilon);
        a.mean[channel] = a.running_mean[channel];
        a.factor[channel] = static_cast<float>(static_cast<double>(a.scale[channel]) * deviation);
        a.offset[channel] = a.shift[channel];
        a.deviation[channel] = deviation;
    }
};

/// x of an operand, and the sign of what the mask goes by where operands give it.
template <typename T, int W>
MFRES_ANYWHERE inline void load_operand(const Operand& operand, std::int64_t voxel, std::int64_t channel,
                                        std::int64_t table, float (&x)[W], float (&sign)[W]) {
    load<T, W>(operand.x, voxel, channel, x);
    for (int w = 0; w < W; ++w)
        sign[w] += normalised(operand, x[w], table + w);
}

/// K kinds: 2, or 3 with a second operand.
template <typename T, int W, int K>
struct Gradient {
    GradientArguments a;
    std::int64_t group_voxels;

    static constexpr const char* kernel = "gradient";
    std::int64_t bytes(const Chunking& chunks) const {
        return read_channels(a, chunks) * chunks.samples * chunks.voxels * size_of<T>;
    }

    MFRES_ANYWHERE void operator()(std::int64_t voxel, std::int64_t channel, float (&sums)[K][W]) const {
        float g[W];
        load<T, W>(a.gradient, voxel, channel, g);
        const std::int64_t table = table_of(voxel, group_voxels, a.chunks.channels) + channel;
        float x[W] = {}, second[W] = {}, sign[W] = {};
        if (a.operand.x.data != nullptr)
            load_operand<T, W>(a.operand, voxel, channel, table, x, sign);
        if (K == 3)
            load_operand<T, W>(a.second, voxel, channel, table, second, sign);
        if (a.mask == Mask::by_array)
            load<T, W>(a.sign, voxel, channel, sign);
        if (a.mask != Mask::none)
            for (int w = 0; w < W; ++w)
                g[w] = masked(a.activation, g[w], sign[w]);
        if (a.store != nullptr)
            store<T, W>(a.store, voxel * a.chunks.channels + channel, g);
        for (int w = 0; w < W; ++w) {
            sums[0][w] += g[w];
            sums[1][w] += g[w] * (a.operand.mean != nullptr ? x[w] - a.operand.mean[table + w] : x[w]);
            if (K == 3)
                sums[K - 1][w] += g[w] * (second[w] - a.second.mean[table + w]);
        }
    }
};

struct FinishNormGradient {
    NormGradientTables a;

    static constexpr const char* kernel = "norm_gradient_tables";
    std::int64_t bytes(std::int64_t count) const { return count * (12 + 36 * a.groups); }

    MFRES_ANYWHERE void operator()(std::int64_t channel) const {
        double scale_sum = 0.0;
        double shift_sum = 0.0;
        const auto count = static_cast<double>(a.voxels);
        for (std::int64_t group = 0; group < a.groups; ++group) {
            const double* totals = a.totals + group * a.kinds * a.channels + channel;
            const double centred = totals[a.own_kind * a.channels];
            const std::int64_t index = group * a.channels + channel;
            const double deviation = a.deviation[index];
            const double own = static_cast<double>(a.scale[channel]) * deviation;
            scale_sum += deviation * centred;
            shift_sum += totals[0];
            a.own[index] = static_cast<float>(own);
            a.centred[index] = a.fixed ? 0.0F : static_cast<float>(-own * deviation * deviation * centred / count);
            a.constant[index] = a.fixed ? 0.0F : static_cast<float>(-own * totals[0] / count);
        }
        a.scale_gradient[channel] = static_cast<float>(a.share * scale_sum);
        a.shift_gradient[channel] = static_cast<float>(a.share * shift_sum);
    }
};

struct FinishGradient {
    GradientArguments a;

    MFRES_ANYWHERE void operator()(std::int64_t channel) const {
        if (a.with_tables)
            FinishNormGradient{a.tables}(channel);
        if (a.with_tables && a.second.x.data != nullptr)
            FinishNormGradient{a.second_tables}(channel);
        if (a.bias_gradient != nullptr)
            a.bias_gradient[channel] = static_cast<float>(a.totals[channel]);
    }
};

struct WeightGradient {
    const double* totals;
    std::int64_t channels;
    float* gradient;

    static constexpr const char* kernel = "weight_gradient";
    std::int64_t bytes(std::int64_t) const { return channels * 8; }

    MFRES_ANYWHERE void operator()(std::int64_t) const {
        double sum = 0.0;
        for (std::int64_t channel = 0; channel < channels; ++channel)
            sum += totals[channels + channel];
        gradient[0] = static_cast<float>(sum);
    }
};

template <typename T, int W>
struct InputGradient {
    InputGradientArguments a;

    static constexpr const char* kernel = "input_gradient";
    std::int64_t bytes(std::int64_t count) const {
        std::int64_t whole = 0;
        for (const InputGradientTarget* each : {&a.target, &a.second})
            whole += (each->operand.x.data != nullptr ? 1 : 0) + (each->dx != nullptr ? 1 : 0);
        return count / (a.channels / W) * (channels_of(a.gradient) + whole * a.channels) * size_of<T>;
    }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Place place = place_of<W>(index, a.channels);
        float g[W];
        load<T, W>(a.gradient, place.voxel, place.channel, g);
        if (a.target.own == nullptr) {
            for (int w = 0; w < W; ++w)
                g[w] *= a.target.operand.weight[0];
            return store<T, W>(a.target.dx, element_of(a.target, place), g);
        }
        const std::int64_t table = table_of(place.voxel, a.target.operand.group_voxels, a.channels) + place.channel;
        float x[W], second[W] = {}, sign[W] = {};
        load_operand<T, W>(a.target.operand, place.voxel, place.channel, table, x, sign);
        if (a.second.own != nullptr)
            load_operand<T, W>(a.second.operand, place.voxel, place.channel, table, second, sign);
        if (a.mask != Mask::none)
            for (int w = 0; w < W; ++w)
                g[w] = masked(a.activation, g[w], sign[w]);
        if (a.target.dx != nullptr)
            write(a.target, place, table, g, x);
        if (a.second.own != nullptr && a.second.dx != nullptr)
            write(a.second, place, table, g, second);
    }

    static MFRES_ANYWHERE std::int64_t element_of(const InputGradientTarget& target, const Place& place) {
        return place.voxel * target.dx_stride + target.dx_from + place.channel;
    }

    MFRES_ANYWHERE void write(const InputGradientTarget& target, const Place& place, std::int64_t table,
                              const float (&g)[W], const float (&x)[W]) const {
        float dx[W];
        for (int w = 0; w < W; ++w)
            dx[w] = target.own[table + w] * g[w] + target.centred[table + w] * (x[w] - target.operand.mean[table + w]) +
                    target.constant[table + w];
        store<T, W>(target.dx, element_of(target, place), dx);
    }
};

// Pooling and resampling: one output value per call.

struct Voxel {
    std::int64_t n, x, y, z, c;
};

/// Where the element with that index of a dense array lies.
MFRES_ANYWHERE inline Voxel voxel_of(std::int64_t index, const Extents& extents) {
    Voxel at{};
    std::int64_t rest = quotient(index, extents.channels);
    at.c = index - rest * extents.channels;
    std::int64_t next = quotient(rest, extents.z);
    at.z = rest - next * extents.z;
    rest = next;
    next = quotient(rest, extents.y);
    at.y = rest - next * extents.y;
    rest = next;
    next = quotient(rest, extents.x);
    at.x = rest - next * extents.x;
    at.n = next;
    return at;
}

MFRES_ANYWHERE inline std::int64_t index_of(const Extents& extents, std::int64_t n, std::int64_t x, std::int64_t y,
                                            std::int64_t z, std::int64_t c) {
    return (((n * extents.x + x) * extents.y + y) * extents.z + z) * extents.channels + c;
}

template <typename T>
MFRES_ANYWHERE inline float value_at(const void* data, std::int64_t index) {
    return widen(static_cast<const T*>(data)[index]);
}

/// The place of a window's largest value: the first, or the last NaN.
template <typename T>
MFRES_ANYWHERE inline std::int64_t winner(const PoolArguments& a, const Voxel& window) {
    const std::int64_t x0 = window.x * a.stride[0], y0 = window.y * a.stride[1], z0 = window.z * a.stride[2];
    std::int64_t best = index_of(a.in, window.n, x0, y0, z0, window.c);
    float most = -INFINITY;
    for (std::int64_t x = x0; x < x0 + a.kernel[0]; ++x)
        for (std::int64_t y = y0; y < y0 + a.kernel[1]; ++y)
            for (std::int64_t z = z0; z < z0 + a.kernel[2]; ++z) {
                const std::int64_t index = index_of(a.in, window.n, x, y, z, window.c);
                const float value = value_at<T>(a.x, index);
                if (value != value || value > most) {
                    most = value;
                    best = index;
                }
            }
    return best;
}

template <typename T>
struct MaxPooling {
    PoolArguments a;

    static constexpr const char* kernel = "max_pool";
    std::int64_t bytes(std::int64_t) const { return (elements(a.in) + elements(a.out)) * size_of<T>; }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        static_cast<T*>(a.y)[index] = static_cast<const T*>(a.x)[winner<T>(a, voxel_of(index, a.out))];
    }
};

/// First and last + 1 of the windows that contain position q of an axis.
struct Span {
    std::int64_t first, end;
};

MFRES_ANYWHERE inline Span windows_over(std::int64_t q, std::int64_t kernel, std::int64_t stride, std::int64_t out) {
    const std::int64_t before = q - kernel + stride; // first window starts after q - kernel
    const std::int64_t end = q / stride + 1;
    return {before > 0 ? before / stride : 0, end < out ? end : out};
}

/// Every window's gradient goes to its winner; gathered, so that nothing is added twice at once.
template <typename T>
struct MaxPoolingGradient {
    PoolArguments a;

    static constexpr const char* kernel = "max_pool_gradient";
    std::int64_t bytes(std::int64_t) const { return (2 * elements(a.in) + elements(a.out)) * size_of<T>; }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Voxel at = voxel_of(index, a.in);
        const Span xs = windows_over(at.x, a.kernel[0], a.stride[0], a.out.x);
        const Span ys = windows_over(at.y, a.kernel[1], a.stride[1], a.out.y);
        const Span zs = windows_over(at.z, a.kernel[2], a.stride[2], a.out.z);
        float sum = 0.0F;
        for (std::int64_t x = xs.first; x < xs.end; ++x)
            for (std::int64_t y = ys.first; y < ys.end; ++y)
                for (std::int64_t z = zs.first; z < zs.end; ++z)
                    if (winner<T>(a, {at.n, x, y, z, at.c}) == index)
                        sum += value_at<T>(a.dy, index_of(a.out, at.n, x, y, z, at.c));
        static_cast<T*>(a.y)[index] = narrowed<T>(sum);
    }
};

/// [floor(i in / out), ceil((i + 1) in / out))
MFRES_ANYWHERE inline Span adaptive_window(std::int64_t i, std::int64_t in, std::int64_t out) {
    return {i * in / out, ((i + 1) * in + out - 1) / out};
}

/// The windows that contain position q.
MFRES_ANYWHERE inline Span adaptive_windows_over(std::int64_t q, std::int64_t in, std::int64_t out) {
    return {q * out / in, ((q + 1) * out + in - 1) / in};
}

MFRES_ANYWHERE inline std::int64_t length(const Span& span) {
    return span.end - span.first;
}

template <typename T>
struct AveragePooling {
    PoolArguments a;

    static constexpr const char* kernel = "average_pool";
    std::int64_t bytes(std::int64_t) const { return (elements(a.in) + elements(a.out)) * size_of<T>; }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Voxel at = voxel_of(index, a.out);
        const Span xs = adaptive_window(at.x, a.in.x, a.out.x);
        const Span ys = adaptive_window(at.y, a.in.y, a.out.y);
        const Span zs = adaptive_window(at.z, a.in.z, a.out.z);
        double sum = 0.0;
        for (std::int64_t x = xs.first; x < xs.end; ++x)
            for (std::int64_t y = ys.first; y < ys.end; ++y)
                for (std::int64_t z = zs.first; z < zs.end; ++z)
                    sum += static_cast<double>(value_at<T>(a.x, index_of(a.in, at.n, x, y, z, at.c)));
        const auto count = static_cast<double>(length(xs) * length(ys) * length(zs));
        static_cast<T*>(a.y)[index] = narrowed<T>(static_cast<float>(sum / count));
    }
};

template <typename T>
struct AveragePoolingGradient {
    PoolArguments a;

    static constexpr const char* kernel = "average_pool_gradient";
    std::int64_t bytes(std::int64_t) const { return (elements(a.in) + elements(a.out)) * size_of<T>; }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Voxel at = voxel_of(index, a.in);
        const Span xs = adaptive_windows_over(at.x, a.in.x, a.out.x);
        const Span ys = adaptive_windows_over(at.y, a.in.y, a.out.y);
        const Span zs = adaptive_windows_over(at.z, a.in.z, a.out.z);
        double sum = 0.0;
        for (std::int64_t x = xs.first; x < xs.end; ++x)
            for (std::int64_t y = ys.first; y < ys.end; ++y)
                for (std::int64_t z = zs.first; z < zs.end; ++z) {
                    const std::int64_t count = length(adaptive_window(x, a.in.x, a.out.x)) *
                                               length(adaptive_window(y, a.in.y, a.out.y)) *
                                               length(adaptive_window(z, a.in.z, a.out.z));
                    sum += static_cast<double>(value_at<T>(a.dy, index_of(a.out, at.n, x, y, z, at.c))) /
                           static_cast<double>(count);
                }
        static_cast<T*>(a.y)[index] = narrowed<T>(static_cast<float>(sum));
    }
};

/// What W neighbouring channels of a target voxel are made of.
template <typename T, int W>
struct Upsampling {
    UpsampleArguments a;

    static constexpr const char* kernel = "upsample";
    std::int64_t bytes(std::int64_t) const {
        return (elements(a.in) + (a.residual != nullptr ? 2 : 1) * elements(a.out)) * size_of<T>;
    }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Extents packs{a.out.batch, a.out.x, a.out.y, a.out.z, a.out.channels / W};
        const Voxel at = voxel_of(index, packs);
        const std::int64_t positions[3] = {at.x, at.y, at.z};
        std::int64_t places[3][2];
        float weights[3][2];
        for (int axis = 0; axis < 3; ++axis) {
            const AxisTable& table = a.axes[axis];
            const float fraction = table.fraction[positions[axis]];
            places[axis][0] = table.low[positions[axis]];
            places[axis][1] = table.high[positions[axis]];
            weights[axis][0] = 1.0F - fraction;
            weights[axis][1] = fraction;
        }
        const Extents source = a.source();
        float sum[W] = {};
        for (int x = 0; x < 2; ++x)
            for (int y = 0; y < 2; ++y)
                for (int z = 0; z < 2; ++z) {
                    const float weight = weights[0][x] * weights[1][y] * weights[2][z];
                    if (weight == 0.0F) // the nearest voxel alone, and what lies on a voxel
                        continue;
                    float values[W];
                    load<T, W>(a.x,
                               index_of(source, at.n, places[0][x], places[1][y], places[2][z], a.x_from + at.c * W),
                               values);
                    for (int w = 0; w < W; ++w)
                        sum[w] += weight * values[w];
                }
        if (a.residual != nullptr) {
            float residual[W];
            load<T, W>(a.residual, index * W, residual);
            for (int w = 0; w < W; ++w)
                sum[w] += residual[w];
        }
        for (int w = 0; w < W; ++w)
            sum[w] = activated(a.activation, sum[w]);
        store<T, W>(a.y, quotient(index, packs.channels) * a.stride() + a.y_from + at.c * W, sum);
    }
};

/// The weight with which position `target` reads `source`.
MFRES_ANYWHERE inline float read_weight(const AxisTable& table, std::int64_t target, std::int64_t source) {
    const float fraction = table.fraction[target];
    return (table.low[target] == source ? 1.0F - fraction : 0.0F) + (table.high[target] == source ? fraction : 0.0F);
}

template <typename T, int W>
struct UpsamplingGradient {
    UpsampleArguments a;

    static constexpr const char* kernel = "upsample_gradient";
    std::int64_t bytes(std::int64_t) const {
        return (elements(a.in) + channels_of(a.dy) * a.out.batch * a.out.voxels()) * size_of<T>;
    }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Extents packs{a.in.batch, a.in.x, a.in.y, a.in.z, a.in.channels / W};
        const Voxel at = voxel_of(index, packs);
        float sum[W] = {};
        for (std::int64_t x = a.axes[0].first[at.x]; x < a.axes[0].end[at.x]; ++x) {
            const float along_x = read_weight(a.axes[0], x, at.x);
            for (std::int64_t y = a.axes[1].first[at.y]; y < a.axes[1].end[at.y]; ++y) {
                const float along_xy = along_x * read_weight(a.axes[1], y, at.y);
                if (along_xy == 0.0F)
                    continue;
                for (std::int64_t z = a.axes[2].first[at.z]; z < a.axes[2].end[at.z]; ++z) {
                    const float weight = along_xy * read_weight(a.axes[2], z, at.z);
                    if (weight == 0.0F)
                        continue;
                    float dy[W];
                    load<T, W>(a.dy, ((at.n * a.out.x + x) * a.out.y + y) * a.out.z + z, at.c * W, dy);
                    for (int w = 0; w < W; ++w)
                        sum[w] += weight * dy[w];
                }
            }
        }
        store<T, W>(a.y, quotient(index, packs.channels) * a.gradient_stride() + a.y_from + at.c * W, sum);
    }
};

// Convolutions by their definition.

/// The element of the input that an output voxel reads with a tap, its channel 0, or -1 outside.
MFRES_ANYWHERE inline std::int64_t read_by(const ConvolutionArguments& a, const Voxel& out, std::int64_t tap) {
    const std::int64_t row = tap / a.kernel[2];
    const std::int64_t x = out.x * a.stride[0] + row / a.kernel[1] * a.dilation[0] - a.padding[0];
    const std::int64_t y = out.y * a.stride[1] + row % a.kernel[1] * a.dilation[1] - a.padding[1];
    const std::int64_t z = out.z * a.stride[2] + tap % a.kernel[2] * a.dilation[2] - a.padding[2];
    const bool inside = x >= 0 && x < a.in.x && y >= 0 && y < a.in.y && z >= 0 && z < a.in.z;
    return inside ? index_of(a.in, out.n, x, y, z, 0) : -1;
}

template <typename T>
struct ConvolutionForward {
    ConvolutionArguments a;

    static constexpr const char* kernel = "convolution";
    std::int64_t bytes(std::int64_t) const { return convolution_bytes(a, size_of<T>, size_of<T>); }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Voxel at = voxel_of(index, a.out);
        const std::int64_t taps = a.taps();
        const std::int64_t first = at.c / a.out_group * a.in_group;
        double sum = a.bias != nullptr ? static_cast<double>(a.bias[at.c]) : 0.0;
        for (std::int64_t tap = 0; tap < taps; ++tap) {
            const std::int64_t read = read_by(a, at, tap);
            if (read < 0)
                continue;
            float part = 0.0F; // a short sum
            for (std::int64_t i = 0; i < a.in_group; ++i)
                part +=
                    value_at<T>(a.x, read + first + i) * value_at<T>(a.weights, (at.c * taps + tap) * a.in_group + i);
            sum += static_cast<double>(part);
        }
        if (a.residual != nullptr)
            sum += static_cast<double>(value_at<T>(a.residual, index));
        static_cast<T*>(a.result)[index] = narrowed<T>(activated(a.activation, static_cast<float>(sum)));
    }
};

/// The output position along an axis that reads input position q with tap k, or -1.
MFRES_ANYWHERE inline std::int64_t reader_of(const ConvolutionArguments& a, int axis, std::int64_t q, std::int64_t k,
                                             std::int64_t out) {
    const std::int64_t scaled = q + a.padding[axis] - k * a.dilation[axis];
    return scaled >= 0 && scaled % a.stride[axis] == 0 && scaled / a.stride[axis] < out ? scaled / a.stride[axis] : -1;
}

template <typename T>
struct ConvolutionSourceGradient {
    ConvolutionArguments a;

    static constexpr const char* kernel = "convolution_source_gradient";
    std::int64_t bytes(std::int64_t) const { return convolution_bytes(a, size_of<T>, size_of<T>); }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Voxel at = voxel_of(index, a.in);
        const std::int64_t taps = a.taps();
        const std::int64_t first = at.c / a.in_group * a.out_group;
        double sum = 0.0;
        for (std::int64_t tap = 0; tap < taps; ++tap) {
            const std::int64_t row = tap / a.kernel[2];
            const std::int64_t x = reader_of(a, 0, at.x, row / a.kernel[1], a.out.x);
            const std::int64_t y = reader_of(a, 1, at.y, row % a.kernel[1], a.out.y);
            const std::int64_t z = reader_of(a, 2, at.z, tap % a.kernel[2], a.out.z);
            if (x < 0 || y < 0 || z < 0)
                continue;
            const std::int64_t from = index_of(a.out, at.n, x, y, z, first);
            float part = 0.0F;
            for (std::int64_t o = 0; o < a.out_group; ++o)
                part += value_at<T>(a.dy, from + o) *
                        value_at<T>(a.weights, ((first + o) * taps + tap) * a.in_group + at.c % a.in_group);
            sum += static_cast<double>(part);
        }
        static_cast<T*>(a.result)[index] = narrowed<T>(static_cast<float>(sum));
    }
};

/// Summed over the output's voxels for every weight.
template <typename T>
struct ConvolutionWeightGradient {
    ConvolutionArguments a;

    static constexpr const char* kernel = "convolution_weight_gradient";
    std::int64_t bytes(const Chunking&) const { return convolution_bytes(a, size_of<T>, 0); }

    MFRES_ANYWHERE void operator()(std::int64_t voxel, std::int64_t weight, float (&sums)[1][1]) const {
        const std::int64_t row = weight / a.in_group;
        const std::int64_t o = row / a.taps();
        const std::int64_t read = read_by(a, voxel_of(voxel * a.out.channels, a.out), row % a.taps());
        if (read >= 0)
            sums[0][0] += value_at<T>(a.dy, voxel * a.out.channels + o) *
                          value_at<T>(a.x, read + o / a.out_group * a.in_group + weight % a.in_group);
    }
};

/// The sums of the chunks, each in a thread of its own: there are as many as weights.
struct FoldWeights {
    ConvolutionArguments a;

    static constexpr const char* kernel = "fold_weights";
    std::int64_t bytes(std::int64_t count) const { return count * (a.chunks.chunks() * 8 + 4); }

    MFRES_ANYWHERE void operator()(std::int64_t weight) const {
        double sum = 0.0;
        for (std::int64_t chunk = 0; chunk < a.chunks.chunks(); ++chunk)
            sum += a.workspace[chunk * a.chunks.channels + weight];
        static_cast<float*>(a.result)[weight] = static_cast<float>(sum);
    }
};

// Convolutions of narrow values in inference.

template <typename T, int W>
struct PartConvolution {
    PartConvolutionArguments a;

    static constexpr const char* kernel = "part_convolution";
    std::int64_t bytes(std::int64_t count) const {
        const std::int64_t channels =
            a.a.count + a.b.count + a.grid.channels + (a.through.data != nullptr ? 2 * a.through.count : 0);
        return count * W / a.grid.channels * channels * size_of<T> + a.taps() * a.in * a.grid.channels * 4;
    }
    std::int64_t macs(std::int64_t count) const { return count * W * a.taps() * a.in; }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const Extents packs{a.grid.batch, a.grid.x, a.grid.y, a.grid.z, a.grid.channels / W};
        const Voxel at = voxel_of(index, packs);
        const std::int64_t voxel = quotient(index, packs.channels);
        const std::int64_t first = at.c * W;
        float sum[W];
        for (int w = 0; w < W; ++w)
            sum[w] = a.bias != nullptr ? a.bias[first + w] : 0.0F;
        for (std::int64_t tap = 0; tap < a.taps(); ++tap) {
            const std::int64_t row = tap / a.kernel[2];
            const std::int64_t x = at.x + row / a.kernel[1] * a.dilation[0] - a.padding[0];
            const std::int64_t y = at.y + row % a.kernel[1] * a.dilation[1] - a.padding[1];
            const std::int64_t z = at.z + tap % a.kernel[2] * a.dilation[2] - a.padding[2];
            if (x < 0 || x >= a.grid.x || y < 0 || y >= a.grid.y || z < 0 || z >= a.grid.z)
                continue;
            const std::int64_t read = ((at.n * a.grid.x + x) * a.grid.y + y) * a.grid.z + z;
            for (std::int64_t i = 0; i < a.in; i += W) {
                float values[W];
                load<T, W>(a.a, read, i, values);
                if (a.b.data != nullptr) {
                    float more[W];
                    load<T, W>(a.b, read, i, more);
                    for (int w = 0; w < W; ++w)
                        values[w] += more[w];
                }
                const float* weights = a.weights + (tap * a.in + i) * a.grid.channels + first;
                for (int k = 0; k < W; ++k, weights += a.grid.channels)
                    for (int w = 0; w < W; ++w)
                        sum[w] += values[k] * weights[w];
            }
        }
        for (int w = 0; w < W; ++w)
            sum[w] = activated(a.activation, sum[w]);
        store<T, W>(a.y, voxel * a.y_stride + a.y_from + first, sum);
        if (a.through.data == nullptr)
            return;
        float through[W];
        load<T, W>(a.through, voxel, first, through);
        store<T, W>(a.y, voxel * a.y_stride + a.through_to + first, through);
    }
};

template <typename T, int W>
struct PointwisePair {
    static constexpr int at_once = 2; ///< voxels that share a read of the weights
    PointwisePairArguments a;

    static constexpr const char* kernel = "pointwise_pair";
    std::int64_t bytes(std::int64_t) const {
        return a.voxels * (a.in + a.out) * size_of<T> + a.middle * (a.in + a.out) * 4;
    }
    std::int64_t macs(std::int64_t) const { return a.voxels * a.middle * (a.in + a.out); }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        constexpr int most = PointwisePairArguments::most;
        const std::int64_t first = index * at_once;
        float x[at_once][most] = {};
        float sum[at_once][most];
        for (int v = 0; v < at_once; ++v) {
            for (int i = 0; i < most; i += W)
                if (i < a.in && first + v < a.voxels) {
                    float values[W];
                    load<T, W>(a.x, (first + v) * a.in + i, values);
                    for (int w = 0; w < W; ++w)
                        x[v][i + w] = values[w];
                }
            for (int o = 0; o < most; ++o)
                sum[v][o] = a.second_bias != nullptr && o < a.out ? a.second_bias[o] : 0.0F;
        }
        for (std::int64_t m = 0; m < a.middle; ++m) {
            float middle[at_once];
            for (int v = 0; v < at_once; ++v)
                middle[v] = a.first_bias != nullptr ? a.first_bias[m] : 0.0F;
            for (int i = 0; i < most; ++i)
                if (i < a.in)
                    for (int v = 0; v < at_once; ++v)
                        middle[v] += a.first[m * a.in + i] * x[v][i];
            for (int v = 0; v < at_once; ++v)
                middle[v] = activated(a.first_activation, middle[v]);
            for (int o = 0; o < most; ++o)
                if (o < a.out)
                    for (int v = 0; v < at_once; ++v)
                        sum[v][o] += a.second[m * a.out + o] * middle[v];
        }
        for (int v = 0; v < at_once; ++v)
            for (int o = 0; o < most; o += W)
                if (o < a.out && first + v < a.voxels) {
                    float values[W];
                    for (int w = 0; w < W; ++w)
                        values[w] = activated(a.second_activation, sum[v][o + w]);
                    store<T, W>(a.y, (first + v) * a.out + o, values);
                }
    }
};

// Softmax and loss.

struct Normaliser {
    float most, sum;
};

template <typename T>
MFRES_ANYWHERE inline Normaliser normaliser(const void* logits, std::int64_t first, std::int64_t channels) {
    float most = value_at<T>(logits, first);
    for (std::int64_t c = 1; c < channels; ++c) {
        const float value = value_at<T>(logits, first + c);
        if (value > most || value != value)
            most = value;
    }
    float sum = 0.0F;
    for (std::int64_t c = 0; c < channels; ++c)
        sum += expf(value_at<T>(logits, first + c) - most);
    return {most, sum};
}

template <typename T>
MFRES_ANYWHERE inline float probability(const Normaliser& n, const void* logits, std::int64_t index) {
    return expf(value_at<T>(logits, index) - n.most) / n.sum;
}

template <typename T>
struct Softmaximum {
    SoftmaxArguments a;

    static constexpr const char* kernel = "softmax";
    std::int64_t bytes(std::int64_t count) const { return 2 * count * a.channels * size_of<T>; }

    /// `y` may lie on `x`: every value is read before it is written over, and the sum is known by then.
    MFRES_ANYWHERE void operator()(std::int64_t voxel) const {
        const std::int64_t first = voxel * a.channels;
        const Normaliser n = normaliser<T>(a.x, first, a.channels);
        for (std::int64_t c = first; c < first + a.channels; ++c)
            static_cast<T*>(a.y)[c] = narrowed<T>(probability<T>(n, a.x, c));
    }
};

/// The class with the greatest logit, the lowest of equally great ones; 255 where a logit is not finite.
template <typename T>
struct Argmax {
    SoftmaxArguments a;

    static constexpr const char* kernel = "argmax";
    std::int64_t bytes(std::int64_t count) const { return count * (a.channels * size_of<T> + 1); }

    MFRES_ANYWHERE void operator()(std::int64_t voxel) const {
        const std::int64_t first = voxel * a.channels;
        float most = value_at<T>(a.x, first);
        std::int64_t winner = 0;
        bool finite = most - most == 0.0F;
        for (std::int64_t c = 1; c < a.channels; ++c) {
            const float value = value_at<T>(a.x, first + c);
            finite = finite && value - value == 0.0F;
            if (value > most) {
                most = value;
                winner = c;
            }
        }
        static_cast<std::uint8_t*>(a.y)[voxel] = static_cast<std::uint8_t>(finite ? winner : 255);
    }
};

/// dx_k = y_k (dy_k - sum_j y_j dy_j)
template <typename T>
struct SoftmaxGradient {
    SoftmaxArguments a;

    static constexpr const char* kernel = "softmax_gradient";
    std::int64_t bytes(std::int64_t count) const { return 3 * count * a.channels * size_of<T>; }

    MFRES_ANYWHERE void operator()(std::int64_t voxel) const {
        const std::int64_t first = voxel * a.channels;
        float mean = 0.0F;
        for (std::int64_t c = first; c < first + a.channels; ++c)
            mean += value_at<T>(a.x, c) * value_at<T>(a.dy, c);
        for (std::int64_t c = first; c < first + a.channels; ++c)
            static_cast<T*>(a.y)[c] = narrowed<T>(value_at<T>(a.x, c) * (value_at<T>(a.dy, c) - mean));
    }
};

/// Whether a voxel belongs to the class of a channel, or to its region.
MFRES_ANYWHERE inline bool is_true(const LossArguments& a, std::int64_t voxel, std::int64_t channel) {
    const unsigned own = a.classes[voxel];
    return a.regions ? (a.region_masks[channel] >> own & 1U) != 0U : own == static_cast<unsigned>(channel);
}

/// Of a region: sigmoid(z).
template <typename T>
MFRES_ANYWHERE inline float region_probability(const LossArguments& a, std::int64_t index) {
    return 1.0F / (1.0F + expf(-value_at<T>(a.logits, index)));
}

template <typename T>
struct ClassSumsOf {
    LossArguments a;

    static constexpr const char* kernel = "class_sums";
    std::int64_t bytes(const Chunking& chunks) const {
        return elements(chunks) * size_of<T> + chunks.samples * chunks.voxels;
    }

    MFRES_ANYWHERE void operator()(std::int64_t voxel, std::int64_t channel, float (&sums)[4][1]) const {
        const std::int64_t first = voxel * a.chunks.channels;
        const float p =
            a.regions ? region_probability<T>(a, first + channel)
                      : probability<T>(normaliser<T>(a.logits, first, a.chunks.channels), a.logits, first + channel);
        const float truth = is_true(a, voxel, channel) ? 1.0F : 0.0F;
        sums[0][0] += p * truth;
        sums[1][0] += p;
        sums[2][0] += p * p;
        sums[3][0] += truth;
    }
};

/// The pointwise part of a loss at one voxel: f, and df/dz_c = coefficient * (p_c - g_c).
struct PointwiseValue {
    float value, coefficient;
};

/// See reference/gradients.h. `q` is the sum of the other probabilities, which is exact where it is small; there ce / q is
/// the series of -log(1 - q) / q. `rest` is 0, or NaN where a logit is.
MFRES_ANYWHERE inline PointwiseValue focal(float gamma, float entropy, float q, float rest) {
    const bool small = q < 0.01F;
    const float ratio = small ? 1.0F + q * (0.5F + q * (1.0F / 3.0F + q * 0.25F)) : entropy / q;
    const float factor = powf(q, gamma);
    return {factor * (small ? q * ratio + rest : entropy), factor * (1.0F + gamma * (1.0F - q) * ratio)};
}

/// Never inlined, so that counting and the gradient get the same bits.
template <typename T>
MFRES_ANYWHERE MFRES_APART PointwiseValue pointwise_value(const LossArguments& a, std::int64_t voxel) {
    const std::int64_t channels = a.chunks.channels;
    const std::int64_t first = voxel * channels;
    const std::int64_t truth = a.classes[voxel];
    const Normaliser n = normaliser<T>(a.logits, first, channels);
    const float rest = n.sum - n.sum; // NaN stays NaN
    const float entropy = (n.most - value_at<T>(a.logits, first + truth)) + logf(n.sum) + rest;
    if (a.pointwise.gamma == 0.0F)
        return {entropy, 1.0F};
    float q = 0.0F;
    for (std::int64_t c = 0; c < channels; ++c)
        q += c == truth ? 0.0F : probability<T>(n, a.logits, first + c);
    return focal(a.pointwise.gamma, entropy, q, rest);
}

/// The same of one region: of the softmax of 0 and its logit.
template <typename T>
MFRES_ANYWHERE MFRES_APART PointwiseValue region_pointwise(const LossArguments& a, std::int64_t voxel,
                                                           std::int64_t region) {
    const float z = value_at<T>(a.logits, voxel * a.chunks.channels + region);
    const bool inside = is_true(a, voxel, region);
    const float most = z > 0.0F || z != z ? z : 0.0F;
    const float of_zero = expf(-most);
    const float of_logit = expf(z - most);
    const float sum = of_zero + of_logit;
    const float rest = sum - sum;
    const float entropy = (most - (inside ? z : 0.0F)) + logf(sum) + rest;
    if (a.pointwise.gamma == 0.0F)
        return {entropy, 1.0F};
    return focal(a.pointwise.gamma, entropy, (inside ? of_zero : of_logit) / sum, rest);
}

/// f at one voxel; for regions the mean over them.
template <typename T>
MFRES_ANYWHERE MFRES_APART float voxel_value(const LossArguments& a, std::int64_t voxel) {
    if (!a.regions)
        return pointwise_value<T>(a, voxel).value;
    float sum = 0.0F;
    for (std::int64_t r = 0; r < a.chunks.channels; ++r)
        sum += region_pointwise<T>(a, voxel, r).value;
    return sum / static_cast<float>(a.chunks.channels);
}

template <typename T>
struct LossGradient {
    LossArguments a;

    static constexpr const char* kernel = "loss_gradient";
    std::int64_t bytes(std::int64_t count) const { return count * (2 * a.chunks.channels * size_of<T> + 1); }

    MFRES_ANYWHERE float slope(std::int64_t channel, bool truth, float p) const {
        const std::int64_t channels = a.chunks.channels;
        return (truth ? a.slopes[channel] : 0.0F) + a.slopes[channels + channel] + a.slopes[2 * channels + channel] * p;
    }

    MFRES_ANYWHERE void operator()(std::int64_t voxel) const {
        if (a.regions)
            write_regions<false>(voxel, 0.0F);
        else
            write<false>(voxel, 0.0F);
    }

    /// Of a loss of regions; `counts`: what the pointwise part of each region counts by.
    template <bool pointwise>
    MFRES_ANYWHERE void write_regions(std::int64_t voxel, float counts) const {
        const std::int64_t channels = a.chunks.channels;
        for (std::int64_t r = 0; r < channels; ++r) {
            const bool inside = is_true(a, voxel, r);
            const float p = region_probability<T>(a, voxel * channels + r);
            float value = p * (1.0F - p) * slope(r, inside, p);
            if constexpr (pointwise)
                value += counts * region_pointwise<T>(a, voxel, r).coefficient * (p - (inside ? 1.0F : 0.0F));
            static_cast<T*>(a.gradient)[voxel * channels + r] = narrowed<T>(a.scale * value);
        }
    }

    /// `coefficient`: of the pointwise part.
    template <bool pointwise>
    MFRES_ANYWHERE void write(std::int64_t voxel, float coefficient) const {
        const std::int64_t channels = a.chunks.channels;
        const std::int64_t first = voxel * channels;
        const std::int64_t truth = a.classes[voxel];
        const Normaliser n = normaliser<T>(a.logits, first, channels);
        float mean = 0.0F;
        for (std::int64_t c = 0; c < channels; ++c) {
            const float p = probability<T>(n, a.logits, first + c);
            mean += p * slope(c, c == truth, p);
        }
        for (std::int64_t c = 0; c < channels; ++c) {
            const float p = probability<T>(n, a.logits, first + c);
            float value = 0.0F;
            if constexpr (pointwise)
                value =
                    a.scale * (p * (slope(c, c == truth, p) - mean) + coefficient * (p - (c == truth ? 1.0F : 0.0F)));
            else
                value = a.scale * p * (slope(c, c == truth, p) - mean);
            static_cast<T*>(a.gradient)[first + c] = narrowed<T>(value);
        }
    }
};

template <typename T>
struct WholeLossGradient {
    LossArguments a;

    static constexpr const char* kernel = "whole_loss_gradient";
    std::int64_t bytes(const Chunking&) const {
        return elements(a.chunks) * (2 * size_of<T> + (a.targets != nullptr ? 4 : 0)) +
               a.chunks.samples * a.chunks.voxels;
    }

    MFRES_ANYWHERE void operator()(std::int64_t voxel, std::int64_t, float (&sums)[2][1]) const {
        LossGradient<T> of_group{a};
        if (a.groups > 1)
            of_group.a.slopes += voxel / a.chunks.voxels * 3 * a.chunks.channels;
        float coefficient = 0.0F;
        if (a.pointwise.weight != 0.0F) {
            const PointwiseValue own =
                a.regions ? PointwiseValue{voxel_value<T>(a, voxel), 1.0F / static_cast<float>(a.chunks.channels)}
                          : pointwise_value<T>(a, voxel);
            const float counts = own.value < a.pointwise.threshold    ? 0.0F
                                 : own.value == a.pointwise.threshold ? a.pointwise.at_threshold
                                                                      : 1.0F;
            sums[0][0] += counts * own.value;
            coefficient = a.pointwise.weight * counts * own.coefficient;
        }
        if (a.regions)
            of_group.template write_regions<true>(voxel, coefficient);
        else
            of_group.template write<true>(voxel, coefficient);
        if (a.targets != nullptr)
            sums[1][0] += a.regions ? distil_regions(voxel) : distil(voxel);
    }

    /// The same for regions, each of which is distilled like two classes.
    MFRES_ANYWHERE float distil_regions(std::int64_t voxel) const {
        const std::int64_t channels = a.chunks.channels;
        const float* targets = a.targets + voxel / a.chunks.voxels * (channels - 1) * a.chunks.voxels + voxel;
        float entropy = 0.0F;
        for (std::int64_t r = 0; r < channels; ++r) {
            const float z = scaled(voxel * channels + r);
            const float target = targets[r * a.chunks.voxels];
            const float most = z > 0.0F || z != z ? z : 0.0F;
            const float of_logit = expf(z - most);
            const float sum = expf(-most) + of_logit;
            entropy += most + logf(sum) - target * z;
            T* gradient = static_cast<T*>(a.gradient) + voxel * channels + r;
            const float more = a.scale * a.distillation / static_cast<float>(channels) * (of_logit / sum - target);
            *gradient = narrowed<T>(value_at<T>(a.gradient, voxel * channels + r) + more);
        }
        return entropy / static_cast<float>(channels);
    }

    MFRES_ANYWHERE float scaled(std::int64_t index) const {
        return value_at<T>(a.logits, index) * a.inverse_temperature;
    }

    /// Adds the gradient of distillation and returns the cross-entropy; see reference/gradients.h.
    MFRES_ANYWHERE float distil(std::int64_t voxel) const {
        const std::int64_t channels = a.chunks.channels;
        const std::int64_t first = voxel * channels;
        const std::int64_t sample = voxel / a.chunks.voxels;
        const float* targets = a.targets + sample * (channels - 1) * a.chunks.voxels + voxel;
        float most = scaled(first);
        for (std::int64_t c = 1; c < channels; ++c) {
            const float value = scaled(first + c);
            if (value > most || value != value)
                most = value;
        }
        float sum = 0.0F;
        float targets_sum = 0.0F;
        for (std::int64_t c = 0; c < channels; ++c) {
            sum += expf(scaled(first + c) - most);
            targets_sum += targets[c * a.chunks.voxels];
        }
        const float all = most + logf(sum);
        float entropy = 0.0F;
        for (std::int64_t c = 0; c < channels; ++c) {
            const float target = targets[c * a.chunks.voxels];
            const float q = expf(scaled(first + c) - most) / sum;
            entropy += target * (all - scaled(first + c));
            T* gradient = static_cast<T*>(a.gradient) + first + c;
            const float more = a.scale * a.distillation * (targets_sum * q - target);
            *gradient = narrowed<T>(value_at<T>(a.gradient, first + c) + more);
        }
        return entropy;
    }
};

template <typename T>
struct CountDigitsOf {
    LossArguments a;

    static constexpr const char* kernel = "count_digits";
    std::int64_t bytes(std::int64_t count) const { return count * (a.chunks.channels * size_of<T> + 1); }

    MFRES_ANYWHERE void operator()(std::int64_t voxel) const {
        const std::uint32_t key = bits_of(voxel_value<T>(a, voxel)) & 0x7FFFFFFFU;
        if (a.shift == 0 && (key ^ a.prefix) >> 16U != 0)
            return;
        std::uint32_t* count = a.counts + (key >> static_cast<unsigned>(a.shift)) % 65536U;
#ifdef __CUDA_ARCH__
        atomicAdd(count, 1U); // of whole numbers: any order gives the same
#else
        ++*count;
#endif
    }
};

struct EveryNth {
    NthArguments a;

    static constexpr const char* kernel = "every_nth";
    std::int64_t bytes(std::int64_t count) const { return 2 * count; }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const std::int64_t z = index % a.own.z;
        const std::int64_t y = index / a.own.z % a.own.y;
        const std::int64_t x = index / (a.own.z * a.own.y) % a.own.x;
        const std::int64_t sample = index / a.own.voxels();
        a.to[index] = a.from[((sample * a.first.x + x * a.step) * a.first.y + y * a.step) * a.first.z + z * a.step];
    }
};

// The optimiser.

constexpr std::int64_t line_floats = 16;

struct LineSquares {
    UpdateArguments a;

    static constexpr const char* kernel = "squares";
    std::int64_t bytes(std::int64_t count) const { return count * (line_floats * 4 + 1); }

    MFRES_ANYWHERE double operator()(std::int64_t line) const {
        double sum = 0.0;
        for (std::int64_t i = line * line_floats; a.learned[line] != 0 && i < (line + 1) * line_floats; ++i)
            sum += static_cast<double>(a.gradients[i]) * static_cast<double>(a.gradients[i]);
        return sum;
    }
};

/// Where an element [out][in][tap] lies in [out][tap][in].
MFRES_ANYWHERE inline std::int64_t packed_index(const WeightOrder& order, std::int64_t index) {
    const std::int64_t row = quotient(index, order.taps);
    const std::int64_t out = quotient(row, order.in);
    return (out * order.taps + index - row * order.taps) * order.in + row - out * order.in;
}

/// The parameter that float `i` of a flat array belongs to, or null: it is not packed, or lies behind its line's end.
MFRES_ANYWHERE inline const PackedParameter* packed_parameter(const PackingTable& table, std::int64_t i) {
    const std::int32_t index = table.parameter_of_line[i / line_floats];
    const PackedParameter* parameter = index < 0 ? nullptr : table.parameters + index;
    const bool inside = parameter != nullptr &&
                        i - parameter->first < parameter->order.out * parameter->order.in * parameter->order.taps;
    return inside ? parameter : nullptr;
}

/// Where float `i` of the flat arrays lies among the elements that its parameter is packed with.
MFRES_ANYWHERE inline std::int64_t packed_element(const PackedParameter& parameter, std::int64_t i) {
    return parameter.begin + packed_index(parameter.order, i - parameter.first);
}

template <typename T>
MFRES_ANYWHERE inline void pack(const PackingTable& table, std::int64_t i, float value) {
    if (const PackedParameter* parameter = packed_parameter(table, i))
        static_cast<T*>(table.packed_values)[parameter->group + packed_element(*parameter, i)] = narrowed<T>(value);
}

template <typename T>
struct PackParameters {
    PackingTable table;
    const float* values;

    static constexpr const char* kernel = "pack_parameters";
    std::int64_t bytes(std::int64_t count) const { return count * (4 + size_of<T>); }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const std::int64_t i = table.first_line * line_floats + index;
        pack<T>(table, i, values[i]);
    }
};

template <typename T>
MFRES_ANYWHERE inline float packed_gradient(const PackingTable& table, const PackedParameter& parameter,
                                            std::int64_t index) {
    const auto* group = static_cast<const float*>(table.packed_gradients) + parameter.group;
    return widen(reinterpret_cast<const T*>(group)[index]);
}

struct UnpackGradients {
    PackingTable table;
    float* gradients;

    static constexpr const char* kernel = "unpack_gradients";
    std::int64_t bytes(std::int64_t count) const { return count * 8; }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const std::int64_t i = table.first_line * line_floats + index;
        const PackedParameter* parameter = packed_parameter(table, i);
        if (parameter == nullptr)
            return;
        const std::int64_t from = packed_element(*parameter, i);
        switch (parameter->gradient_type) {
        case ElementType::f32: gradients[i] = packed_gradient<float>(table, *parameter, from); return;
        case ElementType::bf16: gradients[i] = packed_gradient<Bf16>(table, *parameter, from); return;
        case ElementType::fp16: gradients[i] = packed_gradient<Fp16>(table, *parameter, from); return;
        }
    }
};

template <typename T>
struct Adam {
    UpdateArguments a;

    static constexpr const char* kernel = "update";
    std::int64_t bytes(std::int64_t count) const {
        return count * ((a.largest_second_moment != nullptr ? 36 : 28) + size_of<T>);
    }

    MFRES_ANYWHERE void operator()(std::int64_t i) const {
        if (a.learned[i / line_floats] == 0)
            return;
        const double w = static_cast<double>(a.values[i]);
        const double g = a.gradient_factor * static_cast<double>(a.gradients[i]) + a.l2 * w;
        const double m = a.beta1 * static_cast<double>(a.first_moment[i]) + (1.0 - a.beta1) * g;
        const double v = a.beta2 * static_cast<double>(a.second_moment[i]) + (1.0 - a.beta2) * g * g;
        a.first_moment[i] = static_cast<float>(m);
        a.second_moment[i] = static_cast<float>(v);
        double root = v;
        if (a.largest_second_moment != nullptr) {
            if (a.largest_second_moment[i] < a.second_moment[i])
                a.largest_second_moment[i] = a.second_moment[i];
            root = static_cast<double>(a.largest_second_moment[i]);
        }
        const double change = a.learning_rate * (m / a.correction1) / (sqrt(root / a.correction2) + a.epsilon);
        a.values[i] = static_cast<float>(w - change);
        if (a.packing.lines > 0)
            pack<T>(a.packing, i, a.values[i]);
    }
};

// Between layouts.

template <typename T>
struct FromPlanes {
    std::int64_t voxels, channels;
    const float* x;
    float factor;
    T* y;

    static constexpr const char* kernel = "from_planes";
    std::int64_t bytes(std::int64_t count) const { return count * (4 + size_of<T>); }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const std::int64_t voxel = quotient(index, channels);
        const std::int64_t n = quotient(voxel, voxels);
        y[index] = narrowed<T>(factor * x[(n * channels + index - voxel * channels) * voxels + voxel - n * voxels]);
    }
};

template <typename T>
struct ToPlanes {
    std::int64_t voxels, channels;
    const T* x;
    float factor;
    float* y;

    static constexpr const char* kernel = "to_planes";
    std::int64_t bytes(std::int64_t count) const { return count * (4 + size_of<T>); }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const std::int64_t plane = quotient(index, voxels);
        const std::int64_t n = quotient(plane, channels);
        const std::int64_t voxel = n * voxels + index - plane * voxels;
        y[index] = factor * widen(x[voxel * channels + plane - n * channels]);
    }
};

template <typename T>
struct PackWeights {
    WeightOrder order;
    const float* x;
    T* y;

    static constexpr const char* kernel = "pack_weights";
    std::int64_t bytes(std::int64_t count) const { return count * (4 + size_of<T>); }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const std::int64_t in = index % order.in;
        const std::int64_t row = index / order.in;
        y[index] = narrowed<T>(x[(row / order.taps * order.in + in) * order.taps + row % order.taps]);
    }
};

// Choice of types.

/// call.template operator()<T>() with the type that elements are stored as.
template <typename Call>
void with_type(ElementType type, const Call& call) {
    switch (type) {
    case ElementType::f32: return call.template operator()<float>();
    case ElementType::bf16: return call.template operator()<Bf16>();
    case ElementType::fp16: return call.template operator()<Fp16>();
    }
}

/// The same with the widest pack whose length divides all channel numbers, which have been or-ed together.
template <typename Call>
void with_pack(ElementType type, std::int64_t channels, const Call& call) {
    with_type(type, [&]<typename T>() {
        constexpr int wide = 16 / sizeof(T);
        if (channels % wide == 0)
            return call.template operator()<T, wide>();
        if (channels % 2 == 0)
            return call.template operator()<T, 2>();
        return call.template operator()<T, 1>();
    });
}

// ---- crops ----------------------------------------------------------------------------------------------------------

/// One voxel of a crop in all modalities.
struct CutCrop {
    CropArguments a;

    static constexpr const char* kernel = "cut_crop";
    std::int64_t bytes(std::int64_t count) const { return count * (18 + wide_bytes(a)); }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        const std::int64_t plane = a.extents[1] * a.extents[2];
        const std::int64_t o[3] = {index / plane, index % plane / a.extents[2], index % a.extents[2]};
        std::int64_t place[3], nearest[3];
        bool within = true;
        for (int axis = 0; axis < 3; ++axis) {
            place[axis] = a.start[axis];
            for (int n = 0; n < 3; ++n)
                place[axis] += o[n] * a.column[n][axis];
            nearest[axis] = (place[axis] + (std::int64_t{1} << 31)) >> 32;
            within = within && nearest[axis] >= 0 && nearest[axis] < a.size[axis];
        }
        const std::int64_t source = within ? (nearest[0] * a.size[1] + nearest[1]) * a.size[2] + nearest[2] : 0;
        const bool inside = within && a.case_brain[source] != 0;
        a.classes[index] = within ? a.case_classes[source] : std::uint8_t{0};
        a.brain[index] = inside ? std::uint8_t{1} : std::uint8_t{0};
        const std::int64_t voxels = a.extents[0] * plane;
        if (!inside) {
            for (int m = 0; m < 4; ++m)
                a.images[m * voxels + index] = 0.0F;
            return;
        }
        const AxisWeights x = axis_weights(place[0], a.size[0]);
        const AxisWeights y = axis_weights(place[1], a.size[1]);
        const AxisWeights z = axis_weights(place[2], a.size[2]);
        const std::int64_t base = (x.index * a.size[1] + y.index) * a.size[2] + z.index;
        // z-scores interpolate like quanta times scale, plus the offset of as much of the neighbourhood as is brain.
        const float share = interpolate(a.case_brain + base, x, y, z);
        for (int m = 0; m < 4; ++m) {
            const float quantum = a.wide[m]
                                      ? interpolate(static_cast<const std::int16_t*>(a.quanta[m]) + base, x, y, z)
                                      : interpolate(static_cast<const std::uint8_t*>(a.quanta[m]) + base, x, y, z);
            a.images[m * voxels + index] = quantum * a.scale[m] + a.offset[m] * share;
        }
    }

    template <typename T>
    MFRES_ANYWHERE float interpolate(const T* at, const AxisWeights& x, const AxisWeights& y,
                                     const AxisWeights& z) const {
        const std::int64_t step_z = a.size[2] > 1 ? 1 : 0;
        const std::int64_t step_y = a.size[1] > 1 ? a.size[2] : 0;
        const std::int64_t step_x = a.size[0] > 1 ? a.size[1] * a.size[2] : 0;
        float rows[2], planes[2];
        for (int i = 0; i < 2; ++i) {
            for (int k = 0; k < 2; ++k) {
                const T* pair = at + i * step_x + k * step_y;
                rows[k] = z.low * static_cast<float>(pair[0]) + z.high * static_cast<float>(pair[step_z]);
            }
            planes[i] = y.low * rows[0] + y.high * rows[1];
        }
        return x.low * planes[0] + x.high * planes[1];
    }
};

/// Least and greatest of the brain's values; of none infinity and its negative.
struct Extremes {
    float least = HUGE_VALF, greatest = -HUGE_VALF;

    MFRES_ANYWHERE void take(float low, float high) {
        least = low < least ? low : least;
        greatest = high > greatest ? high : greatest;
    }
};

struct ExtremesOfChunk {
    IntensityArguments a;

    static constexpr const char* kernel = "extremes_of_chunks";
    std::int64_t bytes(std::int64_t count) const { return a.voxels * 5 + count * 8; }

    MFRES_ANYWHERE void operator()(std::int64_t chunk) const {
        Extremes found;
        for (std::int64_t i = chunk; i < a.voxels; i += IntensityArguments::chunks)
            if (a.brain[i] != 0)
                found.take(a.image[i], a.image[i]);
        a.extremes[2 * chunk] = found.least;
        a.extremes[2 * chunk + 1] = found.greatest;
    }
};

struct ExtremesOfAll {
    IntensityArguments a;

    static constexpr const char* kernel = "extremes_of_all";
    std::int64_t bytes(std::int64_t) const { return IntensityArguments::chunks * 8; }

    MFRES_ANYWHERE void operator()(std::int64_t) const {
        Extremes found;
        for (std::int64_t chunk = 0; chunk < IntensityArguments::chunks; ++chunk)
            found.take(a.extremes[2 * chunk], a.extremes[2 * chunk + 1]);
        a.extremes[2 * IntensityArguments::chunks] = found.least;
        a.extremes[2 * IntensityArguments::chunks + 1] = found.greatest;
    }
};

struct ChangeIntensity {
    IntensityArguments a;

    static constexpr const char* kernel = "change_intensity";
    std::int64_t bytes(std::int64_t count) const { return count * 9; }

    MFRES_ANYWHERE void operator()(std::int64_t index) const {
        if (a.brain[index] == 0)
            return;
        float value = a.image[index];
        if (a.gamma != 1.0F) {
            const float least = a.extremes[2 * IntensityArguments::chunks];
            const float greatest = a.extremes[2 * IntensityArguments::chunks + 1];
            const float range = greatest - least;
            if (range > 0.0F && a.inverted)
                value = greatest - range * powf((greatest - value) / range, a.gamma);
            else if (range > 0.0F)
                value = least + range * powf((value - least) / range, a.gamma);
        }
        value = value * a.scale + a.shift;
        if (a.noise > 0.0F)
            value += a.noise * normal(static_cast<std::uint64_t>(index));
        a.image[index] = value;
    }

    /// The number that lib/data/augmentation.cpp has for the index: Box and Muller's transform of a draw of SplitMix64.
    MFRES_ANYWHERE float normal(std::uint64_t index) const {
        std::uint64_t bits = a.seed + (index / 2 + 1) * 0x9E3779B97F4A7C15U;
        bits = (bits ^ (bits >> 30U)) * 0xBF58476D1CE4E5B9U;
        bits = (bits ^ (bits >> 27U)) * 0x94D049BB133111EBU;
        bits ^= bits >> 31U;
        const float u = static_cast<float>((bits >> 40U) + 1) * 0x1p-24F;
        const float v = static_cast<float>((bits >> 16U) & 0xFFFFFFU) * 0x1p-24F;
        const float angle = 6.28318530717958647692F * v;
        return sqrtf(-2.0F * logf(u)) * (index % 2 == 0 ? cosf(angle) : sinf(angle));
    }
};

std::int64_t alignment(const Part& part) {
    return part.data == nullptr ? 0 : part.stride | part.from | part.to | part.count;
}

std::int64_t alignment(const Parts& parts) {
    std::int64_t all = 0;
    for (int k = 0; k < parts.count; ++k)
        all |= alignment(parts.parts[k]);
    return all;
}

std::int64_t alignment(const InputGradientTarget& target) {
    return alignment(target.operand.x) | (target.dx == nullptr ? 0 : target.dx_stride | target.dx_from);
}

void convolution(Stream stream, ElementType type, const ConvolutionArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, elements(a.out), ConvolutionForward<T>{a}); });
}

void convolution_source_gradient(Stream stream, ElementType type, const ConvolutionArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, elements(a.in), ConvolutionSourceGradient<T>{a}); });
}

void convolution_weight_gradient(Stream stream, ElementType type, const ConvolutionArguments& a) {
    with_type(type,
              [&]<typename T>() { reduce<1, 1>(stream, a.chunks, ConvolutionWeightGradient<T>{a}, a.workspace); });
    for_each(stream, a.chunks.channels, FoldWeights{a});
}

void part_convolution(Stream stream, ElementType type, const PartConvolutionArguments& a) {
    const std::int64_t channels = a.grid.channels | a.in | alignment(a.a) | alignment(a.b) | alignment(a.through) |
                                  a.y_stride | a.y_from | a.through_to;
    with_pack(type, channels,
              [&]<typename T, int W>() { for_each(stream, elements(a.grid) / W, PartConvolution<T, W>{a}); });
}

void pointwise_pair(Stream stream, ElementType type, const PointwisePairArguments& a) {
    with_pack(type, a.in | a.out, [&]<typename T, int W>() {
        using Body = PointwisePair<T, W>;
        for_each(stream, (a.voxels + Body::at_once - 1) / Body::at_once, Body{a});
    });
}

void sum(Stream stream, ElementType type, const SumArguments& a) {
    std::int64_t channels = a.first | a.channels | a.y_stride | a.y_from;
    for (int k = 0; k < a.count; ++k)
        channels |= alignment(a.operands[k].x);
    // A table has a line of as many channels as its operand has.
    const std::int64_t table_channels = a.operands[0].x.count;
    with_pack(type, channels, [&]<typename T, int W>() {
        for_each(stream, a.voxels * (a.channels / W), Sum<T, W>{a, table_channels});
    });
}

void statistics(Stream stream, ElementType type, const StatisticsArguments& a) {
    const std::int64_t group_voxels = a.chunks.samples * a.chunks.voxels / a.groups;
    with_pack(type, a.chunks.channels | alignment(a.x), [&]<typename T, int W>() {
        reduce<2, W>(stream, a.chunks, Squares<T, W>{a.x, group_voxels}, a.partials, {a.groups, a.totals, a.counters},
                     FinishStatistics<T>{a, group_voxels});
    });
}

void norm_tables(Stream stream, const NormTables& a) {
    for_each(stream, a.groups * a.channels, FinishNorm{a});
}

void move_pivot(Stream stream, const NormTables& a, float* pivot, std::int64_t voxels, double* totals) {
    for_each(stream, a.channels, MovePivot{a, pivot, static_cast<double>(voxels), totals});
}

void fixed_norm_tables(Stream stream, const NormTables& a) {
    for_each(stream, a.channels, FixedNorm{a});
}

void gradient(Stream stream, ElementType type, const GradientArguments& a) {
    const std::int64_t group_voxels = a.chunks.samples * a.chunks.voxels / a.groups;
    const std::int64_t channels = a.chunks.channels | alignment(a.gradient) | alignment(a.operand.x) |
                                  alignment(a.second.x) | (a.mask == Mask::by_array ? alignment(a.sign) : 0);
    const Totals totals{a.groups, a.totals, a.counters};
    with_pack(type, channels, [&]<typename T, int W>() {
        if (a.second.x.data != nullptr)
            reduce<3, W>(stream, a.chunks, Gradient<T, W, 3>{a, group_voxels}, a.partials, totals, FinishGradient{a});
        else
            reduce<2, W>(stream, a.chunks, Gradient<T, W, 2>{a, group_voxels}, a.partials, totals, FinishGradient{a});
    });
}

void norm_gradient_tables(Stream stream, const NormGradientTables& a) {
    for_each(stream, a.channels, FinishNormGradient{a});
}

void weight_gradient(Stream stream, const double* totals, std::int64_t channels, float* to) {
    for_each(stream, 1, WeightGradient{totals, channels, to});
}

void input_gradient(Stream stream, ElementType type, const InputGradientArguments& a) {
    const std::int64_t channels = a.channels | alignment(a.gradient) | alignment(a.target) | alignment(a.second);
    with_pack(type, channels,
              [&]<typename T, int W>() { for_each(stream, a.voxels * (a.channels / W), InputGradient<T, W>{a}); });
}

void max_pool(Stream stream, ElementType type, const PoolArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, elements(a.out), MaxPooling<T>{a}); });
}

void max_pool_gradient(Stream stream, ElementType type, const PoolArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, elements(a.in), MaxPoolingGradient<T>{a}); });
}

void average_pool(Stream stream, ElementType type, const PoolArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, elements(a.out), AveragePooling<T>{a}); });
}

void average_pool_gradient(Stream stream, ElementType type, const PoolArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, elements(a.in), AveragePoolingGradient<T>{a}); });
}

void upsample(Stream stream, ElementType type, const UpsampleArguments& a) {
    with_pack(type, a.out.channels | a.x_stride | a.x_from | a.y_stride | a.y_from,
              [&]<typename T, int W>() { for_each(stream, elements(a.out) / W, Upsampling<T, W>{a}); });
}

void upsample_gradient(Stream stream, ElementType type, const UpsampleArguments& a) {
    with_pack(type, a.in.channels | alignment(a.dy) | a.y_stride | a.y_from,
              [&]<typename T, int W>() { for_each(stream, elements(a.in) / W, UpsamplingGradient<T, W>{a}); });
}

void softmax(Stream stream, ElementType type, const SoftmaxArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, a.voxels, Softmaximum<T>{a}); });
}

void argmax(Stream stream, ElementType type, const SoftmaxArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, a.voxels, Argmax<T>{a}); });
}

void softmax_gradient(Stream stream, ElementType type, const SoftmaxArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, a.voxels, SoftmaxGradient<T>{a}); });
}

void class_sums(Stream stream, ElementType type, const LossArguments& a) {
    with_type(type, [&]<typename T>() {
        reduce<4, 1>(stream, a.chunks, ClassSumsOf<T>{a}, a.partials, {a.groups, a.totals, a.counters});
    });
}

void loss_gradient(Stream stream, ElementType type, const LossArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, a.chunks.samples * a.chunks.voxels, LossGradient<T>{a}); });
}

void whole_loss_gradient(Stream stream, ElementType type, const LossArguments& a) {
    Chunking voxels = a.chunks;
    voxels.channels = 1;
    with_type(type, [&]<typename T>() {
        reduce<2, 1>(stream, voxels, WholeLossGradient<T>{a}, a.partials, {1, a.totals, a.counters});
    });
}

void count_digits(Stream stream, ElementType type, const LossArguments& a) {
    with_type(type, [&]<typename T>() { for_each(stream, a.chunks.samples * a.chunks.voxels, CountDigitsOf<T>{a}); });
}

void every_nth(Stream stream, const NthArguments& a) {
    for_each(stream, a.own.batch * a.own.voxels(), EveryNth{a});
}

void squares(Stream stream, const UpdateArguments& a, const WholeSum& sums) {
    add_up(stream, a.lines, LineSquares{a}, sums);
}

void update(Stream stream, const UpdateArguments& a) {
    with_type(a.packing.type, [&]<typename T>() { for_each(stream, a.lines * line_floats, Adam<T>{a}); });
}

void from_planes(Stream stream, ElementType type, std::int64_t batch, std::int64_t voxels, std::int64_t channels,
                 const float* x, float factor, void* y) {
    with_type(type, [&]<typename T>() {
        for_each(stream, batch * voxels * channels, FromPlanes<T>{voxels, channels, x, factor, static_cast<T*>(y)});
    });
}

void to_planes(Stream stream, ElementType type, std::int64_t batch, std::int64_t voxels, std::int64_t channels,
               const void* x, float factor, float* y) {
    with_type(type, [&]<typename T>() {
        for_each(stream, batch * voxels * channels, ToPlanes<T>{voxels, channels, static_cast<const T*>(x), factor, y});
    });
}

void pack_weights(Stream stream, ElementType type, const WeightOrder& order, const float* x, void* y) {
    with_type(type, [&]<typename T>() {
        for_each(stream, order.out * order.in * order.taps, PackWeights<T>{order, x, static_cast<T*>(y)});
    });
}

void pack_parameters(Stream stream, const PackingTable& table, const float* values) {
    with_type(table.type, [&]<typename T>() {
        for_each(stream, table.lines * line_floats, PackParameters<T>{table, values});
    });
}

void unpack_gradients(Stream stream, const PackingTable& table, float* gradients) {
    for_each(stream, table.lines * line_floats, UnpackGradients{table, gradients});
}

void cut_crop(Stream stream, const CropArguments& a) {
    for_each(stream, a.extents[0] * a.extents[1] * a.extents[2], CutCrop{a});
}

void change_intensity(Stream stream, const IntensityArguments& a) {
    if (a.gamma != 1.0F) {
        for_each(stream, IntensityArguments::chunks, ExtremesOfChunk{a});
        for_each(stream, 1, ExtremesOfAll{a});
    }
    for_each(stream, a.voxels, ChangeIntensity{a});
}

const Kernels& table() {
    static const Kernels kernels = {
        part_convolution,
        pointwise_pair,
        convolution,
        convolution_source_gradient,
        convolution_weight_gradient,
        sum,
        statistics,
        norm_tables,
        fixed_norm_tables,
        move_pivot,
        gradient,
        norm_gradient_tables,
        weight_gradient,
        input_gradient,
        max_pool,
        max_pool_gradient,
        average_pool,
        average_pool_gradient,
        upsample,
        upsample_gradient,
        softmax,
        softmax_gradient,
        argmax,
        class_sums,
        loss_gradient,
        whole_loss_gradient,
        count_digits,
        squares,
        update,
        from_planes,
        to_planes,
        pack_weights,
        pack_parameters,
        unpack_gradients,
        cut_crop,
        change_intensity,
        every_nth,
    };
    return kernels;
}

} // namespace mfres::cuda::MFRES_KERNELS
