#include "backends/onednn/low_precision.h"

#include "core/try.h"

#include <algorithm>

namespace mfres::onednn {

namespace {

using dnnl::memory;

class Planner {
  public:
    Planner(const Network& network, const std::vector<Task>& tasks, const CompileOptions& options,
            const LowPrecisionModel& model, const dnnl::engine& engine)
        : network_(network), graph_(network.graph), tasks_(tasks), options_(options), model_(model), engine_(engine),
          ranges_(channel_ranges(graph_, steps_of(tasks))) {
        plan_.of_node.resize(static_cast<std::size_t>(graph_.size()));
        plan_.stored.resize(static_cast<std::size_t>(graph_.size()));
    }

    LowPrecisionOps run() {
        if (options_.precision == Precision::f32)
            return std::move(plan_);
        for (const Task& task : tasks_)
            if (!task.fused())
                reduce(task.steps[0]);
        for (const Task& task : tasks_)
            if (!task.fused())
                store_reduced(task.steps[0]);
        return std::move(plan_);
    }

  private:
    template <typename Values>
    static decltype(auto) at(Values& values, NodeId id) {
        return values[static_cast<std::size_t>(id)];
    }

    ConvolutionStep described(const Step& step) const {
        const Node& node = graph_.node(step.main);
        ConvolutionStep convolution;
        convolution.conv = node.as<Conv>();
        convolution.in = graph_.node(node.inputs[0]).shape;
        convolution.out = node.shape;
        convolution.residual = step.residual.has_value();
        convolution.activation = step.activation;
        return convolution;
    }

    std::optional<Storage> source_of(const Step& step) const {
        const Node& node = graph_.node(step.main);
        if (options_.precision == Precision::bf16) {
            if (node.inputs[0] == graph_.input() || graph_.is_output(step.output))
                return std::nullopt;
            return Storage{memory::data_type::bf16, {}};
        }
        const auto range = options_.ranges.find(node.name);
        if (range == options_.ranges.end())
            return std::nullopt;
        const Quantizer quantizer = quantiser_of(range->second);
        return Storage{quantizer.is_signed() ? memory::data_type::s8 : memory::data_type::u8, quantizer};
    }

    bool pays(const ConvolutionStep& step, const Storage& source) const {
        const std::int64_t groups = step.conv.groups;
        if (step.in[1] / groups < model_.least_channels || step.out[1] / groups < model_.least_channels)
            return false;
        const auto& kernel = step.conv.kernel;
        const double macs = static_cast<double>(step.out.elements()) * static_cast<double>(step.in[1] / groups) *
                            static_cast<double>(kernel[0] * kernel[1] * kernel[2]);
        const double reduced = source.integer() ? model_.int8_macs_per_ns : model_.bf16_macs_per_ns;
        const double bytes = static_cast<double>(step.in.elements() * (4 + source.element_bytes()));
        return macs / model_.f32_macs_per_ns > macs / reduced + bytes / model_.bytes_per_ns;
    }

    void reduce(const Step& step) {
        if (graph_.node(step.main).kind() != OpKind::conv)
            return;
        const auto source = source_of(step);
        ConvolutionStep convolution = described(step);
        if (!source || !pays(convolution, *source))
            return;
        convolution.reduction = LowPrecision{*source, {}, false, {}};
        if (!has_compiled_kernel(convolution, engine_))
            return;
        if (source->integer())
            convolution.reduction->largest = largest_per_channel(network_, graph_.node(step.main).name);
        at(plan_.of_node, step.main) = std::move(convolution.reduction);
    }

    /// The convolutions that read a value, if those are all and every one wants it stored in the same way.
    std::vector<NodeId> agreeing_readers(NodeId value) const {
        std::vector<NodeId> readers;
        for (const Task& task : tasks_) {
            for (const Step& step : task.steps) {
                const auto& inputs = graph_.node(step.main).inputs;
                const bool reads = std::any_of(inputs.begin(), inputs.end(),
                                               [&](NodeId input) { return at(ranges_, input).value == value; });
                if (step.residual == value)
                    return {};
                if (!reads)
                    continue;
                const auto& reduction = at(plan_.of_node, step.main);
                if (task.fused() || !reduction || inputs[0] != value ||
                    (!readers.empty() && !(reduction->source == at(plan_.of_node, readers[0])->source)))
                    return {};
                readers.push_back(step.main);
            }
        }
        return readers;
    }

    void store_reduced(const Step& step) {
        auto& reduction = at(plan_.of_node, step.main);
        if (!reduction || step.residual || graph_.is_output(step.output))
            return;
        const std::vector<NodeId> readers = agreeing_readers(step.output);
        if (readers.empty())
            return;
        const Storage wanted = at(plan_.of_node, readers[0])->source;
        if (wanted.type == memory::data_type::s8) // oneDNN clamps to -128, the definition to -127
            return;
        ConvolutionStep convolution = described(step);
        convolution.reduction = reduction;
        convolution.reduction->output = wanted;
        if (!has_compiled_kernel(convolution, engine_))
            return;
        reduction->output = wanted;
        at(plan_.stored, step.output) = wanted;
        for (const NodeId reader : readers)
            at(plan_.of_node, reader)->source_is_there = true;
    }

    const Network& network_;
    const Graph& graph_;
    const std::vector<Task>& tasks_;
    const CompileOptions& options_;
    const LowPrecisionModel& model_;
    dnnl::engine engine_;
    std::vector<ChannelRange> ranges_;
    LowPrecisionOps plan_;
};

} // namespace

LowPrecisionOps plan_reductions(const Network& network, const std::vector<Task>& tasks, const CompileOptions& options,
                                const LowPrecisionModel& model, const dnnl::engine& engine) {
    return Planner(network, tasks, options, model, engine).run();
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
