// SPDX-License-Identifier: MIT
// 1 - S_l w_l TP_l / S_l w_l (TP_l + alpha FP_l + beta FN_l), w_l = 1 / ((S g)^2 + weight_epsilon); eq. 7-8, the
// paper's own loss. Its denominator is read as one weighted sum.
#include "train/losses/overlap.h"

namespace mfres::losses {

LossValue weighted_tversky(Classes classes, const LossOptions& options) {
    std::vector<RatioTerm> terms;
    for (std::size_t l = 0; l < classes.size(); ++l) {
        const double truth = classes[l].truth;
        terms.push_back({.weight = counts(classes, l, options) ? 1.0 / (truth * truth + options.weight_epsilon) : 0.0,
                         .numerator = classes[l].probability_truth,
                         .denominator = tversky_denominator(classes[l], options),
                         .gain = 1.0,
                         .per_truth = 1.0 - options.alpha - options.beta,
                         .per_voxel = options.alpha});
    }
    return weighted_ratio(terms, 1.0);
}

} // namespace mfres::losses
