// SPDX-License-Identifier: MIT
// The losses a network is trained with: a table of them, and what is common to all. The overlap part of a loss is a
// function of four sums per class (ClassSums), so it is written once for all backends, in train/losses. A backend
// computes the sums, gets the slopes and multiplies them out per voxel. The pointwise part is a mean over voxels that the
// backends compute (PointwiseLoss): cross-entropy, focal, over all or over the hardest voxels. It can be added to each.
#pragma once

#include "backends/training.h"

#include <mfres/status.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mfres {

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
    std::string loss = "weighted-tversky"; ///< a name of loss_definitions()
    double alpha = 0.3;               ///< Tversky's weight of false positives: Salehi's best, the paper states none
    double beta = 0.7;                ///< weight of false negatives
    double tversky_gamma = 4.0 / 3.0; ///< focal-tversky: the best of Abraham and Khan
    Absent absent = Absent::skip;
    double dice_epsilon = 1e-5;   ///< dice: keeps the fraction finite for a class without voxels and predictions
    double weight_epsilon = 1e-4; ///< eq. 7's eps

    Outputs outputs = Outputs::classes; ///< what the network tells; with regions a region stands for a class
    /// false: class 0 is left out of the overlap part, like an absent class with skip. Regions have no background.
    bool background = true;
    bool batch = true; ///< false: Loss::per_sample
    double overlap_weight = 1.0;
    /// Of PointwiseLoss; without a value those of the loss's definition.
    std::optional<double> ce_weight = std::nullopt;
    std::optional<double> focal_gamma = std::nullopt;
    std::optional<double> top_share = std::nullopt;
};

/// One loss: what it is called, what it computes, and where it comes from.
struct LossDefinition {
    std::string_view name;
    std::string_view formula; ///< in the notation of train/losses/overlap.h
    std::string_view source;
    /// Null: the loss has no overlap part.
    LossValue (*overlap)(std::span<const ClassSums>, const LossOptions&) = nullptr;
    PointwiseLoss pointwise; ///< which LossOptions and the keys of a recipe override
};

/// All losses, in the order of the documentation.
std::span<const LossDefinition> loss_definitions();
/// The loss of that name. Error: invalid_argument (lists the names).
Result<const LossDefinition*> find_loss(std::string_view name);

/// "literal", "skip"
std::string_view name(Absent absent) noexcept;
std::span<const Absent> absent_rules();
/// The rule of that name. Error: invalid_argument (lists the names).
Result<Absent> parse_absent(std::string_view text);

/// The overlap part is a function of the sums of all classes, with slopes dL/dp = truth * g + constant + probability *
/// p. For finite sums its value and slopes are finite: a class whose denominator is not above 1e-30 (no voxel and no
/// prediction) scores 0 and has no slope, and where no class counts the loss is 0. Error: invalid_argument (no such
/// loss, alpha or beta negative or not finite or both 0, tversky_gamma not within 1 to 10, an epsilon not positive or not
/// finite, a weight or focal_gamma negative or not finite, no part with a weight above 0, top_share not within
/// 0 < top_share <= 1).
Result<Loss> make_loss(const LossOptions& options);

} // namespace mfres
