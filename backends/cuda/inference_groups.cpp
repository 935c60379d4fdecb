// SPDX-License-Identifier: MIT
#include "backends/cuda/inference_groups.h"

#include <algorithm>
#include <iterator>
#include <set>

namespace mfres::cuda {

namespace {

constexpr std::int64_t most_middle = 64; ///< channels between two pointwise convolutions
// Convolutions in a chain: so narrow that a library pads them, or so small that a launch takes longer.
constexpr std::int64_t narrow_channels = 8;
constexpr std::int64_t most_macs = std::int64_t{1} << 27U;

class Joiner {
  public:
    Joiner(const Graph& graph, std::vector<FusionGroup>& groups)
        : graph_(graph), groups_(groups), consumers_(graph.consumers()) {}

    void run() {
        for (std::size_t i = groups_.size(); i-- > 0;)
            if (!groups_[i].fused() && kind(i) == OpKind::concat)
                i = join_chain(i);
        for (std::size_t i = 1; i < groups_.size(); ++i)
            if (is_pair(i)) {
                groups_[i - 1].ops.push_back(groups_[i].ops[0]);
                groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(i));
            }
    }

  private:
    OpKind kind(std::size_t i) const { return node(groups_[i].ops[0].main).kind(); }
    const Node& node(NodeId id) const { return graph_.node(id); }
    const std::vector<NodeId>& consumers(NodeId id) const { return consumers_[static_cast<std::size_t>(id)]; }

    // Pairs.

    bool is_pointwise(const FusedOp& op) const {
        if (node(op.main).kind() != OpKind::conv || op.residual)
            return false;
        const Conv& conv = node(op.main).as<Conv>();
        return conv.kernel == Axes{1, 1, 1} && conv.stride == Axes{1, 1, 1} && conv.padding == Axes{0, 0, 0} &&
               conv.groups == 1;
    }

    bool is_pair(std::size_t i) const {
        if (groups_[i - 1].fused() || groups_[i].fused())
            return false;
        const FusedOp& first = groups_[i - 1].ops[0];
        const FusedOp& second = groups_[i].ops[0];
        if (!is_pointwise(first) || !is_pointwise(second) || node(second.main).inputs[0] != first.output ||
            consumers(first.output).size() != 1 || graph_.is_output(first.output))
            return false;
        const std::int64_t in = node(node(first.main).inputs[0]).shape[1];
        const std::int64_t out = node(second.main).shape[1];
        return in <= PointwisePairArguments::most && out <= PointwisePairArguments::most &&
               node(first.main).shape[1] <= most_middle;
    }

    // Chains.

    bool is_part_convolution(const FusedOp& op) const {
        if (node(op.main).kind() != OpKind::conv || op.residual)
            return false;
        const Conv& conv = node(op.main).as<Conv>();
        const Shape& in = node(node(op.main).inputs[0]).shape;
        const Shape& out = node(op.main).shape;
        const std::int64_t taps = conv.kernel[0] * conv.kernel[1] * conv.kernel[2];
        const bool small = std::max(in[1], out[1]) <= narrow_channels || out.elements() * in[1] * taps <= most_macs;
        return conv.groups == 1 && conv.stride == Axes{1, 1, 1} && small && in[2] == out[2] && in[3] == out[3] &&
               in[4] == out[4];
    }

    /// Whether the op belongs to a chain whose later ops compute `inside`.
    bool belongs(const FusedOp& op, const std::set<NodeId>& inside) const {
        const Node& main = node(op.main);
        const bool plain_sum = main.kind() == OpKind::add && main.inputs.size() == 2 && op.output == op.main;
        const bool slice = main.kind() == OpKind::slice;
        if (!is_part_convolution(op) && !plain_sum && !slice)
            return false;
        const auto& readers = consumers(op.output);
        return !graph_.is_output(op.output) && !readers.empty() &&
               std::all_of(readers.begin(), readers.end(), [&](NodeId reader) { return inside.count(reader) > 0; });
    }

    /// Returns the index of the joined group.
    std::size_t join_chain(std::size_t end) {
        std::size_t begin = end;
        std::set<NodeId> inside{groups_[end].ops[0].main};
        while (begin > 0 && !groups_[begin - 1].fused() && belongs(groups_[begin - 1].ops[0], inside)) {
            --begin;
            inside.insert(groups_[begin].ops[0].main);
            inside.insert(groups_[begin].ops[0].output);
        }
        if (groups_[end].ops[0].activation.kind != Activation::Kind::none || !is_chain(begin, end))
            return end;
        FusionGroup chain;
        for (std::size_t i = begin; i <= end; ++i)
            if (kind(i) != OpKind::slice)
                chain.ops.push_back(groups_[i].ops[0]);
        groups_[begin] = std::move(chain);
        groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(begin) + 1,
                      groups_.begin() + static_cast<std::ptrdiff_t>(end) + 1);
        return begin;
    }

    /// Whether every convolution reads a value from outside or the sum of such a value and a convolution of the chain, all
    /// of which the concat reads; and at least one is there.
    bool is_chain(std::size_t begin, std::size_t end) const {
        std::set<NodeId> convolutions, sums, slices;
        const auto& concat = node(groups_[end].ops[0].main).inputs;
        const auto outside = [&](NodeId id) { return convolutions.count(id) == 0 && sums.count(id) == 0; };
        for (std::size_t i = begin; i < end; ++i) {
            const FusedOp& op = groups_[i].ops[0];
            const Node& main = node(op.main);
            if (main.kind() == OpKind::slice) {
                if (!outside(main.inputs[0]))
                    return false;
                continue;
            }
            if (main.kind() == OpKind::add) {
                if (!outside(main.inputs[0]) == !outside(main.inputs[1]) || sums.count(main.inputs[0]) > 0 ||
                    sums.count(main.inputs[1]) > 0)
                    return false;
                sums.insert(op.output);
                continue;
            }
            if (convolutions.count(main.inputs[0]) > 0 || std::count(concat.begin(), concat.end(), op.output) != 1)
                return false;
            convolutions.insert(op.output);
        }
        const bool sum_in_concat =
            std::any_of(concat.begin(), concat.end(), [&](NodeId id) { return sums.count(id) > 0; });
        return !convolutions.empty() && !sum_in_concat;
    }

    const Graph& graph_;
    std::vector<FusionGroup>& groups_;
    std::vector<std::vector<NodeId>> consumers_;
};

/// [out][in][tap] in the order [tap][in][out].
std::vector<float> by_tap(const Tensor& weights) {
    const WeightOrder order = weight_order(weights.shape());
    std::vector<float> to(static_cast<std::size_t>(order.count()));
    for (std::int64_t o = 0; o < order.out; ++o)
        for (std::int64_t i = 0; i < order.in; ++i)
            for (std::int64_t tap = 0; tap < order.taps; ++tap)
                to[static_cast<std::size_t>((tap * order.in + i) * order.out + o)] =
                    weights[(o * order.in + i) * order.taps + tap];
    return to;
}

const float* bias_of(const OpContext& context, const FusedOp& op) {
    return context.main(op).as<Conv>().bias ? context.constant(op, 1) : nullptr;
}

std::unique_ptr<InferenceOp> make_pair(const OpContext& context, const FusionGroup& group) {
    const FusedOp& first = group.ops[0];
    const FusedOp& second = group.ops[1];
    PointwisePairArguments pair;
    const Shape& shape = context.main(second).shape;
    pair.voxels = shape[0] * voxels_of(shape);
    pair.in = context.input_shape(first, 0)[1];
    pair.middle = context.main(first).shape[1];
    pair.out = shape[1];
    pair.first = context.constant(first, 0);
    pair.first_bias = bias_of(context, first);
    pair.first_activation = first.activation;
    pair.second = context.constants.add(by_tap(context.parameter(second, 0)));
    pair.second_bias = bias_of(context, second);
    pair.second_activation = second.activation;
    return make_function_op({"mfres:pointwise_pair", [&context, pair](const OpArguments& a) mutable {
                                 pair.x = a.inputs[0];
                                 pair.y = a.output;
                                 context.kernels().pointwise_pair(context.stream(), context.type, pair);
                             }});
}

/// Makes the launches of a chain. Parts of values from outside have the index of the value in place of an address.
class ChainMaker {
  public:
    ChainMaker(const OpContext& context, const FusionGroup& group)
        : context_(context), group_(group), values_(values_read(context.graph(), context.planned.ranges, group)) {
        std::int64_t begin = 0;
        for (const NodeId input : concat().inputs) {
            begins_.push_back(begin);
            begin += node(input).shape[1];
        }
    }

    std::unique_ptr<InferenceOp> make() {
        for (const FusedOp& op : group_.ops)
            if (context_.main(op).kind() == OpKind::conv)
                add_convolution(op);
        copy_the_rest();
        return make_function_op(
            {"mfres:part_convolution", [&context = context_, launches = std::move(launches_),
                                        copies = std::move(copies_), type = context_.type](const OpArguments& a) {
                 for (const Copied& copied : copies) {
                     SumArguments sum = copied.sum;
                     Operand operand;
                     operand.x = copied.from.at(a);
                     sum.y = a.output;
                     cuda::sum(context.engine, type, sum, {operand});
                 }
                 for (const Launch& launch : launches) {
                     PartConvolutionArguments arguments = launch.fixed;
                     arguments.a = launch.a.at(a);
                     arguments.b = launch.b.at(a);
                     arguments.through = launch.through.at(a);
                     arguments.y = a.output;
                     context.kernels().part_convolution(context.stream(), type, arguments);
                 }
             }});
    }

  private:
    /// Channels of a value from outside, of the group's output, or nothing.
    struct Source {
        static constexpr int none = -2, output = -1;
        int value = none; ///< index in OpArguments::inputs
        Part part;

        Part at(const OpArguments& a) const {
            if (value == none)
                return {};
            Part there = part;
            there.data = value == output ? a.output : a.inputs[static_cast<std::size_t>(value)];
            return there;
        }
    };
    struct Launch {
        PartConvolutionArguments fixed;
        Source a, b, through;
    };
    struct Copied {
        SumArguments sum;
        Source from;
    };

    const Node& node(NodeId id) const { return context_.graph().node(id); }
    const Node& concat() const { return context_.main(group_.ops.back()); }

    /// The operand of the concat that is this value, or -1.
    int operand_of(NodeId id) const {
        const auto& inputs = concat().inputs;
        const auto at = std::find(inputs.begin(), inputs.end(), id);
        return at == inputs.end() ? -1 : static_cast<int>(at - inputs.begin());
    }
    bool is_computed(NodeId id) const {
        return std::any_of(group_.ops.begin(), group_.ops.end() - 1,
                           [&](const FusedOp& op) { return op.output == id; });
    }

    Source source(NodeId id) const {
        const std::int64_t count = node(id).shape[1];
        if (is_computed(id)) // by a convolution, to the output
            return {Source::output,
                    {nullptr, concat().shape[1], begins_[static_cast<std::size_t>(operand_of(id))], 0, count}};
        const ChannelRange& range = context_.planned.ranges[static_cast<std::size_t>(id)];
        const auto at = std::find(values_.begin(), values_.end(), range.value);
        return {static_cast<int>(at - values_.begin()), {nullptr, node(range.value).shape[1], range.begin, 0, count}};
    }

    void add_convolution(const FusedOp& op) {
        const Node& main = context_.main(op);
        const Conv& conv = main.as<Conv>();
        Launch& launch = launches_.emplace_back();
        PartConvolutionArguments& fixed = launch.fixed;
        fixed.grid = extents_of(main.shape);
        fixed.in = node(main.inputs[0]).shape[1];
        for (std::size_t axis = 0; axis < 3; ++axis) {
            fixed.kernel[axis] = conv.kernel[axis];
            fixed.dilation[axis] = conv.dilation[axis];
            fixed.padding[axis] = conv.padding[axis];
        }
        fixed.activation = op.activation;
        fixed.weights = context_.constants.add(by_tap(context_.parameter(op, 0)));
        fixed.bias = bias_of(context_, op);
        fixed.y_stride = concat().shape[1];
        fixed.y_from = begins_[static_cast<std::size_t>(operand_of(op.output))];
        const auto sum = std::find_if(group_.ops.begin(), group_.ops.end(),
                                      [&](const FusedOp& other) { return other.output == main.inputs[0]; });
        if (sum == group_.ops.end()) {
            launch.a = source(main.inputs[0]);
            return;
        }
        launch.a = source(context_.main(*sum).inputs[0]);
        launch.b = source(context_.main(*sum).inputs[1]);
    }

    /// Operands of the concat from outside: beside the first convolution with as many channels, else by themselves.
    void copy_the_rest() {
        for (std::size_t k = 0; k < begins_.size(); ++k) {
            const NodeId id = concat().inputs[k];
            if (is_computed(id))
                continue;
            const Source from = source(id);
            const auto beside = std::find_if(launches_.begin(), launches_.end(), [&](const Launch& launch) {
                return launch.through.value == Source::none && launch.fixed.grid.channels == from.part.count;
            });
            if (beside != launches_.end()) {
                beside->through = from;
                beside->fixed.through_to = begins_[k];
                continue;
            }
            Copied& copied = copies_.emplace_back();
            copied.from = from;
            copied.sum.voxels = concat().shape[0] * voxels_of(concat().shape);
            copied.sum.channels = from.part.count;
            copied.sum.y_stride = concat().shape[1];
            copied.sum.y_from = begins_[k];
        }
    }

    const OpContext& context_;
    const FusionGroup& group_;
    std::vector<NodeId> values_;
    std::vector<std::int64_t> begins_; ///< of the concat's operands among its channels
    std::vector<Launch> launches_;
    std::vector<Copied> copies_;
};

} // namespace

void join_groups(const Graph& graph, std::vector<FusionGroup>& groups) {
    Joiner(graph, groups).run();
}

std::unique_ptr<InferenceOp> make_group(const OpContext& context, const FusionGroup& group) {
    if (context.main(group.ops.back()).kind() == OpKind::concat)
        return ChainMaker(context, group).make();
    return make_pair(context, group);
}

} // namespace mfres::cuda
