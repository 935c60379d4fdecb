// SPDX-License-Identifier: MIT
// What is particular to the native backend; what it has in common with onednn is in test_host_backends.cpp, its kernels
// are compared with their formulas in test_kernels.cpp.
#include "networks/registry.h"
#include "support/catch.h"
#include "support/graphs.h"
#include "support/network_runs.h"
#include "support/paths.h"

#ifdef MFRES_WITH_NATIVE
#include "backends/kernels/dispatch.h"

#include <cstdlib>

using namespace mfres;
using test::network;

namespace {

const Backend& native() {
    const auto found = find_backend("native");
    REQUIRE_OK(found);
    return **found;
}

} // namespace

TEST_CASE("every op of every network on native is a kernel of this project for the processor's instruction set") {
    const std::string target = kernels::supported_targets().front();
    CHECK(native().description() == "SIMD kernels of mfres (" + target + ")");
    for (const std::string& name : network_names())
        for (const Chosen& op : test::chosen(native(), network(name, {32, 32, 32}))) {
            INFO(name << ": " << op.node << " got " << op.implementation);
            CHECK(op.implementation.rfind("mfres:", 0) == 0);
            // Eight output channels are computed in vectors of eight floats, with AVX-512 as well.
            const bool narrow = target == "AVX3" && op.implementation.ends_with("x8:AVX2");
            if (op.operation.rfind("conv", 0) == 0 && !narrow)
                CHECK(op.implementation.find(":" + target) != std::string::npos);
        }
}

TEST_CASE("networks of every kind compute the same on native under every target") {
    // Fused units, grouped convolutions, dilated ones.
    for (const char* name : {"mf-res2net", "dmfnet", "3d-espnet"}) {
        const Graph graph = network(name, {16, 32, 16});
        const Weights weights = test::random_weights(graph, 31);
        const Tensor input = test::random_tensor(graph.node(graph.input()).shape, 32);
        const Tensor expected = test::run_reference(graph, weights, input);
        for (const std::string& target : kernels::supported_targets()) {
            INFO(name << " under " << target);
            const kernels::TargetScope scope(target);
            const auto got = test::run(native(), graph, weights, input);
            REQUIRE_OK(got);
            CHECK(test::relative_difference(*got, expected) <= 1e-4);
        }
    }
}

TEST_CASE("native gives the same bits for any number of threads") {
    const Graph graph = network("dmfnet", {16, 32, 48});
    const Weights weights = test::random_weights(graph, 5);
    const Tensor input = test::random_tensor(graph.node(0).shape, 6);
    const auto one = test::run(native(), graph, weights, input, {.threads = 1});
    REQUIRE_OK(one);
    for (const int threads : {2, 3, 7}) {
        INFO(threads << " threads");
        const auto several = test::run(native(), graph, weights, input, {.threads = threads});
        REQUIRE_OK(several);
        CHECK(std::equal(one->values().begin(), one->values().end(), several->values().begin()));
    }
}

TEST_CASE("native rejects what it does not compute, and says why") {
    const Graph graph = network("mf-res2net", {16, 16, 16});
    for (const Precision precision : {Precision::bf16, Precision::fp16, Precision::int8}) {
        const auto rejected = native().compile(graph, test::random_weights(graph, 1), {.precision = precision});
        REQUIRE_CODE(rejected, operation_unsupported);
        CHECK(rejected.error().message.find("values cannot be stored as " + std::string(to_string(precision))) !=
              std::string::npos);
    }
    REQUIRE_CODE(native().compile(graph, {}, {.allow_tf32 = true}), operation_unsupported);
    REQUIRE_CODE(native().compile(graph, {}, {.deterministic = false}), operation_unsupported);
    ::setenv("MFRES_MAX_CPU_ISA", "AVX9", 1);
    const auto unknown = native().compile(graph, test::random_weights(graph, 1), {});
    ::unsetenv("MFRES_MAX_CPU_ISA");
    REQUIRE_CODE(unknown, invalid_argument);
    CHECK(unknown.error().message.find("AVX9") != std::string::npos);
}
#endif
