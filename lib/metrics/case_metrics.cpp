// SPDX-License-Identifier: MIT
#include "core/checked.h"
#include "core/guard.h"
#include "core/names.h"
#include "core/parallel.h"
#include "core/try.h"
#include "imaging/case.h"
#include "imaging/geometry.h"
#include "imaging/labels.h"
#include "metrics/surface_distance.h"

#include <mfres/metrics.h>

#include <algorithm>
#include <cmath>
#include <new>

namespace mfres {

namespace {

constexpr auto empty_scheme_names =
    enum_names<EmptyScheme>({{EmptyScheme::server2019, "server2019"}, {EmptyScheme::brats2020, "brats2020"}});

Error no_memory(const std::string& what) {
    return {ErrorCode::memory_limit, text("the surface distances of ", what, " do not fit into memory"), what};
}

ValueSet inside_region(TumourRegion region, RegionDefinition definition) {
    const ClassSet classes = region_classes(region, definition);
    ValueSet inside{};
    std::copy(classes.begin(), classes.end(), inside.begin());
    return inside;
}

/// Checks the number of voxels and that every value is a class.
Status check_classes(const LabelMap& map, const std::string& source) {
    const auto voxels = static_cast<std::int64_t>(map.labels.size());
    if (voxels != map.grid.voxels())
        return Error{ErrorCode::invalid_argument,
                     text(source, " holds ", voxels, " labels on a grid of ", map.grid.voxels(), " voxels"), source};
    const auto counted = tumour_volumes(map, RegionDefinition::brats, source);
    return counted ? Status() : Status(counted.error());
}

/// Scores of a region of which both masks, or one of them, are empty.
void score_empty(RegionMetrics& scores, bool both, EmptyScheme scheme) {
    switch (scheme) {
    case EmptyScheme::server2019: scores[Metric::hd95].reset(); return;
    case EmptyScheme::brats2020: scores[Metric::hd95] = both ? 0.0 : worst_hd95_mm; return;
    }
}

RegionMetrics score(const RegionCount& count, std::int64_t voxels, EmptyScheme scheme,
                    const std::vector<double>& surface_distances) {
    RegionMetrics scores;
    scores[Metric::dice] = dice(count);
    scores[Metric::sensitivity] = sensitivity(count);
    scores[Metric::specificity] = specificity(count, voxels);
    if (count.predicted == 0 || count.reference == 0)
        score_empty(scores, count.predicted == count.reference, scheme);
    else
        scores[Metric::hd95] = quantile(surface_distances, 0.95);
    return scores;
}

/// Distances of one region, or the fact that memory ran out: exceptions must not leave a worker thread.
struct RegionDistances {
    std::vector<double> values;
    bool out_of_memory = false;
};

std::array<RegionDistances, 3> distances_of_regions(const LabelMap& predicted, const LabelMap& reference,
                                                    RegionDefinition definition, int threads) {
    std::array<RegionDistances, 3> all;
    const auto measure = [&](std::size_t r) {
        const ValueSet inside = inside_region(tumour_regions[r], definition);
        try {
            all[r].values = pooled_surface_distances({predicted.labels, predicted.grid.size, inside},
                                                     {reference.labels, reference.grid.size, inside},
                                                     voxel_size(reference.grid.affine));
        } catch (const std::bad_alloc&) {
            all[r].out_of_memory = true;
        }
    };
    parallel_ranges(static_cast<std::int64_t>(all.size()), resolve_threads(threads),
                    [&](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t r = begin; r < end; ++r)
                            measure(static_cast<std::size_t>(r));
                    });
    return all;
}

} // namespace

std::string_view name(Metric metric) noexcept {
    switch (metric) {
    case Metric::dice: return "Dice";
    case Metric::sensitivity: return "Sensitivity";
    case Metric::specificity: return "Specificity";
    case Metric::hd95: return "Hausdorff95";
    }
    return "unknown";
}

Result<std::optional<double>> hausdorff95(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                                          const std::array<std::int64_t, 3>& size,
                                          const std::array<double, 3>& spacing_mm) {
    const auto voxels = checked_product(size);
    if (!voxels || static_cast<std::uint64_t>(*voxels) != a.size() || a.size() != b.size())
        return Error{ErrorCode::invalid_argument,
                     text("masks of ", a.size(), " and ", b.size(), " voxels do not lie on a grid of ", size[0], "x",
                          size[1], "x", size[2]),
                     "size"};
    for (const double spacing : spacing_mm)
        if (!(spacing > 0.0) || !std::isfinite(spacing))
            return Error{ErrorCode::invalid_argument, text("a spacing of ", spacing, " mm makes no sense"), "spacing"};
    ValueSet inside;
    inside.fill(true);
    inside[0] = false;
    return guarded("masks", [&]() -> Result<std::optional<double>> {
        return quantile(pooled_surface_distances({a, size, inside}, {b, size, inside}, spacing_mm), 0.95);
    });
}

namespace {

Result<CaseMetrics> measured(std::string id, const LabelMap& predicted_classes, const LabelMap& reference_classes,
                             RegionDefinition definition, EmptyScheme scheme, int threads) {
    const std::string prediction = "the prediction of " + id;
    const std::string reference = "the reference of " + id;
    MFRES_CHECK(check_same_grid(reference_classes.grid, reference, predicted_classes.grid, prediction));
    MFRES_CHECK(check_classes(predicted_classes, prediction));
    MFRES_CHECK(check_classes(reference_classes, reference));
    const RegionCounts counts = count_regions(predicted_classes.labels, reference_classes.labels, definition);
    const auto distances = distances_of_regions(predicted_classes, reference_classes, definition, threads);
    CaseMetrics result{std::move(id), {}};
    for (std::size_t r = 0; r < distances.size(); ++r) {
        if (distances[r].out_of_memory)
            return no_memory(result.id);
        result.regions[r] = score(counts.regions[r], counts.voxels, scheme, distances[r].values);
    }
    return result;
}

} // namespace

Result<CaseMetrics> evaluate_case(std::string id, const LabelMap& predicted_classes, const LabelMap& reference_classes,
                                  RegionDefinition definition, EmptyScheme scheme, int threads) {
    return guarded("metrics", [&] {
        return measured(std::move(id), predicted_classes, reference_classes, definition, scheme, threads);
    });
}

std::string_view to_string(EmptyScheme scheme) noexcept {
    return empty_scheme_names.of(scheme);
}

Result<EmptyScheme> parse_empty_scheme(std::string_view text) {
    return empty_scheme_names.parse("scheme for empty regions", text);
}

} // namespace mfres
