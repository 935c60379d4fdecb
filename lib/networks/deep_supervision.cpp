// SPDX-License-Identifier: MIT
#include "networks/deep_supervision.h"

#include "core/try.h"
#include "networks/family.h"
#include "networks/layers.h"

#include <algorithm>

namespace mfres {

namespace {

constexpr std::string_view prefix = "deep";

NodeId find_node(const Graph& graph, const std::string& name) {
    for (NodeId id = 0; id < graph.size(); ++id)
        if (graph.node(id).name == name)
            return id;
    return -1;
}

std::vector<std::string> maps_of(const Variant& variant) {
    const auto& maps = variant.family().auxiliary_maps;
    return maps ? maps(variant.settings()) : std::vector<std::string>();
}

} // namespace

Status check_deep_supervision(const Variant& variant) {
    if (!maps_of(variant).empty())
        return {};
    std::string able;
    for (const std::string& name : network_names()) {
        MFRES_TRY(const Variant candidate, parse_variant(name));
        if (!maps_of(candidate).empty())
            able += (able.empty() ? "" : ", ") + name;
    }
    return Error{
        ErrorCode::variant_invalid,
        text(variant.name(), " has no maps at 1/2 of its resolution for deep supervision; networks that have: ", able),
        variant.name()};
}

Result<Graph> build_with_heads(const Variant& variant, const Axes& size, std::int64_t batch) {
    MFRES_CHECK(check_deep_supervision(variant));
    MFRES_TRY(const Graph network, build_network(variant, size, batch));
    GraphBuilder builder;
    for (const Node& node : network.nodes())
        if (node.kind() == OpKind::input)
            builder.input(node.shape, node.name);
        else
            builder.add(node.name, node.op, node.inputs);
    builder.output(network.outputs()[0]);
    const std::vector<std::string> maps = maps_of(variant);
    for (std::size_t k = 0; k < maps.size(); ++k) {
        const NodeId map = find_node(network, maps[k]);
        if (map < 0)
            return Error{ErrorCode::internal, text(variant.name(), " has no node ", maps[k]), maps[k]};
        builder.output(builder.conv(text(prefix, k + 1, ".conv"), map, cubic(variant.classes(), 1)));
    }
    return builder.finish();
}

bool is_head_parameter(std::string_view name) {
    return name.substr(0, prefix.size()) == prefix;
}

Weights without_heads(const Weights& weights) {
    Weights left;
    for (const auto& [name, tensor] : weights)
        if (!is_head_parameter(name))
            left.emplace(name, tensor);
    return left;
}

std::vector<double> output_weights(std::size_t outputs) {
    std::vector<double> weights;
    double sum = 0.0;
    for (std::size_t k = 0; k < outputs; ++k) {
        weights.push_back(k == 0 ? 1.0 : 0.5 * weights.back());
        sum += weights.back();
    }
    for (double& weight : weights)
        weight /= sum;
    return weights;
}

} // namespace mfres
