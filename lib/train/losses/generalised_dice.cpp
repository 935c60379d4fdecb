// SPDX-License-Identifier: MIT
// 1 - 2 S_l w_l S p g / S_l w_l S (p + g), w_l = 1 / (S g)^2; Sudre et al. 2017. Eq. 4 of the paper prints a factor 1/m
// before the fraction, with which a perfect result scores 1 - 1/m.
#include "train/losses/overlap.h"

namespace mfres::losses {

namespace {

/// eq. 5: 1 / (S g)^2 where there is a voxel.
double weight_of(const ClassSums& sums, const LossOptions& options) {
    if (sums.truth > 0.0)
        return 1.0 / (sums.truth * sums.truth);
    return options.absent == Absent::skip ? 0.0 : 1.0 / options.weight_epsilon;
}

LossValue scaled(Classes classes, const LossOptions& options, double scale) {
    std::vector<RatioTerm> terms;
    for (const ClassSums& sums : classes)
        terms.push_back({.weight = is_left_out(terms.size(), options) ? 0.0 : weight_of(sums, options),
                         .numerator = 2.0 * sums.probability_truth,
                         .denominator = sums.probability + sums.truth,
                         .gain = 2.0,
                         .per_voxel = 1.0});
    return weighted_ratio(terms, scale);
}

} // namespace

LossValue generalised_dice(Classes classes, const LossOptions& options) {
    return scaled(classes, options, 1.0);
}

LossValue generalised_dice_as_printed(Classes classes, const LossOptions& options) {
    return scaled(classes, options, 1.0 / static_cast<double>(classes.size()));
}

} // namespace mfres::losses
