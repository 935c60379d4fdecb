// SPDX-License-Identifier: MIT
#include "train/loss.h"

#include "core/names.h"
#include "core/try.h"
#include "train/losses/overlap.h"

#include <array>
#include <cmath>

namespace mfres {

namespace {

// Name, formula, source, overlap part, pointwise part {weight, focal_gamma, top_share}.
// clang-format off
constexpr LossDefinition definitions[] = {
    {"dice", "1 - mean_l 2 S p g / (S p^2 + S g^2 + eps)", "Milletari et al. 2016", losses::dice, {}},
    {"gdl", "1 - 2 S_l w_l S p g / S_l w_l S (p + g), w_l = 1 / (S g)^2", "Sudre et al. 2017", losses::generalised_dice, {}},
    {"gdl-paper", "the same with a factor 1/m before the fraction", "eq. 4 of the paper as printed", losses::generalised_dice_as_printed, {}},
    {"tversky", "1 - mean_l T, T = TP / (TP + alpha FP + beta FN)", "Salehi et al. 2017", losses::tversky, {}},
    {"weighted-tversky", "1 - S_l w_l TP / S_l w_l (TP + alpha FP + beta FN), w_l = 1 / ((S g)^2 + 1e-4)", "eq. 7 and 8 of the paper", losses::weighted_tversky, {}},
    {"focal-tversky", "mean_l (1 - T)^(1 / tversky_gamma)", "Abraham and Khan 2019", losses::focal_tversky, {}},
    {"log-cosh-dice", "mean_l log cosh (1 - D), D as in dice", "Jadon 2020", losses::log_cosh_dice, {}},
    {"dice-ce", "1 - mean_l 2 S p g / (S p + S g + eps), plus the cross-entropy", "Isensee et al. 2021 (nnU-Net)", losses::dice_without_squares, {1.0}},
    {"cross-entropy", "the mean of -log p of the true class", "Ronneberger et al. 2015 (U-Net)", nullptr, {1.0}},
    {"focal", "the mean of -(1 - p)^2 log p", "Lin et al. 2017", nullptr, {1.0, 2.0}},
    {"topk", "the mean of -log p over the hardest 10 % of the voxels", "Wu et al. 2016", nullptr, {1.0, 0.0, 0.1}},
};
// clang-format on

constexpr std::array all_rules = {Absent::literal, Absent::skip};

constexpr auto absent_names = enum_names<Absent>({{Absent::literal, "literal"}, {Absent::skip, "skip"}});

Error invalid(const std::string& message, const char* where) {
    return {ErrorCode::invalid_argument, message, where};
}

bool negative(double value) {
    return !std::isfinite(value) || value < 0.0;
}

Status check_overlap(const LossOptions& options) {
    if (negative(options.alpha) || negative(options.beta) || options.alpha + options.beta == 0.0)
        return invalid(text("alpha and beta must be finite, not negative and not both 0; they are ", options.alpha,
                            " and ", options.beta),
                       "alpha, beta");
    if (!(options.tversky_gamma >= 1.0 && options.tversky_gamma <= 10.0))
        return invalid(text("tversky_gamma must be from 1 to 10; it is ", options.tversky_gamma), "tversky_gamma");
    for (const double epsilon : {options.dice_epsilon, options.weight_epsilon})
        if (!std::isfinite(epsilon) || epsilon <= 0.0)
            return invalid(text("a loss's epsilon must be finite and above 0; it is ", epsilon), "epsilon");
    return {};
}

Status check_parts(const LossDefinition& definition, double overlap_weight, const PointwiseLoss& pointwise) {
    if (negative(overlap_weight) || negative(pointwise.weight) ||
        (definition.overlap == nullptr ? 0.0 : overlap_weight) + pointwise.weight == 0.0)
        return invalid(text("the weights of the parts of the loss ", definition.name,
                            " must be finite, not negative and not all 0; they are ", overlap_weight, " and ",
                            pointwise.weight),
                       "overlap_weight, ce_weight");
    if (negative(pointwise.focal_gamma))
        return invalid(text("focal_gamma must be finite and not negative; it is ", pointwise.focal_gamma),
                       "focal_gamma");
    if (!(pointwise.top_share > 0.0 && pointwise.top_share <= 1.0))
        return invalid(
            text("the share of the hardest voxels must be above 0 and at most 1; it is ", pointwise.top_share),
            "top_share");
    return {};
}

/// Null for an overlap part that counts for nothing.
OverlapLoss make_overlap(const LossDefinition& definition, const LossOptions& options) {
    const auto function = definition.overlap;
    const double weight = options.overlap_weight;
    if (function == nullptr || weight == 0.0)
        return nullptr;
    if (weight == 1.0)
        return [options, function](std::span<const ClassSums> classes) { return function(classes, options); };
    return [options, function, weight](std::span<const ClassSums> classes) {
        LossValue value = function(classes, options);
        value.loss *= weight;
        for (ClassSlope& slope : value.slopes)
            slope = {weight * slope.truth, weight * slope.constant, weight * slope.probability};
        return value;
    };
}

} // namespace

std::span<const LossDefinition> loss_definitions() {
    return definitions;
}

Result<const LossDefinition*> find_loss(std::string_view wanted) {
    std::string known;
    for (const LossDefinition& definition : definitions) {
        if (definition.name == wanted)
            return &definition;
        known += text(known.empty() ? "" : ", ", definition.name);
    }
    return invalid(text("loss '", wanted, "' is not known; there are: ", known), "loss");
}

std::string_view name(Absent absent) noexcept {
    return absent_names.of(absent);
}

std::span<const Absent> absent_rules() {
    return all_rules;
}

Result<Absent> parse_absent(std::string_view text_to_parse) {
    return absent_names.parse("rule for absent classes", text_to_parse);
}

Result<Loss> make_loss(const LossOptions& options) {
    MFRES_TRY(const LossDefinition* const definition, find_loss(options.loss));
    const PointwiseLoss& standard = definition->pointwise;
    Loss loss;
    loss.pointwise = {options.ce_weight.value_or(standard.weight), options.focal_gamma.value_or(standard.focal_gamma),
                      options.top_share.value_or(standard.top_share)};
    MFRES_CHECK(check_overlap(options));
    MFRES_CHECK(check_parts(*definition, options.overlap_weight, loss.pointwise));
    loss.overlap = make_overlap(*definition, options);
    loss.outputs = options.outputs;
    loss.per_sample = !options.batch;
    return loss;
}

} // namespace mfres
