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

Result<double> LossTerms::value(double pointwise_sum) const {
    if (!loss_.per_sample && !has_pointwise())
        return overlap_;
    std::array<double, 2> own{overlap_, pointwise_sum};
    if (!ranks_.alone())
        MFRES_CHECK(ranks_.all_reduce_sum(own));
    return (loss_.per_sample ? own[0] : overlap_) + rule_.weight * own[1];
}

} // namespace mfres
