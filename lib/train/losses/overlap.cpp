// SPDX-License-Identifier: MIT
#include "train/losses/overlap.h"

namespace mfres::losses {

bool is_left_out(std::size_t l, const LossOptions& options) {
    return l == 0 && !options.background && options.outputs == Outputs::classes;
}

bool counts(Classes classes, std::size_t l, const LossOptions& options) {
    return !is_left_out(l, options) && (classes[l].truth > 0.0 || options.absent == Absent::literal);
}

double number_that_count(Classes classes, const LossOptions& options) {
    double number = 0.0;
    for (std::size_t l = 0; l < classes.size(); ++l)
        number += counts(classes, l, options) ? 1.0 : 0.0;
    return number;
}

double tversky_denominator(const ClassSums& sums, const LossOptions& options) {
    return (1.0 - options.alpha - options.beta) * sums.probability_truth + options.alpha * sums.probability +
           options.beta * sums.truth;
}

ClassLoss one_minus_tversky(const ClassSums& sums, const LossOptions& options) {
    const double denominator = tversky_denominator(sums, options);
    if (denominator <= nothing)
        return {};
    const double score = sums.probability_truth / denominator;
    return {1.0 - score,
            {.truth = -(1.0 - score * (1.0 - options.alpha - options.beta)) / denominator,
             .constant = score * options.alpha / denominator}};
}

LossValue weighted_ratio(std::span<const RatioTerm> terms, double scale) {
    LossValue value{0.0, std::vector<ClassSlope>(terms.size())};
    double numerator = 0.0;
    double denominator = 0.0;
    for (const RatioTerm& term : terms) {
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

} // namespace mfres::losses
