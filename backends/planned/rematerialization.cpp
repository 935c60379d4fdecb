// SPDX-License-Identifier: MIT
#include "backends/planned/rematerialization.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

namespace mfres {

namespace {

constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

class Rematerialization {
  public:
    Rematerialization(const Graph& graph, const std::vector<FusedTrainingOp>& ops,
                      const std::vector<OpWorkspace>& workspaces, const ScheduleRules& rules, std::int64_t memory_limit)
        : graph_(graph), ops_(ops), workspaces_(workspaces), rules_(rules), memory_limit_(memory_limit),
          evicted_(ops.size(), false), not_evictable_(ops.size(), false) {
        for (std::size_t i = 0; i < ops.size(); ++i) {
            std::int64_t elements = 0;
            for (const NodeId value : values_computed(ops[i])) {
                elements += graph.node(value).shape.elements();
                if (graph.is_output(value) || ops[i].kind == FusedTrainingOp::Kind::slice_in_place)
                    not_evictable_[i] = true;
            }
            bytes_.push_back(elements * rules.value_bytes);
            macs_.push_back(forward_macs(graph, ops[i]));
        }
    }

    TrainingSchedule run() {
        TrainingSchedule without = schedule();
        without.place();
        without.bytes_without_recomputation = without.bytes;
        if (memory_limit_ == 0 || without.bytes <= memory_limit_)
            return without;
        if (evict_until_it_fits())
            undo_unnecessary_evictions();
        TrainingSchedule smaller = schedule();
        smaller.place();
        smaller.bytes_without_recomputation = without.bytes;
        if (smaller.bytes >= without.bytes)
            return without;
        return smaller;
    }

  private:
    TrainingSchedule schedule() const { return schedule_training(graph_, ops_, workspaces_, rules_, evicted_); }

    /// The peak is a lower bound of the size of the block and takes less time to compute.
    bool fits(TrainingSchedule& schedule) const {
        if (schedule.plan.peak().bytes > memory_limit_)
            return false;
        schedule.place();
        return schedule.bytes <= memory_limit_;
    }

    bool evict_until_it_fits() {
        std::optional<TrainingSchedule> now = schedule();
        while (!fits(*now)) {
            const std::size_t next = cheapest(*now);
            if (next == none)
                return false;
            evicted_[next] = true;
            TrainingSchedule then = schedule();
            if (then.plan.peak().bytes <= now->plan.peak().bytes) {
                now.emplace(std::move(then));
            } else {
                evicted_[next] = false;
                not_evictable_[next] = true;
            }
        }
        return true;
    }

    /// The op with the cheapest result that is live but not used at the time of peak memory; `none` if there is none.
    std::size_t cheapest(const TrainingSchedule& schedule) const {
        const int peak = schedule.plan.peak().time;
        std::size_t best = none;
        for (std::size_t i = 0; i < ops_.size(); ++i) {
            const TrainingSchedule::Uses& uses = schedule.uses[i];
            if (!evicted_[i] && !not_evictable_[i] && uses.forward_end < peak && peak < uses.backward_begin &&
                uses.backward_begin < TrainingSchedule::Uses::never && (best == none || cheaper(i, best)))
                best = i;
        }
        return best;
    }

    /// macs(a) / bytes(a) < macs(b) / bytes(b)
    bool cheaper(std::size_t a, std::size_t b) const {
        const double cost_a = static_cast<double>(macs_[a]) * static_cast<double>(bytes_[b]);
        const double cost_b = static_cast<double>(macs_[b]) * static_cast<double>(bytes_[a]);
        return cost_a != cost_b ? cost_a < cost_b : bytes_[a] > bytes_[b];
    }

    void undo_unnecessary_evictions() {
        std::vector<std::size_t> most_expensive;
        for (std::size_t i = 0; i < ops_.size(); ++i)
            if (evicted_[i])
                most_expensive.push_back(i);
        std::stable_sort(most_expensive.begin(), most_expensive.end(), [&](std::size_t a, std::size_t b) {
            return macs_[a] != macs_[b] ? macs_[a] > macs_[b] : bytes_[a] > bytes_[b];
        });
        for (const std::size_t i : most_expensive) {
            evicted_[i] = false;
            TrainingSchedule now = schedule();
            if (!fits(now))
                evicted_[i] = true;
        }
    }

    const Graph& graph_;
    const std::vector<FusedTrainingOp>& ops_;
    const std::vector<OpWorkspace>& workspaces_;
    const ScheduleRules& rules_;
    std::int64_t memory_limit_;
    // By op.
    std::vector<bool> evicted_, not_evictable_;
    std::vector<std::int64_t> bytes_, macs_; ///< of its result
};

} // namespace

TrainingSchedule rematerialize(const Graph& graph, const std::vector<FusedTrainingOp>& ops,
                               const std::vector<OpWorkspace>& workspaces, const ScheduleRules& rules,
                               std::int64_t memory_limit) {
    return Rematerialization(graph, ops, workspaces, rules, memory_limit).run();
}

} // namespace mfres
