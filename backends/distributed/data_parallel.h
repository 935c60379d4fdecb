// What backends share to train one network on several ranks: each runs forward and backward on its own samples,
// and sums over all samples are taken over the ranks as well, so that N ranks with b samples each compute what one rank
// with N * b samples does. Those sums are: statistics of BatchNorm and their gradients, the class sums of the loss, and
// the gradients of parameters. After the last every rank does the same step of the optimiser on the same numbers.
#pragma once

#include "backends/distributed/communicator.h"
#include "backends/planned/host_parameters.h"
#include "backends/training.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace mfres {

/// The communicator of the options; without one that of a process of its own.
Communicator& ranks_of(const TrainingOptions& options);

/// Mean and population variance of one channel.
struct Moments {
    double mean = 0.0;
    double variance = 0.0;
};

/// From the moments of this rank's `count` values per channel to those of all ranks' (each has as many). With a pivot p
/// that is the same on all ranks: S1 = sum of count (mean - p), S2 = sum of count (variance + (mean - p)^2), and over
/// all N values the mean is p + S1 / N, the variance S2 / N - (S1 / N)^2. A pivot near the means, such as the running
/// ones, keeps the difference from cancelling. Does nothing on a rank alone. Errors: those of Communicator.
Status merge_moments(Communicator& ranks, double count, std::span<const double> pivots, std::span<Moments> moments);

/// The sums of every class over all ranks. Errors: those of Communicator.
Status sum_classes(Communicator& ranks, std::span<ClassSums> sums);

/// Gradients that are summed over the ranks in one go: floats [begin, end) of the flat array of all gradients.
struct GradientBucket {
    NodeId from = 0; ///< complete once the backward has gone through this node and all behind it
    std::size_t begin = 0;
    std::size_t end = 0;

    bool operator==(const GradientBucket&) const = default;
};

/// The buckets in the order in which the backward completes them, from the end of the array of `floats` to its start;
/// each but the last holds at least `least_bytes`. `offset_of` says where the gradient of a parameter begins;
/// parameters lie in the order of their nodes. Every float belongs to one bucket, gaps between parameters too.
std::vector<GradientBucket> gradient_buckets(const Graph& graph,
                                             const std::function<std::size_t(const Parameter&)>& offset_of,
                                             std::size_t floats, std::int64_t least_bytes);

/// Begins the sum of every bucket as soon as it is complete, so that it travels while the backward goes on.
class GradientSum {
  public:
    using Start = std::function<Status(std::size_t begin, std::size_t end)>;

    /// `start` begins the sum of some floats, `finish` ends all that were begun. Without buckets nothing is called.
    GradientSum(std::vector<GradientBucket> buckets, Start start, std::function<Status()> finish)
        : buckets_(std::move(buckets)), start_(std::move(start)), finish_(std::move(finish)) {}
    /// Gradients in host memory through the communicator, both of which have to outlive the object.
    GradientSum(const Graph& graph, HostParameters& parameters, Communicator& ranks, std::int64_t least_bytes);

    /// Before the backward.
    void begin() { next_ = 0; }
    /// The backward has written the gradients of all parameters of nodes >= `from`. Errors: those of Communicator.
    Status finished(NodeId from);
    /// The backward is over; returns with all gradients summed. Errors: those of Communicator.
    Status finish();

  private:
    std::vector<GradientBucket> buckets_;
    Start start_;
    std::function<Status()> finish_;
    std::size_t next_ = 0; ///< the first bucket that is not on its way
};

} // namespace mfres
