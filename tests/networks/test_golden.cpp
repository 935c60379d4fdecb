// Small networks with weights and outputs computed by independent PyTorch definitions: names, shapes and the forward.
#include "core/file.h"
#include "networks/registry.h"
#include "support/catch.h"
#include "support/network_runs.h"
#include "support/paths.h"

#include <nlohmann/json.hpp>

#include <cstring>

using namespace mfres;

namespace {

/// The f32 tensors of a safetensors file (8 bytes of header length, JSON header, data).
Weights read_tensors(const std::filesystem::path& path) {
    const auto bytes = read_file(path, std::uint64_t{64} << 20U);
    REQUIRE_OK(bytes);
    std::uint64_t header_size = 0;
    std::memcpy(&header_size, bytes->data(), sizeof header_size);
    const auto* text = reinterpret_cast<const char*>(bytes->data()) + sizeof header_size;
    const auto header = nlohmann::json::parse(text, text + header_size);
    Weights tensors;
    for (const auto& [name, entry] : header.items()) {
        if (name == "__metadata__")
            continue;
        REQUIRE(entry.at("dtype") == "F32");
        const auto extents = entry.at("shape").get<std::vector<std::int64_t>>();
        Tensor tensor{Shape(std::span<const std::int64_t>(extents))};
        const auto begin = entry.at("data_offsets").at(0).get<std::size_t>();
        std::memcpy(tensor.data(), bytes->data() + sizeof header_size + header_size + begin,
                    static_cast<std::size_t>(tensor.elements()) * sizeof(float));
        tensors.emplace(name, std::move(tensor));
    }
    return tensors;
}

/// What belongs to the network: everything but inputs, outputs, training values and gradients.
Weights weights_of(const Weights& tensors) {
    Weights weights;
    for (const auto& [name, tensor] : tensors)
        if (name != "input" && name != "output" && name.rfind("train.", 0) != 0 && name.rfind("grad.", 0) != 0)
            weights.emplace(name, tensor);
    return weights;
}

void check_golden(const std::filesystem::path& path, const std::string& json) {
    const Weights tensors = read_tensors(path);
    const Weights weights = weights_of(tensors);
    const Tensor& input = tensors.at("input");
    const Tensor& expected = tensors.at("output");

    const auto variant = parse_variant(json);
    REQUIRE_OK(variant);
    const auto graph = build_network(*variant, spatial(input.shape()), input.shape()[0]);
    REQUIRE_OK(graph);
    REQUIRE_OK(check_weights(*graph, weights));
    std::size_t gradients = 0;
    for (const Node& node : graph->nodes())
        for (const Parameter& parameter : node.parameters)
            if (const auto found = tensors.find("grad." + parameter.name); found != tensors.end()) {
                CHECK(parameter.learnable());
                CHECK(found->second.shape() == parameter.shape);
                ++gradients;
            } else {
                CHECK_FALSE(parameter.learnable());
            }
    CHECK(gradients > 100);

    const Tensor actual = test::run_reference(*graph, weights, input);
    REQUIRE(test::all_finite(actual));
    CHECK(test::largest(expected) > 0.1);
    CHECK(test::largest_difference(actual, expected) <= 1e-4);
}

} // namespace

TEST_CASE("mf-res2net reproduces the golden forward under the golden names") {
    if (const auto path = test::shared_data("data/golden/mf-res2net-small.safetensors"))
        check_golden(*path, R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})");
}

TEST_CASE("dmfnet reproduces the golden forward under the published state_dict names") {
    if (const auto path = test::shared_data("data/golden/dmfnet-small.safetensors"))
        check_golden(*path, R"({"network": "dmfnet", "n": 8, "channels": 16, "groups": 4})");
}
