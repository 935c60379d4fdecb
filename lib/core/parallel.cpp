// SPDX-License-Identifier: MIT
#include "core/parallel.h"

#include "core/thread_pool.h"

#include <algorithm>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace mfres {

int resolve_threads(int requested) {
    if (requested > 0)
        return requested;
#ifdef __linux__
    // The affinity mask, because containers and `taskset` restrict a process to fewer CPUs than the machine has.
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        return std::max(1, CPU_COUNT(&allowed));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_ranges(std::int64_t count, int threads, const std::function<void(std::int64_t, std::int64_t)>& body) {
    const std::int64_t workers = std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(count, 1));
    const auto begin_of = [&](std::int64_t worker) { return count * worker / workers; };
    if (ThreadPool* const pool = ThreadPool::current())
        return pool->run(static_cast<int>(workers), [&](int worker) { body(begin_of(worker), begin_of(worker + 1)); });
    std::vector<std::thread> pool;
    pool.reserve(static_cast<std::size_t>(workers - 1));
    for (std::int64_t worker = 1; worker < workers; ++worker)
        pool.emplace_back(body, begin_of(worker), begin_of(worker + 1));
    body(begin_of(0), begin_of(1));
    for (auto& thread : pool)
        thread.join();
}

} // namespace mfres
