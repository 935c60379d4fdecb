// SPDX-License-Identifier: MIT
// The arithmetic of int8: rounding, ranges, and weights that stay the same integers through every rewrite.
#include "graph/quantization.h"

#include "support/graphs.h"
#include "support/run_graph.h"

#include <cmath>

using namespace mfres;

TEST_CASE("integers are the nearest, halves to even, clamped to what the range keeps apart") {
    for (const float x : {0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 126.5F, 254.5F, 0.49999997F, 3.2F, -7.8F})
        CHECK(round_to_even(x) == std::nearbyint(x));
    const Quantizer u8 = quantiser_of({0.0F, 510.0F});
    CHECK_FALSE(u8.is_signed());
    CHECK(u8.scale == 2.0F);
    CHECK(quantize(u8, 1.0F) == 0.0F); // half a step, to even
    CHECK(quantize(u8, 3.0F) == 2.0F);
    CHECK(quantize(u8, 509.5F) == 255.0F);
    CHECK(quantize(u8, 1e30F) == 255.0F);
    CHECK(quantize(u8, -4.0F) == 0.0F);
    const Quantizer s8 = quantiser_of({-254.0F, 100.0F});
    CHECK(s8.is_signed());
    CHECK(s8.scale == 2.0F);
    CHECK(quantize(s8, -1e30F) == -127.0F);
    CHECK(quantize(s8, -3.0F) == -2.0F);
    CHECK(quantize(s8, 300.0F) == 127.0F);
    const Quantizer none = quantiser_of({0.0F, 0.0F});
    CHECK(none.scale == 1.0F);
    CHECK(quantize(none, 0.0F) == 0.0F);
}

TEST_CASE("weights get one scale per output channel, and a channel of zeros stays zero") {
    Tensor weights(Shape{3, 2, 1, 1, 1});
    const float values[] = {1.0F, -0.5F, 0.0F, 0.0F, 127.0F, 0.5F};
    std::copy(std::begin(values), std::end(values), weights.data());
    const QuantizedWeights quantized = quantize_weights(weights, largest_per_channel(weights));
    CHECK(quantized.values == std::vector<std::int8_t>{127, -64, 0, 0, 127, 0}); // -63.5 and 0.5 to even
    CHECK(quantized.scales == std::vector<float>{1.0F / 127.0F, 1.0F, 1.0F});
}

TEST_CASE("quantized weights come through folding and splitting as the same integers") {
    const Graph graph = test::network("mf-res2net", {16, 16, 16});
    Weights weights = test::random_weights(graph, 5);
    std::map<std::string, std::vector<std::int8_t>> integers;
    for (const Node& node : graph.nodes()) {
        if (node.kind() != OpKind::conv)
            continue;
        Tensor& weight = weights.find(node.name + ".weight")->second;
        const QuantizedWeights quantized = quantize_weights(weight, largest_per_channel(weight));
        const std::int64_t taps = weight.elements() / weight.shape()[0];
        for (std::int64_t i = 0; i < weight.elements(); ++i)
            weight[i] = static_cast<float>(quantized.values[static_cast<std::size_t>(i)]) *
                        quantized.scales[static_cast<std::size_t>(i / taps)];
        integers[node.name] = quantized.values;
    }
    const auto form = inference_form(graph, weights);
    REQUIRE_OK(form);
    std::size_t whole = 0;
    std::size_t parts = 0;
    std::map<std::string, std::size_t> values_of;
    for (const Node& node : form->graph.nodes()) {
        if (node.kind() != OpKind::conv)
            continue;
        INFO(node.name);
        const std::string original = original_convolution(form->graph, node.name);
        REQUIRE(integers.count(original) == 1);
        const Tensor& weight = form->weights.find(node.name + ".weight")->second;
        const auto now = quantize_weights(weight, largest_per_channel(*form, node.name)).values;
        if (original == node.name) {
            CHECK(now == integers[original]);
            ++whole;
            continue;
        }
        ++parts;
        values_of[original] += now.size();
        // The parts are columns of the whole: each row of one occurs in the whole's row.
        const auto& all = integers[original];
        const std::int64_t width = weight.shape()[1];
        const std::int64_t whole_width = static_cast<std::int64_t>(all.size()) / weight.shape()[0];
        for (std::int64_t row = 0; row < weight.shape()[0]; ++row)
            CHECK(std::search(all.begin() + row * whole_width, all.begin() + (row + 1) * whole_width,
                              now.begin() + row * width,
                              now.begin() + (row + 1) * width) != all.begin() + (row + 1) * whole_width);
    }
    for (const auto& [original, count] : values_of)
        CHECK(count == integers[original].size());
    CHECK(whole > 50);
    CHECK(parts >= 4);
}
