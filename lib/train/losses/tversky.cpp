// SPDX-License-Identifier: MIT
// 1 - mean_l TP / (TP + alpha FP + beta FN); eq. 6 with FP and FN as Salehi et al. 2017 name them (the paper's prose
// swaps the names).
#include "train/losses/overlap.h"

namespace mfres::losses {

LossValue tversky(Classes classes, const LossOptions& options) {
    return mean_over_classes(classes, options, [&](const ClassSums& sums) { return one_minus_tversky(sums, options); });
}

} // namespace mfres::losses
