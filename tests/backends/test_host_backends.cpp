// SPDX-License-Identifier: MIT
// What the backends have in common that run on this machine's processors by backends/planned: onednn and native. That
// they compute every operation is checked by the op-case table.
#include "core/memory_usage.h"
#include "core/thread_pool.h"
#include "graph/memory_plan.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/graphs.h"
#include "support/network_runs.h"
#include "support/paths.h"

#include <cstdlib>
#include <filesystem>
#include <thread>

using namespace mfres;
using test::finished;
using test::network;

namespace {

/// MFRES_HOST_BACKEND names one of the two where the other takes hours, as oneDNN does on an imitated processor.
std::vector<const Backend*> host_backends() {
    const char* const chosen = std::getenv("MFRES_HOST_BACKEND");
    std::vector<const Backend*> found;
    for (const Backend* backend : test::usable_backends())
        if ((backend->name() == "onednn" || backend->name() == "native") && (!chosen || backend->name() == chosen))
            found.push_back(backend);
    if (found.empty())
        std::printf("SKIPPED: neither onednn nor native is part of this build\n");
    return found;
}

int threads_of_this_process() {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return static_cast<int>(std::distance(begin(tasks), end(tasks)));
}

} // namespace

// Differences are relative to the largest logit: random weights drive logits to 10^4 in networks without normalisation
// of their input, where f32 itself resolves 10^-3.
TEST_CASE("onednn and native compute every registered network as the reference does") {
    const auto backends = host_backends();
    for (const std::string& name : network_names()) {
        // The plain U-Nets need a hundred times the others' arithmetic, which the reference takes its time for.
        const bool heavy = name.find("unet") != std::string::npos || name.find("no-new-net") != std::string::npos;
        const Axes not_cubic = heavy ? Axes{16, 32, 16} : Axes{16, 48, 32};
        for (const Axes& size : {Axes{32, 32, 32}, not_cubic}) {
            INFO(name << " at " << size[0] << "x" << size[1] << "x" << size[2]);
            const Graph graph = network(name, size);
            const Weights weights = test::random_weights(graph, 31);
            const Tensor input = test::random_tensor(graph.node(graph.input()).shape, 32);
            const Tensor expected = test::run_reference(graph, weights, input);
            for (const Backend* backend : backends) {
                INFO(backend->name());
                const auto got = test::run(*backend, graph, weights, input);
                REQUIRE_OK(got);
                CHECK(test::relative_difference(*got, expected) <= 1e-4);
            }
        }
    }
}

TEST_CASE("onednn and native take batches and boxes that are not cubes") {
    for (const Backend* backend : host_backends()) {
        INFO(backend->name());
        CHECK(test::difference_from_reference(*backend, network("mf-res2net", {16, 48, 32}, 2)) <= 1e-4);
        CHECK(test::difference_from_reference(*backend, network("dmfnet", {32, 16, 48}, 2)) <= 1e-4);
    }
}

TEST_CASE("onednn and native run ops as they were fused and report them") {
    for (const Backend* backend : host_backends()) {
        INFO(backend->name());
        GraphBuilder builder;
        const NodeId x = builder.input(Shape{1, 4, 6, 5, 8});
        const NodeId c = builder.conv("c", x, Conv{.out_channels = 4, .kernel = {1, 3, 3}, .padding = {0, 1, 1}});
        const NodeId sum = builder.sum("sum", {builder.batch_norm("bn", c), x});
        const NodeId active = builder.leaky_relu("active", sum, 0.2);
        const NodeId up = builder.relu("up_relu", builder.upsample2("up", active));
        const auto steps = test::chosen(*backend, finished(builder, builder.softmax("soft", up)));
        REQUIRE(steps.size() == 3);
        CHECK(steps[0].node == "c");
        CHECK(steps[0].operation == "conv + add + leaky_relu");
        CHECK(steps[1].operation == "upsample + relu");
        CHECK(steps[1].implementation == "mfres:upsample_trilinear");
        CHECK(steps[2].operation == "softmax");
    }
}

TEST_CASE("ten runs of onednn and native give equal bits, for any number of threads") {
    for (const Backend* backend : host_backends()) {
        INFO(backend->name());
        for (const char* name : {"mf-res2net", "no-new-net"}) {
            const Graph graph = network(name, {16, 16, 16});
            const Weights weights = test::random_weights(graph, 5);
            const Tensor input = test::random_tensor(graph.node(0).shape, 6);
            for (const int threads : {1, 2, 3}) {
                INFO(name << ", " << threads << " threads");
                auto executable = backend->compile(graph, weights, {.threads = threads});
                REQUIRE_OK(executable);
                const auto first = test::run(**executable, input);
                REQUIRE_OK(first);
                for (int i = 1; i < 10; ++i) {
                    const auto again = test::run(**executable, input);
                    REQUIRE_OK(again);
                    REQUIRE(std::equal(first->values().begin(), first->values().end(), again->values().begin()));
                }
            }
        }
    }
}

TEST_CASE("an executable of onednn or native uses the threads it was given") {
    if (!std::filesystem::exists("/proc/self/task"))
        return;
    for (const Backend* backend : host_backends()) {
        INFO(backend->name());
        const Graph graph = network("mf-res2net", {16, 16, 16});
        const Weights weights = test::random_weights(graph, 5);
        const Tensor input = test::random_tensor(graph.node(0).shape, 6);
        struct Threads {
            int all = 0;
            int started = 0;
        };
        const auto run_with = [&](int threads) {
            Threads count;
            // From a thread of its own: OpenMP keeps one team per calling thread, though it may take over idle threads.
            std::thread([&] {
                const int before = threads_of_this_process();
                auto executable = backend->compile(graph, weights, {.threads = threads});
                if (executable && test::run(**executable, input)) {
                    count.all = threads_of_this_process();
                    count.started = count.all - before;
                }
            }).join();
            return count;
        };
        CHECK(run_with(1).started == 0);
        const Threads three = run_with(3);
        CHECK(three.started <= 2);
        CHECK(three.all >= 1 + 3); // with the thread of the test itself
    }
}

TEST_CASE("a host's own parallel loop runs a network to the same bits, and barriers are counted") {
    for (const Backend* backend : host_backends()) {
        INFO(backend->name());
        const Graph graph = network("mf-res2net", {32, 16, 48});
        const Weights weights = test::random_weights(graph, 5);
        const Tensor input = test::random_tensor(graph.node(0).shape, 6);
        const auto compiled = [&](const ComputeOptions& options) {
            auto pool = ThreadPool::create(options);
            REQUIRE_OK(pool);
            auto executable = backend->compile(graph, weights, {.pool = *pool});
            REQUIRE_OK(executable);
            return std::move(executable).value();
        };
        const auto own = compiled({.threads = 3});
        const auto expected = test::run(*own, input);
        REQUIRE_OK(expected);
        // A barrier may cost a time slice of the scheduler on a busy machine: one for each op at most.
        CHECK(own->barriers() > 0);
        CHECK(own->barriers() <= static_cast<std::int64_t>(own->chosen().size()));

        int loops = 0;
        const auto hosted =
            compiled({.threads = 3, .parallel_for = [&](int parts, const std::function<void(int)>& part) {
                          ++loops;
                          for (int i = parts; i-- > 0;) // any order will do
                              part(i);
                      }});
        const auto result = test::run(*hosted, input);
        REQUIRE_OK(result);
        CHECK(std::equal(expected->values().begin(), expected->values().end(), result->values().begin()));
        CHECK(loops == hosted->barriers());
    }
}

TEST_CASE("executables with different threads do not disturb each other") {
    for (const Backend* backend : host_backends()) {
        INFO(backend->name());
        const Graph graph = network("mf-res2net", {16, 16, 32});
        const Weights weights = test::random_weights(graph, 7);
        const Tensor input = test::random_tensor(graph.node(0).shape, 8);
        auto one = backend->compile(graph, weights, {.threads = 1});
        auto two = backend->compile(graph, weights, {.threads = 2});
        REQUIRE_OK(one);
        REQUIRE_OK(two);
        const auto alone = test::run(**one, input);
        REQUIRE_OK(alone);
        const auto other = test::run(**two, input);
        REQUIRE_OK(other);
        CHECK(test::relative_difference(*other, *alone) <= 1e-5);
        const auto after = test::run(**one, input);
        REQUIRE_OK(after);
        CHECK(std::equal(alone->values().begin(), alone->values().end(), after->values().begin()));
    }
}

TEST_CASE("onednn and native show their memory channels-last and need no more than they say") {
    for (const Backend* backend : host_backends()) {
        INFO(backend->name());
        const Graph graph = network("mf-res2net", {64, 64, 32});
        Weights weights = test::random_weights(graph, 9);
        const Tensor input = test::random_tensor(graph.node(0).shape, 10);
        // First what does not depend on this network: the engine itself, its threads, their stacks.
        const Tensor small = test::random_tensor(Shape{1, 4, 16, 16, 16}, 1);
        REQUIRE_OK(test::run(*backend, network("mf-res2net", {16, 16, 16}), weights, small));
        const std::int64_t before = resident_bytes();
        auto executable = backend->compile(graph, weights, {});
        REQUIRE_OK(executable);
        weights.clear();
        const auto output = test::run(**executable, input);
        REQUIRE_OK(output);
        CHECK((*executable)->input().strides ==
              std::array<std::int64_t, 5>{4 * 64 * 64 * 32, 1, 4 * 64 * 32, 4 * 32, 4});
        CHECK((*executable)->output(0).strides[1] == 1);

        const Graph folded = inference_form(graph);
        const auto plan = plan_memory(plan_value_buffers(folded, fuse_ops(folded)).requests);
        // Values inside a fusion group have no buffer, so the plan without groups is no lower bound.
        CHECK((*executable)->peak_bytes() >= 4 * (output->elements() + 3'100'000)); // the logits and the weights
        CHECK((*executable)->peak_bytes() <= plan.bytes + 4 * 4'000'000); // weights, 3.2 million, and workspace
        if (before > 0 && test::resident_memory_is_ours) {
            // Kernels compiled at run time are no part of the figure: about 10 KB for each convolution.
            const std::int64_t grown = resident_bytes() - before - 4 * output->elements();
            CHECK(grown <= (*executable)->peak_bytes() * 11 / 10 + 4'000'000);
        }
    }
}

TEST_CASE("an observer sees every op of onednn and native and can stop a run") {
    for (const Backend* backend : host_backends()) {
        INFO(backend->name());
        const Graph graph = network("mf-res2net", {16, 16, 16});
        auto executable = backend->compile(graph, test::random_weights(graph, 1), {});
        REQUIRE_OK(executable);
        const int total = static_cast<int>((*executable)->chosen().size());
        int calls = 0;
        REQUIRE_OK((*executable)->run([&](int done, int of) { return done == ++calls && of == total; }));
        CHECK(calls == total);
        REQUIRE_CODE((*executable)->run([](int done, int) { return done < 3; }), interrupted);
    }
}

#if !defined(__SANITIZE_ADDRESS__) // which ends the program instead of rejecting the memory
TEST_CASE("onednn and native reject what fits into no memory") {
    for (const Backend* backend : host_backends()) {
        INFO(backend->name());
        // 64 values of 4 TB at once are more than 47 bits of addresses.
        GraphBuilder builder;
        const NodeId x = builder.input(Shape{1, 1, 16384, 8192, 8192});
        std::vector<NodeId> values;
        for (int i = 0; i < 64; ++i)
            values.push_back(builder.relu("r" + std::to_string(i), x));
        REQUIRE_CODE(backend->compile(finished(builder, builder.sum("s", values)), {}, {}), memory_limit);
    }
}
#endif
