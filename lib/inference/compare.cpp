#include "inference/compare.h"

#include "backends/backend.h"
#include "core/parallel.h"
#include "core/try.h"
#include "imaging/case.h"
#include "imaging/preprocess.h"
#include "inference/precision.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

Result<Tensor> logits(const Model& model, const Preprocessing& preprocessing, const std::array<CompactVolume, 4>& scans,
                      const Backend& backend, int threads) {
    const auto& size = preprocessing.padded_size;
    MFRES_TRY(const Graph graph, build_network(model.variant, {size[0], size[1], size[2]}));
    MFRES_TRY(const CompileOptions options, compile_options(model, backend, "auto", {.threads = threads}));
    MFRES_TRY(const auto executable, backend.compile(graph, model.weights, options));
    fill_input(preprocessing, scans, {0, 0, 0}, executable->input(), threads);
    MFRES_CHECK(executable->run());
    const auto output = executable->output(0);
    Tensor dense(output.shape);
    copy(output, view(dense));
    return dense;
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
                                       const std::string& backend, int threads) {
    const Variant& a = first.variant;
    const Variant& b = second.variant;
    if (a.input_channels() != 4 || a.input_channels() != b.input_channels() || a.classes() != b.classes() ||
        a.multiple() != b.multiple())
        return Error{ErrorCode::invalid_argument,
                     text("models of ", a.input_channels(), " and ", b.input_channels(), " channels, ", a.classes(),
                          " and ", b.classes(), " classes and grid multiples ", a.multiple(), " and ", b.multiple(),
                          " cannot be compared on a case of 4 modalities"),
                     {}};
    MFRES_TRY(const Backend* engine, find_backend(backend));
    const int resolved = resolve_threads(threads);
    CaseOptions options;
    options.threads = resolved;
    MFRES_TRY(const Case loaded, load_case(files, options));
    MFRES_TRY(const Preprocessing preprocessing,
              plan_preprocessing(loaded.scans, {.multiple = static_cast<int>(a.multiple()), .threads = resolved}));
    MFRES_TRY(const Tensor before, logits(first, preprocessing, loaded.scans, *engine, resolved));
    MFRES_TRY(const Tensor after, logits(second, preprocessing, loaded.scans, *engine, resolved));

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
