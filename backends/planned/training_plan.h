// SPDX-License-Identifier: MIT
// Buffer assignment of a training step: the array of each value and gradient, its live range, and its offset in one block.
// Ops are planned in execution order, first forward and then backward. Every array is one request to the memory planner
// (graph/memory_plan.h).
#pragma once

#include "core/tensor.h"
#include "graph/graph.h"
#include "graph/memory_plan.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mfres {

/// An array in planned memory; -1 = none.
using ArrayId = int;

/// Channels [begin, begin + count) of every voxel of a channels-last array that has `channels` channels.
struct Channels {
    ArrayId array = -1;
    std::int64_t channels = 0;
    std::int64_t begin = 0;
    std::int64_t count = 0;

    bool whole() const { return begin == 0 && count == channels; }
};

/// A summand of a gradient: the channels `from` are added to the channels of the gradient that begin at `to`. The inputs
/// of a concat are described in the same way.
struct GradientContribution {
    Channels from;
    std::int64_t to = 0;
};

/// The gradient of a value is the sum of contributions, one per consumer. Contributions are not added when they are
/// computed. The backward op of the value's producer reads them from the arrays of the consumers. Branches therefore need
/// no separate pass over memory, and gradients of concats, slices and plain sums are not copied.
class TrainingPlan {
  public:
    /// `value_bytes`: size of one element of a value or a gradient.
    explicit TrainingPlan(const Graph& graph, std::int64_t value_bytes = sizeof(float));

    const Graph& graph() const { return graph_; }

    /// The time of requests. At time 0 the input is written; then there is one time per forward op, one for the loss, and
    /// one per backward op.
    int now() const { return now_; }
    void advance() { ++now_; }

    /// An array of `elements` elements of values, live from now on.
    ArrayId array(std::int64_t elements) { return workspace(elements * value_bytes_); }
    /// An array of at least `bytes` bytes that is live at the current time only.
    ArrayId workspace(std::int64_t bytes);
    /// Extends the live range to the current time.
    void use(ArrayId id);

    /// Makes a dense array for the value of the node.
    Channels define(NodeId id);
    /// Stores the value in channels of an existing array: a slice that is read in place.
    void define(NodeId id, const Channels& channels) { values_[static_cast<std::size_t>(id)] = channels; }
    /// The channels of the value, which are used now.
    Channels value(NodeId id);

    /// The last time so far at which the array is used.
    int last_use(ArrayId id) const { return requests_[static_cast<std::size_t>(id)].last; }

    /// Whether the gradient of a learnable parameter depends on the gradient of this value.
    bool needs_gradient(NodeId id) const { return needs_gradient_[static_cast<std::size_t>(id)]; }
    /// Contributions to the gradient of `slice` become contributions to the gradient of its input.
    void redirect(NodeId slice) { redirected_[static_cast<std::size_t>(slice)] = 1; }
    /// Does nothing if the gradient of the value is not needed.
    void add_gradient(NodeId id, const std::vector<GradientContribution>& contributions);
    void add_gradient(NodeId id, const Channels& whole) { add_gradient(id, {{whole, 0}}); }
    /// Removes and returns the contributions to the gradient of the value, which are used now. Empty if the loss does not
    /// depend on the value.
    std::vector<GradientContribution> take_gradient(NodeId id);
    /// Whether take_gradient would return any.
    bool has_gradient(NodeId id) const { return !gradients_[static_cast<std::size_t>(id)].empty(); }
    /// Whether no later op reads the array, so that the current op may overwrite it.
    bool free_after_now(ArrayId id) const;
    /// The array stays live until the end.
    void pin(ArrayId id);

    /// Peak memory if planning ended now.
    PeakMemory peak() const;
    /// Assigns an offset to every array. Returns the size of the block in bytes.
    std::int64_t place();
    /// After place(): the address of the array in a block; null for -1.
    float* at(float* block, ArrayId id) const {
        return id < 0 ? nullptr : block + offset(id) / static_cast<std::int64_t>(sizeof(float));
    }
    /// After place(): the offset in bytes. Precondition: id >= 0.
    std::int64_t offset(ArrayId id) const { return offsets_[static_cast<std::size_t>(id)]; }

  private:
    std::vector<BufferRequest> final_requests() const;

    const Graph& graph_;
    std::int64_t value_bytes_;
    int now_ = 0;
    std::vector<BufferRequest> requests_;
    std::vector<int> pending_uses_; ///< by array: contributions that have not been taken
    std::vector<char> pinned_;
    std::vector<std::int64_t> offsets_; ///< in bytes
    std::vector<Channels> values_;      ///< by node
    std::vector<char> needs_gradient_;
    std::vector<char> redirected_;
    std::vector<std::vector<GradientContribution>> gradients_;
};

/// By node: whether the gradient of a learnable parameter depends on the gradient of the node's value.
std::vector<char> values_with_gradient(const Graph& graph);

/// The parts of the contributions within channels [begin, begin + count); channel `begin` becomes channel 0.
std::vector<GradientContribution> restricted(const std::vector<GradientContribution>& contributions, std::int64_t begin,
                                             std::int64_t count);

/// The contributions with `begin` added to their first channel.
std::vector<GradientContribution> moved(std::vector<GradientContribution> contributions, std::int64_t begin);

/// Whether the contributions are the channels of one whole array in their order, in one piece or several, and nothing
/// is added.
bool covers(const std::vector<GradientContribution>& contributions);

/// Whether the contributions are a single one that is a whole array of `channels` channels.
bool is_dense(const std::vector<GradientContribution>& contributions, std::int64_t channels);

} // namespace mfres
