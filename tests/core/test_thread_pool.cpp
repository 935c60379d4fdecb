// SPDX-License-Identifier: MIT
#include "core/parallel.h"
#include "core/thread_pool.h"
#include "support/catch.h"

#include <atomic>
#include <numeric>
#include <set>
#include <stdexcept>

using namespace mfres;

namespace {

std::shared_ptr<ThreadPool> make(const ThreadOptions& options) {
    auto pool = ThreadPool::create(options);
    REQUIRE_OK(pool);
    return std::move(pool).value();
}

} // namespace

TEST_CASE("a pool runs every part once, whatever the waiting, and however often it is asked") {
    const std::string waiting = GENERATE("auto", "passive", "active");
    const int threads = GENERATE(1, 2, 5);
    const auto pool = make({.threads = threads, .waiting = waiting});
    CHECK(pool->threads() == threads);
    std::int64_t barriers = 0;
    for (int round = 0; round < 300; ++round) {
        const int parts = round % 9;
        std::vector<std::atomic<int>> calls(static_cast<std::size_t>(parts));
        pool->run(parts, [&](int part) { ++calls[static_cast<std::size_t>(part)]; });
        for (const auto& count : calls)
            REQUIRE(count == 1);
        barriers += parts > 1 ? 1 : 0;
    }
    CHECK(pool->barriers() == barriers);
}

TEST_CASE("what parts wrote is seen by the caller and by the next job") {
    const auto pool = make({.threads = 3});
    std::vector<std::int64_t> values(1000, 0);
    for (int round = 1; round <= 200; ++round)
        pool->run(10, [&](int part) {
            for (std::size_t i = 0; i < values.size(); ++i) // each part reads where another one wrote before
                if ((i + static_cast<std::size_t>(round)) % 10 == static_cast<std::size_t>(part))
                    ++values[i];
        });
    CHECK(std::accumulate(values.begin(), values.end(), std::int64_t{0}) == 200 * 1000);
}

TEST_CASE("sleeping workers wake for a job, and late ones find it done") {
    const auto pool = make({.threads = 4, .waiting = "passive"});
    for (int round = 0; round < 5; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
        std::atomic<int> sum{0};
        pool->run(8, [&](int part) { sum += part; });
        CHECK(sum == 28);
    }
}

TEST_CASE("a part's exception comes out after the other parts, and the pool goes on") {
    const auto pool = make({.threads = 2});
    std::atomic<int> done{0};
    CHECK_THROWS_AS(pool->run(4,
                              [&](int part) {
                                  ++done;
                                  if (part == 1)
                                      throw std::runtime_error("part 1");
                              }),
                    std::runtime_error);
    CHECK(done == 4);
    pool->run(4, [&](int) { ++done; });
    CHECK(done == 8);
}

TEST_CASE("a thread pool's scope lends it to loops, and a part's own loops stay on its thread") {
    const auto pool = make({.threads = 2});
    CHECK(ThreadPool::current() == nullptr);
    std::vector<int> order(100, 0);
    {
        const ThreadPoolScope scope(pool.get());
        CHECK(ThreadPool::current() == pool.get());
        parallel_ranges(100, 4, [&](std::int64_t begin, std::int64_t end) {
            CHECK(ThreadPool::current() == nullptr);
            for (std::int64_t i = begin; i < end; ++i)
                ++order[static_cast<std::size_t>(i)];
        });
    }
    CHECK(ThreadPool::current() == nullptr);
    CHECK(pool->barriers() == 1);
    CHECK(std::count(order.begin(), order.end(), 1) == 100);
}

TEST_CASE("a host's own parallel loop is used instead of threads") {
    int calls = 0;
    const auto pool = make({.threads = 3, .parallel_for = [&](int parts, const std::function<void(int)>& part) {
                                ++calls;
                                for (int i = parts; i-- > 0;)
                                    part(i);
                            }});
    std::vector<int> order;
    pool->run(4, [&](int part) { order.push_back(part); });
    CHECK(order == std::vector<int>{3, 2, 1, 0});
    CHECK_THROWS_AS(pool->run(2, [](int) { throw std::runtime_error("in the host's loop"); }), std::runtime_error);
    pool->run(1, [&](int) { ++calls; });
    CHECK(calls == 3);
}

TEST_CASE("threads that cannot be had are rejected by name") {
    REQUIRE_CODE(ThreadPool::create({.threads = -1}), invalid_argument);
    REQUIRE_CODE(ThreadPool::create({.threads = 4097}), invalid_argument);
    const auto waiting = ThreadPool::create({.waiting = "impatient"});
    REQUIRE_CODE(waiting, invalid_argument);
    CHECK(waiting.error().message.find("impatient") != std::string::npos);
#ifdef __linux__
    REQUIRE_CODE(ThreadPool::create({.processors = {0, 100000}}), invalid_argument);
    REQUIRE_CODE(ThreadPool::create({.processors = {-1}}), invalid_argument);
#endif
}

#ifdef __linux__
#include <sched.h>

TEST_CASE("pinned threads stay where they were put, and the caller gets its processors back") {
    cpu_set_t before;
    CPU_ZERO(&before);
    REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
    int processor = 0;
    while (!CPU_ISSET(processor, &before))
        ++processor;
    const auto pool = make({.threads = 3, .processors = {processor}});
    {
        const ThreadPoolScope scope(pool.get());
        std::mutex lock;
        std::set<int> seen;
        pool->run(30, [&](int) {
            const std::lock_guard guard(lock);
            seen.insert(sched_getcpu());
        });
        CHECK(seen == std::set<int>{processor});
    }
    cpu_set_t after;
    CPU_ZERO(&after);
    REQUIRE(sched_getaffinity(0, sizeof after, &after) == 0);
    CHECK(CPU_EQUAL(&before, &after));
}
#endif
