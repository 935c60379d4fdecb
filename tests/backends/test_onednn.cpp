// SPDX-License-Identifier: MIT
// What is particular to the oneDNN backend; what it has in common with native is in test_host_backends.cpp.
#include "networks/registry.h"
#include "support/catch.h"
#include "support/graphs.h"
#include "support/network_runs.h"
#include "support/paths.h"

#include <cstdlib>

using namespace mfres;
using test::finished;
using test::network;

namespace {

const Backend* onednn() {
    return test::backend_or_skip("onednn");
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
        for (const Chosen& step : test::chosen(backend, network(name, {64, 64, 64}))) {
            INFO(name << ": " << step.node << " got " << step.implementation);
            if (step.operation.rfind("conv", 0) == 0) {
                CHECK_FALSE(contains(step.implementation, "ref"));
                CHECK_FALSE(contains(step.implementation, "gemm"));
            } else {
                CHECK(step.implementation.rfind("mfres:", 0) == 0);
            }
        }
}

} // namespace

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
        CHECK(test::difference_from_reference(*backend, finished(builder, wide)) <= 1e-5);
    }
}
