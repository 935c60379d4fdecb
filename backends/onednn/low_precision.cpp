// SPDX-License-Identifier: MIT
#include "backends/onednn/low_precision.h"

#include "backends/kernels/convolution.h"

#include <algorithm>

namespace mfres::onednn {

namespace {

using dnnl::memory;

class Planner {
  public:
    Planner(const PlannedNetwork& planned, Precision precision, const ActivationRanges& activation_ranges,
            const LowPrecisionModel& model, const dnnl::engine& engine)
        : planned_(planned), graph_(planned.network.graph), precision_(precision),
          activation_ranges_(activation_ranges), model_(model), engine_(engine) {
        plan_.of_node.resize(static_cast<std::size_t>(graph_.size()));
        plan_.stored.resize(static_cast<std::size_t>(graph_.size()));
    }

    LowPrecisionPlan run() {
        if (precision_ == Precision::f32)
            return std::move(plan_);
        for (const FusionGroup& group : planned_.groups)
            if (!group.fused())
                choose_precision(group.ops[0]);
        for (const FusionGroup& group : planned_.groups)
            if (!group.fused())
                choose_output_format(group.ops[0]);
        return std::move(plan_);
    }

  private:
    template <typename Values>
    static decltype(auto) at(Values& values, NodeId id) {
        return values[static_cast<std::size_t>(id)];
    }

    ConvSpec spec_of(const FusedOp& op) const {
        const Node& node = graph_.node(op.main);
        ConvSpec spec;
        spec.conv = node.as<Conv>();
        spec.in = graph_.node(node.inputs[0]).shape;
        spec.out = node.shape;
        spec.residual = op.residual.has_value();
        spec.activation = op.activation;
        return spec;
    }

    /// The format that the source of a convolution is converted to, if the precision asks for one.
    std::optional<ValueFormat> source_format(const FusedOp& op) const {
        const Node& node = graph_.node(op.main);
        if (precision_ == Precision::bf16) {
            if (node.inputs[0] == graph_.input() || graph_.is_output(op.output))
                return std::nullopt;
            return ValueFormat{memory::data_type::bf16, {}};
        }
        const auto range = activation_ranges_.find(node.name);
        if (range == activation_ranges_.end())
            return std::nullopt;
        const Quantizer quantizer = quantiser_of(range->second);
        return ValueFormat{quantizer.is_signed() ? memory::data_type::s8 : memory::data_type::u8, quantizer};
    }

    /// Whether the cost model predicts that the convolution is faster than in f32, with the conversion of its source.
    bool is_faster(const ConvSpec& spec, const ValueFormat& source) const {
        const std::int64_t groups = spec.conv.groups;
        if (spec.in[1] / groups < model_.min_channels || spec.out[1] / groups < model_.min_channels)
            return false;
        const auto& kernel = spec.conv.kernel;
        const double macs = static_cast<double>(spec.out.elements()) * static_cast<double>(spec.in[1] / groups) *
                            static_cast<double>(kernel[0] * kernel[1] * kernel[2]);
        const double macs_per_ns = source.integer() ? model_.int8_macs_per_ns : model_.bf16_macs_per_ns;
        // In f32 there is Winograd's filtering, which gains more than bf16 does. Of int8 it gains less than is predicted,
        // because its arrays are four times as large.
        if (!source.integer() &&
            kernels::winograd_is_faster_by({spec.conv, spec.in, spec.out}, macs_per_ns / model_.f32_macs_per_ns))
            return false;
        const double bytes = static_cast<double>(spec.in.elements() * (4 + source.element_bytes()));
        return macs / model_.f32_macs_per_ns > macs / macs_per_ns + bytes / model_.bytes_per_ns;
    }

    void choose_precision(const FusedOp& op) {
        if (graph_.node(op.main).kind() != OpKind::conv)
            return;
        const auto source = source_format(op);
        ConvSpec spec = spec_of(op);
        if (!source || !is_faster(spec, *source))
            return;
        spec.low_precision = LowPrecision{*source, {}, false, {}};
        if (!has_compiled_kernel(spec, engine_))
            return;
        if (source->integer())
            spec.low_precision->largest = largest_per_channel(planned_.network, graph_.node(op.main).name);
        at(plan_.of_node, op.main) = std::move(spec.low_precision);
    }

    /// The consumers of a value, if all are convolutions in low precision that convert it to the same format; else none.
    std::vector<NodeId> agreeing_consumers(NodeId value) const {
        std::vector<NodeId> consumers;
        for (const FusionGroup& group : planned_.groups) {
            for (const FusedOp& op : group.ops) {
                const auto& inputs = graph_.node(op.main).inputs;
                const bool reads = std::any_of(inputs.begin(), inputs.end(),
                                               [&](NodeId input) { return at(planned_.ranges, input).value == value; });
                if (op.residual == value)
                    return {};
                if (!reads)
                    continue;
                const auto& low = at(plan_.of_node, op.main);
                if (group.fused() || !low || inputs[0] != value ||
                    (!consumers.empty() && !(low->source == at(plan_.of_node, consumers[0])->source)))
                    return {};
                consumers.push_back(op.main);
            }
        }
        return consumers;
    }

    /// Stores the output in the format that its consumers read, which saves them the conversion.
    void choose_output_format(const FusedOp& op) {
        auto& low = at(plan_.of_node, op.main);
        if (!low || op.residual || graph_.is_output(op.output))
            return;
        const std::vector<NodeId> consumers = agreeing_consumers(op.output);
        if (consumers.empty())
            return;
        const ValueFormat wanted = at(plan_.of_node, consumers[0])->source;
        if (wanted.type == memory::data_type::s8) // oneDNN clamps to -128, graph/quantization.h to -127
            return;
        ConvSpec spec = spec_of(op);
        spec.low_precision = low;
        spec.low_precision->output = wanted;
        if (!has_compiled_kernel(spec, engine_))
            return;
        low->output = wanted;
        at(plan_.stored, op.output) = wanted;
        for (const NodeId consumer : consumers)
            at(plan_.of_node, consumer)->source_is_stored = true;
    }

    const PlannedNetwork& planned_;
    const Graph& graph_;
    Precision precision_;
    const ActivationRanges& activation_ranges_;
    const LowPrecisionModel& model_;
    dnnl::engine engine_;
    LowPrecisionPlan plan_;
};

} // namespace

LowPrecisionPlan plan_low_precision(const PlannedNetwork& planned, Precision precision, const ActivationRanges& ranges,
                                    const LowPrecisionModel& model, const dnnl::engine& engine) {
    return Planner(planned, precision, ranges, model, engine).run();
}

std::optional<std::string> missing_instructions(Precision precision) {
    const auto here = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    const auto has = [&](dnnl::cpu_isa isa) {
        return (here & static_cast<unsigned>(isa)) == static_cast<unsigned>(isa);
    };
    if (precision == Precision::bf16 && !has(dnnl::cpu_isa::avx512_core_bf16))
        return "this processor has neither AVX512-BF16 nor AMX; f32 is faster on it than emulated bf16";
    if (precision == Precision::int8 && !has(dnnl::cpu_isa::avx512_core_vnni) && !has(dnnl::cpu_isa::avx2_vnni))
        return "this processor has no 8-bit dot products (AVX-VNNI, AVX512-VNNI or AMX); the same model runs in f32";
    return std::nullopt;
}

} // namespace mfres::onednn
