// SPDX-License-Identifier: MIT
#include "train/validation.h"

#include "core/memory_usage.h"
#include "core/parallel.h"
#include "core/try.h"
#include "inference/box_predictor.h"
#include "inference/box_source.h"

#include <mfres/metrics.h>

#include <chrono>
#include <map>
#include <memory>
#include <vector>

namespace mfres {

namespace {

using Size = std::array<std::int64_t, 3>;

/// One case through the network.
Result<ValidationCase> evaluate(const CachedCase& source, BoxPredictor& predictor) {
    const BrainBox box = brain_box(source, modalities, all_modalities, predictor.multiple(), predictor.threads());
    MFRES_CHECK(predictor.compile(box.size));
    PredictionReport unused;
    const Progress silent;
    StageClock clock(unused, silent);
    MFRES_TRY(const BoxPrediction prediction, predictor.run(box, box.size, false, clock));
    const RegionCounts counts =
        count_regions(cut_to_brain(source, prediction.classes, box.size), source.classes, RegionDefinition::brats);
    ValidationCase result{source.id, {}, {}};
    for (const TumourRegion region : tumour_regions)
        result.dice[static_cast<std::size_t>(region)] = dice(counts[region]);
    return result;
}

} // namespace

Result<Validation> validate(const Cache& cache, const Variant& variant, const Weights& weights, const Backend& backend,
                            const ValidationPlace& place, const ValidationProgress& progress) {
    const auto start = std::chrono::steady_clock::now();
    std::map<Size, std::vector<std::size_t>> by_size;
    for (std::size_t i = 0; i < cache.entries().size(); ++i)
        by_size[padded_box(cache.entries()[i].size, variant.multiple())].push_back(i); // to compile once per size

    Validation validation;
    validation.cases.resize(cache.entries().size());
    std::size_t done = 0;
    BoxPredictorOptions options;
    options.compile.threads = place.threads;
    options.compile.device = place.device;
    options.threads = resolve_threads(place.threads);
    BoxPredictor predictor(variant, weights, backend, std::move(options));
    for (const auto& [size, members] : by_size)
        for (const std::size_t index : members) {
            if (progress && !progress(done, cache.entries().size()))
                return Error{ErrorCode::interrupted, "the validation was stopped on request", {}};
            MFRES_TRY(const auto source, cache.load(index));
            MFRES_TRY(validation.cases[index], evaluate(*source, predictor));
            ++done;
        }
    predictor.drop();
    release_unused_memory();
    for (const ValidationCase& entry : validation.cases)
        for (std::size_t region = 0; region < 3; ++region)
            validation.mean[region] += entry.dice[region] / static_cast<double>(validation.cases.size());
    validation.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return validation;
}

std::vector<SiteDice> by_site(const Validation& validation) {
    MetricsTable table;
    for (const ValidationCase& entry : validation.cases) {
        CaseMetrics& measured = table.cases.emplace_back(CaseMetrics{entry.id, {}, entry.site});
        for (const TumourRegion region : tumour_regions)
            measured[region][Metric::dice] = entry.dice[static_cast<std::size_t>(region)];
    }
    std::vector<SiteDice> sites;
    for (const SiteSummary& of : summarise_by_site(table)) {
        SiteDice& site = sites.emplace_back(SiteDice{of.site, static_cast<std::size_t>(of.summary.cases), {}});
        for (const TumourRegion region : tumour_regions)
            site.mean[static_cast<std::size_t>(region)] = of.summary.at(region, Metric::dice).mean.value_or(0.0);
    }
    return sites;
}

} // namespace mfres
