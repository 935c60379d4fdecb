// SPDX-License-Identifier: MIT
#include <mfres/metrics.h>

#include "metrics/summary_rows.h"
#include "metrics/surface_distance.h"

#include <cmath>

namespace mfres {

namespace {

double mean_of(const std::vector<double>& values) {
    double sum = 0.0;
    for (const double value : values)
        sum += value;
    return sum / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values, double mean) {
    double squares = 0.0;
    for (const double value : values)
        squares += (value - mean) * (value - mean);
    return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

std::vector<double> column(const MetricsTable& table, TumourRegion region, Metric metric) {
    std::vector<double> values;
    for (const CaseMetrics& measured : table.cases)
        if (const auto& value = measured[region][metric])
            values.push_back(*value);
    return values;
}

} // namespace

Statistics statistics(std::vector<double> values) {
    Statistics result;
    result.count = static_cast<std::int64_t>(values.size());
    if (values.empty())
        return result;
    result.mean = mean_of(values);
    if (values.size() > 1)
        result.deviation = deviation_of(values, *result.mean);
    result.median = quantile(values, 0.5);
    result.lower_quartile = quantile(values, 0.25);
    result.upper_quartile = quantile(std::move(values), 0.75);
    return result;
}

MetricsSummary summarise(const MetricsTable& table) {
    MetricsSummary summary;
    summary.cases = static_cast<std::int64_t>(table.cases.size());
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics)
            summary.columns[static_cast<std::size_t>(region)][static_cast<std::size_t>(metric)] =
                statistics(column(table, region, metric));
    return summary;
}

std::array<CaseMetrics, 5> summary_rows(const MetricsSummary& summary) {
    std::array<CaseMetrics, 5> rows;
    for (std::size_t row = 0; row < rows.size(); ++row)
        rows[row].id = summary_labels[row];
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics) {
            const Statistics& of = summary.at(region, metric);
            const std::array<std::optional<double>, 5> values = {of.mean, of.deviation, of.median, of.lower_quartile,
                                                                 of.upper_quartile};
            for (std::size_t row = 0; row < rows.size(); ++row)
                rows[row][region][metric] = values[row];
        }
    return rows;
}

MetricsTable with_scheme(MetricsTable table, EmptyScheme scheme) {
    table.scheme = scheme;
    if (scheme == EmptyScheme::server2019)
        return table;
    for (CaseMetrics& measured : table.cases)
        for (RegionMetrics& scores : measured.regions) {
            if (scores[Metric::hd95])
                continue;
            if (scores[Metric::dice] == 1.0)
                scores[Metric::hd95] = 0.0;
            else if (scores[Metric::dice] == 0.0)
                scores[Metric::hd95] = worst_hd95_mm;
        }
    return table;
}

} // namespace mfres
