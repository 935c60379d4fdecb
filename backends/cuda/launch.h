// SPDX-License-Identifier: MIT
// How the kernels' per-element functions are run: by a grid of threads where nvcc compiles them, by plain loops
// elsewhere. Every sum is taken in a fixed order, so equal inputs give equal bits.
#pragma once

#include "backends/cuda/kernels.h"

#include <algorithm>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "backends/cuda/launch_log.h"
#endif

namespace mfres::cuda::MFRES_KERNELS {

/// a / b for 0 <= a and 0 < b < 2^31: a division in 32 bits, which is several times faster, where it will do.
MFRES_ANYWHERE inline std::int64_t quotient(std::int64_t a, std::int64_t b) {
    return a >> 31 == 0 ? static_cast<std::int64_t>(static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b))
                        : a / b;
}

/// Partial sums are taken in float over this many values and then added up in double.
constexpr int float_run = 32;

/// What reduce() calls for the voxels of a chunk from `first` on; a body that has something to prepare has an overload.
template <typename Body>
MFRES_ANYWHERE inline const Body& of_chunk(const Body& body, std::int64_t, std::int64_t) {
    return body;
}

/// What becomes of the partial sums: totals[group][kind][channel] over the chunks of each group, and then
/// finish(channel), which reads the totals of its channel. Without counters the partial sums are all that is left.
struct Totals {
    std::int64_t groups = 1;
    double* totals = nullptr;
    std::uint32_t* counters = nullptr; ///< zeros, one per channel; zeros again afterwards
};

struct NoFinish {
    MFRES_ANYWHERE void operator()(std::int64_t) const {}
};

constexpr int threads_per_block = 256;

/// How many partial sums add_up() takes.
inline std::int64_t partials_of(std::int64_t count) {
    return std::clamp<std::int64_t>((count + threads_per_block - 1) / threads_per_block, 1, WholeSum::most_partials);
}

#ifdef __CUDACC__

constexpr std::int64_t most_blocks = 1 << 20;

template <typename Body>
__global__ void each_kernel(std::int64_t count, const __grid_constant__ Body body) {
    const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
        body(i);
}

/// body(i) for 0 <= i < count, in any order.
template <typename Body>
void for_each(Stream stream, std::int64_t count, const Body& body) {
    if (count <= 0)
        return;
    const std::int64_t blocks = std::min(most_blocks, (count + threads_per_block - 1) / threads_per_block);
    each_kernel<<<static_cast<unsigned>(blocks), threads_per_block, 0, static_cast<cudaStream_t>(stream)>>>(count,
                                                                                                            body);
}

/// The sum of a column of threads, for the thread with y = 0. Every thread of the block calls it.
__device__ inline double column_sum(double* shared, double value) {
    const unsigned own = threadIdx.y * blockDim.x + threadIdx.x;
    shared[own] = value;
    __syncthreads();
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
            shared[own] += shared[own + half * blockDim.x];
        __syncthreads();
    }
    const double sum = shared[own];
    __syncthreads();
    return sum;
}

/// One block per tile of channels and chunk: threads along x take channels, W of them each, threads along y voxels. The last
/// block of a tile to be done adds up what all have left, in the order of the chunks, whichever block that is.
template <int K, int W, typename Body, typename Finish>
__global__ void reduce_kernel(const Chunking chunks, std::int64_t count, const __grid_constant__ Body body,
                              double* partials, const Totals to, const __grid_constant__ Finish finish) {
    __shared__ double shared[threads_per_block];
    __shared__ bool is_last;
    const std::int64_t channel = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * W;
    const bool inside = channel < chunks.channels;
    const bool first_thread = threadIdx.y == 0 && threadIdx.x == 0;
    for (std::int64_t chunk = blockIdx.y; chunk < count; chunk += gridDim.y) {
        double totals[K][W] = {};
        if (inside) {
            const std::int64_t end = chunks.end(chunk);
            const auto& of_voxel = of_chunk(body, chunks.first(chunk), channel);
            for (std::int64_t voxel = chunks.first(chunk) + threadIdx.y; voxel < end;) {
                float sums[K][W] = {};
                for (int run = 0; run < float_run && voxel < end; ++run, voxel += blockDim.y)
                    of_voxel(voxel, channel, sums);
                for (int k = 0; k < K; ++k)
                    for (int w = 0; w < W; ++w)
                        totals[k][w] += static_cast<double>(sums[k][w]);
            }
        }
        if (partials == nullptr) // the body's own writing is all that is wanted
            continue;
        for (int k = 0; k < K; ++k)
            for (int w = 0; w < W; ++w) {
                const double sum = column_sum(shared, totals[k][w]);
                if (threadIdx.y == 0 && inside)
                    partials[(chunk * K + k) * chunks.channels + channel + w] = sum;
            }
    }
    if (partials == nullptr || to.counters == nullptr)
        return;
    __threadfence(); // the partial sums are visible before the block is counted
    __syncthreads();
    if (first_thread)
        is_last = atomicAdd(&to.counters[blockIdx.x], 1U) == gridDim.y - 1;
    __syncthreads();
    if (!is_last)
        return;
    __threadfence();
    const std::int64_t per_group = count / to.groups;
    for (std::int64_t group = 0; group < to.groups; ++group)
        for (int k = 0; k < K; ++k)
            for (int w = 0; w < W; ++w) {
                double own = 0.0;
                for (std::int64_t chunk = group * per_group + threadIdx.y; inside && chunk < (group + 1) * per_group;
                     chunk += blockDim.y)
                    own += __ldcg(&partials[(chunk * K + k) * chunks.channels + channel + w]);
                const double sum = column_sum(shared, own);
                if (threadIdx.y == 0 && inside)
                    to.totals[(group * K + k) * chunks.channels + channel + w] = sum;
            }
    if (threadIdx.y == 0 && inside)
        for (int w = 0; w < W; ++w)
            finish(channel + w);
    if (first_thread)
        to.counters[blockIdx.x] = 0;
}

/// partials[chunk][kind][channel] = sum over the chunk's voxels of what body(voxel, channel, sums) adds to
/// sums[kind][0 .. W) for the channels from `channel` on. Every voxel and channel is visited once.
template <int K, int W, typename Body, typename Finish = NoFinish>
void reduce(Stream stream, const Chunking& chunks, const Body& body, double* partials, const Totals& to = {},
            const Finish& finish = {}) {
    unsigned lanes = 1;
    while (lanes < 32 && lanes * W < static_cast<std::uint64_t>(chunks.channels))
        lanes *= 2;
    const std::int64_t tile = static_cast<std::int64_t>(lanes) * W;
    const dim3 block(lanes, threads_per_block / lanes);
    constexpr std::int64_t most_along_y = 65535;
    const dim3 grid(static_cast<unsigned>((chunks.channels + tile - 1) / tile),
                    static_cast<unsigned>(std::min(most_along_y, chunks.chunks())));
    const auto queue = static_cast<cudaStream_t>(stream);
    reduce_kernel<K, W><<<grid, block, 0, queue>>>(chunks, chunks.chunks(), body, partials, to, finish);
}

/// Blocks are columns of threads; the last of them to be done adds up what all have left.
template <typename Body>
__global__ void add_up_kernel(std::int64_t count, const __grid_constant__ Body body, const WholeSum sums) {
    __shared__ double shared[threads_per_block];
    __shared__ bool is_last;
    double own = 0.0;
    const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.y;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; i < count; i += step)
        own += body(i);
    const double of_block = column_sum(shared, own);
    if (threadIdx.y == 0) {
        sums.partials[blockIdx.x] = of_block;
        __threadfence(); // the partial sum is visible before the block is counted
        is_last = atomicAdd(sums.counter, 1U) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last)
        return;
    __threadfence();
    own = 0.0;
    for (unsigned block = threadIdx.y; block < gridDim.x; block += blockDim.y)
        own += __ldcg(&sums.partials[block]);
    const double total = column_sum(shared, own);
    if (threadIdx.y == 0) {
        *sums.total = total;
        *sums.counter = 0;
    }
}

/// *sums.total = sum of body(i) for 0 <= i < count.
template <typename Body>
void add_up(Stream stream, std::int64_t count, const Body& body, const WholeSum& sums) {
    add_up_kernel<<<static_cast<unsigned>(partials_of(count)), dim3(1, threads_per_block), 0,
                    static_cast<cudaStream_t>(stream)>>>(count, body, sums);
}

#else

// A stream of the host is a LaunchLog or null.

template <typename Body>
std::int64_t macs_of(const Body& body, std::int64_t count) {
    if constexpr (requires { body.macs(count); })
        return body.macs(count);
    return 0;
}

template <typename Body>
void for_each(Stream stream, std::int64_t count, const Body& body) {
    if (count <= 0 || !is_run(stream, [&] {
            return Launch{{}, Body::kernel, body.bytes(count), macs_of(body, count)};
        }))
        return;
    for (std::int64_t i = 0; i < count; ++i)
        body(i);
}

template <int K, int W, typename Body, typename Finish = NoFinish>
void reduce(Stream stream, const Chunking& chunks, const Body& body, double* partials, const Totals& to = {},
            const Finish& finish = {}) {
    const std::int64_t per_chunk = K * chunks.channels;
    const std::int64_t moved =
        partials == nullptr ? 0 : (to.counters != nullptr ? 2 : 1) * chunks.chunks() * per_chunk * 8;
    if (!is_run(stream, [&] { return Launch{{}, Body::kernel, body.bytes(chunks) + moved, 0}; }))
        return;
    for (std::int64_t chunk = 0; chunk < chunks.chunks(); ++chunk)
        for (std::int64_t channel = 0; channel < chunks.channels; channel += W) {
            double totals[K][W] = {};
            const auto& of_voxel = of_chunk(body, chunks.first(chunk), channel);
            for (std::int64_t voxel = chunks.first(chunk); voxel < chunks.end(chunk);) {
                float sums[K][W] = {};
                for (int run = 0; run < float_run && voxel < chunks.end(chunk); ++run, ++voxel)
                    of_voxel(voxel, channel, sums);
                for (int k = 0; k < K; ++k)
                    for (int w = 0; w < W; ++w)
                        totals[k][w] += static_cast<double>(sums[k][w]);
            }
            for (int k = 0; partials != nullptr && k < K; ++k)
                for (int w = 0; w < W; ++w)
                    partials[chunk * per_chunk + k * chunks.channels + channel + w] = totals[k][w];
        }
    if (partials == nullptr || to.counters == nullptr)
        return;
    const std::int64_t per_group = chunks.chunks() / to.groups;
    for (std::int64_t index = 0; index < to.groups * per_chunk; ++index) {
        const double* from = partials + index / per_chunk * per_group * per_chunk + index % per_chunk;
        double sum = 0.0;
        for (std::int64_t chunk = 0; chunk < per_group; ++chunk)
            sum += from[chunk * per_chunk];
        to.totals[index] = sum;
    }
    for (std::int64_t channel = 0; channel < chunks.channels; ++channel)
        finish(channel);
}

template <typename Body>
void add_up(Stream stream, std::int64_t count, const Body& body, const WholeSum& sums) {
    const std::int64_t partials = partials_of(count);
    if (!is_run(stream, [&] { return Launch{{}, Body::kernel, body.bytes(count) + 2 * partials * 8, 0}; }))
        return;
    *sums.total = 0.0;
    for (std::int64_t k = 0; k < partials; ++k) {
        sums.partials[k] = 0.0;
        for (std::int64_t i = k; i < count; i += partials)
            sums.partials[k] += body(i);
        *sums.total += sums.partials[k];
    }
}

#endif

} // namespace mfres::cuda::MFRES_KERNELS
