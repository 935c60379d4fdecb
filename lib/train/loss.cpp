// SPDX-License-Identifier: MIT
#include "train/loss.h"

#include "core/names.h"
#include "core/try.h"

#include <array>
#include <cmath>
#include <string>

namespace mfres {

namespace {

constexpr std::array all_kinds = {
    LossKind::dice,   LossKind::gdl, LossKind::gdl_paper, LossKind::tversky, LossKind::weighted_tversky,
    LossKind::dice_ce};
constexpr std::array all_rules = {Absent::literal, Absent::skip};

/// Denominators up to this hold nothing; far above the smallest double, so that its square still divides.
constexpr double nothing = 1e-30;

bool is_left_out(std::size_t class_index, const LossOptions& options) {
    return class_index == 0 && !options.background && options.outputs == Outputs::classes;
}

bool counts(std::span<const ClassSums> classes, std::size_t l, const LossOptions& options) {
    return !is_left_out(l, options) && (classes[l].truth > 0.0 || options.absent == Absent::literal);
}

double number_that_count(std::span<const ClassSums> classes, const LossOptions& options) {
    double number = 0.0;
    for (std::size_t l = 0; l < classes.size(); ++l)
        number += counts(classes, l, options) ? 1.0 : 0.0;
    return number;
}

/// TP + alpha FP + beta FN = (1 - alpha - beta) S p g + alpha S p + beta S g, whose derivative with respect to p is
/// (1 - alpha - beta) g + alpha.
double tversky_denominator(const ClassSums& sums, const LossOptions& options) {
    return (1.0 - options.alpha - options.beta) * sums.probability_truth + options.alpha * sums.probability +
           options.beta * sums.truth;
}

/// Score of a class and the slopes of 1 - score.
struct ClassScore {
    double score = 0.0;
    ClassSlope slope;
};

/// 1 - the mean score of the classes that count.
template <typename ScoreOf>
LossValue mean_of_scores(std::span<const ClassSums> classes, const LossOptions& options, const ScoreOf& score_of) {
    LossValue value{0.0, std::vector<ClassSlope>(classes.size())};
    const double number = number_that_count(classes, options);
    for (std::size_t l = 0; l < classes.size(); ++l) {
        if (!counts(classes, l, options))
            continue;
        const ClassScore own = score_of(classes[l]);
        value.loss += (1.0 - own.score) / number;
        value.slopes[l] = {own.slope.truth / number, own.slope.constant / number, own.slope.probability / number};
    }
    return value;
}

/// d/dp 2 S p g / D = 2 g / D - 2 S p g * 2 p / D^2, with D = S p^2 + S g^2 + epsilon.
LossValue dice(std::span<const ClassSums> classes, const LossOptions& options) {
    return mean_of_scores(classes, options, [&](const ClassSums& sums) -> ClassScore {
        const double denominator = sums.probability_squared + sums.truth + options.dice_epsilon;
        const double score = 2.0 * sums.probability_truth / denominator;
        return {score, {.truth = -2.0 / denominator, .probability = 2.0 * score / denominator}};
    });
}

/// d/dp 2 S p g / D = 2 g / D - 2 S p g / D^2, with D = S p + S g + epsilon.
LossValue dice_without_squares(std::span<const ClassSums> classes, const LossOptions& options) {
    return mean_of_scores(classes, options, [&](const ClassSums& sums) -> ClassScore {
        const double denominator = sums.probability + sums.truth + options.dice_epsilon;
        const double score = 2.0 * sums.probability_truth / denominator;
        return {score, {.truth = -2.0 / denominator, .constant = score / denominator}};
    });
}

/// d/dp TP / D = g / D - TP ((1 - alpha - beta) g + alpha) / D^2, with D = TP + alpha FP + beta FN.
LossValue tversky(std::span<const ClassSums> classes, const LossOptions& options) {
    return mean_of_scores(classes, options, [&](const ClassSums& sums) -> ClassScore {
        const double denominator = tversky_denominator(sums, options);
        if (denominator <= nothing)
            return {};
        const double score = sums.probability_truth / denominator;
        return {score,
                {.truth = -(1.0 - score * (1.0 - options.alpha - options.beta)) / denominator,
                 .constant = score * options.alpha / denominator}};
    });
}

/// A class as a term of a weighted ratio: numerator, denominator, and d denominator / dp = per_truth * g + per_voxel.
/// d numerator / dp is `gain` * g.
struct Term {
    double weight = 0.0;
    double numerator = 0.0;
    double denominator = 0.0;
    double gain = 0.0;
    double per_truth = 0.0;
    double per_voxel = 0.0;
};

/// L = 1 - scale * N / D, N and D the weighted sums of the terms: dL/dp_l = -scale * w_l (dN_l/dp / D - N dD_l/dp /
/// D^2).
LossValue weighted_ratio(std::span<const Term> terms, double scale) {
    LossValue value{0.0, std::vector<ClassSlope>(terms.size())};
    double numerator = 0.0;
    double denominator = 0.0;
    for (const Term& term : terms) {
        numerator += term.weight * term.numerator;
        denominator += term.weight * term.denominator;
    }
    if (denominator <= nothing)
        return value;
    const double ratio = numerator / denominator;
    value.loss = 1.0 - scale * ratio;
    for (std::size_t l = 0; l < terms.size(); ++l) {
        const double weight = scale * terms[l].weight / denominator;
        value.slopes[l].truth = weight * (ratio * terms[l].per_truth - terms[l].gain);
        value.slopes[l].constant = weight * ratio * terms[l].per_voxel;
    }
    return value;
}

/// eq. 5: 1 / (S g)^2 where there is a voxel.
double dice_weight(const ClassSums& sums, const LossOptions& options) {
    if (sums.truth > 0.0)
        return 1.0 / (sums.truth * sums.truth);
    return options.absent == Absent::skip ? 0.0 : 1.0 / options.weight_epsilon;
}

/// eq. 7
double tversky_weight(std::span<const ClassSums> classes, std::size_t l, const LossOptions& options) {
    const double truth = classes[l].truth;
    return counts(classes, l, options) ? 1.0 / (truth * truth + options.weight_epsilon) : 0.0;
}

LossValue generalised_dice(std::span<const ClassSums> classes, const LossOptions& options) {
    std::vector<Term> terms;
    for (const ClassSums& sums : classes)
        terms.push_back({.weight = is_left_out(terms.size(), options) ? 0.0 : dice_weight(sums, options),
                         .numerator = 2.0 * sums.probability_truth,
                         .denominator = sums.probability + sums.truth,
                         .gain = 2.0,
                         .per_voxel = 1.0});
    const auto m = static_cast<double>(classes.size());
    return weighted_ratio(terms, options.kind == LossKind::gdl_paper ? 1.0 / m : 1.0);
}

LossValue weighted_tversky(std::span<const ClassSums> classes, const LossOptions& options) {
    std::vector<Term> terms;
    for (const ClassSums& sums : classes)
        terms.push_back({.weight = tversky_weight(classes, terms.size(), options),
                         .numerator = sums.probability_truth,
                         .denominator = tversky_denominator(sums, options),
                         .gain = 1.0,
                         .per_truth = 1.0 - options.alpha - options.beta,
                         .per_voxel = options.alpha});
    return weighted_ratio(terms, 1.0);
}

Status check(const LossOptions& options) {
    const auto negative = [](double value) { return !std::isfinite(value) || value < 0.0; };
    if (negative(options.alpha) || negative(options.beta) || options.alpha + options.beta == 0.0)
        return Error{ErrorCode::invalid_argument,
                     text("alpha and beta must be finite, not negative and not both 0; they are ", options.alpha,
                          " and ", options.beta),
                     "alpha, beta"};
    for (const double epsilon : {options.dice_epsilon, options.weight_epsilon})
        if (!std::isfinite(epsilon) || epsilon <= 0.0)
            return Error{ErrorCode::invalid_argument,
                         text("a loss's epsilon must be finite and above 0; it is ", epsilon), "epsilon"};
    const double ce_weight = options.ce_weight.value_or(standard_ce_weight(options.kind));
    if (negative(options.overlap_weight) || negative(ce_weight) || options.overlap_weight + ce_weight == 0.0)
        return Error{ErrorCode::invalid_argument,
                     text("the weights of a loss's parts must be finite, not negative and not both 0; they are ",
                          options.overlap_weight, " and ", ce_weight),
                     "overlap_weight, ce_weight"};
    if (negative(options.focal_gamma))
        return Error{ErrorCode::invalid_argument,
                     text("focal_gamma must be finite and not negative; it is ", options.focal_gamma), "focal_gamma"};
    if (!(options.top_share > 0.0 && options.top_share <= 1.0))
        return Error{ErrorCode::invalid_argument,
                     text("the share of the hardest voxels must be above 0 and at most 1; it is ", options.top_share),
                     "top_share"};
    return {};
}

/// Null for an overlap part that counts for nothing.
OverlapLoss make_overlap(const LossOptions& options) {
    const double weight = options.overlap_weight;
    const auto with = [&](auto function) -> OverlapLoss {
        if (weight == 0.0)
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
    };
    switch (options.kind) {
    case LossKind::dice: return with(dice);
    case LossKind::gdl:
    case LossKind::gdl_paper: return with(generalised_dice);
    case LossKind::tversky: return with(tversky);
    case LossKind::weighted_tversky: return with(weighted_tversky);
    case LossKind::dice_ce: return with(dice_without_squares);
    }
    return nullptr;
}

constexpr auto loss_kind_names = enum_names<LossKind>({{LossKind::dice, "dice"},
                                                       {LossKind::gdl, "gdl"},
                                                       {LossKind::gdl_paper, "gdl-paper"},
                                                       {LossKind::tversky, "tversky"},
                                                       {LossKind::weighted_tversky, "weighted-tversky"},
                                                       {LossKind::dice_ce, "dice-ce"}});

constexpr auto absent_names = enum_names<Absent>({{Absent::literal, "literal"}, {Absent::skip, "skip"}});

} // namespace

std::string_view name(LossKind kind) noexcept {
    return loss_kind_names.of(kind);
}

std::string_view name(Absent absent) noexcept {
    return absent_names.of(absent);
}

double standard_ce_weight(LossKind kind) noexcept {
    return kind == LossKind::dice_ce ? 1.0 : 0.0;
}

std::span<const LossKind> loss_kinds() {
    return all_kinds;
}

std::span<const Absent> absent_rules() {
    return all_rules;
}

Result<LossKind> parse_loss_kind(std::string_view text_to_parse) {
    return loss_kind_names.parse("loss", text_to_parse);
}

Result<Absent> parse_absent(std::string_view text_to_parse) {
    return absent_names.parse("rule for absent classes", text_to_parse);
}

Result<Loss> make_loss(const LossOptions& options) {
    MFRES_CHECK(check(options));
    Loss loss;
    loss.overlap = make_overlap(options);
    loss.outputs = options.outputs;
    loss.per_sample = !options.batch;
    loss.pointwise = {options.ce_weight.value_or(standard_ce_weight(options.kind)), options.focal_gamma,
                      options.top_share};
    return loss;
}

} // namespace mfres
