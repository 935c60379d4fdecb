// SPDX-License-Identifier: MIT
// Small networks with weights and outputs computed by independent PyTorch definitions. They pin what counts cannot:
// kernel axes, the order of ReLU and addition, epsilon, half-pixel interpolation, the order of concatenation, names.
#include "support/golden.h"
#include "support/network_runs.h"
#include "support/paths.h"

using namespace mfres;

namespace {

void check_golden(const std::filesystem::path& path, const std::string& json) {
    const auto golden = test::load_golden(path);
    REQUIRE_OK(golden);
    const auto variant = parse_variant(json);
    REQUIRE_OK(variant);
    CHECK(golden->variant.json() == variant->json());

    std::size_t gradients = 0;
    for (const Node& node : golden->graph.nodes())
        for (const Parameter& parameter : node.parameters)
            if (const auto found = golden->values.find("grad." + parameter.name); found != golden->values.end()) {
                CHECK(parameter.learnable());
                CHECK(found->second.shape() == parameter.shape);
                ++gradients;
            } else {
                CHECK_FALSE(parameter.learnable());
            }
    CHECK(gradients > 100);
    for (const auto& [name, tensor] : golden->values)
        if (name != "input" && name != "output" && name.rfind("train.", 0) != 0 && name.rfind("grad.", 0) != 0) {
            INFO(name << " is in the file and not in the network");
            CHECK(golden->weights.count(name) == 1);
        }

    const Tensor& expected = golden->values.at("output");
    CHECK(test::largest(expected) > 0.1);
    for (const Backend* backend : test::usable_backends()) {
        INFO(backend->name());
        const auto actual = test::run(*backend, golden->graph, golden->weights, golden->values.at("input"));
        REQUIRE_OK(actual);
        REQUIRE(test::all_finite(*actual));
        CHECK(test::largest_difference(*actual, expected) <= 1e-4);
    }
}

} // namespace

TEST_CASE("every backend reproduces the golden forward of mf-res2net under the golden names") {
    if (const auto path = test::shared_data("data/golden/mf-res2net-small.safetensors"))
        check_golden(*path, R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})");
}

TEST_CASE("every backend reproduces the golden forward of dmfnet under the published state_dict names") {
    if (const auto path = test::shared_data("data/golden/dmfnet-small.safetensors"))
        check_golden(*path, R"({"network": "dmfnet", "n": 8, "channels": 16, "groups": 4})");
}
