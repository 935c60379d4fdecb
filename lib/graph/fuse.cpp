#include "graph/fuse.h"

#include <algorithm>

namespace mfres {

namespace {

bool same_grid(const Shape& a, const Shape& b) {
    return a[0] == b[0] && spatial(a) == spatial(b);
}

bool keeps_grid(const Conv& conv) {
    if (conv.groups != 1 || conv.stride != Axes{1, 1, 1} || conv.dilation != Axes{1, 1, 1})
        return false;
    for (std::size_t axis = 0; axis < 3; ++axis) {
        const std::int64_t extent = conv.kernel[axis];
        if ((extent != 1 && extent != 3) || conv.padding[axis] != extent / 2)
            return false;
    }
    return true;
}

/// Whether a region may hold a step with this main node.
bool known(const Graph& graph, const Node& node) {
    switch (node.kind()) {
    case OpKind::conv: return keeps_grid(node.as<Conv>());
    case OpKind::relu:
    case OpKind::leaky_relu:
    case OpKind::add:
    case OpKind::concat:
    case OpKind::slice: return true;
    case OpKind::upsample:
        return node.as<Upsample>().mode == Interpolation::trilinear &&
               node.shape[4] == 2 * graph.node(node.inputs[0]).shape[4];
    case OpKind::input:
    case OpKind::batch_norm:
    case OpKind::instance_norm:
    case OpKind::scaled_add:
    case OpKind::max_pool:
    case OpKind::adaptive_avg_pool:
    case OpKind::softmax: return false;
    }
    return false;
}

std::int64_t radius_along_x(const Node& node) {
    return node.kind() == OpKind::conv ? node.as<Conv>().kernel[0] / 2 : 0;
}

/// The values a step reads, where they are stored.
std::vector<NodeId> reads_of(const Graph& graph, const std::vector<ChannelRange>& ranges, const Step& step) {
    std::vector<NodeId> values;
    for (const NodeId input : graph.node(step.main).inputs)
        values.push_back(ranges[static_cast<std::size_t>(input)].value);
    if (step.residual)
        values.push_back(*step.residual);
    return values;
}

class RegionFinder {
  public:
    RegionFinder(const Graph& graph, const std::vector<Step>& steps, const FusionModel& model)
        : graph_(graph), steps_(steps), model_(model), ranges_(channel_ranges(graph, steps)),
          readers_(static_cast<std::size_t>(graph.size()), 0) {
        for (std::size_t i = 0; i < steps.size(); ++i)
            for (const NodeId value : reads_of(graph, ranges_, steps[i]))
                ++readers_[static_cast<std::size_t>(value)];
    }

    std::vector<Task> run() {
        std::vector<Task> tasks;
        std::size_t position = 0;
        while (position < steps_.size()) {
            const Found found = best_from(position);
            for (const std::size_t moved : found.before)
                tasks.push_back({{steps_[moved]}});
            Task task;
            for (const std::size_t member : found.members)
                task.steps.push_back(steps_[member]);
            tasks.push_back(std::move(task));
            position = found.end;
        }
        return tasks;
    }

  private:
    /// A region: its steps, those to run before it, and the position behind both.
    struct Found {
        std::vector<std::size_t> members, before;
        std::size_t end = 0;
    };

    bool may_join(const Step& step, const Shape& grid, const std::vector<NodeId>& inside) const {
        const Node& node = graph_.node(step.main);
        if (!known(graph_, node) || !same_grid(node.shape, grid))
            return false;
        // An upsampling streams from a whole array; what another grid computes is never inside.
        return node.kind() != OpKind::upsample ||
               std::count(inside.begin(), inside.end(), ranges_[static_cast<std::size_t>(node.inputs[0])].value) == 0;
    }

    Found best_from(std::size_t start) const {
        Found best{{start}, {}, start + 1};
        const Shape& grid = graph_.node(steps_[start].main).shape;
        if (!may_join(steps_[start], grid, {}))
            return best;
        Found grown{{start}, {}, start + 1};
        std::vector<NodeId> inside{steps_[start].output};
        for (std::size_t i = start + 1; i < steps_.size(); ++i) {
            grown.end = i + 1;
            if (!may_join(steps_[i], grid, inside)) {
                const auto reads = reads_of(graph_, ranges_, steps_[i]);
                if (std::any_of(reads.begin(), reads.end(),
                                [&](NodeId value) { return std::count(inside.begin(), inside.end(), value) > 0; }))
                    break;
                grown.before.push_back(i);
                continue;
            }
            grown.members.push_back(i);
            inside.push_back(steps_[i].output);
            const Task task = task_of(grown);
            if (halo_of(graph_, ranges_, task) > model_.most_halo)
                break;
            if (!leaves_only_last(task))
                continue;
            // The longest that is worth it: what the last step leaves need not be read again.
            if (const Times times = modelled(task); times.fused < (1.0 - model_.least_gain) * times.ordinary)
                best = grown;
        }
        return best;
    }

    Task task_of(const Found& found) const {
        Task task;
        for (const std::size_t member : found.members)
            task.steps.push_back(steps_[member]);
        return task;
    }

    bool leaves_only_last(const Task& task) const {
        std::vector<int> open(static_cast<std::size_t>(graph_.size()), 0);
        for (const Step& step : task.steps)
            for (const NodeId value : reads_of(graph_, ranges_, step))
                ++open[static_cast<std::size_t>(value)];
        return std::all_of(task.steps.begin(), task.steps.end() - 1, [&](const Step& step) {
            const auto id = static_cast<std::size_t>(step.output);
            return open[id] == readers_[id] && !graph_.is_output(step.output);
        });
    }

    double bytes_of(NodeId id) const { return static_cast<double>(graph_.node(id).shape.elements()) * sizeof(float); }

    /// Bytes of what a step reads and writes; a slice or part of a concat counts as what it is, not what it is cut
    /// from.
    double traffic(const Step& step) const {
        double bytes = bytes_of(step.output);
        for (const NodeId input : graph_.node(step.main).inputs)
            bytes += bytes_of(input);
        return step.residual ? bytes + bytes_of(*step.residual) : bytes;
    }

    double macs(const Step& step) const {
        const Node& node = graph_.node(step.main);
        if (node.kind() != OpKind::conv)
            return 0.0;
        const double taps = static_cast<double>(node.parameters[0].shape.elements());
        return taps * static_cast<double>(node.shape.elements() / node.shape[1]);
    }

    /// In ns for one thread.
    struct Times {
        double ordinary = 0.0; ///< step after step
        double fused = 0.0;
    };

    Times modelled(const Task& task) const {
        constexpr double vector_channels = 16.0; // a library's kernels compute whole vectors of output channels
        constexpr double tile = 32.0;            // voxels along x between two halos
        Times times;
        double inside = 0.0;
        for (const Step& step : task.steps) {
            const double channels = static_cast<double>(graph_.node(step.main).shape[1]);
            const double filled = std::min(1.0, channels / vector_channels);
            times.ordinary += traffic(step) / model_.bytes_per_ns + macs(step) / (filled * model_.ordinary_macs_per_ns);
            inside += traffic(step) / model_.fused_bytes_per_ns + macs(step) / model_.fused_macs_per_ns;
        }
        double outside = bytes_of(task.output());
        for (const NodeId value : values_read(graph_, ranges_, task))
            outside += bytes_of(value);
        const double halo = static_cast<double>(halo_of(graph_, ranges_, task));
        times.fused = outside / model_.bytes_per_ns + (1.0 + halo / tile) * inside;
        return times;
    }

    const Graph& graph_;
    const std::vector<Step>& steps_;
    const FusionModel& model_;
    std::vector<ChannelRange> ranges_;
    std::vector<int> readers_; ///< by value: how often steps read it
};

} // namespace

std::vector<NodeId> values_read(const Graph& graph, const std::vector<ChannelRange>& ranges, const Task& task) {
    std::vector<NodeId> values;
    std::vector<NodeId> computed;
    for (const Step& step : task.steps) {
        for (const NodeId value : reads_of(graph, ranges, step))
            if (std::count(computed.begin(), computed.end(), value) == 0 &&
                std::count(values.begin(), values.end(), value) == 0)
                values.push_back(value);
        computed.push_back(step.output);
    }
    return values;
}

std::int64_t halo_of(const Graph& graph, const std::vector<ChannelRange>& ranges, const Task& task) {
    std::vector<std::int64_t> halo(static_cast<std::size_t>(graph.size()), 0);
    std::int64_t most = 0;
    for (auto step = task.steps.rbegin(); step != task.steps.rend(); ++step) {
        const std::int64_t beyond =
            halo[static_cast<std::size_t>(step->output)] + radius_along_x(graph.node(step->main));
        most = std::max(most, beyond);
        for (const NodeId value : reads_of(graph, ranges, *step))
            halo[static_cast<std::size_t>(value)] = std::max(halo[static_cast<std::size_t>(value)], beyond);
    }
    return most;
}

std::vector<Task> form_fusion_groups(const Graph& graph, const std::vector<Step>& steps, const FusionModel& model) {
    return RegionFinder(graph, steps, model).run();
}

std::vector<Task> separate_tasks(const std::vector<Step>& steps) {
    std::vector<Task> tasks;
    for (const Step& step : steps)
        tasks.push_back({{step}});
    return tasks;
}

std::vector<Step> steps_of(const std::vector<Task>& tasks) {
    std::vector<Step> steps;
    for (const Task& task : tasks)
        steps.insert(steps.end(), task.steps.begin(), task.steps.end());
    return steps;
}

} // namespace mfres
