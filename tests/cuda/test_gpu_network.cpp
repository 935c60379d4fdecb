// SPDX-License-Identifier: MIT
// The network that GPU machines build without a JSON library is the registry's.
#include "backends/cuda/backend.h"
#include "backends/training.h"
#include "gpu/network.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/run_graph.h"

#include <string>

using namespace mfres;

TEST_CASE("the network of the GPU checks is mf-res2net, node by node") {
    const auto variant = parse_variant("mf-res2net");
    REQUIRE_OK(variant);
    const auto expected = build_network(*variant, {32, 48, 16}, 2);
    const auto got = test::GpuNetwork::make({32, 48, 16}, 2);
    REQUIRE_OK(expected);
    REQUIRE_OK(got);
    REQUIRE(got->size() == expected->size());
    CHECK(got->outputs() == expected->outputs());
    for (NodeId id = 0; id < got->size(); ++id) {
        const Node& a = got->node(id);
        const Node& b = expected->node(id);
        INFO(b.name);
        CHECK(a.name == b.name);
        CHECK(a.kind() == b.kind());
        CHECK(a.inputs == b.inputs);
        CHECK(a.shape == b.shape);
        REQUIRE(a.parameters.size() == b.parameters.size());
        for (std::size_t i = 0; i < a.parameters.size(); ++i) {
            CHECK(a.parameters[i].name == b.parameters[i].name);
            CHECK(a.parameters[i].shape == b.parameters[i].shape);
        }
        if (a.kind() == OpKind::conv) {
            CHECK(a.as<Conv>().stride == b.as<Conv>().stride);
            CHECK(a.as<Conv>().padding == b.as<Conv>().padding);
            CHECK(a.as<Conv>().groups == b.as<Conv>().groups);
        }
    }
}

TEST_CASE("training at 128^3 is planned to fit an 11 GB card: batch 2 in f32, batch 4 in bf16") {
    const cuda::CudaBackend backend(
        "cuda", "", [](int) { return Result<std::unique_ptr<cuda::Engine>>(cuda::make_host_engine()); },
        [] { return Status(); }, [] { return 1; });
    const auto planned = [&](Precision precision, std::int64_t batch) {
        const auto graph = test::GpuNetwork::make({128, 128, 128}, batch);
        REQUIRE_OK(graph);
        // More than the largest value alone, less than training needs even with activations computed again: the rejection
        // says how much that is.
        const auto rejected = backend.compile_training(
            *graph, test::random_weights(*graph, 1),
            {.precision = precision, .memory_cap = batch * (precision == Precision::f32 ? 700LL : 350LL) << 20});
        REQUIRE_CODE(rejected, memory_limit);
        const std::string& message = rejected.error().message;
        const long long least = std::stoll(message.substr(message.find("needs ") + 6));
        const long long without = std::stoll(message.substr(message.find("again (") + 7));
        CHECK(least < without / 2);
        return without;
    };
    constexpr long long workspace = 1024; // the most that cuDNN is given
    constexpr long long card = 11000000000LL >> 20;
    CHECK(planned(Precision::f32, 2) + workspace < card);
    CHECK(planned(Precision::bf16, 4) + workspace < card);
}
