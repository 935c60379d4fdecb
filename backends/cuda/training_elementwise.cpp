// SPDX-License-Identifier: MIT
#include "backends/cuda/training_ops.h"

#include <algorithm>

namespace mfres::cuda {

namespace {

/// One operand with what its n_k needs.
struct SumInput {
    using Kind = SumOperand::Kind;

    Kind kind = Kind::plain;
    std::int64_t groups = 1; ///< with statistics of their own
    NormTables norm;
    NormGradientTables gradient;
    Operand operand;
    float* pivot = nullptr;
    float* weight_gradient = nullptr;
    Target dx; ///< without data if it is not wanted

    bool plain() const { return kind == Kind::plain; }
    bool normalises() const { return kind == Kind::batch_norm || kind == Kind::instance_norm; }
};

class Sum final : public TrainingOp {
  public:
    Sum(const TrainingContext& context, const FusedSum& sum)
        : c_(context), sum_(sum), chunks_(chunking(context.node(sum.output).shape)) {
        for (std::size_t k = 0; k < sum.operands.size(); ++k)
            inputs_.push_back(make_input(sum.operands[k], k));
        counters_ = context.constants.counters(chunks_.channels);
    }

    std::string forward_implementation() const override { return "mfres:sum"; }
    std::string backward_implementation() const override { return "mfres:sum"; }

    OpWorkspace workspace() const override {
        OpWorkspace workspace;
        workspace.forward = workspace.backward = sum_space().bytes();
        return workspace;
    }

    void bind(const ArrayPlacement& placement, const OpArrays& arrays) override {
        for (const OpArrays::Forward& forward : arrays.forwards) {
            Pass& pass = passes_.emplace_back();
            for (const Channels& channels : forward.inputs)
                pass.inputs.push_back(part(placement, channels));
            for (const OpArrays::Output& output : forward.outputs)
                pass.writers.push_back({target(placement, output.channels), output.first});
        }
        forward_sums_data_ = placement.at(arrays.forwards[0].workspace);
        if (!arrays.has_backward)
            return;
        for (std::size_t k = 0; k < inputs_.size(); ++k) {
            if (!inputs_[k].plain())
                inputs_[k].operand.x = part(placement, arrays.inputs[k]);
            inputs_[k].dx = target(placement, arrays.input_gradients[k]);
        }
        // The first launch that gathers has to read the array that it overwrites.
        std::vector<GradientContribution> contributions = arrays.contributions;
        std::stable_partition(
            contributions.begin(), contributions.end(),
            [&](const GradientContribution& contribution) { return contribution.from.array == arrays.summed; });
        gradient_parts_ = parts(placement, contributions);
        switch (arrays.mask) {
        case MaskBy::nothing: mask_ = Mask::none; break;
        case MaskBy::operand: mask_ = Mask::by_operand; break;
        case MaskBy::array:
            mask_ = Mask::by_array;
            sign_ = part(placement, arrays.mask_array);
            break;
        }
        masked_ = placement.at(arrays.summed);
        gradient_ = placement.at(arrays.gradient);
        direct_ = reads_directly();
        if (direct_)
            masked_ = nullptr;
        if (direct_ && mask_ == Mask::by_array)
            mask_ = Mask::by_operands;
        backward_sums_data_ = placement.at(arrays.workspace);
    }

    void forward(bool recompute) override {
        const Pass& pass = passes_[recompute ? 1 : 0];
        if (!recompute)
            prepare_inputs(pass);
        std::vector<Operand> operands;
        for (std::size_t k = 0; k < inputs_.size(); ++k) {
            operands.push_back(inputs_[k].operand);
            operands.back().x = pass.inputs[k];
        }
        for (const Writer& writer : pass.writers) {
            SumArguments arguments;
            arguments.activation = sum_.activation;
            arguments.voxels = chunks_.samples * chunks_.voxels;
            arguments.first = writer.first;
            arguments.channels = writer.to.count;
            arguments.y = writer.to.data;
            arguments.y_stride = writer.to.stride;
            arguments.y_from = writer.to.from;
            sum(c_.engine, c_.type, arguments, operands);
        }
    }

    /// First the masked gradient, if there is an array for it, and the sums; then the gradients of the operands.
    void backward() override {
        if (direct_)
            return backward_directly();
        GradientArguments arguments = first_pass();
        const bool affine = std::any_of(inputs_.begin(), inputs_.end(), [](const auto& i) { return !i.plain(); });
        if (!affine)
            c_.kernels().gradient(c_.stream(), c_.type, arguments);
        for (SumInput& input : inputs_) {
            if (input.plain())
                continue;
            arguments.groups = input.groups;
            arguments.operand = input.operand;
            arguments.partials = reinterpret_cast<double*>(backward_sums_data_);
            arguments.totals = reinterpret_cast<double*>(backward_sums_data_ + sum_space().partials);
            arguments.counters = counters_;
            input.gradient.totals = arguments.totals;
            input.gradient.fixed = fixed(input);
            input.gradient.share = 1.0;
            arguments.with_tables = input.normalises() && !summed_over_ranks(input);
            arguments.tables = input.gradient;
            c_.kernels().gradient(c_.stream(), c_.type, arguments);
            finish(input);
            if (masked_)
                arguments = from_array();
        }
        for (const SumInput& input : inputs_)
            if (input.dx.data)
                input_gradient(input);
    }

  private:
    struct Writer {
        Target to;
        std::int64_t first; ///< of the channels of the sum
    };
    struct Pass {
        std::vector<Part> inputs;
        std::vector<Writer> writers;
    };

    std::int64_t most_groups() const { return chunks_.samples; }
    SumSpace sum_space() const { return {chunks_, most_groups(), inputs_.size() == 2 ? 3 : 2}; }

    /// Whether both passes of the backward op read the contributions themselves: every operand is normalised, one or two
    /// with statistics of the same voxels, and to store the masked gradient would cost more than to read it twice. The sign
    /// of a sum of two is that of their sum, computed again.
    bool reads_directly() const {
        const bool norms = std::all_of(inputs_.begin(), inputs_.end(), [&](const SumInput& input) {
            return input.normalises() && input.groups == inputs_[0].groups;
        });
        if (!norms || inputs_.size() > 2 || gradient_parts_.size() > Parts::most)
            return false;
        const bool by_operands = inputs_.size() == 2 && sum_.activation.slope >= 0.0F;
        if (mask_ == Mask::by_array && !by_operands)
            return false;
        std::int64_t read = 0;
        for (const Part& part : gradient_parts_)
            read += part.count;
        return inputs_.size() == 2 || read <= chunks_.channels;
    }

    Parts contributions() const {
        Parts parts;
        std::copy(gradient_parts_.begin(), gradient_parts_.end(), parts.parts);
        parts.count = static_cast<int>(gradient_parts_.size());
        return parts;
    }

    void backward_directly() {
        const bool two = inputs_.size() == 2;
        const std::int64_t kinds = two ? 3 : 2;
        const bool over_ranks = std::any_of(inputs_.begin(), inputs_.end(),
                                            [&](const SumInput& input) { return summed_over_ranks(input); });
        GradientArguments arguments;
        arguments.chunks = chunks_;
        arguments.groups = inputs_[0].groups;
        arguments.gradient = contributions();
        arguments.mask = mask_;
        arguments.activation = sum_.activation;
        arguments.partials = reinterpret_cast<double*>(backward_sums_data_);
        arguments.totals = reinterpret_cast<double*>(backward_sums_data_ + sum_space().partials);
        arguments.counters = counters_;
        for (std::size_t k = 0; k < inputs_.size(); ++k) {
            NormGradientTables& tables = inputs_[k].gradient;
            tables.totals = arguments.totals;
            tables.fixed = fixed(inputs_[k]);
            tables.kinds = kinds;
            tables.own_kind = 1 + static_cast<std::int64_t>(k);
            // Gradients of parameters are summed over the ranks later.
            tables.share = over_ranks ? 1.0 / c_.ranks.size() : 1.0;
        }
        arguments.operand = inputs_[0].operand;
        arguments.tables = inputs_[0].gradient;
        if (two) {
            arguments.second = inputs_[1].operand;
            arguments.second_tables = inputs_[1].gradient;
        }
        arguments.with_tables = !over_ranks;
        c_.kernels().gradient(c_.stream(), c_.type, arguments);
        if (over_ranks) {
            c_.ranks.sum(arguments.totals, kinds * chunks_.channels);
            for (const SumInput& input : inputs_)
                c_.kernels().norm_gradient_tables(c_.stream(), input.gradient);
        }
        InputGradientArguments dx;
        dx.voxels = chunks_.samples * chunks_.voxels;
        dx.channels = chunks_.channels;
        dx.gradient = contributions();
        dx.mask = mask_;
        dx.activation = sum_.activation;
        dx.target = target_of(inputs_[0]);
        if (two)
            dx.second = target_of(inputs_[1]);
        if (dx.target.dx || dx.second.dx)
            c_.kernels().input_gradient(c_.stream(), c_.type, dx);
    }

    static InputGradientTarget target_of(const SumInput& input) {
        InputGradientTarget target;
        target.operand = input.operand;
        if (input.normalises()) {
            target.own = input.gradient.own;
            target.centred = input.gradient.centred;
            target.constant = input.gradient.constant;
        }
        target.dx = input.dx.data;
        target.dx_stride = input.dx.stride;
        target.dx_from = input.dx.from;
        return target;
    }

    SumInput make_input(const SumOperand& from, std::size_t index) const {
        SumInput input;
        input.kind = from.kind;
        if (input.normalises()) {
            make_norm(c_.node(from.norm), input);
            c_.norms[from.norm] = input.operand;
        } else if (from.unstored) {
            input.operand = unstored(*from.unstored);
        } else if (!input.plain()) {
            input.operand.weight = c_.values(c_.node(sum_.main), index);
            input.weight_gradient = c_.gradient(c_.node(sum_.main), index);
        }
        return input;
    }

    /// The norm was made before, as it precedes what reads it.
    Operand unstored(const SumOperand::Unstored& from) const {
        Operand operand = c_.norms.at(from.of);
        operand.mean += from.begin;
        operand.factor += from.begin;
        operand.offset += from.begin;
        operand.table_channels = c_.node(from.of).shape[1];
        operand.activation = from.activation;
        return operand;
    }

    void make_norm(const Node& node, SumInput& input) const {
        const bool batch = input.kind == SumInput::Kind::batch_norm;
        input.groups = batch ? 1 : chunks_.samples;
        NormTables& norm = input.norm;
        norm.groups = input.groups;
        norm.channels = chunks_.channels;
        norm.voxels = chunks_.samples / input.groups * chunks_.voxels * (batch ? c_.ranks.size() : 1);
        norm.epsilon = batch ? node.as<BatchNorm>().epsilon : node.as<InstanceNorm>().epsilon;
        norm.momentum = c_.network.batch_norm_momentum;
        norm.scale = c_.values(node, 0);
        norm.shift = c_.values(node, 1);
        if (batch) {
            norm.running_mean = c_.values(node, 2);
            norm.running_variance = c_.values(node, 3);
        }
        const std::int64_t count = input.groups * chunks_.channels;
        const auto floats = [&] { return static_cast<float*>(c_.constants.space(count * 4)); };
        norm.deviation = static_cast<double*>(c_.constants.space(count * 8));
        norm.mean = floats();
        norm.factor = floats();
        norm.offset = floats();
        input.pivot = floats();
        norm.pivot = input.pivot;
        input.operand.mean = norm.mean;
        input.operand.factor = norm.factor;
        input.operand.offset = norm.offset;
        if (!batch)
            input.operand.group_voxels = chunks_.voxels;

        NormGradientTables& gradient = input.gradient;
        gradient.groups = input.groups;
        gradient.channels = chunks_.channels;
        gradient.voxels = norm.voxels;
        gradient.deviation = norm.deviation;
        gradient.scale = norm.scale;
        gradient.scale_gradient = c_.gradient(node, 0);
        gradient.shift_gradient = c_.gradient(node, 1);
        gradient.own = floats();
        gradient.centred = floats();
        gradient.constant = floats();
    }

    // Forward.

    /// Whether the norm uses its running statistics in this step.
    bool fixed(const SumInput& input) const {
        return input.kind == SumInput::Kind::batch_norm && c_.network.statistics == NormStatistics::running;
    }

    void prepare_inputs(const Pass& pass) {
        for (std::size_t k = 0; k < inputs_.size(); ++k) {
            if (fixed(inputs_[k]))
                c_.kernels().fixed_norm_tables(c_.stream(), inputs_[k].norm);
            else if (inputs_[k].normalises())
                measure(inputs_[k], pass.inputs[k]);
        }
    }

    void measure(SumInput& input, const Part& x) const {
        StatisticsArguments statistics;
        statistics.chunks = chunks_;
        statistics.groups = input.groups;
        statistics.x = x;
        statistics.pivot = input.pivot;
        statistics.partials = reinterpret_cast<double*>(forward_sums_data_);
        statistics.totals = reinterpret_cast<double*>(forward_sums_data_ + sum_space().partials);
        statistics.counters = counters_;
        input.norm.totals = statistics.totals;
        statistics.with_tables = !shared(input);
        statistics.tables = input.norm;
        c_.kernels().statistics(c_.stream(), c_.type, statistics);
        if (!shared(input))
            return;
        // Relative to the running means, which are equal on all ranks and near the means of the batch.
        c_.kernels().move_pivot(c_.stream(), input.norm, input.pivot, chunks_.samples * chunks_.voxels,
                                statistics.totals);
        c_.ranks.sum(statistics.totals, 2 * chunks_.channels);
        c_.kernels().norm_tables(c_.stream(), input.norm);
    }

    /// Whether the statistics are those of the samples of all ranks.
    bool shared(const SumInput& input) const { return input.kind == SumInput::Kind::batch_norm && c_.ranks.size() > 1; }

    // Backward.

    GradientArguments from_array() const {
        GradientArguments arguments;
        arguments.chunks = chunks_;
        arguments.gradient.parts[0] = {gradient_, chunks_.channels, 0, 0, chunks_.channels};
        arguments.gradient.count = 1;
        return arguments;
    }

    /// Reads the contributions directly, or after they were gathered if they are too many for one launch.
    GradientArguments first_pass() const {
        GradientArguments arguments = from_array();
        if (gradient_parts_.size() > Parts::most) {
            gather(c_.engine, c_.type, chunks_, gradient_parts_, masked_);
        } else {
            std::copy(gradient_parts_.begin(), gradient_parts_.end(), arguments.gradient.parts);
            arguments.gradient.count = static_cast<int>(gradient_parts_.size());
        }
        arguments.mask = mask_;
        arguments.activation = sum_.activation;
        arguments.sign = sign_;
        arguments.store = masked_;
        return arguments;
    }

    bool summed_over_ranks(const SumInput& input) const { return shared(input) && !fixed(input); }

    /// What the sums' launch did not do with its totals.
    void finish(SumInput& input) const {
        double* const totals = reinterpret_cast<double*>(backward_sums_data_ + sum_space().partials);
        if (!input.normalises())
            return c_.kernels().weight_gradient(c_.stream(), totals, chunks_.channels, input.weight_gradient);
        if (!summed_over_ranks(input))
            return;
        c_.ranks.sum(totals, 2 * chunks_.channels);
        input.gradient.share = 1.0 / c_.ranks.size(); // gradients of parameters are summed over the ranks later
        c_.kernels().norm_gradient_tables(c_.stream(), input.gradient);
    }

    void input_gradient(const SumInput& input) const {
        InputGradientArguments arguments;
        arguments.voxels = chunks_.samples * chunks_.voxels;
        arguments.channels = chunks_.channels;
        arguments.gradient = from_array().gradient;
        arguments.mask = masked_ ? Mask::none : mask_;
        arguments.activation = sum_.activation;
        arguments.target = target_of(input);
        c_.kernels().input_gradient(c_.stream(), c_.type, arguments);
    }

    TrainingContext c_;
    FusedSum sum_;
    Chunking chunks_;
    std::vector<SumInput> inputs_;
    std::uint32_t* counters_ = nullptr;

    std::vector<Pass> passes_; ///< forward and recomputation
    std::byte *forward_sums_data_ = nullptr, *backward_sums_data_ = nullptr;

    std::vector<Part> gradient_parts_;
    Mask mask_ = Mask::none;
    Part sign_;
    void* masked_ = nullptr;   ///< where the first pass stores the masked gradient; null if it does not
    bool direct_ = false;      ///< see reads_directly()
    void* gradient_ = nullptr; ///< what the later passes read: `masked_`, or the only contribution
};

/// Concat and slices: what is not in place is copied, at once if that is all of the result.
class Copy final : public TrainingOp {
  public:
    Copy(const TrainingContext& context, NodeId id) : c_(context), node_(context.node(id)) {}

    std::string forward_implementation() const override { return "mfres:copy"; }
    std::string backward_implementation() const override { return {}; }

    OpWorkspace workspace() const override { return {}; }

    void bind(const ArrayPlacement& placement, const OpArrays& arrays) override {
        for (const OpArrays::Forward& forward : arrays.forwards)
            passes_.push_back(
                {parts(placement, copied_channels(node_, forward)), placement.at(forward.outputs[0].channels.array)});
    }

    void forward(bool recompute) override {
        const Pass& pass = passes_[recompute ? 1 : 0];
        std::int64_t copied = 0;
        for (const Part& from : pass.parts)
            copied += from.count;
        if (copied == node_.shape[1])
            return gather(c_.engine, c_.type, chunking(node_.shape), pass.parts, pass.to);
        for (const Part& from : pass.parts)
            copy(from, pass.to);
    }
    void backward() override {}

  private:
    struct Pass {
        std::vector<Part> parts;
        void* to = nullptr;
    };

    void copy(const Part& from, void* to) const {
        SumArguments arguments;
        arguments.voxels = node_.shape[0] * voxels_of(node_.shape);
        arguments.channels = from.count;
        arguments.y = to;
        arguments.y_stride = node_.shape[1];
        arguments.y_from = from.to;
        Operand operand;
        operand.x = from;
        operand.x.to = 0;
        sum(c_.engine, c_.type, arguments, {operand});
    }

    TrainingContext c_;
    const Node& node_;
    std::vector<Pass> passes_; ///< forward and recomputation
};

} // namespace

std::unique_ptr<TrainingOp> make_sum(const TrainingContext& context, const FusedSum& sum) {
    return std::make_unique<Sum>(context, sum);
}

std::unique_ptr<TrainingOp> make_copy(const TrainingContext& context, NodeId id) {
    return std::make_unique<Copy>(context, id);
}

} // namespace mfres::cuda
