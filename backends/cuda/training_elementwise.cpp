#include "backends/cuda/training_step.h"

#include "core/try.h"

#include <algorithm>

namespace mfres::cuda {

namespace {

/// One operand with what its n_k needs.
struct SumInput {
    enum class Kind : std::uint8_t { plain, batch_norm, instance_norm, weight };

    Kind kind = Kind::plain;
    NodeId value = -1;
    Channels channels;
    std::int64_t groups = 1; ///< with statistics of their own
    NormTables norm;
    NormGradientTables gradient;
    Operand operand;
    float* pivot = nullptr;
    float* weight_gradient = nullptr;
    ArrayId dx_array = -1;
    void* dx = nullptr;

    bool plain() const { return kind == Kind::plain; }
    bool normalises() const { return kind == Kind::batch_norm || kind == Kind::instance_norm; }
};

class Sum final : public TrainingStep {
  public:
    Sum(const TrainingContext& context, const SumStep& step)
        : c_(context), step_(step), node_(context.graph.node(step.main)),
          chunks_(chunking(context.graph.node(step.output).shape)) {
        for (std::size_t k = 0; k < step.operands.size(); ++k)
            inputs_.push_back(make_input(step.operands[k], k));
    }

    std::string node() const override { return node_.name; }

    std::string operation() const override {
        std::string text;
        for (const SumInput& input : inputs_)
            if (input.normalises())
                text += text.empty() ? "norm" : " + norm";
        if (inputs_.size() > 1)
            text += (text.empty() ? "" : " + ") + std::string(name(node_.kind()));
        switch (step_.activation.kind) {
        case Activation::Kind::none: break;
        case Activation::Kind::relu: text += text.empty() ? "relu" : " + relu"; break;
        case Activation::Kind::leaky_relu: text += text.empty() ? "leaky_relu" : " + leaky_relu"; break;
        }
        return text;
    }

    std::string forward_implementation() const override { return "mfres:sum"; }
    std::string backward_implementation() const override { return has_backward_ ? "mfres:sum" : ""; }

    void plan_forward(TrainingPlan& plan) override {
        for (SumInput& input : inputs_)
            input.channels = plan.value(input.value);
        if (step_.slices.empty())
            outputs_.push_back({plan.define(step_.output), 0});
        for (const NodeId slice : step_.slices) {
            outputs_.push_back({plan.define(slice), plan.graph().node(slice).as<Slice>().begin});
            plan.redirect(slice);
        }
        forward_sums_ = plan.scratch(sum_space().bytes());
    }

    void plan_backward(TrainingPlan& plan) override {
        terms_ = plan.take_gradient(step_.output);
        if (terms_.empty())
            return;
        const bool affine = std::any_of(inputs_.begin(), inputs_.end(), [](const auto& i) { return !i.plain(); });
        if (!affine && step_.activation.kind == Activation::Kind::none) {
            for (const SumInput& input : inputs_)
                plan.add_gradient(input.value, terms_);
            return;
        }
        choose_mask(plan);
        has_backward_ = true;
        if (dense(terms_, chunks_.channels) && mask_ != Mask::by_array)
            gradient_array_ = terms_[0].from.array;
        else
            gradient_array_ = masked_array_ = writable_gradient(plan);
        plan_inputs(plan);
        backward_sums_ = plan.scratch(sum_space().bytes());
    }

    void bind(const Binding& binding) override {
        for (SumInput& input : inputs_) {
            input.operand.x = binding.part(input.channels);
            input.dx = binding.at(input.dx_array);
        }
        for (const auto& [channels, first] : outputs_)
            writers_.push_back({binding.at(channels.array), first, channels.count});
        forward_sums_data_ = binding.at(forward_sums_);
        if (!has_backward_)
            return;
        // What is written over has to be read by the first of the launches that gather.
        std::stable_partition(terms_.begin(), terms_.end(),
                              [&](const GradientTerm& term) { return term.from.array == masked_array_; });
        gradient_parts_ = binding.parts(terms_);
        if (mask_ == Mask::by_array)
            sign_ = binding.part(mask_channels_);
        masked_ = binding.at(masked_array_);
        gradient_ = binding.at(gradient_array_);
        backward_sums_data_ = binding.at(backward_sums_);
    }

    void forward() override {
        for (SumInput& input : inputs_)
            if (fixed(input))
                c_.kernels().fixed_norm_tables(c_.stream(), input.norm);
            else if (input.normalises())
                measure(input);
        std::vector<Operand> operands;
        for (const SumInput& input : inputs_)
            operands.push_back(input.operand);
        for (const Writer& writer : writers_) {
            SumArguments arguments;
            arguments.activation = step_.activation;
            arguments.voxels = chunks_.samples * chunks_.voxels;
            arguments.first = writer.first;
            arguments.channels = writer.count;
            arguments.y = writer.to;
            sum(c_.engine, c_.type, arguments, operands);
        }
    }

    /// The masked gradient where it is written, and the sums; then the gradients of the operands.
    void backward() override {
        if (!has_backward_)
            return;
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
            c_.kernels().gradient(c_.stream(), c_.type, arguments);
            finish(input, arguments.totals);
            if (masked_)
                arguments = from_array();
        }
        for (const SumInput& input : inputs_)
            if (input.dx)
                input_gradient(input);
    }

  private:
    struct Writer {
        void* to;
        std::int64_t first, count;
    };

    std::int64_t most_groups() const { return chunks_.samples; }
    SumSpace sum_space() const { return {chunks_, most_groups(), 2}; }

    SumInput make_input(const SumOperand& from, std::size_t index) const {
        SumInput input;
        input.value = from.value;
        if (from.norm >= 0) {
            make_norm(c_.graph.node(from.norm), input);
        } else if (node_.kind() == OpKind::scaled_add) {
            input.kind = SumInput::Kind::weight;
            input.operand.weight = c_.values(node_, index);
            input.weight_gradient = c_.gradient(node_, index);
        }
        return input;
    }

    void make_norm(const Node& node, SumInput& input) const {
        const bool batch = node.kind() == OpKind::batch_norm;
        input.kind = batch ? SumInput::Kind::batch_norm : SumInput::Kind::instance_norm;
        input.groups = batch ? 1 : chunks_.samples;
        NormTables& norm = input.norm;
        norm.groups = input.groups;
        norm.channels = chunks_.channels;
        norm.voxels = chunks_.samples / input.groups * chunks_.voxels * (batch ? c_.ranks.size() : 1);
        norm.epsilon = batch ? node.as<BatchNorm>().epsilon : node.as<InstanceNorm>().epsilon;
        norm.momentum = c_.batch_norm_momentum;
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

    /// A norm whose statistics are the running ones in this step.
    bool fixed(const SumInput& input) const {
        return input.kind == SumInput::Kind::batch_norm && c_.statistics == NormStatistics::running;
    }

    void measure(SumInput& input) const {
        StatisticsArguments statistics;
        statistics.chunks = chunks_;
        statistics.groups = input.groups;
        statistics.x = input.operand.x;
        statistics.pivot = input.pivot;
        statistics.partials = reinterpret_cast<double*>(forward_sums_data_);
        statistics.totals = reinterpret_cast<double*>(forward_sums_data_ + sum_space().partials);
        input.norm.totals = statistics.totals;
        c_.kernels().statistics(c_.stream(), c_.type, statistics);
        if (shared(input)) {
            // Around the running means, which are the same on all ranks and near enough to keep what is summed small.
            c_.kernels().move_pivot(c_.stream(), input.norm, input.pivot, chunks_.samples * chunks_.voxels,
                                    statistics.totals);
            c_.ranks.sum(statistics.totals, 2 * chunks_.channels);
        }
        c_.kernels().norm_tables(c_.stream(), input.norm);
    }

    /// Statistics that are those of all ranks' samples.
    bool shared(const SumInput& input) const { return input.kind == SumInput::Kind::batch_norm && c_.ranks.size() > 1; }

    // Backward.

    void choose_mask(TrainingPlan& plan) {
        if (step_.activation.kind == Activation::Kind::none)
            return;
        if (inputs_.size() == 1 && !inputs_[0].plain()) {
            mask_ = Mask::by_operand;
            return;
        }
        mask_ = Mask::by_array;
        // The output's sign is that of the sum, but for a leaky ReLU that turns it round.
        const bool turns = step_.activation.slope < 0.0F;
        mask_channels_ = plan.value(turns ? inputs_[0].value : step_.output);
    }

    std::int64_t elements() const { return chunks_.samples * chunks_.voxels * chunks_.channels; }

    /// An array for the whole gradient: one of the terms' where nobody else needs it.
    ArrayId writable_gradient(TrainingPlan& plan) const {
        for (const GradientTerm& term : terms_)
            if (term.from.whole() && term.from.count == chunks_.channels && plan.free_after_now(term.from.array))
                return term.from.array;
        return plan.array(elements());
    }

    void plan_inputs(TrainingPlan& plan) {
        bool overwritable = masked_array_ >= 0 || plan.free_after_now(gradient_array_);
        const auto whole = [&](ArrayId array) { return Channels{array, chunks_.channels, 0, chunks_.channels}; };
        for (const SumInput& input : inputs_)
            if (input.plain() && plan.needs_gradient(input.value)) {
                plan.add_gradient(input.value, whole(gradient_array_));
                overwritable = false;
            }
        // Backwards: the operand that is computed last writes over the gradient that all of them read.
        for (auto input = inputs_.rbegin(); input != inputs_.rend(); ++input) {
            if (input->plain())
                continue;
            plan.value(input->value);
            if (!plan.needs_gradient(input->value))
                continue;
            input->dx_array = overwritable ? gradient_array_ : plan.array(elements());
            overwritable = false;
        }
        for (const SumInput& input : inputs_)
            if (input.dx_array >= 0)
                plan.add_gradient(input.value, whole(input.dx_array));
    }

    GradientArguments from_array() const {
        GradientArguments arguments;
        arguments.chunks = chunks_;
        arguments.gradient.parts[0] = {gradient_, chunks_.channels, 0, 0, chunks_.channels};
        arguments.gradient.count = 1;
        return arguments;
    }

    /// From the terms where they lie, or from where they have been gathered if they are too many for one launch.
    GradientArguments first_pass() const {
        GradientArguments arguments = from_array();
        if (gradient_parts_.size() > Parts::most) {
            gather(c_.engine, c_.type, chunks_, gradient_parts_, masked_);
        } else {
            std::copy(gradient_parts_.begin(), gradient_parts_.end(), arguments.gradient.parts);
            arguments.gradient.count = static_cast<int>(gradient_parts_.size());
        }
        arguments.mask = mask_;
        arguments.activation = step_.activation;
        arguments.sign = sign_;
        arguments.store = masked_;
        return arguments;
    }

    void finish(SumInput& input, double* totals) const {
        if (!input.normalises())
            return c_.kernels().weight_gradient(c_.stream(), totals, chunks_.channels, input.weight_gradient);
        input.gradient.totals = totals;
        input.gradient.fixed = fixed(input);
        input.gradient.share = 1.0;
        if (shared(input) && !fixed(input)) {
            c_.ranks.sum(totals, 2 * chunks_.channels);
            input.gradient.share = 1.0 / c_.ranks.size(); // gradients of parameters are summed over the ranks later
        }
        c_.kernels().norm_gradient_tables(c_.stream(), input.gradient);
    }

    void input_gradient(const SumInput& input) const {
        InputGradientArguments arguments;
        arguments.voxels = chunks_.samples * chunks_.voxels;
        arguments.channels = chunks_.channels;
        arguments.gradient = gradient_;
        arguments.mask = masked_ ? Mask::none : mask_;
        arguments.activation = step_.activation;
        arguments.operand = input.operand;
        if (input.normalises()) {
            arguments.own = input.gradient.own;
            arguments.centred = input.gradient.centred;
            arguments.constant = input.gradient.constant;
        }
        arguments.dx = input.dx;
        c_.kernels().input_gradient(c_.stream(), c_.type, arguments);
    }

    TrainingContext c_;
    SumStep step_;
    const Node& node_;
    Chunking chunks_;
    std::vector<SumInput> inputs_;

    std::vector<std::pair<Channels, std::int64_t>> outputs_; ///< arrays and the first channel that each takes
    std::vector<Writer> writers_;
    ArrayId forward_sums_ = -1, backward_sums_ = -1;
    std::byte *forward_sums_data_ = nullptr, *backward_sums_data_ = nullptr;

    bool has_backward_ = false;
    std::vector<GradientTerm> terms_;
    std::vector<Part> gradient_parts_;
    Mask mask_ = Mask::none;
    Channels mask_channels_;
    Part sign_;
    ArrayId masked_array_ = -1;   ///< where the first pass leaves the masked gradient; -1 if it does not
    ArrayId gradient_array_ = -1; ///< what the later passes read: that, or the only term
    void *masked_ = nullptr, *gradient_ = nullptr;
};

/// Concat and slices.
class Copy final : public TrainingStep {
  public:
    Copy(const TrainingContext& context, NodeId id) : c_(context), id_(id), node_(context.graph.node(id)) {}

    std::string node() const override { return node_.name; }
    std::string operation() const override { return std::string(name(node_.kind())); }
    std::string forward_implementation() const override { return "mfres:copy"; }
    std::string backward_implementation() const override { return {}; }

    void plan_forward(TrainingPlan& plan) override {
        std::int64_t to = 0;
        for (const NodeId input : node_.inputs) {
            Channels channels = plan.value(input);
            if (node_.kind() == OpKind::slice) {
                channels.begin += node_.as<Slice>().begin;
                channels.count = node_.shape[1];
            }
            reads_.push_back({channels, to});
            to += channels.count;
        }
        y_ = plan.define(id_);
    }

    void plan_backward(TrainingPlan& plan) override {
        const auto terms = plan.take_gradient(id_);
        if (node_.kind() == OpKind::slice)
            return plan.add_gradient(node_.inputs[0], moved(terms, node_.as<Slice>().begin));
        std::int64_t begin = 0;
        for (const NodeId input : node_.inputs) {
            const std::int64_t count = plan.graph().node(input).shape[1];
            plan.add_gradient(input, restricted(terms, begin, count));
            begin += count;
        }
    }

    void bind(const Binding& binding) override {
        parts_ = binding.parts(reads_);
        output_ = binding.at(y_.array);
    }

    void forward() override { gather(c_.engine, c_.type, chunking(node_.shape), parts_, output_); }
    void backward() override {}

  private:
    TrainingContext c_;
    NodeId id_;
    const Node& node_;
    std::vector<GradientTerm> reads_; ///< here: what goes where
    std::vector<Part> parts_;
    Channels y_;
    void* output_ = nullptr;
};

} // namespace

std::unique_ptr<TrainingStep> make_sum_step(const TrainingContext& context, const SumStep& step) {
    return std::make_unique<Sum>(context, step);
}

std::unique_ptr<TrainingStep> make_copy_step(const TrainingContext& context, NodeId id) {
    return std::make_unique<Copy>(context, id);
}

} // namespace mfres::cuda
