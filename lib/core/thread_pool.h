// A set of threads that stays: parts of a computation are handed out to whoever is free, and waiting is cheap for
// others. Made for a pass of a network, which meets hundreds of times: there each meeting that waits for a thread the
// system has put aside can cost a slice of 4 to 8 ms. So nobody spins for long (a spinning thread looks busy and takes
// the processor that a waiting part needs), and parts belong to no thread: one that is late finds its part done.
#pragma once

#include <mfres/status.h>
#include <mfres/threads.h>

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
    /// Errors: invalid_argument (threads outside 0..4096, another way of waiting, a processor that this process may not
    /// use).
    static Result<std::shared_ptr<ThreadPool>> create(const ThreadOptions& options);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    /// That work together, with the calling one.
    int threads() const { return threads_; }

    /// Calls body(part) for 0 <= part < parts and returns when all have returned; a throwing part does not stop the
    /// others, and the first exception is thrown on. One thread at a time may call it.
    void run(int parts, const std::function<void(int)>& body);

    /// How often run() was called with several parts: each is a time at which threads wait for each other.
    std::int64_t barriers() const { return barriers_; }

    /// The pool whose ThreadPoolScope is the innermost of the calling thread; null outside, and inside of a part.
    static ThreadPool* current();

  private:
    friend class ThreadPoolScope;
    explicit ThreadPool(const ThreadOptions& options, std::chrono::nanoseconds spin_timeout);
    void work();
    void share(int parts);
    bool take_part();
    void run_part(int part);

    int threads_;
    std::chrono::nanoseconds spin_timeout_; ///< of a thread that spins before it sleeps
    std::vector<int> processors_;
    ParallelFor host_;
    std::int64_t barriers_ = 0;

    /// The job's number, the part to take next and the number of parts, in one word: whoever takes a part knows that
    /// the job is still open, so that `body_` is its own.
    std::atomic<std::uint64_t> job_{0};
    const std::function<void(int)>* body_ = nullptr;
    std::atomic<std::int32_t> open_parts_{0};
    std::atomic<std::uint32_t> calls_{0}; ///< what sleeping workers wait for
    std::atomic<int> sleepers_{0};
    std::atomic<bool> caller_sleeps_{false};
    std::atomic<bool> leaving_{false};
    std::mutex failure_lock_;
    std::exception_ptr failure_;
    std::vector<std::thread> workers_;
};

/// While it lives, the calling thread's parallel loops are run by a pool.
class ThreadPoolScope {
  public:
    /// Pins the calling thread, too, if the pool has processors. A null pool: parts on the calling thread alone.
    explicit ThreadPoolScope(ThreadPool* pool);
    ~ThreadPoolScope();
    ThreadPoolScope(const ThreadPoolScope&) = delete;
    ThreadPoolScope& operator=(const ThreadPoolScope&) = delete;

  private:
    ThreadPool* before_;
    std::vector<int> processors_before_; ///< that the thread might run on before it was pinned; empty if it was not
};

} // namespace mfres
