// The network that GPU machines build without a JSON library is the registry's.
#include "gpu/network.h"
#include "networks/registry.h"
#include "support/catch.h"

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
