// SPDX-License-Identifier: MIT
#include "benchmark/op_extents.h"

#include "graph/cost.h"

#include <algorithm>

namespace mfres {

namespace {

OpClass class_of(const Graph& graph, const FusionGroup& group) {
    if (group.fused())
        return OpClass::fusion_group;
    const Node& node = graph.node(group.ops[0].main);
    if (node.kind() == OpKind::upsample)
        return OpClass::resampling;
    if (node.kind() != OpKind::conv)
        return OpClass::elementwise;
    const Conv& conv = node.as<Conv>();
    if (conv.stride != Axes{1, 1, 1})
        return OpClass::strided;
    const auto ones = std::count(conv.kernel.begin(), conv.kernel.end(), 1);
    return ones == 3 ? OpClass::pointwise : ones > 0 ? OpClass::planar : OpClass::cubic;
}

} // namespace

std::vector<NamedExtents> extents_of_ops(const Graph& form) {
    const auto groups = form_fusion_groups(form, remove_slices(form, fuse_ops(form)), FusionModel{});
    std::vector<OpCost> costs = group_costs(form, groups);
    std::vector<NamedExtents> all;
    for (std::size_t i = 0; i < groups.size(); ++i) {
        const Shape& shape = form.node(groups[i].output()).shape;
        const bool slice = !groups[i].fused() && form.node(groups[i].ops[0].main).kind() == OpKind::slice;
        if (slice) // reads what it writes
            costs[i].bytes = 2 * shape.elements() * static_cast<std::int64_t>(sizeof(float));
        all.push_back({form.node(groups[i].ops.back().main).name,
                       {class_of(form, groups[i]), costs[i].macs, costs[i].bytes, shape[1],
                        shape.elements() / std::max<std::int64_t>(shape[1], 1)}});
    }
    return all;
}

} // namespace mfres
