// SPDX-License-Identifier: MIT
// mean_l (1 - T_l)^(1 / gamma), T_l = TP / (TP + alpha FP + beta FN); Abraham and Khan 2019 ("A novel focal Tversky
// loss function with improved attention U-Net for lesion segmentation", ISBI; arXiv 1810.07842), eq. 4, with the mean
// over the classes in place of their sum. With gamma > 1 classes that overlap little keep most of their slope, and
// well segmented ones gain some.
#include "train/losses/overlap.h"

#include <algorithm>
#include <cmath>

namespace mfres::losses {

namespace {

/// The slope of (1 - T)^(1 / gamma) grows without limit as T tends to 1; it is that of this distance from 1 on.
constexpr double least_distance = 1e-7;

} // namespace

LossValue focal_tversky(Classes classes, const LossOptions& options) {
    const double exponent = 1.0 / options.tversky_gamma;
    return mean_over_classes(classes, options, [&](const ClassSums& sums) -> ClassLoss {
        const ClassLoss plain = one_minus_tversky(sums, options);
        const double distance = std::max(plain.loss, 0.0); // rounding may carry a perfect score past 1
        const double slope = exponent * std::pow(std::max(distance, least_distance), exponent - 1.0);
        return {std::pow(distance, exponent),
                {.truth = slope * plain.slope.truth, .constant = slope * plain.slope.constant}};
    });
}

} // namespace mfres::losses
