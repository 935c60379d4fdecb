// SPDX-License-Identifier: MIT
#include "core/parallel.h"

#include "core/processors.h"
#include "core/thread_pool.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace mfres {

namespace {

thread_local bool in_part = false;

} // namespace

LoopPartScope::LoopPartScope() : before_(std::exchange(in_part, true)) {}
LoopPartScope::~LoopPartScope() {
    in_part = before_;
}

int resolve_threads(int requested) {
    return requested > 0 ? requested : useful_threads();
}

void run_ranges(std::int64_t count, int threads, const std::function<void(std::int64_t, std::int64_t)>& body) {
    const std::int64_t workers = std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(count, 1));
    const auto begin_of = [&](std::int64_t worker) { return count * worker / workers; };
    if (ThreadPool* const pool = ThreadPool::current())
        return pool->run(static_cast<int>(workers), [&](int worker) { body(begin_of(worker), begin_of(worker + 1)); });
    std::mutex failure_lock;
    std::exception_ptr failure;
    const auto run = [&](std::int64_t worker) {
        try {
            std::optional<LoopPartScope> part;
            if (workers > 1)
                part.emplace();
            body(begin_of(worker), begin_of(worker + 1));
        } catch (...) {
            const std::lock_guard lock(failure_lock);
            if (!failure)
                failure = std::current_exception();
        }
    };
    std::vector<std::thread> pool;
    std::int64_t started = 1; // with the calling thread
    try {
        pool.reserve(static_cast<std::size_t>(in_part ? 0 : workers - 1));
        for (; !in_part && started < workers; ++started)
            pool.emplace_back(run, started);
    } catch (const std::exception&) { // the system starts no more threads: what is left runs here
    }
    run(0);
    for (std::int64_t worker = started; worker < workers; ++worker)
        run(worker);
    for (auto& thread : pool)
        thread.join();
    if (failure)
        std::rethrow_exception(failure);
}

} // namespace mfres
