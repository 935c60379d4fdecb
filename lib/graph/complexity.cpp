// SPDX-License-Identifier: MIT
#include "graph/complexity.h"

#include "core/checked.h"
#include "core/try.h"
#include "graph/memory_plan.h"
#include "graph/rewrite.h"

namespace mfres {

namespace {

/// A count, or nothing when it has left 64 bits.
using Count = std::optional<std::int64_t>;

Count plus(Count a, Count b) {
    return a && b ? checked_add(*a, *b) : std::nullopt;
}

Count times(Count a, Count b) {
    return a && b ? checked_multiply(*a, *b) : std::nullopt;
}

struct NodeCounter {
    const Graph& graph;
    const Node& node;

    const Shape& input_shape() const { return graph.node(node.inputs[0]).shape; }
    Count elements() const { return node.shape.elements(); }

    Count learnables() const {
        Count count = 0;
        for (const Parameter& parameter : node.parameters)
            if (parameter.learnable())
                count = plus(count, checked_product(parameter.shape));
        return count;
    }

    /// Weights that each output element of a convolution sees: Cin / groups * kernel volume.
    Count window(const Conv& conv) const {
        const Axes& kernel = conv.kernel;
        return checked_product({input_shape()[1] / conv.groups, kernel[0], kernel[1], kernel[2]});
    }

    Count macs() const { return node.kind() == OpKind::conv ? times(window(node.as<Conv>()), elements()) : Count{0}; }

    Count eq11() const {
        if (node.kind() != OpKind::conv)
            return 0;
        return times(plus(window(node.as<Conv>()), 1), node.as<Conv>().out_channels);
    }

    /// Operations of the Table 2 convention for a node that its counter sees; the error is operation_unsupported.
    Result<Count> table2() const {
        switch (node.kind()) {
        case OpKind::conv: return node.as<Conv>().bias ? plus(macs(), elements()) : macs();
        case OpKind::batch_norm:
        case OpKind::instance_norm:
        case OpKind::relu:
        case OpKind::leaky_relu:
        case OpKind::upsample: return elements();
        case OpKind::max_pool: return Count{input_shape().elements()};
        case OpKind::adaptive_avg_pool:
            return Error{ErrorCode::operation_unsupported,
                         text("node ", node.name,
                              ": the Table 2 convention has no rule for an adaptive average pooling that its counter "
                              "sees"),
                         node.name};
        case OpKind::input:
        case OpKind::add:
        case OpKind::scaled_add:
        case OpKind::concat:
        case OpKind::slice:
        case OpKind::softmax: return Count{0};
        }
        return Count{0};
    }
};

/// The same field of ComplexityCounts from each of a list of optional counts; all or nothing.
std::optional<ComplexityCounts> all_of(Count learnables, Count macs, Count table2, Count eq11, Count eq13,
                                       Count bytes) {
    if (!learnables || !macs || !table2 || !eq11 || !eq13 || !bytes)
        return std::nullopt;
    return ComplexityCounts{*learnables, *macs, *table2, *eq11, *eq13, *bytes};
}

std::optional<ComplexityCounts> sum(const ComplexityCounts& a, const ComplexityCounts& b) {
    return all_of(plus(a.learnables, b.learnables), plus(a.macs, b.macs), plus(a.table2_flops, b.table2_flops),
                  plus(a.eq11_parameters, b.eq11_parameters), plus(a.eq13_flops, b.eq13_flops),
                  plus(a.activation_bytes, b.activation_bytes));
}

Error overflow(const Node& node) {
    return {ErrorCode::size_overflow, text("node ", node.name, ": its counts or their sum so far exceed 64 bits"),
            node.name};
}

} // namespace

Result<GraphCounts> count_operations(const Graph& graph, SeenByTable2 seen) {
    GraphCounts counts;
    for (const Node& node : graph.nodes()) {
        const NodeCounter counter{graph, node};
        Count table2 = 0;
        if (!seen || seen(node)) {
            MFRES_TRY(table2, counter.table2());
        }
        const Count macs = counter.macs();
        const auto here = all_of(counter.learnables(), macs, table2, counter.eq11(), times(macs, 2),
                                 times(counter.elements(), static_cast<std::int64_t>(sizeof(float))));
        const auto total = here ? sum(counts.total, *here) : std::nullopt;
        if (!total)
            return overflow(node);
        counts.nodes.push_back(*here);
        counts.total = *total;
    }
    return counts;
}

ActivationMemory plan_activations(const Graph& graph) {
    const Graph form = inference_form(graph);
    const ValueBuffers buffers = plan_value_buffers(form, remove_slices(form, fuse_ops(form)));
    const MemoryPlan plan = plan_memory(buffers.requests);
    return {plan.lower_bound, plan.bytes};
}

} // namespace mfres
