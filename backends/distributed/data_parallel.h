// SPDX-License-Identifier: MIT
// Data-parallel training, for all backends. Every rank runs forward and backward on its own samples. Sums over samples
// are also taken over the ranks, so that N ranks with b samples each compute the same as one rank with N * b samples.
// These sums are: statistics of BatchNorm and their gradients, class sums of the loss, and gradients of parameters.
// Afterwards every rank applies the same optimiser step to the same numbers.
#pragma once

#include "backends/distributed/communicator.h"
#include "backends/planned/parameter_store.h"
#include "backends/training.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace mfres {

/// The communicator of the options, or single_rank() if there is none.
Communicator& ranks_of(const TrainingOptions& options);

/// Mean and population variance of one channel.
struct Moments {
    double mean = 0.0;
    double variance = 0.0;
};

/// Merges the moments of `count` values per channel of this rank with those of all ranks; every rank has equally many
/// values. With a pivot p that is equal on all ranks: S1 = sum of count (mean - p), S2 = sum of count (variance + (mean
/// - p)^2), and over all N values the mean is p + S1 / N, the variance S2 / N - (S1 / N)^2. A pivot near the means,
/// such as the running mean, avoids cancellation. Does nothing for world size 1. Errors: those of Communicator.
Status merge_moments(Communicator& ranks, double count, std::span<const double> pivots, std::span<Moments> moments);

/// Adds the sums of every class over all ranks. Errors: those of Communicator.
Status sum_classes(Communicator& ranks, std::span<ClassSums> sums);

/// A gradient bucket: floats [begin, end) of the flat array of all gradients, summed over the ranks in one collective.
struct GradientBucket {
    NodeId from = 0; ///< complete after the backward pass of this node
    std::size_t begin = 0;
    std::size_t end = 0;

    bool operator==(const GradientBucket&) const = default;
};

/// The buckets in the order in which the backward pass completes them, from the end of the array of `floats` to its
/// start. Each but the last has at least `least_bytes`. `offset_of` gives the offset of a parameter's gradient;
/// parameters are in the order of their nodes. Every float belongs to one bucket, including gaps between parameters.
std::vector<GradientBucket> gradient_buckets(const Graph& graph,
                                             const std::function<std::size_t(const Parameter&)>& offset_of,
                                             std::size_t floats, std::int64_t least_bytes);

/// Starts the sum of every bucket as soon as it is complete, so that communication overlaps with the backward pass.
class GradientSum {
  public:
    using Start = std::function<Status(std::size_t begin, std::size_t end)>;

    GradientSum() = default;
    /// `start` starts the sum of some floats, `finish` completes all sums. Neither is called without buckets.
    GradientSum(std::vector<GradientBucket> buckets, Start start, std::function<Status()> finish)
        : buckets_(std::move(buckets)), start_(std::move(start)), finish_(std::move(finish)) {}
    /// With the buckets of all gradients of `parameters`; none for world size 1.
    GradientSum(const Graph& graph, const ParameterStore& parameters, const TrainingOptions& options, Start start,
                std::function<Status()> finish);

    /// Called before the backward pass.
    void begin() { next_ = 0; }
    /// Called when the gradients of all parameters of nodes >= `from` are complete. Errors: those of Communicator.
    Status finished(NodeId from);
    /// Called after the backward pass; waits until all gradients are summed. Errors: those of Communicator.
    Status finish();

  private:
    std::vector<GradientBucket> buckets_;
    Start start_;
    std::function<Status()> finish_;
    std::size_t next_ = 0; ///< the first bucket whose sum has not been started
};

} // namespace mfres
