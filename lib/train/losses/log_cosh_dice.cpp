// SPDX-License-Identifier: MIT
// mean_l log cosh (1 - D_l), D_l = 2 S p g / (S p^2 + S g^2 + dice_epsilon); Jadon 2020 ("A survey of loss functions for
// semantic segmentation", CIBCB; arXiv 2006.14822), eq. 18. Smooth where a class is nearly right: d log cosh x = tanh x.
#include "train/losses/overlap.h"

#include <cmath>

namespace mfres::losses {

LossValue log_cosh_dice(Classes classes, const LossOptions& options) {
    return mean_over_classes(classes, options, [&](const ClassSums& sums) -> ClassLoss {
        const double denominator = sums.probability_squared + sums.truth + options.dice_epsilon;
        const double score = 2.0 * sums.probability_truth / denominator;
        const double slope = std::tanh(1.0 - score);
        return {std::log(std::cosh(1.0 - score)),
                {.truth = slope * -2.0 / denominator, .probability = slope * 2.0 * score / denominator}};
    });
}

} // namespace mfres::losses
