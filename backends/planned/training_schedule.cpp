// SPDX-License-Identifier: MIT
#include "backends/planned/training_schedule.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace mfres {

namespace {

constexpr std::size_t no_producer = std::numeric_limits<std::size_t>::max();

/// The values that the forward op reads.
std::vector<NodeId> values_read(const Graph& graph, const FusedTrainingOp& op) {
    if (op.kind != FusedTrainingOp::Kind::sum)
        return graph.node(op.node).inputs;
    std::vector<NodeId> values;
    for (const SumOperand& operand : op.sum.operands)
        values.push_back(operand.read());
    return values;
}

MaskBy mask_of(const FusedSum& sum) {
    if (sum.activation.kind == Activation::Kind::none)
        return MaskBy::nothing;
    return sum.operands.size() == 1 && !sum.operands[0].plain() ? MaskBy::operand : MaskBy::array;
}

/// The value whose sign is the mask of a sum's activation: the result, or the only operand of a leaky ReLU with a negative
/// slope.
NodeId mask_value(const FusedSum& sum) {
    return sum.activation.slope < 0.0F ? sum.operands[0].value : sum.output;
}

/// The values that the backward op reads if there is one.
std::vector<NodeId> values_read_backward(const Graph& graph, const FusedTrainingOp& op) {
    std::vector<NodeId> values;
    switch (op.kind) {
    case FusedTrainingOp::Kind::convolution: return graph.node(op.node).inputs;
    case FusedTrainingOp::Kind::sum:
        for (const SumOperand& operand : op.sum.operands)
            if (!operand.plain())
                values.push_back(operand.value);
        if (mask_of(op.sum) == MaskBy::array)
            values.push_back(mask_value(op.sum));
        return values;
    case FusedTrainingOp::Kind::resampling:
        if (graph.node(op.node).kind() == OpKind::max_pool)
            return graph.node(op.node).inputs;
        if (graph.node(op.node).kind() == OpKind::softmax)
            return {op.node};
        return {};
    case FusedTrainingOp::Kind::copy:
    case FusedTrainingOp::Kind::slice_in_place: return {};
    }
    return {};
}

class Scheduler {
  public:
    Scheduler(const Graph& graph, const std::vector<FusedTrainingOp>& ops, const std::vector<OpWorkspace>& workspaces,
              const ScheduleRules& rules, const std::vector<bool>& evicted)
        : graph_(graph), ops_(ops), workspaces_(workspaces), rules_(rules),
          evicted_(evicted), schedule_{TrainingPlan(graph, rules.value_bytes), std::vector<OpArrays>(ops.size()), {}},
          producer_(static_cast<std::size_t>(graph.size()), no_producer), recomputed_(ops.size(), false),
          joined_gradients_(ops.size()) {
        schedule_.uses.resize(ops.size());
        if (rules.concat_in_place && std::find(evicted.begin(), evicted.end(), true) == evicted.end())
            find_concats_in_place();
        for (std::size_t i = 0; i < ops.size(); ++i)
            for (const NodeId value : values_computed(ops[i]))
                producer_[static_cast<std::size_t>(value)] = i;
    }

    TrainingSchedule run() {
        plan_forward_ops();
        plan_loss();
        plan_backward_ops();
        return std::move(schedule_);
    }

  private:
    /// Where a value lies in the result of a concat.
    struct Place {
        NodeId concat = -1;
        std::int64_t begin = 0;
    };

    /// Whether an op may write its result, or a slice of it, to a range of channels.
    static bool writes_ranges(const Graph& graph, const FusedTrainingOp& op) {
        return op.kind == FusedTrainingOp::Kind::sum ||
               (op.kind == FusedTrainingOp::Kind::resampling && graph.node(op.node).kind() == OpKind::upsample);
    }

    void find_concats_in_place() {
        const auto size = static_cast<std::size_t>(graph_.size());
        places_.resize(size);
        std::vector<char> dense(size, 0); ///< by node: somebody needs it as an array of its own
        std::vector<int> concats(size, 0);
        for (const NodeId output : graph_.outputs())
            dense[static_cast<std::size_t>(output)] = 1;
        for (const FusedTrainingOp& op : ops_) {
            const bool reads_ranges = op.kind == FusedTrainingOp::Kind::sum || op.kind == FusedTrainingOp::Kind::copy;
            for (const NodeId value : values_read(graph_, op)) {
                const auto read = static_cast<std::size_t>(value);
                if (!reads_ranges)
                    dense[read] = 1;
                if (graph_.node(op.node).kind() == OpKind::concat)
                    ++concats[read];
            }
        }
        std::vector<char> writable(size, 0);
        for (const FusedTrainingOp& op : ops_)
            for (const NodeId value : values_computed(op))
                writable[static_cast<std::size_t>(value)] = writes_ranges(graph_, op) ? 1 : 0;
        for (const FusedTrainingOp& op : ops_) {
            std::int64_t begin = 0;
            for (const NodeId input : graph_.node(op.node).inputs) {
                const auto value = static_cast<std::size_t>(input);
                if (graph_.node(op.node).kind() == OpKind::concat && writable[value] && !dense[value] &&
                    concats[value] == 1)
                    places_[value] = {op.node, begin};
                begin += graph_.node(input).shape[1];
            }
        }
    }

    /// The array of a value that is computed now.
    Channels defined(NodeId id) {
        TrainingPlan& plan = schedule_.plan;
        const bool is_concat = graph_.node(id).kind() == OpKind::concat;
        const Place place = places_.empty() ? Place() : places_[static_cast<std::size_t>(id)];
        if (place.concat < 0 && !(is_concat && concat_array(id).array >= 0))
            return plan.define(id);
        Channels channels = concat_array(is_concat ? id : place.concat);
        if (channels.array < 0) {
            const Shape& shape = graph_.node(place.concat).shape;
            channels = {plan.array(shape.elements()), shape[1], 0, shape[1]};
            concat_arrays_.push_back({place.concat, channels});
        }
        plan.use(channels.array);
        if (!is_concat)
            channels = {channels.array, channels.channels, place.begin, graph_.node(id).shape[1]};
        plan.define(id, channels);
        return channels;
    }

    /// That of the concat, if an operand was written to it already.
    Channels concat_array(NodeId concat) const {
        for (const auto& [node, channels] : concat_arrays_)
            if (node == concat)
                return channels;
        return {};
    }

    void plan_forward_ops() {
        TrainingPlan& plan = schedule_.plan;
        schedule_.input = plan.define(graph_.input()).array;
        plan.pin(schedule_.input);
        for (std::size_t i = 0; i < ops_.size(); ++i) {
            plan.advance();
            plan_forward(i, workspaces_[i].forward);
        }
    }

    void plan_loss() {
        TrainingPlan& plan = schedule_.plan;
        plan.advance();
        for (const NodeId output : graph_.outputs()) {
            schedule_.outputs.push_back(plan.value(output).array);
            plan.pin(schedule_.outputs.back());
        }
        for (std::size_t i = 0; i < ops_.size(); ++i)
            for (const OpArrays::Output& output : schedule_.ops[i].forwards[0].outputs) {
                int& end = schedule_.uses[i].forward_end;
                end = std::max(end, plan.last_use(output.channels.array));
            }
        for (const NodeId output : graph_.outputs()) {
            const Shape& shape = graph_.node(output).shape;
            const ArrayId gradient = plan.array(shape.elements());
            plan.pin(gradient); // the caller reads and writes it
            plan.add_gradient(output, Channels{gradient, shape[1], 0, shape[1]});
            schedule_.output_gradients.push_back(gradient);
        }
        schedule_.loss_workspace = plan.workspace(rules_.loss_workspace);
    }

    void plan_backward_ops() {
        for (std::size_t i = ops_.size(); i-- > 0;) {
            if (has_backward(i))
                for (const NodeId value : values_read_backward(graph_, ops_[i]))
                    recompute_if_evicted(value);
            schedule_.plan.advance();
            plan_backward(i);
            if (schedule_.ops[i].has_backward)
                schedule_.backward.push_back({i, false});
        }
    }

    /// Whether plan_backward() will plan a backward op.
    bool has_backward(std::size_t i) const {
        const FusedTrainingOp& op = ops_[i];
        const std::vector<NodeId> results = op.results();
        if (std::none_of(results.begin(), results.end(), [&](NodeId id) { return schedule_.plan.has_gradient(id); }))
            return false;
        switch (op.kind) {
        case FusedTrainingOp::Kind::convolution: return true;
        case FusedTrainingOp::Kind::sum: return !op.sum.all_plain() || op.sum.activation.kind != Activation::Kind::none;
        case FusedTrainingOp::Kind::resampling: return schedule_.plan.needs_gradient(graph_.node(op.node).inputs[0]);
        case FusedTrainingOp::Kind::copy:
        case FusedTrainingOp::Kind::slice_in_place: return false;
        }
        return false;
    }

    /// The value is live from now on.
    void recompute_if_evicted(NodeId value) {
        const std::size_t i = producer_[static_cast<std::size_t>(value)];
        if (i == no_producer) // the input
            return;
        int& begin = schedule_.uses[i].backward_begin;
        begin = std::min(begin, schedule_.plan.now() + 1);
        const bool in_place = ops_[i].kind == FusedTrainingOp::Kind::slice_in_place;
        if (!in_place && (evicted_.empty() || !evicted_[i] || recomputed_[i]))
            return;
        for (const NodeId read : values_read(graph_, ops_[i]))
            recompute_if_evicted(read);
        if (in_place)
            return define_slice(ops_[i].node);
        recomputed_[i] = true;
        schedule_.plan.advance();
        plan_forward(i, workspaces_[i].recompute);
        schedule_.backward.push_back({i, true});
        ++schedule_.recomputed_ops;
        schedule_.recomputed_macs += forward_macs(graph_, ops_[i]);
    }

    void define_slice(NodeId id) {
        const Node& node = graph_.node(id);
        Channels channels = schedule_.plan.value(node.inputs[0]);
        channels.begin += node.as<Slice>().begin;
        channels.count = node.shape[1];
        schedule_.plan.define(id, channels);
        schedule_.plan.redirect(id);
    }

    void plan_forward(std::size_t i, std::int64_t workspace) {
        TrainingPlan& plan = schedule_.plan;
        const FusedTrainingOp& op = ops_[i];
        OpArrays::Forward& forward = schedule_.ops[i].forwards.emplace_back();
        if (op.kind == FusedTrainingOp::Kind::slice_in_place)
            return define_slice(op.node);
        for (const NodeId value : values_read(graph_, op))
            forward.inputs.push_back(plan.value(value));
        for (std::size_t k = 0; k < op.sum.operands.size(); ++k)
            if (const SumOperand& operand = op.sum.operands[k]; operand.unstored) {
                forward.inputs[k].begin += operand.unstored->begin;
                forward.inputs[k].count = graph_.node(operand.value).shape[1];
            }
        for (const NodeId slice : op.sum.unstored)
            plan.redirect(slice);
        if (!op.joined.empty())
            forward.outputs.push_back({define_joined(op), 0});
        else
            define_results(op, forward);
        if (workspace > 0)
            forward.workspace = plan.workspace(workspace);
    }

    void define_results(const FusedTrainingOp& op, OpArrays::Forward& forward) {
        for (const NodeId value : values_computed(op)) {
            const bool slice = op.kind == FusedTrainingOp::Kind::sum && value != op.sum.output;
            forward.outputs.push_back({defined(value), slice ? graph_.node(value).as<Slice>().begin : 0});
            if (slice)
                schedule_.plan.redirect(value);
        }
    }

    /// One array for the results of joined convolutions.
    Channels define_joined(const FusedTrainingOp& op) {
        const Channels all = joined_array(op);
        for (const auto& [value, channels] : joined_channels(op, all))
            schedule_.plan.define(value, channels);
        return all;
    }

    /// A new array with the channels of all results of the op.
    Channels joined_array(const FusedTrainingOp& op) {
        std::int64_t channels = 0;
        for (const NodeId value : op.results())
            channels += graph_.node(value).shape[1];
        const Shape& shape = graph_.node(op.node).shape;
        return {schedule_.plan.array(shape.elements() / shape[1] * channels), channels, 0, channels};
    }

    /// The results of the op, each with its channels of such an array.
    std::vector<std::pair<NodeId, Channels>> joined_channels(const FusedTrainingOp& op, const Channels& all) const {
        std::vector<std::pair<NodeId, Channels>> parts;
        std::int64_t begin = 0;
        for (const NodeId value : op.results()) {
            const std::int64_t count = graph_.node(value).shape[1];
            parts.push_back({value, {all.array, all.channels, begin, count}});
            begin += count;
        }
        return parts;
    }

    /// Where the gradient of the value is written if its convolution is joined with others; array -1 if not.
    Channels joined_gradient(NodeId value) {
        const std::size_t i = producer_[static_cast<std::size_t>(value)];
        if (i == no_producer || ops_[i].joined.empty())
            return {};
        Channels& all = joined_gradients_[i];
        if (all.array < 0)
            all = joined_array(ops_[i]);
        schedule_.plan.use(all.array);
        for (const auto& [result, channels] : joined_channels(ops_[i], all))
            if (result == value)
                return channels;
        return {};
    }

    /// The same, or a new dense array.
    Channels new_gradient(NodeId value) {
        if (const Channels joined = joined_gradient(value); joined.array >= 0)
            return joined;
        const Shape& shape = graph_.node(value).shape;
        return {schedule_.plan.array(shape.elements()), shape[1], 0, shape[1]};
    }

    std::vector<GradientContribution> take_gradients(const FusedTrainingOp& op) {
        std::vector<GradientContribution> all;
        std::int64_t begin = 0;
        for (const NodeId value : op.results()) {
            for (const GradientContribution& contribution : moved(schedule_.plan.take_gradient(value), begin))
                all.push_back(contribution);
            begin += graph_.node(value).shape[1];
        }
        return all;
    }

    void plan_backward(std::size_t i) {
        const FusedTrainingOp& op = ops_[i];
        OpArrays& planned = schedule_.ops[i];
        planned.contributions = take_gradients(op);
        if (planned.contributions.empty())
            return;
        switch (op.kind) {
        case FusedTrainingOp::Kind::sum: return plan_sum(op.sum, workspaces_[i], planned);
        case FusedTrainingOp::Kind::copy: return plan_copy(op.node, planned);
        case FusedTrainingOp::Kind::convolution:
        case FusedTrainingOp::Kind::resampling: return plan_dense(op, workspaces_[i], planned);
        case FusedTrainingOp::Kind::slice_in_place: return; // contributions to its gradient were redirected
        }
    }

    /// The gradients of the inputs of a concat or a slice are not copied.
    void plan_copy(NodeId id, OpArrays& planned) {
        const Node& node = graph_.node(id);
        if (node.kind() == OpKind::slice)
            return schedule_.plan.add_gradient(node.inputs[0], moved(planned.contributions, node.as<Slice>().begin));
        std::int64_t begin = 0;
        for (const NodeId input : node.inputs) {
            const std::int64_t count = graph_.node(input).shape[1];
            schedule_.plan.add_gradient(input, restricted(planned.contributions, begin, count));
            begin += count;
        }
    }

    /// A convolution or a resampling: both its input and its result are dense arrays.
    void plan_dense(const FusedTrainingOp& op, const OpWorkspace& workspace, OpArrays& planned) {
        TrainingPlan& plan = schedule_.plan;
        const Node& node = graph_.node(op.node);
        const NodeId source = node.inputs[0];
        const bool passes_on = plan.needs_gradient(source);
        if (op.kind == FusedTrainingOp::Kind::resampling && !passes_on)
            return;
        planned.has_backward = true;
        planned.inputs.resize(1);
        for (const NodeId value : values_read_backward(graph_, op))
            (value == op.node ? planned.output : planned.inputs[0]) = plan.value(value);
        if (covers(planned.contributions))
            planned.gradient = planned.contributions[0].from.array;
        else if (planned.contributions.size() > workspace.contributions_in_place)
            planned.gradient = planned.summed =
                op.joined.empty() ? plan.array(node.shape.elements()) : joined_array(op).array;
        if (workspace.backward > 0)
            planned.workspace = plan.workspace(workspace.backward);
        planned.input_gradients.emplace_back();
        if (!passes_on)
            return;
        planned.input_gradients[0] = new_gradient(source);
        plan.add_gradient(source, planned.input_gradients[0]);
    }

    void plan_sum(const FusedSum& sum, const OpWorkspace& workspace, OpArrays& planned) {
        TrainingPlan& plan = schedule_.plan;
        const Shape& shape = graph_.node(sum.output).shape;
        planned.mask = mask_of(sum);
        if (sum.all_plain() && planned.mask == MaskBy::nothing) {
            for (const SumOperand& operand : sum.operands)
                plan.add_gradient(operand.value, planned.contributions);
            return;
        }
        planned.has_backward = true;
        if (planned.mask == MaskBy::array)
            planned.mask_array = plan.value(mask_value(sum));
        if (is_dense(planned.contributions, shape[1]) && planned.mask != MaskBy::array)
            planned.gradient = planned.contributions[0].from.array;
        else
            planned.gradient = planned.summed = writable_gradient(shape, planned.contributions);
        plan_operands(sum, shape, planned);
        planned.workspace = plan.workspace(workspace.backward);
    }

    /// An array for the sum of the contributions: the array of one of them that no later op reads, or a new one.
    ArrayId writable_gradient(const Shape& shape, const std::vector<GradientContribution>& contributions) {
        for (const GradientContribution& contribution : contributions)
            if (contribution.from.whole() && contribution.from.count == shape[1] &&
                schedule_.plan.free_after_now(contribution.from.array))
                return contribution.from.array;
        return schedule_.plan.array(shape.elements());
    }

    void plan_operands(const FusedSum& sum, const Shape& shape, OpArrays& planned) {
        TrainingPlan& plan = schedule_.plan;
        planned.inputs.resize(sum.operands.size());
        planned.input_gradients.resize(sum.operands.size());
        bool overwritable = planned.summed >= 0 || plan.free_after_now(planned.gradient);
        for (std::size_t k = 0; k < sum.operands.size(); ++k)
            if (const NodeId value = sum.operands[k].value; sum.operands[k].plain() && plan.needs_gradient(value)) {
                plan.add_gradient(value, Channels{planned.gradient, shape[1], 0, shape[1]});
                overwritable = false;
            }
        // In reverse order: all operands read the gradient, and the last one that is computed may overwrite it.
        for (std::size_t k = sum.operands.size(); k-- > 0;) {
            const NodeId value = sum.operands[k].value;
            if (sum.operands[k].plain())
                continue;
            planned.inputs[k] = plan.value(value);
            if (!plan.needs_gradient(value))
                continue;
            const Channels joined = joined_gradient(value);
            if (overwritable && joined.array < 0)
                planned.input_gradients[k] = {planned.gradient, shape[1], 0, shape[1]};
            else
                planned.input_gradients[k] = joined.array >= 0 ? joined : new_gradient(value);
            overwritable = false;
        }
        for (std::size_t k = 0; k < sum.operands.size(); ++k)
            if (planned.input_gradients[k].array >= 0)
                plan.add_gradient(sum.operands[k].value, planned.input_gradients[k]);
    }

    const Graph& graph_;
    const std::vector<FusedTrainingOp>& ops_;
    const std::vector<OpWorkspace>& workspaces_;
    const ScheduleRules& rules_;
    const std::vector<bool>& evicted_;
    TrainingSchedule schedule_;
    std::vector<std::size_t> producer_;      ///< by node: the op that computes it
    std::vector<bool> recomputed_;           ///< by op
    std::vector<Channels> joined_gradients_; ///< by op: of joined convolutions, once one of them is written
    std::vector<Place> places_;              ///< by node; empty: nothing is in place
    std::vector<std::pair<NodeId, Channels>> concat_arrays_;
};

} // namespace

TrainingSchedule schedule_training(const Graph& graph, const std::vector<FusedTrainingOp>& ops,
                                   const std::vector<OpWorkspace>& workspaces, const ScheduleRules& rules,
                                   const std::vector<bool>& evicted) {
    return Scheduler(graph, ops, workspaces, rules, evicted).run();
}

std::vector<NodeId> values_computed(const FusedTrainingOp& op) {
    return op.sum.slices.empty() ? op.results() : op.sum.slices;
}

std::int64_t forward_macs(const Graph& graph, const FusedTrainingOp& op) {
    if (op.kind != FusedTrainingOp::Kind::convolution)
        return 0;
    const Node& node = graph.node(op.node);
    const Conv& conv = node.as<Conv>();
    const std::int64_t per_output =
        graph.node(node.inputs[0]).shape[1] / conv.groups * conv.kernel[0] * conv.kernel[1] * conv.kernel[2];
    std::int64_t outputs = 0;
    for (const NodeId result : op.results())
        outputs += graph.node(result).shape.elements();
    return outputs * per_output;
}

std::vector<GradientContribution> copied_channels(const Node& node, const OpArrays::Forward& forward) {
    std::vector<GradientContribution> copied;
    std::int64_t to = 0;
    for (Channels channels : forward.inputs) {
        if (node.kind() == OpKind::slice) {
            channels.begin += node.as<Slice>().begin;
            channels.count = node.shape[1];
        }
        if (channels.array != forward.outputs[0].channels.array)
            copied.push_back({channels, to});
        to += channels.count;
    }
    return copied;
}

} // namespace mfres
