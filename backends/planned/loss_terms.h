// SPDX-License-Identifier: MIT
// The computation of a loss between the passes over the voxels, which is the same for all engines. The passes are: class
// sums, if the loss has an overlap part; counts of digits, if it chooses the hardest voxels; the gradient, which also sums
// the values of the pointwise part. Sums over samples are summed over the ranks here, except class sums that the engine
// has summed over them.
#pragma once

#include "backends/distributed/communicator.h"
#include "backends/training.h"
#include "core/try.h"

#include <bit>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

namespace mfres {

/// The pointwise part as the pass of the gradient applies it: value f counts by 0 below `threshold`, by `at_threshold`
/// where it is equal, else (NaN too) by 1, and by `weight` in any case.
struct PointwiseRule {
    double weight = 0.0; ///< of the part, over the number of voxels that count; 0 = there is no such part
    double gamma = 0.0;
    double threshold = -1.0; ///< values are never negative
    double at_threshold = 1.0;
};

/// Likewise for distillation: every voxel counts by `weight`, temperature^2 included.
struct DistillationRule {
    double weight = 0.0;
    double temperature = 1.0;
};

/// What the pass of the gradient adds up over the voxels of this rank.
struct VoxelSums {
    double pointwise = 0.0;    ///< values of the pointwise part, each times what it counts by
    double distillation = 0.0; ///< cross-entropies against the targets

    VoxelSums& operator+=(const VoxelSums& other) {
        pointwise += other.pointwise;
        distillation += other.distillation;
        return *this;
    }
};

/// The loss of output `index` of several.
Loss loss_of_output(const Loss& loss, std::size_t index);

/// The loss of a network: that of its only output, or the sum over `outputs` of of_output(k, loss_of_output(loss, k)).
Result<double> sum_over_outputs(const Loss& loss, std::size_t outputs,
                                const std::function<Result<double>(std::size_t, const Loss&)>& of_output);

/// Whether the loss has a weight for each of so many outputs. Errors: invalid_argument.
Status check_output_weights(const Loss& loss, std::size_t outputs);

/// Of each voxel of an output the class of the voxel at the same place: every n-th along each axis.
std::vector<std::uint8_t> every_nth_class(std::span<const std::uint8_t> classes, const Shape& first, const Shape& own);

/// Fills `counts`, one for each of `digit_values` digits: how many values of this rank have that digit at `shift`, of
/// those whose higher bits, without the sign's, are those of `prefix`.
using CountDigits = std::function<Status(std::uint64_t prefix, int shift, std::span<double> counts)>;
constexpr int digit_bits = 16;
constexpr std::size_t digit_values = std::size_t{1} << digit_bits;

/// The bits of a value that is not negative, which are in the order of such values; NaN is above all.
template <typename Value>
auto ordered_bits(Value value) {
    using Bits = std::conditional_t<sizeof(Value) == 8, std::uint64_t, std::uint32_t>;
    return static_cast<Bits>(std::bit_cast<Bits>(value) & (std::numeric_limits<Bits>::max() >> 1U));
}

/// Whether `key` counts for CountDigits.
constexpr bool has_prefix(std::uint64_t key, std::uint64_t prefix, int shift) {
    return shift + digit_bits >= 64 || (key ^ prefix) >> static_cast<unsigned>(shift + digit_bits) == 0;
}
constexpr std::size_t digit_of(std::uint64_t key, int shift) {
    return static_cast<std::size_t>(key >> static_cast<unsigned>(shift)) % digit_values;
}

class LossTerms {
  public:
    /// `logits`: the shape on this rank, of which all have as many samples. Both references have to outlive the object.
    LossTerms(const Loss& loss, const Shape& logits, Communicator& ranks);

    Outputs outputs() const { return loss_.outputs; }
    /// Whether take_sums() is wanted.
    bool has_overlap() const { return static_cast<bool>(loss_.overlap); }
    bool has_pointwise() const { return rule_.weight != 0.0; }
    bool chooses() const { return has_pointwise() && loss_.pointwise.top_share < 1.0; }

    /// The overlap part is the mean over the samples.
    bool per_sample() const { return loss_.per_sample; }
    /// Of class sums and slopes: one, or one for each sample of this rank.
    std::size_t groups() const { return loss_.per_sample ? samples_ : 1; }
    /// [group][class]; `summed`: over the ranks, too, where there is one group. Errors: those of Communicator.
    Status take_sums(std::vector<ClassSums> sums, bool summed = false);
    /// [group][class], zeros without an overlap part.
    const std::vector<ClassSlope>& slopes() const { return slopes_; }

    /// Finds the hardest voxels by the digits of their values, the highest first. `Value` is what the engine computes
    /// them in. Errors: those of Communicator and `count`.
    template <typename Value>
    Status choose(const CountDigits& count) {
        MFRES_TRY(const std::uint64_t bits, choose(8 * static_cast<int>(sizeof(Value)), count));
        rule_.threshold = static_cast<double>(std::bit_cast<Value>(static_cast<decltype(ordered_bits(Value()))>(bits)));
        return {};
    }
    const PointwiseRule& rule() const { return rule_; }

    bool has_distillation() const { return distillation_.weight != 0.0; }
    const DistillationRule& distillation() const { return distillation_; }

    /// The loss. Errors: those of Communicator.
    Result<double> value(const VoxelSums& sums) const;

  private:
    Result<std::uint64_t> choose(int bits, const CountDigits& count);

    const Loss& loss_;
    Communicator& ranks_;
    std::size_t samples_;
    std::size_t channels_;
    double voxels_;        ///< of all ranks
    double overlap_ = 0.0; ///< of the whole batch, or this rank's part of the mean
    std::vector<ClassSlope> slopes_;
    PointwiseRule rule_;
    DistillationRule distillation_;
};

} // namespace mfres
