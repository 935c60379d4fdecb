// SPDX-License-Identifier: MIT
#include "inference/compare.h"

#include "core/argmax.h"
#include "core/try.h"
#include "inference/predictor.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace mfres {

namespace {

/// Logits on the whole brain box, the case prepared as the model expects it.
Result<Tensor> logits_of(const Model& model, const CaseFiles& files, const ComputeOptions& compute,
                         const AcceptedChecks& accept) {
    MFRES_TRY(const auto predictor,
              CasePredictor::open(borrowed(model), model.variant.name(), {.compute = compute, .accept = accept}));
    const ThreadPoolScope work(predictor->pool());
    MFRES_TRY(Case loaded, predictor->load(files, AffineSource::automatic, false, false));
    MFRES_TRY(const PreparedCase prepared, predictor->prepare(std::move(loaded)));
    return predictor->boxes().logits(prepared.box(predictor->threads()));
}

Result<std::vector<std::uint8_t>> labels_of(const Tensor& logits, Outputs outputs) {
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(logits.elements() / logits.shape()[1]));
    MFRES_CHECK(assign_labels(view(logits), {outputs}, labels, 1));
    return labels;
}

} // namespace

Result<ModelComparison> compare_models(const Model& first, const Model& second, const CaseFiles& files,
                                       const ComputeOptions& compute, const AcceptedChecks& accept) {
    const Variant& a = first.variant;
    const Variant& b = second.variant;
    if (a.input_channels() != 4 || a.input_channels() != b.input_channels() || a.classes() != b.classes() ||
        a.outputs() != b.outputs() || a.multiple() != b.multiple())
        return Error{ErrorCode::invalid_argument,
                     text("models of ", a.input_channels(), " and ", b.input_channels(), " channels, ", a.classes(),
                          " and ", b.classes(), " classes and grid multiples ", a.multiple(), " and ", b.multiple(),
                          " cannot be compared on a case of 4 modalities"),
                     {}};
    MFRES_TRY(const Tensor before, logits_of(first, files, compute, accept));
    MFRES_TRY(const Tensor after, logits_of(second, files, compute, accept));

    ModelComparison comparison;
    comparison.voxels = before.elements() / before.shape()[1];
    for (std::int64_t i = 0; i < before.elements(); ++i) {
        const double difference = std::abs(double{before[i]} - double{after[i]});
        if (!std::isfinite(difference))
            return Error{ErrorCode::logits_not_finite, text(files.id, ": the network produced NaN or Inf"), files.id};
        comparison.largest_difference = std::max(comparison.largest_difference, difference);
        comparison.largest_logit = std::max(comparison.largest_logit, std::abs(double{before[i]}));
    }
    MFRES_TRY(const auto labels, labels_of(before, a.outputs()));
    MFRES_TRY(const auto other, labels_of(after, b.outputs()));
    for (std::size_t i = 0; i < labels.size(); ++i)
        if (labels[i] != other[i])
            ++comparison.different;
    return comparison;
}

} // namespace mfres
