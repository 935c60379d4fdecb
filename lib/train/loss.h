// SPDX-License-Identifier: MIT
// The losses a network is trained with. The overlap part of each is a function of four sums per class (ClassSums), so
// it is written once for all backends. A backend computes the sums, gets the slopes and multiplies them out per voxel.
// A cross-entropy (PointwiseLoss) can be added to each.
//
// Notation: p softmax probability, g one-hot truth, l class, m number of classes, S the sum over all voxels of the
// batch; TP = S p g, FP = S p (1 - g), FN = S (1 - p) g. Equation numbers are those of the MF-RES2Net paper.
#pragma once

#include "backends/training.h"

#include <mfres/status.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace mfres {

enum class LossKind : std::uint8_t {
    /// 1 - mean_l 2 S p g / (S p^2 + S g^2 + dice_epsilon); Milletari et al. 2016 ("V-Net")
    dice,
    /// 1 - 2 S_l w_l S p g / S_l w_l S (p + g), w_l = 1 / (S g)^2; Sudre et al. 2017 (eq. 4 without its 1/m, eq. 5)
    gdl,
    /// 1 - (1/m) * the same fraction: eq. 4 as printed, with which a perfect result scores 1 - 1/m
    gdl_paper,
    /// 1 - mean_l TP / (TP + alpha FP + beta FN); eq. 6 with FP and FN as Salehi et al. 2017 name them (the paper's
    /// prose swaps the names)
    tversky,
    /// 1 - S_l w_l TP_l / S_l w_l (TP_l + alpha FP_l + beta FN_l), w_l = 1 / ((S g)^2 + weight_epsilon); eq. 7-8, the
    /// paper's own loss. Its denominator is read as one weighted sum.
    weighted_tversky,
    /// 1 - mean_l 2 S p g / (S p + S g + dice_epsilon), plus the mean cross-entropy with ce_weight = 1: what nnU-Net
    /// (Isensee et al. 2021) trains with, whose Dice has no squares in the denominator
    dice_ce,
};

/// How a class without voxels in the batch (S g = 0) counts.
enum class Absent : std::uint8_t {
    /// As the formula says. dice and tversky: its score is 0, whatever is predicted. weighted_tversky: its weight is
    /// 1 / weight_epsilon, about 10^12 times that of a class with 10^4 voxels. gdl: the formula's weight is infinite;
    /// it gets 1 / weight_epsilon like weighted_tversky.
    literal,
    /// Nothing: w_l = 0, and the means of dice and tversky are over the classes with voxels.
    skip,
};

struct LossOptions {
    LossKind kind = LossKind::weighted_tversky;
    double alpha = 0.3; ///< weight of false positives (tversky, weighted_tversky): Salehi's best, the paper states none
    double beta = 0.7;  ///< weight of false negatives
    Absent absent = Absent::skip;
    double dice_epsilon = 1e-5;   ///< dice: keeps the fraction finite for a class without voxels and predictions
    double weight_epsilon = 1e-4; ///< eq. 7's eps

    Outputs outputs = Outputs::classes; ///< what the network tells; with regions a region stands for a class
    /// false: class 0 is left out of the overlap part, like an absent class with skip. Regions have no background.
    bool background = true;
    bool batch = true; ///< false: Loss::per_sample
    double overlap_weight = 1.0;
    /// Of the cross-entropy; without a value that of the loss: 1 for dice_ce, else 0.
    std::optional<double> ce_weight = std::nullopt;
    double focal_gamma = 0.0; ///< see PointwiseLoss, also for the next one
    double top_share = 1.0;
};

/// The default weight of the cross-entropy of a loss.
double standard_ce_weight(LossKind kind) noexcept;

/// "dice", "gdl", "gdl-paper", "tversky", "weighted-tversky", "dice-ce"
std::string_view name(LossKind kind) noexcept;
/// "literal", "skip"
std::string_view name(Absent absent) noexcept;

/// All of them, in the order above.
std::span<const LossKind> loss_kinds();
std::span<const Absent> absent_rules();

/// The loss of that name. Error: invalid_argument (lists the names).
Result<LossKind> parse_loss_kind(std::string_view text);
/// The rule of that name. Error: invalid_argument (lists the names).
Result<Absent> parse_absent(std::string_view text);

/// The overlap part is a function of the sums of all classes, with slopes dL/dp = truth * g + constant + probability *
/// p. For finite sums its value and slopes are finite: a class whose denominator is not above 1e-30 (no voxel and no
/// prediction) scores 0 and has no slope, and where no class counts the loss is 0. Error: invalid_argument (alpha or
/// beta negative or not finite or both 0, an epsilon not positive or not finite, a weight or focal_gamma negative or
/// not finite, both weights 0, top_share not within 0 < top_share <= 1).
Result<Loss> make_loss(const LossOptions& options);

} // namespace mfres
