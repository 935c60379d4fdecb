// SPDX-License-Identifier: MIT
// What each precision costs, and what each absent contrast, for programs (JSON) and for people (Markdown).
#include <mfres/evaluate.h>

#include "core/decimal_text.h"
#include "core/json_value.h"
#include "core/try.h"

#include <algorithm>

namespace mfres {

namespace {

std::string fixed(const std::optional<double>& value) {
    return decimal_text(value, 4, "-");
}

/// The least Dice of a region over all cases.
std::optional<double> least_dice(const MetricsTable& table, TumourRegion region) {
    std::optional<double> least;
    for (const CaseMetrics& measured : table.cases)
        if (const auto value = measured[region][Metric::dice])
            least = least ? std::min(*least, *value) : *value;
    return least;
}

std::string means(const MetricsTable& table) {
    const MetricsSummary summary = summarise(table);
    std::string cells;
    for (const TumourRegion region : tumour_regions)
        cells += text(cells.empty() ? "" : " / ", fixed(summary.at(region, Metric::dice).mean));
    return cells;
}

std::string leasts(const MetricsTable& table) {
    std::string cells;
    for (const TumourRegion region : tumour_regions)
        cells += text(cells.empty() ? "" : " / ", fixed(least_dice(table, region)));
    return cells;
}

} // namespace

std::string to_markdown(const std::vector<PrecisionEvaluation>& evaluations) {
    std::string regions;
    for (const TumourRegion region : tumour_regions)
        regions += text(regions.empty() ? "" : " / ", name(region));
    std::string all = text("Dice of ", regions, ".\n\n",
                           "| precision | mean against the reference | mean against f32 labels | least against f32 "
                           "labels | network, ms per case |\n|---|---|---|---|---:|\n");
    for (const PrecisionEvaluation& of : evaluations)
        all +=
            text("| ", to_string(of.used.precision), " | ", means(of.against_reference), " | ", means(of.against_f32),
                 " | ", leasts(of.against_f32), " | ", static_cast<long long>(of.network_ms + 0.5), " |\n");
    for (const PrecisionEvaluation& of : evaluations)
        if (of.used.precision == Precision::f32)
            for (const std::string& note : of.against_reference.notes)
                all += "\n" + note + "\n";
    return all;
}

std::string to_json(const std::vector<PrecisionEvaluation>& evaluations) {
    OrderedJson all = OrderedJson::array();
    for (const PrecisionEvaluation& of : evaluations)
        all.push_back({{"precision", to_string(of.used.precision)},
                       {"network_ms", of.network_ms},
                       {"against_reference", OrderedJson::parse(to_json(of.against_reference))},
                       {"against_f32", OrderedJson::parse(to_json(of.against_f32))}});
    return all.dump(2);
}

std::string to_markdown(const std::vector<SubsetEvaluation>& evaluations) {
    std::string all =
        "Mean Dice with a part of the contrasts; `change` is that of the whole tumour against all four.\n\n"
        "| contrasts | trained for | WT | TC | ET | change |\n|---|---|---:|---:|---:|---:|\n";
    std::optional<double> with_all;
    for (const SubsetEvaluation& of : evaluations) {
        const MetricsSummary summary = summarise(of.table);
        const auto mean = [&](TumourRegion region) { return summary.at(region, Metric::dice).mean; };
        if (of.contrasts == all_modalities)
            with_all = mean(TumourRegion::wt);
        std::optional<double> change;
        if (with_all && mean(TumourRegion::wt))
            change = *mean(TumourRegion::wt) - *with_all;
        all += text("| ", names(of.contrasts), " | ", of.trained ? "yes" : "no", " | ", fixed(mean(TumourRegion::wt)),
                    " | ", fixed(mean(TumourRegion::tc)), " | ", fixed(mean(TumourRegion::et)), " | ", fixed(change),
                    " |\n");
    }
    if (!evaluations.empty() && !evaluations.front().table.notes.empty())
        all += "\n" + evaluations.front().table.notes.front() + "\n";
    return all;
}

std::string to_json(const std::vector<SubsetEvaluation>& evaluations) {
    OrderedJson all = OrderedJson::array();
    for (const SubsetEvaluation& of : evaluations)
        all.push_back({{"contrasts", names(of.contrasts)},
                       {"trained", of.trained},
                       {"table", OrderedJson::parse(to_json(of.table))}});
    return all.dump(2);
}

} // namespace mfres
