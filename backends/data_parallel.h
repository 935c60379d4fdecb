// What the CPU backends share to train one network on several ranks: each runs forward and backward on its own samples,
// and sums over all samples are taken over the ranks as well, so that N ranks with b samples each compute what one rank
// with N * b samples does. Those sums are: statistics of BatchNorm and their gradients, the class sums of the loss, and
// the gradients of parameters. After the last every rank does the same step of the optimiser on the same numbers.
#pragma once

#include "backends/communicator.h"
#include "backends/host_parameters.h"
#include "backends/training.h"

#include <cstddef>
#include <span>
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

/// The sum of parameter gradients over all ranks, in parts of a few MB that travel while the backward goes on.
class GradientSum {
  public:
    /// All three have to outlive the object.
    GradientSum(const Graph& graph, HostParameters& parameters, Communicator& ranks);

    /// Before the backward.
    void begin() { end_ = parameters_.flat_gradients().size(); }
    /// The backward has written the gradients of all parameters of nodes >= `from`. Errors: those of Communicator.
    Status finished(NodeId from);
    /// The backward is over; returns with all gradients summed. Errors: those of Communicator.
    Status finish();

  private:
    HostParameters& parameters_;
    Communicator& ranks_;
    std::vector<std::size_t> first_; ///< by node: where the gradients of it and of those behind it begin
    std::size_t end_ = 0;            ///< from here on they are on their way
};

} // namespace mfres
