// SPDX-License-Identifier: MIT
// A persistent thread pool. Parts of a parallel loop are taken dynamically by idle threads.
//
// One inference has hundreds of barriers. A barrier that waits for a preempted thread can take a scheduler time slice
// of 4 to 8 ms. Therefore threads spin only for a short timeout, because a spinning thread occupies the CPU that a
// preempted one needs, and parts are not bound to threads, so that the others complete the parts of a late thread.
#pragma once

#include <mfres/compute.h>
#include <mfres/status.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace mfres {

class ThreadPool {
  public:
    /// A pool with the threads of the options: threads, cpus, wait_policy and parallel_for.
    /// Errors: invalid_argument (threads outside 0..4096, a CPU that this process may not use).
    static Result<std::shared_ptr<ThreadPool>> create(const ComputeOptions& options);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    /// Number of threads, the calling one included. Fewer than asked for where the system started no more.
    int threads() const { return threads_; }

    /// Calls body(part) for 0 <= part < parts and returns when all calls have returned. If parts throw, the others
    /// still run, and the first exception is rethrown. Not reentrant: one thread at a time may call it.
    void run(int parts, const std::function<void(int)>& body);

    /// Number of calls of run() with several parts, each of which ends in a barrier.
    std::int64_t barriers() const { return barriers_; }

    /// The pool of the innermost ThreadPoolScope of the calling thread; null outside of scopes and inside of parts.
    static ThreadPool* current();

  private:
    friend class ThreadPoolScope;
    explicit ThreadPool(const ComputeOptions& options, std::chrono::nanoseconds spin_timeout);
    void work();
    void share(int parts);
    bool take_part();
    void run_part(int part);

    int threads_;
    std::chrono::nanoseconds spin_timeout_; ///< a waiting thread sleeps after it
    std::vector<int> cpus_;
    ParallelFor host_;
    std::int64_t barriers_ = 0;

    /// The number of the job, the next part and the number of parts in one atomic word. A thread that takes a part
    /// knows by it that the job is still running and that `body_` belongs to that job.
    std::atomic<std::uint64_t> job_{0};
    const std::function<void(int)>* body_ = nullptr;
    std::atomic<std::int32_t> open_parts_{0};
    std::atomic<std::uint32_t> calls_{0}; ///< incremented to wake sleeping workers
    std::atomic<int> sleepers_{0};
    std::atomic<bool> caller_sleeps_{false};
    std::atomic<bool> leaving_{false};
    std::mutex failure_lock_;
    std::exception_ptr failure_;
    std::vector<std::thread> workers_;
};

/// During its lifetime the parallel loops of the calling thread run on a pool.
class ThreadPoolScope {
  public:
    /// Pins the calling thread if the pool has CPUs. With a null pool all parts run on the calling thread.
    explicit ThreadPoolScope(ThreadPool* pool);
    ~ThreadPoolScope();
    ThreadPoolScope(const ThreadPoolScope&) = delete;
    ThreadPoolScope& operator=(const ThreadPoolScope&) = delete;

  private:
    ThreadPool* before_;
    std::vector<int> processors_before_; ///< affinity before pinning; empty if not pinned
};

} // namespace mfres
