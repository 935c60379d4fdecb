// SPDX-License-Identifier: MIT
#include "inference/compare.h"

#include "core/try.h"
#include "inference/predictor.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

/// Logits on the whole brain box, the case prepared as the model expects it.
Result<Tensor> logits(const Model& model, const CaseFiles& files, const ComputeOptions& compute,
                      const AcceptedChecks& accept) {
    MFRES_TRY(const auto predictor,
              CasePredictor::open(borrowed(model), model.variant.name(), {.compute = compute, .accept = accept}));
    const ThreadPoolScope work(predictor->pool());
    MFRES_TRY(Case loaded, predictor->load(files, AffineSource::automatic, false, false));
    MFRES_TRY(const PreparedCase prepared, predictor->prepare(std::move(loaded)));
    return predictor->boxes().logits(prepared.box(predictor->threads()));
}

/// The class with the largest logit of voxel i; the first of equal ones.
std::int64_t largest_class(const Tensor& logits, std::int64_t voxels, std::int64_t i) {
    std::int64_t best = 0;
    for (std::int64_t c = 1; c < logits.shape()[1]; ++c)
        if (logits[c * voxels + i] > logits[best * voxels + i])
            best = c;
    return best;
}

} // namespace

Result<ModelComparison> compare_models(const Model& first, const Model& second, const CaseFiles& files,
                                       const ComputeOptions& compute, const AcceptedChecks& accept) {
    const Variant& a = first.variant;
    const Variant& b = second.variant;
    if (a.input_channels() != 4 || a.input_channels() != b.input_channels() || a.classes() != b.classes() ||
        a.multiple() != b.multiple())
        return Error{ErrorCode::invalid_argument,
                     text("models of ", a.input_channels(), " and ", b.input_channels(), " channels, ", a.classes(),
                          " and ", b.classes(), " classes and grid multiples ", a.multiple(), " and ", b.multiple(),
                          " cannot be compared on a case of 4 modalities"),
                     {}};
    MFRES_TRY(const Tensor before, logits(first, files, compute, accept));
    MFRES_TRY(const Tensor after, logits(second, files, compute, accept));

    ModelComparison comparison;
    comparison.voxels = before.elements() / before.shape()[1];
    for (std::int64_t i = 0; i < before.elements(); ++i) {
        const double difference = std::abs(double{before[i]} - double{after[i]});
        if (!std::isfinite(difference))
            return Error{ErrorCode::logits_not_finite, text(files.id, ": the network produced NaN or Inf"), files.id};
        comparison.largest_difference = std::max(comparison.largest_difference, difference);
        comparison.largest_logit = std::max(comparison.largest_logit, std::abs(double{before[i]}));
    }
    for (std::int64_t i = 0; i < comparison.voxels; ++i)
        if (largest_class(before, comparison.voxels, i) != largest_class(after, comparison.voxels, i))
            ++comparison.different;
    return comparison;
}

} // namespace mfres
