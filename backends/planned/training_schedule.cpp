// SPDX-License-Identifier: MIT
#include "backends/planned/training_schedule.h"

#include <algorithm>
#include <limits>
#include <memory>

namespace mfres {

namespace {

constexpr std::size_t nothing = std::numeric_limits<std::size_t>::max();

/// The values that a step's forward reads.
std::vector<NodeId> values_read(const Graph& graph, const FormedStep& step) {
    if (step.kind != FormedStep::Kind::sum)
        return graph.node(step.node).inputs;
    std::vector<NodeId> values;
    for (const SumOperand& operand : step.sum.operands)
        values.push_back(operand.value);
    return values;
}

/// The values that it computes.
std::vector<NodeId> values_made(const FormedStep& step) {
    if (step.kind != FormedStep::Kind::sum)
        return {step.node};
    return step.sum.slices.empty() ? std::vector<NodeId>{step.sum.output} : step.sum.slices;
}

/// The node whose gradient reaches the step.
NodeId result_of(const FormedStep& step) {
    return step.kind == FormedStep::Kind::sum ? step.sum.output : step.node;
}

/// A sum that leaves an operand alone.
bool plain(const Graph& graph, const SumStep& sum, std::size_t operand) {
    return sum.operands[operand].norm < 0 && graph.node(sum.main).kind() != OpKind::scaled_add;
}

bool all_plain(const Graph& graph, const SumStep& sum) {
    for (std::size_t k = 0; k < sum.operands.size(); ++k)
        if (!plain(graph, sum, k))
            return false;
    return true;
}

MaskBy mask_of(const Graph& graph, const SumStep& sum) {
    if (sum.activation.kind == Activation::Kind::none)
        return MaskBy::nothing;
    return sum.operands.size() == 1 && !plain(graph, sum, 0) ? MaskBy::operand : MaskBy::array;
}

/// The value by whose sign a gradient gets through a sum's activation: the result, or for a leaky ReLU that turns the
/// sign round the only operand.
NodeId mask_value(const SumStep& sum) {
    return sum.activation.slope < 0.0F ? sum.operands[0].value : sum.output;
}

/// The values that the backward of a step reads if it has one.
std::vector<NodeId> values_read_backward(const Graph& graph, const FormedStep& step) {
    std::vector<NodeId> values;
    switch (step.kind) {
    case FormedStep::Kind::convolution: return graph.node(step.node).inputs;
    case FormedStep::Kind::sum:
        for (std::size_t k = 0; k < step.sum.operands.size(); ++k)
            if (!plain(graph, step.sum, k))
                values.push_back(step.sum.operands[k].value);
        if (mask_of(graph, step.sum) == MaskBy::array)
            values.push_back(mask_value(step.sum));
        return values;
    case FormedStep::Kind::resampling:
        if (graph.node(step.node).kind() == OpKind::max_pool)
            return graph.node(step.node).inputs;
        if (graph.node(step.node).kind() == OpKind::softmax)
            return {step.node};
        return {};
    case FormedStep::Kind::copy:
    case FormedStep::Kind::slice_in_place: return {};
    }
    return {};
}

std::int64_t macs_of(const Graph& graph, const FormedStep& step) {
    if (step.kind != FormedStep::Kind::convolution)
        return 0;
    const Node& node = graph.node(step.node);
    const Conv& conv = node.as<Conv>();
    const std::int64_t per_output =
        graph.node(node.inputs[0]).shape[1] / conv.groups * conv.kernel[0] * conv.kernel[1] * conv.kernel[2];
    return node.shape.elements() * per_output;
}

/// One schedule with the results of some steps given up, planned from the first turn to the last.
class Planner {
  public:
    Planner(const Graph& graph, const std::vector<FormedStep>& formed, const std::vector<StepNeeds>& needs,
            const ScheduleRules& rules, const std::vector<bool>& given_up)
        : graph_(graph), formed_(formed), needs_(needs),
          given_up_(given_up), made_{TrainingPlan(graph, rules.value_bytes), {}, {}},
          maker_(static_cast<std::size_t>(graph.size()), nothing), done_again_(formed.size(), false),
          needs_from_(formed.size(), never) {
        made_.steps.resize(formed.size());
        for (std::size_t i = 0; i < formed.size(); ++i)
            for (const NodeId value : values_made(formed[i]))
                maker_[static_cast<std::size_t>(value)] = i;
        run(rules);
    }

    TrainingSchedule finish() {
        made_.bytes = made_.plan.place();
        return std::move(made_);
    }

    static constexpr int never = std::numeric_limits<int>::max();

    const TrainingPlan& plan() const { return made_.plan; }
    /// The time when the backward pass first needs the step's result.
    int need(std::size_t index) const { return needs_from_[index]; }
    /// The last time that reads it before.
    int forward_end(std::size_t index) const { return forward_end_[index]; }

  private:
    void run(const ScheduleRules& rules) {
        TrainingPlan& plan = made_.plan;
        made_.input = plan.define(graph_.input()).array;
        plan.pin(made_.input);
        for (std::size_t i = 0; i < formed_.size(); ++i) {
            plan.advance();
            plan_forward(i, needs_[i].forward);
        }
        plan.advance();
        for (const NodeId output : graph_.outputs()) {
            made_.outputs.push_back(plan.value(output).array);
            plan.pin(made_.outputs.back());
        }
        for (const StepPlan& step : made_.steps) {
            int end = 0;
            for (const StepPlan::Output& made : step.forwards[0].outputs)
                end = std::max(end, plan.last_use(made.channels.array));
            forward_end_.push_back(end);
        }
        for (const NodeId output : graph_.outputs()) {
            const Shape& shape = graph_.node(output).shape;
            const ArrayId gradient = plan.array(shape.elements());
            plan.pin(gradient); // stays as the caller filled it
            plan.add_gradient(output, Channels{gradient, shape[1], 0, shape[1]});
            made_.output_gradients.push_back(gradient);
        }
        made_.loss_scratch = plan.scratch(rules.loss_scratch);
        for (std::size_t i = formed_.size(); i-- > 0;) {
            if (has_work(i))
                for (const NodeId value : values_read_backward(graph_, formed_[i]))
                    ensure(value);
            plan.advance();
            plan_backward(i);
            if (made_.steps[i].has_backward)
                made_.backward.push_back({i, false});
        }
    }

    /// Whether plan_backward will have something to compute.
    bool has_work(std::size_t i) const {
        const FormedStep& step = formed_[i];
        if (!made_.plan.has_gradient(result_of(step)))
            return false;
        switch (step.kind) {
        case FormedStep::Kind::convolution: return true;
        case FormedStep::Kind::sum:
            return !all_plain(graph_, step.sum) || step.sum.activation.kind != Activation::Kind::none;
        case FormedStep::Kind::resampling: return made_.plan.needs_gradient(graph_.node(step.node).inputs[0]);
        case FormedStep::Kind::copy:
        case FormedStep::Kind::slice_in_place: return false;
        }
        return false;
    }

    /// The value exists from now on: what was given up is computed again.
    void ensure(NodeId value) {
        const std::size_t i = maker_[static_cast<std::size_t>(value)];
        if (i == nothing) // the input
            return;
        needs_from_[i] = std::min(needs_from_[i], made_.plan.now() + 1);
        const bool in_place = formed_[i].kind == FormedStep::Kind::slice_in_place;
        if (!in_place && (!given_up_[i] || done_again_[i]))
            return;
        for (const NodeId read : values_read(graph_, formed_[i]))
            ensure(read);
        if (in_place)
            return define_slice(formed_[i].node);
        done_again_[i] = true;
        made_.plan.advance();
        plan_forward(i, needs_[i].again);
        made_.backward.push_back({i, true});
        ++made_.steps_again;
        made_.macs_again += macs_of(graph_, formed_[i]);
    }

    void define_slice(NodeId id) {
        const Node& node = graph_.node(id);
        Channels channels = made_.plan.value(node.inputs[0]);
        channels.begin += node.as<Slice>().begin;
        channels.count = node.shape[1];
        made_.plan.define(id, channels);
        made_.plan.redirect(id);
    }

    void plan_forward(std::size_t i, std::int64_t scratch) {
        TrainingPlan& plan = made_.plan;
        const FormedStep& step = formed_[i];
        StepPlan::Forward& forward = made_.steps[i].forwards.emplace_back();
        if (step.kind == FormedStep::Kind::slice_in_place)
            return define_slice(step.node);
        for (const NodeId value : values_read(graph_, step))
            forward.inputs.push_back(plan.value(value));
        for (const NodeId value : values_made(step)) {
            const bool slice = step.kind == FormedStep::Kind::sum && value != step.sum.output;
            forward.outputs.push_back({plan.define(value), slice ? graph_.node(value).as<Slice>().begin : 0});
            if (slice)
                plan.redirect(value);
        }
        if (scratch > 0)
            forward.scratch = plan.scratch(scratch);
    }

    void plan_backward(std::size_t i) {
        const FormedStep& step = formed_[i];
        StepPlan& planned = made_.steps[i];
        planned.terms = made_.plan.take_gradient(result_of(step));
        if (planned.terms.empty())
            return;
        switch (step.kind) {
        case FormedStep::Kind::sum: return plan_sum(step.sum, needs_[i], planned);
        case FormedStep::Kind::copy: return plan_copy(step.node, planned);
        case FormedStep::Kind::convolution:
        case FormedStep::Kind::resampling: return plan_dense(step, needs_[i], planned);
        case FormedStep::Kind::slice_in_place: return; // its gradients are those of what it is cut from
        }
    }

    /// The gradients of a concat's or a slice's operands are read where they lie.
    void plan_copy(NodeId id, StepPlan& planned) {
        const Node& node = graph_.node(id);
        if (node.kind() == OpKind::slice)
            return made_.plan.add_gradient(node.inputs[0], moved(planned.terms, node.as<Slice>().begin));
        std::int64_t begin = 0;
        for (const NodeId input : node.inputs) {
            const std::int64_t count = graph_.node(input).shape[1];
            made_.plan.add_gradient(input, restricted(planned.terms, begin, count));
            begin += count;
        }
    }

    /// A convolution or a resampling: one dense array gives another.
    void plan_dense(const FormedStep& step, const StepNeeds& needs, StepPlan& planned) {
        TrainingPlan& plan = made_.plan;
        const Node& node = graph_.node(step.node);
        const NodeId source = node.inputs[0];
        const bool passes_on = plan.needs_gradient(source);
        if (step.kind == FormedStep::Kind::resampling && !passes_on)
            return;
        planned.has_backward = true;
        planned.inputs.resize(1);
        for (const NodeId value : values_read_backward(graph_, step))
            (value == step.node ? planned.output : planned.inputs[0]) = plan.value(value);
        if (dense(planned.terms, node.shape[1]))
            planned.gradient = planned.terms[0].from.array;
        else if (planned.terms.size() > needs.terms_in_place)
            planned.gradient = planned.summed = plan.array(node.shape.elements());
        if (needs.backward > 0)
            planned.scratch = plan.scratch(needs.backward);
        planned.input_gradients.push_back(-1);
        if (!passes_on)
            return;
        const Shape& in = graph_.node(source).shape;
        planned.input_gradients[0] = plan.array(in.elements());
        plan.add_gradient(source, Channels{planned.input_gradients[0], in[1], 0, in[1]});
    }

    void plan_sum(const SumStep& sum, const StepNeeds& needs, StepPlan& planned) {
        TrainingPlan& plan = made_.plan;
        const Shape& shape = graph_.node(sum.output).shape;
        planned.mask = mask_of(graph_, sum);
        if (all_plain(graph_, sum) && planned.mask == MaskBy::nothing) {
            for (const SumOperand& operand : sum.operands)
                plan.add_gradient(operand.value, planned.terms);
            return;
        }
        planned.has_backward = true;
        if (planned.mask == MaskBy::array)
            planned.mask_array = plan.value(mask_value(sum));
        if (dense(planned.terms, shape[1]) && planned.mask != MaskBy::array)
            planned.gradient = planned.terms[0].from.array;
        else
            planned.gradient = planned.summed = writable_gradient(shape, planned.terms);
        plan_operands(sum, shape, planned);
        planned.scratch = plan.scratch(needs.backward);
    }

    /// An array for the whole gradient, masked if it has to be: one of the terms' where nobody else needs it.
    ArrayId writable_gradient(const Shape& shape, const std::vector<GradientTerm>& terms) {
        for (const GradientTerm& term : terms)
            if (term.from.whole() && term.from.count == shape[1] && made_.plan.free_after_now(term.from.array))
                return term.from.array;
        return made_.plan.array(shape.elements());
    }

    void plan_operands(const SumStep& sum, const Shape& shape, StepPlan& planned) {
        TrainingPlan& plan = made_.plan;
        planned.inputs.resize(sum.operands.size());
        planned.input_gradients.assign(sum.operands.size(), -1);
        bool overwritable = planned.summed >= 0 || plan.free_after_now(planned.gradient);
        for (std::size_t k = 0; k < sum.operands.size(); ++k)
            if (const NodeId value = sum.operands[k].value; plain(graph_, sum, k) && plan.needs_gradient(value)) {
                plan.add_gradient(value, Channels{planned.gradient, shape[1], 0, shape[1]});
                overwritable = false;
            }
        // Backwards: the operand that is computed last writes over the gradient that all of them read.
        for (std::size_t k = sum.operands.size(); k-- > 0;) {
            const NodeId value = sum.operands[k].value;
            if (plain(graph_, sum, k))
                continue;
            planned.inputs[k] = plan.value(value);
            if (!plan.needs_gradient(value))
                continue;
            planned.input_gradients[k] = overwritable ? planned.gradient : plan.array(shape.elements());
            overwritable = false;
        }
        for (std::size_t k = 0; k < sum.operands.size(); ++k)
            if (const ArrayId array = planned.input_gradients[k]; array >= 0)
                plan.add_gradient(sum.operands[k].value, Channels{array, shape[1], 0, shape[1]});
    }

    const Graph& graph_;
    const std::vector<FormedStep>& formed_;
    const std::vector<StepNeeds>& needs_;
    const std::vector<bool>& given_up_;
    TrainingSchedule made_;
    std::vector<std::size_t> maker_; ///< by node: the step that computes it
    std::vector<bool> done_again_;
    std::vector<int> needs_from_, forward_end_; ///< by step
};

/// Chooses what is given up.
class Chooser {
  public:
    Chooser(const Graph& graph, const std::vector<FormedStep>& formed, const std::vector<StepNeeds>& needs,
            const ScheduleRules& rules)
        : graph_(graph), formed_(formed), needs_(needs), rules_(rules), given_up_(formed.size(), false),
          kept_(formed.size(), false) {
        for (std::size_t i = 0; i < formed.size(); ++i)
            for (const NodeId value : values_made(formed[i]))
                if (graph.is_output(value) || formed[i].kind == FormedStep::Kind::slice_in_place)
                    kept_[i] = true;
    }

    TrainingSchedule run() {
        TrainingSchedule schedule = plan()->finish();
        schedule.plain_bytes = schedule.bytes;
        if (rules_.limit == 0 || schedule.bytes <= rules_.limit)
            return schedule;
        if (give_up_until_it_fits())
            keep_what_may_be_kept();
        TrainingSchedule smaller = plan()->finish();
        if (smaller.bytes >= schedule.bytes)
            return schedule;
        smaller.plain_bytes = schedule.bytes;
        return smaller;
    }

  private:
    std::unique_ptr<Planner> plan() const {
        return std::make_unique<Planner>(graph_, formed_, needs_, rules_, given_up_);
    }

    bool fits(const Planner& planner) const {
        return planner.plan().fullest().bytes <= rules_.limit && plan()->finish().bytes <= rules_.limit;
    }

    bool give_up_until_it_fits() {
        auto now = plan();
        while (!fits(*now)) {
            const std::size_t next = cheapest(*now);
            if (next == nothing)
                return false;
            given_up_[next] = true;
            auto then = plan();
            if (then->plan().fullest().bytes <= now->plan().fullest().bytes) {
                now = std::move(then);
            } else {
                given_up_[next] = false;
                kept_[next] = true;
            }
        }
        return true;
    }

    /// Of the results that only wait at the fullest moment; `nothing` if there are none.
    std::size_t cheapest(const Planner& planner) const {
        const int moment = planner.plan().fullest().time;
        std::size_t best = nothing;
        for (std::size_t i = 0; i < formed_.size(); ++i)
            if (!given_up_[i] && !kept_[i] && planner.forward_end(i) < moment && moment < planner.need(i) &&
                planner.need(i) < Planner::never && (best == nothing || cheaper(i, best)))
                best = i;
        return best;
    }

    bool cheaper(std::size_t a, std::size_t b) const {
        // macs(a) / bytes(a) < macs(b) / bytes(b)
        const double costs_a = static_cast<double>(macs_of(graph_, formed_[a])) * static_cast<double>(bytes(b));
        const double costs_b = static_cast<double>(macs_of(graph_, formed_[b])) * static_cast<double>(bytes(a));
        return costs_a != costs_b ? costs_a < costs_b : bytes(a) > bytes(b);
    }

    std::int64_t bytes(std::size_t i) const {
        std::int64_t all = 0;
        for (const NodeId value : values_made(formed_[i]))
            all += graph_.node(value).shape.elements() * rules_.value_bytes;
        return all;
    }

    void keep_what_may_be_kept() {
        std::vector<std::size_t> dearest;
        for (std::size_t i = 0; i < formed_.size(); ++i)
            if (given_up_[i])
                dearest.push_back(i);
        std::stable_sort(dearest.begin(), dearest.end(), [&](std::size_t a, std::size_t b) {
            const std::int64_t macs_a = macs_of(graph_, formed_[a]);
            const std::int64_t macs_b = macs_of(graph_, formed_[b]);
            return macs_a != macs_b ? macs_a > macs_b : bytes(a) > bytes(b);
        });
        for (const std::size_t i : dearest) {
            given_up_[i] = false;
            if (!fits(*plan()))
                given_up_[i] = true;
        }
    }

    const Graph& graph_;
    const std::vector<FormedStep>& formed_;
    const std::vector<StepNeeds>& needs_;
    ScheduleRules rules_;
    std::vector<bool> given_up_, kept_; ///< by step; kept for good
};

} // namespace

TrainingSchedule schedule_training(const Graph& graph, const std::vector<FormedStep>& formed,
                                   const std::vector<StepNeeds>& needs, const ScheduleRules& rules) {
    return Chooser(graph, formed, needs, rules).run();
}

bool dense(const std::vector<GradientTerm>& terms, std::int64_t channels) {
    return terms.size() == 1 && terms[0].from.whole() && terms[0].from.count == channels;
}

} // namespace mfres
