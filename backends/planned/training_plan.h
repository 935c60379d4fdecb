// SPDX-License-Identifier: MIT
// What a training step needs before anything runs: where each value and each gradient lies, and for how long. Steps
// are planned forward and then backward; every array they ask for is one request to the memory planner.
#pragma once

#include "core/tensor.h"
#include "graph/graph.h"
#include "graph/memory_plan.h"

#include <cstdint>
#include <vector>

namespace mfres {

/// A block of planned memory.
using ArrayId = int;

/// Channels [begin, begin + count) of every voxel of a channels-last array that has `channels` of them.
struct Channels {
    ArrayId array = -1;
    std::int64_t channels = 0;
    std::int64_t begin = 0;
    std::int64_t count = 0;

    bool whole() const { return begin == 0 && count == channels; }
};

/// A summand of a gradient: `from` is added to the channels from `to` on.
struct GradientTerm {
    Channels from;
    std::int64_t to = 0;
};

/// The gradient of a value is a sum of terms, one per reader, which stay where the readers left them until the step
/// that computed the value reads them: branches then cost no pass over memory of their own, and a gradient that goes
/// through a concat, a slice or a plain sum is not copied at all.
class TrainingPlan {
  public:
    /// `value_bytes`: of one element of a value or a gradient.
    explicit TrainingPlan(const Graph& graph, std::int64_t value_bytes = sizeof(float));

    const Graph& graph() const { return graph_; }

    /// The time that requests are made for: 0 writes the input, then one per step forward, one for the loss, and one
    /// per step backward.
    int now() const { return now_; }
    void advance() { ++now_; }

    /// Memory for `elements` elements of values from now on.
    ArrayId array(std::int64_t elements) { return scratch(elements * value_bytes_); }
    /// Memory that only the current time needs, at least `bytes`.
    ArrayId scratch(std::int64_t bytes);
    /// The array still exists now.
    void use(ArrayId id);

    /// Makes a dense array for the node's value.
    Channels define(NodeId id);
    /// The value is part of an array that exists: a slice that is read in place.
    void define(NodeId id, const Channels& channels) { values_[static_cast<std::size_t>(id)] = channels; }
    /// Where the value lies, read now.
    Channels value(NodeId id);

    /// The last time so far that needs the array.
    int last_use(ArrayId id) const { return requests_[static_cast<std::size_t>(id)].last; }

    /// True if a learnable parameter's gradient depends on that of this value.
    bool needs_gradient(NodeId id) const { return needs_gradient_[static_cast<std::size_t>(id)]; }
    /// Gradients of `slice` are those of channels of what it is cut from.
    void redirect(NodeId slice) { redirected_[static_cast<std::size_t>(slice)] = 1; }
    /// Adds terms to the gradient of a value, if anybody needs it.
    void add_gradient(NodeId id, std::vector<GradientTerm> terms);
    void add_gradient(NodeId id, const Channels& whole) { add_gradient(id, {{whole, 0}}); }
    /// The terms of the value's gradient, read now; none if the loss does not depend on the value.
    std::vector<GradientTerm> take_gradient(NodeId id);
    /// Whether take_gradient would give any.
    bool has_gradient(NodeId id) const { return !gradients_[static_cast<std::size_t>(id)].empty(); }
    /// True if nobody reads the array after now, so that the current step may write over it.
    bool free_after_now(ArrayId id) const;
    /// The array is never free.
    void pin(ArrayId id);

    /// When the most bytes exist, if planning ends now.
    PeakMemory fullest() const;
    /// Decides where everything lies; bytes of the whole block. Pinned arrays live to the end.
    std::int64_t place();
    /// After place(): the array, given where the block starts.
    float* at(float* block, ArrayId id) const {
        return id < 0 ? nullptr : block + offset(id) / static_cast<std::int64_t>(sizeof(float));
    }
    /// The same in bytes from there. Precondition: id >= 0.
    std::int64_t offset(ArrayId id) const { return offsets_[static_cast<std::size_t>(id)]; }

  private:
    std::vector<BufferRequest> final_requests() const;

    const Graph& graph_;
    std::int64_t value_bytes_;
    int now_ = 0;
    std::vector<BufferRequest> requests_;
    std::vector<int> readers_to_come_; ///< by array: terms that have not been taken yet
    std::vector<char> pinned_;
    std::vector<std::int64_t> offsets_; ///< in bytes
    std::vector<Channels> values_;      ///< by node
    std::vector<char> needs_gradient_;
    std::vector<char> redirected_;
    std::vector<std::vector<GradientTerm>> gradients_;
};

/// True for values whose gradient a learnable parameter's gradient depends on, by node.
std::vector<char> values_with_gradient(const Graph& graph);

/// The terms of channels [begin, begin + count), moved so that the first of these is channel 0.
std::vector<GradientTerm> restricted(const std::vector<GradientTerm>& terms, std::int64_t begin, std::int64_t count);

/// The terms moved up by `begin` channels.
std::vector<GradientTerm> moved(std::vector<GradientTerm> terms, std::int64_t begin);

} // namespace mfres
