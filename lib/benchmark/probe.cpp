// SPDX-License-Identifier: MIT
// Peak rates of the machine: multiply-adds in registers, and memory copies.
#include <mfres/benchmark.h>

#include "core/parallel.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>
#define MFRES_X86_PROBES
#endif

namespace mfres {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Number of independent chains of multiply-adds: enough to hide their latency (4 cycles, 2 units, and a margin).
constexpr int chains = 12;

// The chains must stay in registers, so the loop over them is unrolled.
#if defined(__clang__)
#define MFRES_UNROLL _Pragma("unroll")
#else
#define MFRES_UNROLL _Pragma("GCC unroll 16")
#endif

/// Runs `rounds` rounds of `chains` multiply-adds; returns floats per chain. The result is kept in `sink`.
using Burn = int (*)(std::int64_t rounds, volatile float& sink);

int burn_plain(std::int64_t rounds, volatile float& sink) {
    constexpr int width = 4;
    float sums[chains * width];
    std::fill_n(sums, chains * width, 1.0F);
    for (std::int64_t i = 0; i < rounds; ++i)
        for (float& sum : sums)
            sum = sum * 0.999F + 0.001F;
    for (const float sum : sums)
        sink = sink + sum;
    return width;
}

#ifdef MFRES_X86_PROBES
__attribute__((target("avx2,fma"))) int burn_avx2(std::int64_t rounds, volatile float& sink) {
    __m256 sums[chains];
    for (__m256& sum : sums)
        sum = _mm256_set1_ps(1.0F);
    const __m256 factor = _mm256_set1_ps(0.999F);
    const __m256 addend = _mm256_set1_ps(0.001F);
    for (std::int64_t i = 0; i < rounds; ++i) {
        MFRES_UNROLL
        for (int c = 0; c < chains; ++c)
            sums[c] = _mm256_fmadd_ps(sums[c], factor, addend);
    }
    for (const __m256& sum : sums)
        sink = sink + _mm256_cvtss_f32(sum);
    return 8;
}

__attribute__((target("avx512f"))) int burn_avx512(std::int64_t rounds, volatile float& sink) {
    __m512 sums[chains];
    for (__m512& sum : sums)
        sum = _mm512_set1_ps(1.0F);
    const __m512 factor = _mm512_set1_ps(0.999F);
    const __m512 addend = _mm512_set1_ps(0.001F);
    for (std::int64_t i = 0; i < rounds; ++i) {
        MFRES_UNROLL
        for (int c = 0; c < chains; ++c)
            sums[c] = _mm512_fmadd_ps(sums[c], factor, addend);
    }
    for (const __m512& sum : sums)
        sink = sink + _mm512_cvtss_f32(sum);
    return 16;
}
#endif

Burn best_burn() {
#ifdef MFRES_X86_PROBES
    if (__builtin_cpu_supports("avx512f"))
        return burn_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return burn_avx2;
#endif
    return burn_plain;
}

/// Seconds of `work(thread)` on all threads at once: the shortest of a few runs, because interference only adds time.
template <typename Work>
double shortest(int threads, const Work& work) {
    double best = 1e30;
    for (int repetition = 0; repetition < 4; ++repetition) {
        const auto start = Clock::now();
        parallel_ranges(threads, threads, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t thread = begin; thread < end; ++thread)
                work(thread);
        });
        best = std::min(best, seconds_since(start));
    }
    return best;
}

double probe_gflops(int threads) {
    const Burn burn = best_burn();
    constexpr std::int64_t rounds = 4'000'000;
    volatile float sink = 0.0F;
    const int width = burn(1000, sink);
    const double seconds = shortest(threads, [&](std::int64_t) {
        volatile float own = 0.0F;
        (void)burn(rounds, own);
    });
    return 2.0 * chains * width * static_cast<double>(rounds) * threads / seconds / 1e9;
}

double probe_bandwidth(int threads) {
    constexpr std::size_t bytes = std::size_t{96} << 20U; // larger than the caches
    const auto from = std::make_unique<std::byte[]>(bytes);
    const auto to = std::make_unique<std::byte[]>(bytes);
    const double seconds = shortest(threads, [&](std::int64_t thread) {
        const std::size_t part = bytes / static_cast<std::size_t>(threads);
        const std::size_t begin = part * static_cast<std::size_t>(thread);
        std::memcpy(to.get() + begin, from.get() + begin, part);
    });
    return 2.0 * static_cast<double>(bytes) / seconds / 1e9;
}

} // namespace

MachineProbe probe_machine(int threads) {
    return {probe_gflops(threads), probe_bandwidth(threads)};
}

} // namespace mfres
