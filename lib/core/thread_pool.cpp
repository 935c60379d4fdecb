// SPDX-License-Identifier: MIT
#include "core/thread_pool.h"

#include "core/array_memory.h"
#include "core/parallel.h"
#include "core/processors.h"
#include "core/stop.h"
#include "core/try.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

namespace mfres {

namespace {

thread_local ThreadPool* current_pool = nullptr;
thread_local const std::atomic<bool>* current_stop = nullptr;
thread_local OnStop then_at_stop = OnStop::finish;

constexpr int part_bits = 16;
constexpr std::uint64_t part_mask = (std::uint64_t{1} << part_bits) - 1;

std::uint64_t job_word(std::uint32_t number, std::uint64_t next, std::uint64_t parts) {
    return std::uint64_t{number} << (2 * part_bits) | next << part_bits | parts;
}

void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

/// Spins until `ready()` or until the spin timeout; returns whether it was ready.
template <typename Ready>
bool spin_until(const Ready& ready, std::chrono::nanoseconds spin_timeout) {
    if (ready())
        return true;
    if (spin_timeout.count() == 0)
        return false;
    const auto end = std::chrono::steady_clock::now() + spin_timeout;
    do
        for (int i = 0; i < 32; ++i) {
            if (ready())
                return true;
            relax();
        }
    while (std::chrono::steady_clock::now() < end);
    return ready();
}

/// The CPUs to start workers on in turn, rotated so that the CPU of the calling thread comes first.
std::vector<int> processors_from_here() {
    std::vector<int> processors = allowed_processors();
    const auto here = std::find(processors.begin(), processors.end(), current_processor());
    if (here != processors.end())
        std::rotate(processors.begin(), here, processors.end());
    return processors;
}

// Without futexes, std::atomic::wait of GCC 12 compares the value before it takes the lock that a notification needs, so it
// can sleep through one. Elsewhere than on Linux a mutex makes sure.
#ifdef __linux__
template <typename T>
void sleep_while(std::atomic<T>& value, T old) {
    value.wait(old);
}

template <typename T>
void wake_all(std::atomic<T>& value) {
    value.notify_all();
}
#else
std::mutex sleep_lock;
std::condition_variable changed;

template <typename T>
void sleep_while(std::atomic<T>& value, T old) {
    std::unique_lock lock(sleep_lock);
    changed.wait(lock, [&] { return value != old; });
}

template <typename T>
void wake_all(std::atomic<T>&) {
    { const std::lock_guard changes_before_or_after(sleep_lock); }
    changed.notify_all();
}
#endif

} // namespace

namespace {

std::chrono::nanoseconds spin_timeout_of(WaitPolicy policy) {
    using namespace std::chrono_literals;
    switch (policy) {
    case WaitPolicy::automatic: return 50us;
    case WaitPolicy::active: return 100ms;
    case WaitPolicy::passive: return 0ns;
    }
    return 0ns;
}

} // namespace

Result<std::shared_ptr<ThreadPool>> ThreadPool::create(const ComputeOptions& options) {
    if (options.threads < 0 || options.threads > 4096)
        return Error{ErrorCode::invalid_argument, text("threads must be 0..4096, is ", options.threads), "threads"};
    const std::vector<int> allowed = allowed_processors();
    for (const int cpu : options.cpus)
        if (std::count(allowed.begin(), allowed.end(), cpu) == 0)
            return Error{ErrorCode::invalid_argument, text("this process may not run on CPU ", cpu), "cpus"};
    return std::shared_ptr<ThreadPool>(new ThreadPool(options, spin_timeout_of(options.wait_policy)));
}

ThreadPool::ThreadPool(const ComputeOptions& options, std::chrono::nanoseconds spin_timeout)
    : threads_(resolve_threads(options.threads)), spin_timeout_(spin_timeout), cpus_(options.cpus),
      host_(options.parallel_for) {
    if (host_)
        return;
    const std::vector<int> apart = processors_from_here();
    const auto start = [&](int worker) {
        workers_.emplace_back([this, worker, apart] {
            const auto at = [&](const std::vector<int>& list) {
                return list[static_cast<std::size_t>(worker) % list.size()];
            };
            if (!cpus_.empty()) {
                pin_this_thread({at(cpus_)});
            } else if (!apart.empty()) {
                // The scheduler can take seconds to spread threads that start on one CPU of a busy machine. Each
                // worker is moved once and then scheduled freely.
                pin_this_thread({at(apart)});
                pin_this_thread(apart);
            }
            work();
        });
    };
    // A system that starts no further thread (ulimit -u, no memory for a stack) leaves a smaller pool: the parts of a
    // loop are the same, and each thread takes more of them.
    try {
        for (int worker = 1; worker < threads_; ++worker)
            start(worker);
    } catch (const std::exception&) { // std::system_error or std::bad_alloc
        threads_ = static_cast<int>(workers_.size()) + 1;
    }
}

ThreadPool::~ThreadPool() {
    leaving_ = true;
    ++calls_;
    wake_all(calls_);
    for (auto& worker : workers_)
        worker.join();
}

ThreadPool* ThreadPool::current() {
    return current_pool;
}

void ThreadPool::run_part(int part) {
    const ThreadPoolScope alone(nullptr);
    const LoopPartScope nested;
    try {
        (*body_)(part);
    } catch (...) {
        const std::lock_guard lock(failure_lock_);
        if (!failure_)
            failure_ = std::current_exception();
    }
}

/// Takes and runs one part of the job; false if none is left.
bool ThreadPool::take_part() {
    std::uint64_t job = job_.load(std::memory_order_acquire);
    for (;;) {
        const std::uint64_t next = job >> part_bits & part_mask;
        if (next >= (job & part_mask))
            return false;
        if (!job_.compare_exchange_weak(job, job + (std::uint64_t{1} << part_bits), std::memory_order_acq_rel))
            continue;
        run_part(static_cast<int>(next));
        if (open_parts_.fetch_sub(1) == 1 && caller_sleeps_)
            wake_all(open_parts_);
        return true;
    }
}

void ThreadPool::work() {
    const auto called = [this] {
        const std::uint64_t job = job_.load(std::memory_order_acquire);
        return leaving_ || (job >> part_bits & part_mask) < (job & part_mask);
    };
    while (!leaving_) {
        const std::uint32_t seen = calls_;
        if (take_part())
            continue;
        if (spin_until(called, spin_timeout_))
            continue;
        ++sleepers_;
        sleep_while(calls_, seen); // returns at once if there was a call since `seen` was read
        --sleepers_;
    }
}

void ThreadPool::run(int parts, const std::function<void(int)>& body) {
    const std::atomic<bool>* const stop = StopScope::current();
    if (parts > 1)
        ++barriers_;
    if (parts <= 1 || (workers_.empty() && !host_) || parts >= static_cast<int>(part_mask)) {
        const ThreadPoolScope alone(nullptr);
        for (int part = 0; part < parts && !(stop && *stop); ++part)
            body(part);
        StopScope::check();
        return;
    }
    ArrayMemory* const memory = ArrayMemory::current();
    const OnStop then = then_at_stop;
    const auto in_scopes = [&](int part) {
        if (stop && *stop)
            return;
        const StopScope inherited(stop, then);
        const ArrayMemoryScope arrays(memory, part + 1);
        body(part);
    };
    const std::function<void(int)> scoped = std::cref(in_scopes); // held without an allocation
    body_ = memory || stop ? &scoped : &body;
    failure_ = nullptr;
    if (host_)
        host_(parts, [this](int part) { run_part(part); });
    else
        share(parts);
    if (const std::exception_ptr failure = std::exchange(failure_, nullptr))
        std::rethrow_exception(failure);
    StopScope::check();
}

/// Publishes the parts of `body_` to the workers, runs parts on the calling thread, and waits for the last one.
void ThreadPool::share(int parts) {
    open_parts_ = parts;
    const auto number = static_cast<std::uint32_t>(job_.load() >> (2 * part_bits)) + 1;
    job_.store(job_word(number, 0, static_cast<std::uint64_t>(parts)));
    ++calls_;
    if (sleepers_ > 0)
        wake_all(calls_);
    while (take_part()) {
    }
    if (!spin_until([this] { return open_parts_ == 0; }, spin_timeout_)) {
        caller_sleeps_ = true;
        for (std::int32_t open = open_parts_; open != 0; open = open_parts_)
            sleep_while(open_parts_, open);
        caller_sleeps_ = false;
    }
}

StopScope::StopScope(const std::atomic<bool>* flag, OnStop then)
    : flag_before_(std::exchange(current_stop, flag)), then_before_(std::exchange(then_at_stop, then)) {}

StopScope::~StopScope() {
    current_stop = flag_before_;
    then_at_stop = then_before_;
}

void StopScope::check() {
    if (current_stop && *current_stop && then_at_stop == OnStop::unwind)
        throw Stopped();
}

const std::atomic<bool>* StopScope::current() {
    return current_stop;
}

ThreadPoolScope::ThreadPoolScope(ThreadPool* pool) : before_(std::exchange(current_pool, pool)) {
    if (!pool || pool->cpus_.empty() || pool->host_)
        return;
    processors_before_ = allowed_processors();
    pin_this_thread({pool->cpus_.front()});
}

ThreadPoolScope::~ThreadPoolScope() {
    if (!processors_before_.empty())
        pin_this_thread(processors_before_);
    current_pool = before_;
}

} // namespace mfres
