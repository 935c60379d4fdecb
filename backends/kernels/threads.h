// SPDX-License-Identifier: MIT
// Threads of the kernels. In inference their loops are parts that a ThreadPool runs. In training they are loops of the
// same OpenMP team as those of an engine that uses OpenMP, so that a run never has two sets of threads; without OpenMP
// they are short-lived threads.
#pragma once

#include "core/parallel.h"
#include "core/thread_pool.h"

#include <cstdint>
#include <functional>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace mfres::kernels {

/// While it lives, an engine and parallel_for() called from this thread use `threads` threads. OpenMP keeps that number
/// per calling thread, so executables in different threads do not disturb each other, and the caller's own setting
/// is put back at the end. Without OpenMP an engine keeps its own number.
class ThreadScope {
  public:
#ifdef _OPENMP
    explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
        omp_set_num_threads(threads);
    }
    ~ThreadScope() {
        omp_set_num_threads(before_);
    }
#else
    explicit ThreadScope(int) {}
#endif
    ThreadScope(const ThreadScope&) = delete;
    ThreadScope& operator=(const ThreadScope&) = delete;

  private:
#ifdef _OPENMP
    int before_;
#endif
};

/// Calls body(part) for 0 <= part < parts, by the current ThreadPool, or one after the other without one.
template <typename Body>
void run_parts(int parts, const Body& body) {
    if (ThreadPool* const pool = ThreadPool::current())
        return pool->run(parts, [&](int part) {
            const ThreadScope one(1); // OpenMP keeps a number for each thread that calls an engine
            body(part);
        });
    for (int part = 0; part < parts; ++part)
        body(part);
}

/// Calls body(begin, end, thread) for contiguous parts of [0, count), one per thread: of the current ThreadPool, or of
/// OpenMP's. The parts depend on count and threads alone. The body must not throw.
template <typename Body>
void parallel_for(std::int64_t count, int threads, const Body& body) {
    if (count < threads)
        threads = count > 0 ? static_cast<int>(count) : 1;
    const auto part = [&](int thread) { body(count * thread / threads, count * (thread + 1) / threads, thread); };
    if (ThreadPool* const pool = ThreadPool::current())
        return pool->run(threads, std::cref(part)); // held without an allocation
#ifdef _OPENMP
        // The runtime may grant fewer threads than asked for; the loop gives every part to one of those it granted.
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; ++thread)
        part(thread);
#else
    parallel_ranges(threads, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t thread = begin; thread < end; ++thread)
            part(static_cast<int>(thread));
    });
#endif
}

} // namespace mfres::kernels
