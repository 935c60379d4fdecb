// SPDX-License-Identifier: MIT
#include "backends/planned/loss_terms.h"

#include "backends/distributed/data_parallel.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace mfres {

LossTerms::LossTerms(const Loss& loss, const Shape& logits, Communicator& ranks)
    : loss_(loss), ranks_(ranks), samples_(static_cast<std::size_t>(logits[0])),
      channels_(static_cast<std::size_t>(logits[1])),
      voxels_(static_cast<double>(logits.elements() / logits[1]) * ranks.size()), slopes_(groups() * channels_) {
    const DistillationLoss& soft = loss.distillation;
    distillation_ = {soft.weight * soft.temperature * soft.temperature / voxels_, soft.temperature};
    if (loss.pointwise.weight == 0.0)
        return;
    rule_.weight = loss.pointwise.weight / voxels_;
    rule_.gamma = loss.pointwise.focal_gamma;
}

Status LossTerms::take_sums(std::vector<ClassSums> sums, bool summed) {
    if (!loss_.per_sample) {
        if (!summed)
            MFRES_CHECK(sum_classes(ranks_, sums));
        LossValue value = loss_.overlap(sums);
        overlap_ = value.loss;
        slopes_ = std::move(value.slopes);
        return {};
    }
    const double share = 1.0 / (static_cast<double>(samples_) * ranks_.size());
    slopes_.clear();
    for (std::size_t sample = 0; sample < samples_; ++sample) {
        const LossValue value = loss_.overlap(std::span(sums).subspan(sample * channels_, channels_));
        overlap_ += share * value.loss;
        for (const ClassSlope& slope : value.slopes)
            slopes_.push_back({share * slope.truth, share * slope.constant, share * slope.probability});
    }
    return {};
}

Result<std::uint64_t> LossTerms::choose(int bits, const CountDigits& count) {
    const double chosen = std::max(1.0, std::floor(loss_.pointwise.top_share * voxels_));
    double left = chosen; // of those that are not above the digits found so far
    std::uint64_t prefix = 0;
    std::vector<double> counts(digit_values);
    for (int shift = bits - digit_bits; shift >= 0; shift -= digit_bits) {
        std::fill(counts.begin(), counts.end(), 0.0);
        MFRES_CHECK(count(prefix, shift, counts));
        if (!ranks_.alone())
            MFRES_CHECK(ranks_.all_reduce_sum(counts));
        std::size_t digit = digit_values - 1;
        for (; digit > 0 && counts[digit] < left; --digit)
            left -= counts[digit];
        prefix |= static_cast<std::uint64_t>(digit) << static_cast<unsigned>(shift);
        rule_.at_threshold = left / counts[digit];
    }
    rule_.weight = loss_.pointwise.weight / chosen;
    return prefix;
}

Result<double> LossTerms::value(const VoxelSums& sums) const {
    if (!loss_.per_sample && !has_pointwise() && !has_distillation())
        return overlap_;
    std::array<double, 3> own{overlap_, sums.pointwise, sums.distillation};
    if (!ranks_.alone())
        MFRES_CHECK(ranks_.all_reduce_sum(own));
    return (loss_.per_sample ? own[0] : overlap_) + rule_.weight * own[1] + distillation_.weight * own[2];
}

Loss loss_of_output(const Loss& loss, std::size_t index) {
    const double weight = loss.output_weights[index];
    Loss own = loss;
    if (loss.overlap)
        own.overlap = [function = loss.overlap, weight](std::span<const ClassSums> sums) {
            LossValue value = function(sums);
            value.loss *= weight;
            for (ClassSlope& slope : value.slopes)
                slope = {weight * slope.truth, weight * slope.constant, weight * slope.probability};
            return value;
        };
    if (index > 0) {
        own.pointwise.weight += own.distillation.weight;
        own.distillation.weight = 0.0;
    }
    own.pointwise.weight *= weight;
    own.distillation.weight *= weight;
    own.output_weights.clear();
    return own;
}

Result<double> sum_over_outputs(const Loss& loss, std::size_t outputs,
                                const std::function<Result<double>(std::size_t, const Loss&)>& of_output) {
    if (outputs == 1)
        return of_output(0, loss);
    double total = 0.0;
    for (std::size_t k = 0; k < outputs; ++k) {
        MFRES_TRY(const double value, of_output(k, loss_of_output(loss, k)));
        total += value;
    }
    return total;
}

Status check_output_weights(const Loss& loss, std::size_t outputs) {
    const std::size_t weights = std::max<std::size_t>(1, loss.output_weights.size());
    if (weights == outputs)
        return {};
    return Error{ErrorCode::invalid_argument,
                 text("the loss has weights for ", weights, " outputs, and the graph has ", outputs), "output_weights"};
}

std::vector<std::uint8_t> every_nth_class(std::span<const std::uint8_t> classes, const Shape& first, const Shape& own) {
    const std::int64_t n = first[2] / own[2];
    std::vector<std::uint8_t> chosen;
    chosen.reserve(static_cast<std::size_t>(own.elements() / own[1]));
    for (std::int64_t sample = 0; sample < own[0]; ++sample)
        for (std::int64_t x = 0; x < own[2]; ++x)
            for (std::int64_t y = 0; y < own[3]; ++y) {
                const std::int64_t line = ((sample * first[2] + x * n) * first[3] + y * n) * first[4];
                for (std::int64_t z = 0; z < own[4]; ++z)
                    chosen.push_back(classes[static_cast<std::size_t>(line + z * n)]);
            }
    return chosen;
}

} // namespace mfres
