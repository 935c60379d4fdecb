#include "train/validation.h"

#include "core/memory_usage.h"
#include "core/try.h"
#include "inference/sliding_window.h"

#include <mfres/metrics.h>

#include <chrono>
#include <map>
#include <memory>
#include <vector>

namespace mfres {

namespace {

using Size = std::array<std::int64_t, 3>;

Size padded(const Size& size, std::int64_t multiple) {
    Size result{};
    for (std::size_t axis = 0; axis < 3; ++axis)
        result[axis] = (size[axis] + multiple - 1) / multiple * multiple;
    return result;
}

/// Classes of the box [x][y][z] from those of the padded box, background outside the brain.
std::vector<std::uint8_t> cut_to_brain(const CachedCase& source, const std::vector<std::uint8_t>& classes,
                                       const Size& size) {
    std::vector<std::uint8_t> box(source.classes.size());
    std::size_t index = 0;
    for (std::int64_t x = 0; x < source.size[0]; ++x)
        for (std::int64_t y = 0; y < source.size[1]; ++y) {
            const auto row = static_cast<std::size_t>((x * size[1] + y) * size[2]);
            for (std::size_t z = 0; z < static_cast<std::size_t>(source.size[2]); ++z, ++index)
                box[index] = source.brain[index] != 0 ? classes[row + z] : std::uint8_t{0};
        }
    return box;
}

/// One case through a network compiled for its padded size.
Result<ValidationCase> evaluate(const CachedCase& source, const Size& size, Executable& executable, int threads) {
    const StridedView<float> input = executable.input();
    std::vector<std::uint8_t> classes(static_cast<std::size_t>(size[0] * size[1] * size[2]));
    StridedView<float> image{input.data, {4, size[0], size[1], size[2]}, {}};
    std::copy(input.strides.begin() + 1, input.strides.end(), image.strides.begin());
    copy_block(source, {0, 0, 0}, size, image, classes.data());
    MFRES_CHECK(executable.run());
    MFRES_CHECK(executable.labels(0, classes, threads));
    const auto predicted = cut_to_brain(source, classes, size);
    const RegionCounts counts = count_regions(predicted, source.classes, RegionDefinition::brats);
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
        by_size[padded(cache.entries()[i].size, variant.multiple())].push_back(i);

    Validation validation;
    validation.cases.resize(cache.entries().size());
    std::size_t done = 0;
    for (const auto& [size, members] : by_size) {
        MFRES_TRY(const Graph graph, build_network(variant, size));
        MFRES_TRY(const auto executable,
                  backend.compile(graph, weights, {.threads = place.threads, .device = place.device}));
        for (const std::size_t index : members) {
            if (progress && !progress(done, cache.entries().size()))
                return Error{ErrorCode::interrupted, "the validation was stopped on request", {}};
            MFRES_TRY(const auto source, cache.load(index));
            MFRES_TRY(validation.cases[index], evaluate(*source, size, *executable, place.threads));
            ++done;
        }
    }
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
