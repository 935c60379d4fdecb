// SPDX-License-Identifier: MIT
// How the kernels' per-element functions are run: by a grid of threads where nvcc compiles them, by plain loops
// elsewhere. Nothing here is atomic, so equal inputs give equal bits.
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

#ifdef __CUDACC__

constexpr int threads_per_block = 256;
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

/// One block per tile of channels and chunk: threads along x take channels, W of them each, threads along y voxels.
template <int K, int W, typename Body>
__global__ void reduce_kernel(const Chunking chunks, std::int64_t count, const __grid_constant__ Body body,
                              double* partials) {
    __shared__ double shared[threads_per_block];
    const std::int64_t channel = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * W;
    const bool inside = channel < chunks.channels;
    const unsigned own = threadIdx.y * blockDim.x + threadIdx.x;
    for (std::int64_t chunk = blockIdx.y; chunk < count; chunk += gridDim.y) {
        double totals[K][W] = {};
        if (inside) {
            const std::int64_t end = chunks.end(chunk);
            for (std::int64_t voxel = chunks.first(chunk) + threadIdx.y; voxel < end;) {
                float sums[K][W] = {};
                for (int run = 0; run < float_run && voxel < end; ++run, voxel += blockDim.y)
                    body(voxel, channel, sums);
                for (int k = 0; k < K; ++k)
                    for (int w = 0; w < W; ++w)
                        totals[k][w] += static_cast<double>(sums[k][w]);
            }
        }
        if (partials == nullptr) // the body's own writing is all that is wanted
            continue;
        for (int k = 0; k < K; ++k)
            for (int w = 0; w < W; ++w) {
                shared[own] = totals[k][w];
                __syncthreads();
                for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
                    if (threadIdx.y < half)
                        shared[own] += shared[own + half * blockDim.x];
                    __syncthreads();
                }
                if (threadIdx.y == 0 && inside)
                    partials[(chunk * K + k) * chunks.channels + channel + w] = shared[own];
                __syncthreads();
            }
    }
}

/// partials[chunk][kind][channel] = sum over the chunk's voxels of what body(voxel, channel, sums) adds to
/// sums[kind][0 .. W) for the channels from `channel` on. Every voxel and channel is visited once.
template <int K, int W, typename Body>
void reduce(Stream stream, const Chunking& chunks, const Body& body, double* partials) {
    unsigned lanes = 1;
    while (lanes < 32 && lanes * W < static_cast<std::uint64_t>(chunks.channels))
        lanes *= 2;
    const std::int64_t tile = static_cast<std::int64_t>(lanes) * W;
    const dim3 block(lanes, threads_per_block / lanes);
    constexpr std::int64_t most_along_y = 65535;
    const dim3 grid(static_cast<unsigned>((chunks.channels + tile - 1) / tile),
                    static_cast<unsigned>(std::min(most_along_y, chunks.chunks())));
    const auto queue = static_cast<cudaStream_t>(stream);
    reduce_kernel<K, W><<<grid, block, 0, queue>>>(chunks, chunks.chunks(), body, partials);
}

#else

// A stream of the host is a LaunchLog or null.

template <typename Body>
void for_each(Stream stream, std::int64_t count, const Body& body) {
    if (count <= 0 || !is_run(stream, [&] { return Launch{{}, Body::kernel, body.bytes(count)}; }))
        return;
    for (std::int64_t i = 0; i < count; ++i)
        body(i);
}

template <int K, int W, typename Body>
void reduce(Stream stream, const Chunking& chunks, const Body& body, double* partials) {
    const std::int64_t written = partials != nullptr ? chunks.chunks() * K * chunks.channels * 8 : 0;
    if (!is_run(stream, [&] { return Launch{{}, Body::kernel, body.bytes(chunks) + written}; }))
        return;
    for (std::int64_t chunk = 0; chunk < chunks.chunks(); ++chunk)
        for (std::int64_t channel = 0; channel < chunks.channels; channel += W) {
            double totals[K][W] = {};
            for (std::int64_t voxel = chunks.first(chunk); voxel < chunks.end(chunk);) {
                float sums[K][W] = {};
                for (int run = 0; run < float_run && voxel < chunks.end(chunk); ++run, ++voxel)
                    body(voxel, channel, sums);
                for (int k = 0; k < K; ++k)
                    for (int w = 0; w < W; ++w)
                        totals[k][w] += static_cast<double>(sums[k][w]);
            }
            for (int k = 0; partials != nullptr && k < K; ++k)
                for (int w = 0; w < W; ++w)
                    partials[(chunk * K + k) * chunks.channels + channel + w] = totals[k][w];
        }
}

#endif

} // namespace mfres::cuda::MFRES_KERNELS
