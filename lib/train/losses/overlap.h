// SPDX-License-Identifier: MIT
// What overlap losses are made of. Each file of this folder has one of them (or a family with one formula), and its
// row is in the table of loss.cpp. An overlap loss is a function of the four sums of every class, so it knows nothing
// of voxels, ranks and backends.
//
// Notation: p softmax probability, g one-hot truth, l class, m number of classes, S the sum over all voxels of the
// batch; TP = S p g, FP = S p (1 - g), FN = S (1 - p) g. Equation numbers are those of the MF-RES2Net paper.
#pragma once

#include "train/loss.h"

#include <cstddef>
#include <span>
#include <vector>

namespace mfres::losses {

using Classes = std::span<const ClassSums>;

/// Denominators up to this hold nothing; far above the smallest double, so that its square still divides.
inline constexpr double nothing = 1e-30;

/// Whether class `l` is the background that LossOptions::background leaves out.
bool is_left_out(std::size_t l, const LossOptions& options);
/// Whether class `l` is one of the classes of a mean: not left out, and with voxels unless absent classes count.
bool counts(Classes classes, std::size_t l, const LossOptions& options);
double number_that_count(Classes classes, const LossOptions& options);

/// TP + alpha FP + beta FN = (1 - alpha - beta) S p g + alpha S p + beta S g, whose derivative with respect to p is
/// (1 - alpha - beta) g + alpha.
double tversky_denominator(const ClassSums& sums, const LossOptions& options);

/// What a class contributes to a mean over classes, 1 - score for most losses, and the slopes of that.
struct ClassLoss {
    double loss = 1.0;
    ClassSlope slope;
};

/// 1 - TP / D and its slopes, with D = TP + alpha FP + beta FN:
/// d/dp TP / D = g / D - TP ((1 - alpha - beta) g + alpha) / D^2. A class with nothing in it scores 0.
ClassLoss one_minus_tversky(const ClassSums& sums, const LossOptions& options);

/// The mean of `loss_of(sums)` over the classes that count.
template <typename LossOf>
LossValue mean_over_classes(Classes classes, const LossOptions& options, const LossOf& loss_of) {
    LossValue value{0.0, std::vector<ClassSlope>(classes.size())};
    const double number = number_that_count(classes, options);
    for (std::size_t l = 0; l < classes.size(); ++l) {
        if (!counts(classes, l, options))
            continue;
        const ClassLoss own = loss_of(classes[l]);
        value.loss += own.loss / number;
        value.slopes[l] = {own.slope.truth / number, own.slope.constant / number, own.slope.probability / number};
    }
    return value;
}

/// A class as a term of a weighted ratio: numerator, denominator, and d denominator / dp = per_truth * g + per_voxel.
/// d numerator / dp is `gain` * g.
struct RatioTerm {
    double weight = 0.0;
    double numerator = 0.0;
    double denominator = 0.0;
    double gain = 0.0;
    double per_truth = 0.0;
    double per_voxel = 0.0;
};

/// L = 1 - scale * N / D, N and D the weighted sums of the terms: dL/dp_l = -scale * w_l (dN_l/dp / D - N dD_l/dp /
/// D^2).
LossValue weighted_ratio(std::span<const RatioTerm> terms, double scale);

// The losses, one or a family per file.
LossValue dice(Classes classes, const LossOptions& options);
LossValue dice_without_squares(Classes classes, const LossOptions& options);
LossValue generalised_dice(Classes classes, const LossOptions& options);
LossValue generalised_dice_as_printed(Classes classes, const LossOptions& options);
LossValue tversky(Classes classes, const LossOptions& options);
LossValue weighted_tversky(Classes classes, const LossOptions& options);
LossValue focal_tversky(Classes classes, const LossOptions& options);
LossValue log_cosh_dice(Classes classes, const LossOptions& options);

} // namespace mfres::losses
