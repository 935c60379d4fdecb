// SPDX-License-Identifier: MIT
#include "graph/quantization.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

namespace mfres {

namespace {

constexpr float most_weight = 127.0F;

bool has_node(const Graph& graph, std::string_view name) {
    return std::any_of(graph.nodes().begin(), graph.nodes().end(), [&](const Node& node) { return node.name == name; });
}

} // namespace

Quantizer quantiser_of(const ActivationRange& range) {
    const bool is_signed = range.least < 0.0F;
    Quantizer quantizer;
    quantizer.least = is_signed ? -127.0F : 0.0F;
    quantizer.most = is_signed ? 127.0F : 255.0F;
    const float largest = std::max(-range.least, range.most);
    if (largest > 0.0F) {
        quantizer.scale = largest / quantizer.most;
        quantizer.inverse = quantizer.most / largest;
    }
    return quantizer;
}

std::vector<float> largest_per_channel(const Tensor& weights) {
    const std::int64_t channels = weights.shape()[0];
    const std::int64_t taps = weights.elements() / channels;
    std::vector<float> largest(static_cast<std::size_t>(channels), 0.0F);
    for (std::int64_t i = 0; i < weights.elements(); ++i) {
        float& so_far = largest[static_cast<std::size_t>(i / taps)];
        so_far = std::max(so_far, std::abs(weights[i]));
    }
    return largest;
}

QuantizedWeights quantize_weights(const Tensor& weights, const std::vector<float>& largest) {
    const std::int64_t taps = weights.elements() / weights.shape()[0];
    QuantizedWeights quantized;
    quantized.values.reserve(static_cast<std::size_t>(weights.elements()));
    for (const float magnitude : largest)
        quantized.scales.push_back(
            magnitude > 0.0F ? std::max(magnitude / most_weight, std::numeric_limits<float>::min()) : 1.0F);
    for (std::int64_t i = 0; i < weights.elements(); ++i) {
        const float steps = round_to_even(weights[i] / quantized.scales[static_cast<std::size_t>(i / taps)]);
        quantized.values.push_back(static_cast<std::int8_t>(std::clamp(steps, -most_weight, most_weight)));
    }
    return quantized;
}

std::string original_convolution(const Graph& form, const std::string& name) {
    static constexpr std::array<std::string_view, 2> parts = {".high", ".low"};
    // A name that was taken already has got underscores behind it.
    const std::string_view plain = std::string_view(name).substr(0, name.find_last_not_of('_') + 1);
    for (const std::string_view part : parts) {
        if (!plain.ends_with(part))
            continue;
        const std::string whole(plain.substr(0, plain.size() - part.size()));
        if (!has_node(form, whole))
            return whole;
    }
    return name;
}

std::set<std::string, std::less<>> wholly_quantized(const Graph& form, const ActivationRanges& ranges) {
    std::set<std::string, std::less<>> whole;
    std::set<std::string, std::less<>> partly;
    for (const Node& node : form.nodes())
        if (node.kind() == OpKind::conv)
            (ranges.count(node.name) > 0 ? whole : partly).insert(original_convolution(form, node.name));
    for (const std::string& name : partly)
        whole.erase(name);
    return whole;
}

std::vector<float> largest_per_channel(const Network& form, const std::string& name) {
    const std::string whole = original_convolution(form.graph, name);
    std::vector<float> largest;
    for (const Node& node : form.graph.nodes()) {
        if (node.kind() != OpKind::conv || (node.name != name && original_convolution(form.graph, node.name) != whole))
            continue;
        const std::vector<float> own = largest_per_channel(form.weights.find(node.name + ".weight")->second);
        largest.resize(own.size(), 0.0F);
        for (std::size_t c = 0; c < own.size(); ++c)
            largest[c] = std::max(largest[c], own[c]);
    }
    return largest;
}

} // namespace mfres
