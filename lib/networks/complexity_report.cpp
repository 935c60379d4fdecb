// SPDX-License-Identifier: MIT
// Complexity of networks by name: builds the graph, counts its ops, groups layers into stages.
#include "core/guard.h"
#include "graph/complexity.h"
#include "networks/family.h"
#include "networks/registry.h"

#include <algorithm>

namespace mfres {

namespace {

const std::vector<std::int64_t> published_input{1, 4, 128, 128, 128};
constexpr std::int64_t published_classes = 4;

std::vector<std::int64_t> extents(const Shape& shape) {
    return {shape.begin(), shape.end()};
}

/// "3" for three equal values, "3x3x1" otherwise.
std::string compact(const Axes& axes) {
    if (axes[0] == axes[1] && axes[1] == axes[2])
        return text(axes[0]);
    return text(axes[0], 'x', axes[1], 'x', axes[2]);
}

std::string operation(const Node& node) {
    std::string words(name(node.kind()));
    if (node.kind() == OpKind::conv) {
        const Conv& conv = node.as<Conv>();
        words += text(' ', conv.kernel[0], 'x', conv.kernel[1], 'x', conv.kernel[2]);
        if (conv.stride != Axes{1, 1, 1})
            words += " stride " + compact(conv.stride);
        if (conv.dilation != Axes{1, 1, 1})
            words += " dilation " + compact(conv.dilation);
        if (conv.groups != 1)
            words += text(" groups ", conv.groups);
        if (conv.bias)
            words += " bias";
    } else if (node.kind() == OpKind::conv_transpose) {
        const auto& conv = node.as<ConvTranspose>();
        words += text(' ', conv.kernel[0], 'x', conv.kernel[1], 'x', conv.kernel[2], " stride ", compact(conv.stride));
    } else if (node.kind() == OpKind::upsample) {
        words += text(' ', name(node.as<Upsample>().mode));
    }
    return words;
}

/// Adds a layer to its stage. The total was checked for overflow before, so no stage can overflow.
void add_to_stages(std::vector<StageComplexity>& stages, const LayerComplexity& layer) {
    const std::string stage = layer.name.substr(0, layer.name.find('.'));
    for (StageComplexity& known : stages)
        if (known.name == stage) {
            known.counts = checked_sum(known.counts, layer.counts).value_or(known.counts);
            return;
        }
    stages.push_back({stage, layer.counts});
}

std::int64_t weight_bytes(const Graph& graph) {
    std::int64_t scalars = 0;
    for (const Node& node : graph.nodes())
        for (const Parameter& parameter : node.parameters)
            scalars += parameter.shape.elements();
    return scalars * static_cast<std::int64_t>(sizeof(float));
}

Result<ComplexityReport> report_of(std::string_view name_or_json, const std::array<std::int64_t, 3>& size,
                                   std::int64_t batch) {
    MFRES_TRY(const Variant variant, parse_variant(name_or_json));
    MFRES_TRY(const Graph graph, build_network(variant, size, batch));
    const SeenByTable2 seen = variant.family().seen_by_table2;
    MFRES_TRY(const GraphCounts counts, count_operations(graph, seen));

    ComplexityReport report;
    MFRES_TRY(report.network, describe_network(variant.json()));
    report.input = extents(graph.node(graph.input()).shape);
    report.total = counts.total;
    report.weight_bytes = weight_bytes(graph);
    report.memory = plan_activations(graph);
    if (variant.standard()) {
        report.status = variant.family().status;
        if (report.input == published_input && variant.classes() == published_classes)
            report.published = variant.family().published;
    }
    const std::vector<std::int64_t> live = live_bytes_as_written(graph);
    report.peak_bytes = *std::max_element(live.begin(), live.end());
    for (NodeId id = 0; id < graph.size(); ++id) {
        const Node& node = graph.node(id);
        const auto at = static_cast<std::size_t>(id);
        report.layers.push_back(
            {node.name, operation(node), extents(node.shape), !seen || seen(node), live[at], counts.nodes[at]});
        report.convolutions += node.kind() == OpKind::conv ? 1 : 0;
        add_to_stages(report.stages, report.layers.back());
    }
    return report;
}

} // namespace

double arithmetic_intensity(const ComplexityCounts& counts) noexcept {
    const double bytes = static_cast<double>(counts.bytes_read) + static_cast<double>(counts.bytes_written);
    return bytes > 0.0 ? static_cast<double>(counts.eq13_flops) / bytes : 0.0;
}

Result<ComplexityReport> complexity(std::string_view name_or_json, const std::array<std::int64_t, 3>& size,
                                    std::int64_t batch) {
    return guarded("network", [&] { return report_of(name_or_json, size, batch); });
}

namespace {

Result<Table2Report> all_reports() {
    Table2Report report{published_input, {}};
    for (const std::string& name : network_names()) {
        MFRES_TRY(ComplexityReport one, complexity(name, {128, 128, 128}));
        report.rows.push_back({name, std::move(one.status), one.total, std::move(one.published)});
    }
    return report;
}

} // namespace

Result<Table2Report> table2() {
    return guarded("table 2", [&] { return all_reports(); });
}

} // namespace mfres
