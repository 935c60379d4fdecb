// SPDX-License-Identifier: MIT
#include "core/parallel.h"
#include "core/stop.h"
#include "core/thread_pool.h"
#include "support/catch.h"
#include "support/child.h"

#include <atomic>
#include <cstdio>
#include <numeric>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>

using namespace mfres;

namespace {

std::shared_ptr<ThreadPool> make(const ComputeOptions& options) {
    auto pool = ThreadPool::create(options);
    REQUIRE_OK(pool);
    return std::move(pool).value();
}

} // namespace

TEST_CASE("a pool runs every part once, whatever the wait policy, and however often it is asked") {
    const WaitPolicy policy = GENERATE(WaitPolicy::automatic, WaitPolicy::passive, WaitPolicy::active);
    const int threads = GENERATE(1, 2, 5);
    const auto pool = make({.threads = threads, .wait_policy = policy});
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

TEST_CASE("parts that have not begun when a flag is set are left out, inside of a StopScope only") {
    const int threads = GENERATE(1, 2, 5);
    const auto pool = make({.threads = threads});
    std::atomic<bool> flag{false};
    std::atomic<int> calls{0};
    const auto count = [&](int) {
        if (++calls == 10)
            flag = true;
    };
    {
        const StopScope stop(&flag, OnStop::finish);
        pool->run(1000, count);
        CHECK(calls >= 10);
        CHECK(calls < 10 + threads);
        pool->run(1000, count);
        CHECK(calls < 10 + threads);
    }
    {
        const StopScope stop(&flag, OnStop::unwind);
        CHECK_THROWS_AS(pool->run(1000, count), Stopped);
        CHECK(calls < 10 + threads);
    }
    calls = 10;
    pool->run(1000, count);
    CHECK(calls == 1010);
}

TEST_CASE("a long part ends on its way where its loop is to unwind, and goes on where it is to finish") {
    const int threads = GENERATE(1, 3);
    const auto pool = make({.threads = threads});
    std::atomic<bool> flag{false};
    std::atomic<int> steps{0};
    const auto part = [&](int) {
        for (int step = 0; step < 100; ++step, ++steps) {
            StopScope::check();
            flag = true;
        }
    };
    {
        const StopScope stop(&flag, OnStop::unwind);
        CHECK_THROWS_AS(pool->run(3, part), Stopped);
        CHECK(steps < 100);
    }
    flag = false;
    steps = 0;
    const StopScope stop(&flag, OnStop::finish);
    pool->run(1, part);
    CHECK(steps == 100);
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
    const auto pool = make({.threads = 4, .wait_policy = WaitPolicy::passive});
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
            const auto own = std::this_thread::get_id();
            std::int64_t others = 0;
            parallel_ranges(end - begin, 4, [&](std::int64_t first, std::int64_t last) {
                others += std::this_thread::get_id() == own ? 0 : 1;
                for (std::int64_t i = begin + first; i < begin + last; ++i)
                    ++order[static_cast<std::size_t>(i)];
            });
            CHECK(others == 0);
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
    const auto waiting = parse_wait_policy("impatient");
    REQUIRE_CODE(waiting, invalid_argument);
    CHECK(waiting.error().message.find("impatient") != std::string::npos);
    for (const WaitPolicy policy : wait_policies)
        CHECK(parse_wait_policy(to_string(policy)).value() == policy);
#ifdef __linux__
    REQUIRE_CODE(ThreadPool::create({.cpus = {0, 100000}}), invalid_argument);
    REQUIRE_CODE(ThreadPool::create({.cpus = {-1}}), invalid_argument);
#endif
}

#ifdef __linux__
#include <sched.h>

TEST_CASE("pinned threads stay where they were put, and the caller gets its CPUs back") {
    cpu_set_t before;
    CPU_ZERO(&before);
    REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
    int processor = 0;
    while (!CPU_ISSET(processor, &before))
        ++processor;
    const auto pool = make({.threads = 3, .cpus = {processor}});
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

namespace {

/// Runs `body` in a process that has room for two stacks of threads more; its exit code, or nothing, which has been said.
template <typename Body>
std::optional<int> without_threads(const Body& body) {
    rlimit stack{};
    const bool bounded = ::getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur != RLIM_INFINITY;
    constexpr int impossible = 99;
    const int code = test::exit_code_of(
        test::in_child([&] { return bounded && test::limit_address_space(2 * stack.rlim_cur) ? body() : impossible; }));
    if (code != impossible)
        return code;
    std::puts("SKIPPED: the address space cannot be limited here");
    return std::nullopt;
}

} // namespace

TEST_CASE("a system that starts no more threads gives a smaller pool that does all of the work") {
    const auto code = without_threads([] {
        const auto pool = ThreadPool::create({.threads = 64});
        if (!pool || (*pool)->threads() >= 64 || (*pool)->threads() < 1)
            return 1;
        std::atomic<int> calls{0};
        for (int round = 0; round < 50; ++round)
            (*pool)->run(64, [&](int) { ++calls; });
        return calls == 50 * 64 ? 0 : 2;
    });
    CHECK(code.value_or(0) == 0);
}

TEST_CASE("a loop whose threads do not start runs all of its ranges") {
    const auto code = without_threads([] {
        std::atomic<int> calls{0};
        std::atomic<bool> go{false}; // the threads that did start are held until the caller has its turn
        const std::thread::id caller = std::this_thread::get_id();
        parallel_ranges(1000, 64, [&](std::int64_t begin, std::int64_t end) {
            if (std::this_thread::get_id() == caller)
                go = true;
            else
                go.wait(false);
            go.notify_all();
            calls += static_cast<int>(end - begin);
        });
        return calls == 1000 ? 0 : 1;
    });
    CHECK(code.value_or(0) == 0);
}

TEST_CASE("an exception of one range reaches the caller of a loop without a pool") {
    std::atomic<int> calls{0};
    for (const std::int64_t thrower : {0, 3})
        CHECK_THROWS_AS(parallel_ranges(8, 4,
                                        [&](std::int64_t begin, std::int64_t) {
                                            ++calls;
                                            if (begin / 2 == thrower)
                                                throw std::runtime_error("range");
                                        }),
                        std::runtime_error);
    CHECK(calls == 8);
}
