// SPDX-License-Identifier: MIT
// 1 - mean_l 2 S p g / (S p^2 + S g^2 + dice_epsilon); Milletari et al. 2016 ("V-Net"). Without squares, S p + S g in
// their place: the Dice that nnU-Net (Isensee et al. 2021) trains with.
#include "train/losses/overlap.h"

namespace mfres::losses {

/// d/dp 2 S p g / D = 2 g / D - 2 S p g * 2 p / D^2, with D = S p^2 + S g^2 + epsilon.
LossValue dice(Classes classes, const LossOptions& options) {
    return mean_over_classes(classes, options, [&](const ClassSums& sums) -> ClassLoss {
        const double denominator = sums.probability_squared + sums.truth + options.dice_epsilon;
        const double score = 2.0 * sums.probability_truth / denominator;
        return {1.0 - score, {.truth = -2.0 / denominator, .probability = 2.0 * score / denominator}};
    });
}

/// d/dp 2 S p g / D = 2 g / D - 2 S p g / D^2, with D = S p + S g + epsilon.
LossValue dice_without_squares(Classes classes, const LossOptions& options) {
    return mean_over_classes(classes, options, [&](const ClassSums& sums) -> ClassLoss {
        const double denominator = sums.probability + sums.truth + options.dice_epsilon;
        const double score = 2.0 * sums.probability_truth / denominator;
        return {1.0 - score, {.truth = -2.0 / denominator, .constant = score / denominator}};
    });
}

} // namespace mfres::losses
