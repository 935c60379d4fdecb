// SPDX-License-Identifier: MIT
#include "graph/complexity.h"

#include "core/checked.h"
#include "core/try.h"
#include "graph/memory_plan.h"
#include "graph/rewrite.h"

#include <algorithm>

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

    /// Operands and parameters, f32. A slice reads what it writes; a value that is read twice counts once.
    Count bytes_read() const {
        if (node.kind() == OpKind::slice)
            return bytes_written();
        Count scalars = 0;
        for (std::size_t i = 0; i < node.inputs.size(); ++i)
            if (std::find(node.inputs.begin(), node.inputs.begin() + static_cast<std::ptrdiff_t>(i), node.inputs[i]) ==
                node.inputs.begin() + static_cast<std::ptrdiff_t>(i))
                scalars = plus(scalars, graph.node(node.inputs[i]).shape.elements());
        for (const Parameter& parameter : node.parameters)
            scalars = plus(scalars, checked_product(parameter.shape));
        return times(scalars, static_cast<std::int64_t>(sizeof(float)));
    }
    /// The input is written by the caller.
    Count bytes_written() const {
        return node.kind() == OpKind::input ? Count{0} : times(elements(), static_cast<std::int64_t>(sizeof(float)));
    }

    /// A transposed convolution multiplies each of its weights once for every voxel of its input.
    Count macs() const {
        if (node.kind() == OpKind::conv_transpose)
            return times(checked_product(node.parameters[0].shape), input_shape().elements() / input_shape()[1]);
        return node.kind() == OpKind::conv ? times(window(node.as<Conv>()), elements()) : Count{0};
    }

    Count eq11() const {
        if (node.kind() == OpKind::conv_transpose)
            return plus(checked_product(node.parameters[0].shape), node.shape[1]);
        if (node.kind() != OpKind::conv)
            return 0;
        return times(plus(window(node.as<Conv>()), 1), node.as<Conv>().out_channels);
    }

    /// All counts, or nothing if one has left 64 bits.
    std::optional<ComplexityCounts> all(Count table2_flops) const {
        const Count scalars = learnables();
        const Count products = macs();
        const Count doubled = times(products, 2);
        const Count formula = eq11();
        const Count bytes = times(elements(), static_cast<std::int64_t>(sizeof(float)));
        const Count read = bytes_read();
        const Count written = bytes_written();
        if (!scalars || !products || !table2_flops || !formula || !doubled || !bytes || !read || !written)
            return std::nullopt;
        return ComplexityCounts{*scalars, *products, *table2_flops, *formula, *doubled, *bytes, *read, *written};
    }

    /// Operations of the Table 2 convention for a node that its counter sees; the error is operation_unsupported.
    Result<Count> table2() const {
        switch (node.kind()) {
        case OpKind::conv: return node.as<Conv>().bias ? plus(macs(), elements()) : macs();
        case OpKind::conv_transpose: return node.as<ConvTranspose>().bias ? plus(macs(), elements()) : macs();
        case OpKind::batch_norm:
        case OpKind::instance_norm:
        case OpKind::group_norm:
        case OpKind::relu:
        case OpKind::leaky_relu:
        case OpKind::prelu:
        case OpKind::elu:
        case OpKind::sigmoid:
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
        case OpKind::multiply:
        case OpKind::concat:
        case OpKind::slice:
        case OpKind::softmax: return Count{0};
        }
        return Count{0};
    }
};

Error overflow(const Node& node) {
    return {ErrorCode::size_overflow, text("node ", node.name, ": its counts or their sum so far exceed 64 bits"),
            node.name};
}

} // namespace

std::optional<ComplexityCounts> checked_sum(const ComplexityCounts& a, const ComplexityCounts& b) {
    ComplexityCounts sum;
    for (const auto field :
         {&ComplexityCounts::learnables, &ComplexityCounts::macs, &ComplexityCounts::table2_flops,
          &ComplexityCounts::eq11_parameters, &ComplexityCounts::eq13_flops, &ComplexityCounts::activation_bytes,
          &ComplexityCounts::bytes_read, &ComplexityCounts::bytes_written}) {
        const auto both = checked_add(a.*field, b.*field);
        if (!both)
            return std::nullopt;
        sum.*field = *both;
    }
    return sum;
}

Result<GraphCounts> count_operations(const Graph& graph, SeenByTable2 seen) {
    GraphCounts counts;
    for (const Node& node : graph.nodes()) {
        const NodeCounter counter{graph, node};
        Count table2 = 0;
        if (!seen || seen(node)) {
            MFRES_TRY(table2, counter.table2());
        }
        const auto here = counter.all(table2);
        const auto total = here ? checked_sum(counts.total, *here) : std::nullopt;
        if (!total)
            return overflow(node);
        counts.nodes.push_back(*here);
        counts.total = *total;
    }
    return counts;
}

std::vector<std::int64_t> live_bytes_as_written(const Graph& graph) {
    std::vector<BufferRequest> requests;
    for (NodeId id = 0; id < graph.size(); ++id) {
        const Node& node = graph.node(id);
        requests.push_back({node.shape.elements() * static_cast<std::int64_t>(sizeof(float)), id,
                            graph.is_output(id) ? graph.size() - 1 : id});
        for (const NodeId input : node.inputs)
            requests[static_cast<std::size_t>(input)].last =
                std::max<int>(requests[static_cast<std::size_t>(input)].last, id);
    }
    return live_bytes(requests);
}

ActivationMemory plan_activations(const Graph& graph) {
    const Graph form = inference_form(graph);
    const ValueBuffers buffers = plan_value_buffers(form, remove_slices(form, fuse_ops(form)));
    const MemoryPlan plan = plan_memory(buffers.requests);
    return {plan.lower_bound, plan.bytes};
}

} // namespace mfres
