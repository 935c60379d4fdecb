// SPDX-License-Identifier: MIT
// Peak rates of the machine: multiply-adds in registers, and memory copies.
#include "benchmark/probe_rates.h"

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

// A compiler must not leave out copies of which only the last one is seen.
#if defined(__GNUC__)
#define MFRES_KEEP(pointer) __asm__ volatile("" : : "r"(pointer) : "memory")
#else
#define MFRES_KEEP(pointer) (void)(pointer)
#endif

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

__attribute__((target("avx512f,avx512vl,avx512bf16"))) int burn_bf16(std::int64_t rounds, volatile float& sink) {
    __m512 sums[chains];
    for (__m512& sum : sums)
        sum = _mm512_set1_ps(1.0F);
    const __m512bh factor = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5F), _mm512_set1_ps(0.25F));
    for (std::int64_t i = 0; i < rounds; ++i) {
        MFRES_UNROLL
        for (int c = 0; c < chains; ++c)
            sums[c] = _mm512_dpbf16_ps(sums[c], factor, factor);
    }
    for (const __m512& sum : sums)
        sink = sink + _mm512_cvtss_f32(sum);
    return 32;
}

__attribute__((target("avx512f,avx512vnni"))) int burn_int8(std::int64_t rounds, volatile float& sink) {
    __m512i sums[chains];
    for (__m512i& sum : sums)
        sum = _mm512_set1_epi32(1);
    const __m512i factor = _mm512_set1_epi8(3);
    for (std::int64_t i = 0; i < rounds; ++i) {
        MFRES_UNROLL
        for (int c = 0; c < chains; ++c)
            sums[c] = _mm512_dpbusd_epi32(sums[c], factor, factor);
    }
    std::int32_t lanes[chains * 16];
    static_assert(sizeof lanes == sizeof sums);
    std::memcpy(lanes, sums, sizeof lanes);
    for (const std::int32_t lane : lanes)
        sink = sink + static_cast<float>(lane);
    return 64;
}
#endif

/// Null where the processor has no instruction for the precision.
Burn burn_of([[maybe_unused]] Precision precision) {
#ifdef MFRES_X86_PROBES
    if (precision == Precision::bf16 && __builtin_cpu_supports("avx512bf16"))
        return burn_bf16;
    if (precision == Precision::int8 && __builtin_cpu_supports("avx512vnni"))
        return burn_int8;
#endif
    return nullptr;
}

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

double probe_gflops(Burn burn, int threads) {
    constexpr std::int64_t rounds = 4'000'000;
    volatile float sink = 0.0F;
    const int width = burn(1000, sink);
    const double seconds = shortest(threads, [&](std::int64_t) {
        volatile float own = 0.0F;
        (void)burn(rounds, own);
    });
    return 2.0 * chains * width * static_cast<double>(rounds) * threads / seconds / 1e9;
}

/// Copies of arrays of `bytes` each, several times where they are small.
double probe_bandwidth(int threads, std::size_t bytes) {
    const std::size_t times = std::max<std::size_t>(1, (std::size_t{64} << 20U) / bytes);
    const auto from = std::make_unique<std::byte[]>(bytes);
    const auto to = std::make_unique<std::byte[]>(bytes);
    const double seconds = shortest(threads, [&](std::int64_t thread) {
        const std::size_t part = bytes / static_cast<std::size_t>(threads);
        const std::size_t begin = part * static_cast<std::size_t>(thread);
        for (std::size_t i = 0; i < times; ++i) {
            std::memcpy(to.get() + begin, from.get() + begin, part);
            MFRES_KEEP(to.get());
        }
    });
    return 2.0 * static_cast<double>(bytes) * static_cast<double>(times) / seconds / 1e9;
}

} // namespace

MachineProbe probe_machine(int threads) {
    return {probe_gflops(best_burn(), threads), probe_bandwidth(threads, std::size_t{96} << 20U)};
}

double probe_gmacs(Precision precision, int threads) {
    const Burn burn = burn_of(precision);
    return probe_gflops(burn != nullptr ? burn : best_burn(), threads) / 2.0;
}

double probe_copy(std::int64_t working_set, int threads) {
    return probe_bandwidth(threads, static_cast<std::size_t>(working_set) / 2);
}

} // namespace mfres
