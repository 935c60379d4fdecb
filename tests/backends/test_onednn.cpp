// SPDX-License-Identifier: MIT
// What is particular to the oneDNN backend; that it computes every operation is checked by the op-case table.
#include "core/memory_usage.h"
#include "core/thread_pool.h"
#include "graph/memory_plan.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/graphs.h"
#include "support/paths.h"
#include "support/run_graph.h"

#include <cstdlib>
#include <filesystem>
#include <thread>

using namespace mfres;
using test::finished;
using test::network;

namespace {

const Backend* onednn() {
    return test::backend_or_skip("onednn");
}

/// Largest difference over largest magnitude.
double relative_difference(const Tensor& got, const Tensor& expected) {
    REQUIRE(got.shape() == expected.shape());
    double difference = 0.0;
    double largest = 0.0;
    for (std::int64_t i = 0; i < got.elements(); ++i) {
        difference = std::max(difference, std::abs(double{got[i]} - double{expected[i]}));
        largest = std::max(largest, std::abs(double{expected[i]}));
    }
    REQUIRE(largest > 1e-3);
    return difference / largest;
}

double difference_from_reference(const Backend& backend, const Graph& graph, const CompileOptions& options = {}) {
    const Weights weights = test::random_weights(graph, 31);
    const Tensor input = test::random_tensor(graph.node(graph.input()).shape, 32);
    const auto expected = test::run(**find_backend("reference"), graph, weights, input);
    REQUIRE_OK(expected);
    const auto got = test::run(backend, graph, weights, input, options);
    REQUIRE_OK(got);
    return relative_difference(*got, *expected);
}

std::vector<Chosen> chosen(const Backend& backend, const Graph& graph) {
    auto executable = backend.compile(graph, test::random_weights(graph, 1), {});
    REQUIRE_OK(executable);
    return (*executable)->chosen();
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

bool has_avx2() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") != 0;
#else
    return false;
#endif
}

/// Every convolution of every network has a kernel compiled for this processor.
void check_compiled_kernels(const Backend& backend) {
    if (!has_avx2()) {
        std::printf("SKIPPED: oneDNN compiles 3-D kernels for AVX2 and later\n");
        return;
    }
    for (const std::string& name : network_names())
        for (const Chosen& step : chosen(backend, network(name, {64, 64, 64}))) {
            INFO(name << ": " << step.node << " got " << step.implementation);
            if (step.operation.rfind("conv", 0) == 0) {
                CHECK_FALSE(contains(step.implementation, "ref"));
                CHECK_FALSE(contains(step.implementation, "gemm"));
            } else {
                CHECK(step.implementation.rfind("mfres:", 0) == 0);
            }
        }
}

int threads_of_this_process() {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return static_cast<int>(std::distance(begin(tasks), end(tasks)));
}

} // namespace

// Differences are relative to the largest logit: random weights drive logits to 10^4 in networks without normalisation
// of their input, where f32 itself resolves 10^-3.
TEST_CASE("oneDNN computes every registered network as the reference does") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    for (const std::string& name : network_names()) {
        // The plain U-Nets need a hundred times the others' arithmetic, which the reference takes its time for.
        const bool heavy = contains(name, "unet") || contains(name, "no-new-net");
        const Axes not_cubic = heavy ? Axes{16, 32, 16} : Axes{16, 48, 32};
        for (const Axes& size : {Axes{32, 32, 32}, not_cubic}) {
            INFO(name << " at " << size[0] << "x" << size[1] << "x" << size[2]);
            CHECK(difference_from_reference(*backend, network(name, size)) <= 1e-4);
        }
    }
}

TEST_CASE("oneDNN takes batches and boxes that are not cubes") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    CHECK(difference_from_reference(*backend, network("mf-res2net", {16, 48, 32}, 2)) <= 1e-4);
    CHECK(difference_from_reference(*backend, network("dmfnet", {32, 16, 48}, 2)) <= 1e-4);
}

TEST_CASE("oneDNN chooses no reference and no gemm implementation for any convolution of any network") {
    if (const Backend* backend = onednn())
        check_compiled_kernels(*backend);
}

TEST_CASE("nor on a processor with AVX2 only, where it computes the same") {
    // oneDNN reads this when it is first used: CTest runs every test case in its own process. Where another test case
    // came first the variable has no effect, and the checks are those of the case above.
    ::setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
    const Backend* backend = onednn();
    if (!backend)
        return;
    check_compiled_kernels(*backend);
    for (const std::int64_t per_group : {1, 2, 6}) {
        GraphBuilder builder;
        const NodeId x = builder.input(Shape{1, 4 * per_group, 5, 6, 9});
        const NodeId narrow = builder.conv(
            "narrow", x,
            Conv{.out_channels = 4 * per_group, .kernel = {3, 3, 3}, .padding = {1, 1, 1}, .groups = 4, .bias = true});
        const NodeId wide =
            builder.conv("wide", narrow, Conv{.out_channels = 4, .kernel = {9, 9, 9}, .padding = {4, 4, 4}});
        INFO(per_group << " channels per group");
        CHECK(difference_from_reference(*backend, finished(builder, wide)) <= 1e-5);
    }
}

TEST_CASE("oneDNN runs ops as they were fused and reports them") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 4, 6, 5, 8});
    const NodeId c = builder.conv("c", x, Conv{.out_channels = 4, .kernel = {1, 3, 3}, .padding = {0, 1, 1}});
    const NodeId sum = builder.sum("sum", {builder.batch_norm("bn", c), x});
    const NodeId active = builder.leaky_relu("active", sum, 0.2);
    const NodeId up = builder.relu("up_relu", builder.upsample2("up", active));
    const auto steps = chosen(*backend, finished(builder, builder.softmax("soft", up)));
    REQUIRE(steps.size() == 3);
    CHECK(steps[0].node == "c");
    CHECK(steps[0].operation == "conv + add + leaky_relu");
    CHECK(steps[1].operation == "upsample + relu");
    CHECK(steps[1].implementation == "mfres:upsample_trilinear");
    CHECK(steps[2].operation == "softmax");
    CHECK(backend->description().rfind("oneDNN ", 0) == 0);
}

TEST_CASE("ten runs of oneDNN give equal bits, for any number of threads") {
    const Backend* backend = onednn();
    if (!backend)
        return;
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

TEST_CASE("an executable of oneDNN uses the threads it was given") {
    const Backend* backend = onednn();
    if (!backend || !std::filesystem::exists("/proc/self/task"))
        return;
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

TEST_CASE("a host's own parallel loop runs a network to the same bits, and barriers are counted") {
    const Backend* backend = onednn();
    if (!backend)
        return;
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
    const auto hosted = compiled({.threads = 3, .parallel_for = [&](int parts, const std::function<void(int)>& part) {
                                      ++loops;
                                      for (int i = parts; i-- > 0;) // any order will do
                                          part(i);
                                  }});
    const auto result = test::run(*hosted, input);
    REQUIRE_OK(result);
    CHECK(std::equal(expected->values().begin(), expected->values().end(), result->values().begin()));
    CHECK(loops == hosted->barriers());
}

TEST_CASE("executables with different threads do not disturb each other") {
    const Backend* backend = onednn();
    if (!backend)
        return;
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
    CHECK(relative_difference(*other, *alone) <= 1e-5);
    const auto after = test::run(**one, input);
    REQUIRE_OK(after);
    CHECK(std::equal(alone->values().begin(), alone->values().end(), after->values().begin()));
}

TEST_CASE("oneDNN shows its memory channels-last and needs no more than it says") {
    const Backend* backend = onednn();
    if (!backend)
        return;
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
    CHECK((*executable)->input().strides == std::array<std::int64_t, 5>{4 * 64 * 64 * 32, 1, 4 * 64 * 32, 4 * 32, 4});
    CHECK((*executable)->output(0).strides[1] == 1);

    const Graph folded = inference_form(graph);
    const auto plan = plan_memory(plan_value_buffers(folded, fuse_ops(folded)).requests);
    // Values inside a fusion group have no buffer, so the plan without groups is no lower bound.
    CHECK((*executable)->peak_bytes() >= 4 * (output->elements() + 3'100'000)); // the logits and the weights
    CHECK((*executable)->peak_bytes() <= plan.bytes + 4 * 4'000'000);           // weights, 3.2 million, and workspace
    if (before > 0 && test::resident_memory_is_ours) {
        // Kernels compiled at run time are no part of the figure: about 10 KB for each convolution.
        const std::int64_t grown = resident_bytes() - before - 4 * output->elements();
        CHECK(grown <= (*executable)->peak_bytes() * 11 / 10 + 4'000'000);
    }
}

TEST_CASE("an observer sees every op of oneDNN and can stop a run") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    const Graph graph = network("mf-res2net", {16, 16, 16});
    auto executable = backend->compile(graph, test::random_weights(graph, 1), {});
    REQUIRE_OK(executable);
    const int total = static_cast<int>((*executable)->chosen().size());
    int calls = 0;
    REQUIRE_OK((*executable)->run([&](int done, int of) { return done == ++calls && of == total; }));
    CHECK(calls == total);
    REQUIRE_CODE((*executable)->run([](int done, int) { return done < 3; }), interrupted);
}

#if !defined(__SANITIZE_ADDRESS__) // which ends the program instead of rejecting the memory
TEST_CASE("oneDNN rejects what fits into no memory") {
    const Backend* backend = onednn();
    if (!backend)
        return;
    // 64 values of 4 TB at once are more than 47 bits of addresses.
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 1, 16384, 8192, 8192});
    std::vector<NodeId> values;
    for (int i = 0; i < 64; ++i)
        values.push_back(builder.relu("r" + std::to_string(i), x));
    REQUIRE_CODE(backend->compile(finished(builder, builder.sum("s", values)), {}, {}), memory_limit);
}
#endif
