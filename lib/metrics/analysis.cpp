// SPDX-License-Identifier: MIT
#include "metrics/analysis.h"

#include "core/csv.h"
#include "core/decimal_text.h"
#include "core/format.h"
#include "core/json_value.h"
#include "core/random.h"
#include "core/try.h"
#include "metrics/markdown_table.h"
#include "metrics/summary_rows.h"
#include "metrics/surface_distance.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace mfres {

namespace {

constexpr std::array<Metric, 2> judged = {Metric::dice, Metric::hd95};

std::vector<double> column(const MetricsTable& table, TumourRegion region, Metric metric) {
    std::vector<double> values;
    for (const CaseMetrics& measured : table.cases)
        if (const auto& value = measured[region][metric])
            values.push_back(*value);
    return values;
}

double mean_of(std::span<const double> values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::string metric_title(Metric metric) {
    return metric == Metric::hd95 ? "HD95 (mm)" : std::string(name(metric));
}

OrderedJson interval_json(const std::optional<Interval>& interval) {
    return interval ? OrderedJson::array({interval->low, interval->high}) : OrderedJson(nullptr);
}

OrderedJson number_json(const std::optional<double>& value) {
    return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

/// The value with '*' where it is an outlier.
std::string marked(const MetricsTable& table, std::size_t index, TumourRegion region, Metric metric, int decimals,
                   const std::vector<Outlier>& far) {
    const auto& value = table.cases[index][region][metric];
    const bool is_far = std::any_of(far.begin(), far.end(), [&](const Outlier& of) {
        return of.index == index && of.region == region && of.metric == metric;
    });
    return decimal_text(value, decimals, "") + (value && is_far ? "*" : " ");
}

} // namespace

std::optional<Interval> mean_interval(std::span<const double> values) {
    if (values.size() < 2)
        return std::nullopt;
    Random random(values.size());
    std::vector<double> means(bootstrap_resamples);
    for (double& mean : means) {
        double sum = 0.0;
        for (std::size_t n = 0; n < values.size(); ++n)
            sum += values[random.index(values.size())];
        mean = sum / static_cast<double>(values.size());
    }
    return Interval{*quantile(means, 0.025), *quantile(means, 0.975)};
}

std::vector<Outlier> outliers(const MetricsTable& table) {
    constexpr std::int64_t fewest = 5;
    constexpr double reach = 1.5;
    const MetricsSummary summary = summarise(table);
    std::vector<Outlier> found;
    for (std::size_t index = 0; index < table.cases.size(); ++index)
        for (const Metric metric : judged)
            for (const TumourRegion region : tumour_regions) {
                const Statistics& of = summary.at(region, metric);
                const auto& value = table.cases[index][region][metric];
                if (!value || of.count < fewest)
                    continue;
                const double distance = reach * (*of.upper_quartile - *of.lower_quartile);
                const bool high_is_bad = metric == Metric::hd95;
                const double limit = high_is_bad ? *of.upper_quartile + distance : *of.lower_quartile - distance;
                if (high_is_bad ? *value > limit : *value < limit)
                    found.push_back({index, region, metric, *value, limit});
            }
    return found;
}

std::optional<double> mean_dice(const CaseMetrics& measured) {
    std::vector<double> values;
    for (const TumourRegion region : tumour_regions)
        if (const auto& value = measured[region][Metric::dice])
            values.push_back(*value);
    return values.empty() ? std::nullopt : std::optional(mean_of(values));
}

std::vector<std::size_t> by_dice(const MetricsTable& table) {
    std::vector<std::size_t> order(table.cases.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    constexpr double above_all = 2.0;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return mean_dice(table.cases[a]).value_or(above_all) < mean_dice(table.cases[b]).value_or(above_all);
    });
    return order;
}

std::string cases_markdown(const MetricsTable& table, std::size_t most) {
    if (most == 0 || table.cases.empty())
        return {};
    const std::vector<Outlier> far = outliers(table);
    std::vector<std::vector<std::string>> rows = {{"case"}};
    for (const Metric metric : judged)
        for (const TumourRegion region : tumour_regions)
            rows[0].push_back(text(metric == Metric::hd95 ? "HD95 " : "Dice ", name(region), " "));
    const std::vector<std::size_t> order = by_dice(table);
    const std::size_t shown = std::min(most, order.size());
    for (std::size_t n = 0; n < shown; ++n) {
        auto& row = rows.emplace_back(1, table.cases[order[n]].id);
        for (const Metric metric : judged)
            for (const TumourRegion region : tumour_regions)
                row.push_back(marked(table, order[n], region, metric, metric == Metric::hd95 ? 2 : 4, far));
    }
    std::string head = shown < order.size()
                           ? text("The ", shown, " of ", order.size(), " cases with the lowest mean Dice")
                           : std::string("Cases, the lowest mean Dice first");
    if (!far.empty())
        head += "; * beyond the quartiles by more than 1.5 times their distance";
    return text("\n", head, ":\n\n", markdown_table(rows, 1));
}

std::string intervals_sentence(const MetricsTable& table) {
    std::string words;
    for (const Metric metric : judged)
        for (const TumourRegion region : tumour_regions) {
            const int decimals = metric == Metric::hd95 ? 2 : 4;
            if (const auto interval = mean_interval(column(table, region, metric)))
                words +=
                    text(words.empty() ? "" : ", ", metric == Metric::hd95 ? "HD95 " : "Dice ", name(region), " ",
                         decimal_text(interval->low, decimals, ""), " to ", decimal_text(interval->high, decimals, ""));
        }
    return words.empty() ? words : text("\n95 % bootstrap intervals of the means: ", words, ".\n");
}

std::string cases_csv(const MetricsTable& table) {
    const std::string csv = to_csv(table);
    // One line for the head and each case, but for line breaks inside of quoted labels.
    std::size_t lines = table.cases.size() + 1;
    bool quoted = false;
    std::size_t end = 0;
    for (; end < csv.size() && lines > 0; ++end) {
        quoted = csv[end] == '"' ? !quoted : quoted;
        lines -= csv[end] == '\n' && !quoted ? 1U : 0U;
    }
    return csv.substr(0, end);
}

std::string summary_csv(const MetricsTable& table) {
    MetricsTable rows;
    for (CaseMetrics& row : summary_rows(summarise(table)))
        rows.cases.push_back(std::move(row));
    CaseMetrics low;
    CaseMetrics high;
    low.id = "CI95low";
    high.id = "CI95high";
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics)
            if (const auto interval = mean_interval(column(table, region, metric))) {
                low[region][metric] = interval->low;
                high[region][metric] = interval->high;
            }
    rows.cases.push_back(std::move(low));
    rows.cases.push_back(std::move(high));
    return cases_csv(rows);
}

std::string to_json_with_analysis(const MetricsTable& table) {
    OrderedJson json = OrderedJson::parse(to_json(table));
    OrderedJson intervals;
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics)
            intervals[std::string(name(region))][std::string(name(metric))] =
                interval_json(mean_interval(column(table, region, metric)));
    json["confidence_95"] = std::move(intervals);
    json["outliers"] = OrderedJson::array();
    for (const Outlier& of : outliers(table))
        json["outliers"].push_back({{"case", table.cases[of.index].id},
                                    {"region", name(of.region)},
                                    {"metric", name(of.metric)},
                                    {"value", of.value},
                                    {"limit", of.limit}});
    return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace);
}

// Two tables ---------------------------------------------------------------------------------------------------------

namespace {

PairedDifference paired(const std::vector<std::pair<double, double>>& values) {
    PairedDifference result;
    result.count = static_cast<std::int64_t>(values.size());
    if (values.empty())
        return result;
    std::vector<double> first;
    std::vector<double> second;
    std::vector<double> differences;
    for (const auto& [a, b] : values) {
        first.push_back(a);
        second.push_back(b);
        differences.push_back(b - a);
        ++(b > a ? result.higher : b < a ? result.lower : result.equal);
    }
    result.first_mean = mean_of(first);
    result.second_mean = mean_of(second);
    result.mean = mean_of(differences);
    result.interval = mean_interval(differences);
    return result;
}

/// A note on the cases of one table that the other does not have; empty without any.
std::string only_in(const MetricsTable& table, const MetricsTable& other, const std::string& name) {
    std::size_t count = 0;
    std::string first;
    for (const CaseMetrics& measured : table.cases)
        if (std::none_of(other.cases.begin(), other.cases.end(),
                         [&](const CaseMetrics& of) { return of.id == measured.id; })) {
            first = count == 0 ? measured.id : first;
            ++count;
        }
    if (count == 0)
        return {};
    return text(count, count == 1 ? " case is" : " cases are", " in ", name, " only (", first,
                count > 1 ? ", ...)" : ")");
}

} // namespace

Result<TableComparison> compare_tables(const MetricsTable& first, const std::string& first_name,
                                       const MetricsTable& second, const std::string& second_name) {
    std::map<std::string, const CaseMetrics*> known;
    for (const CaseMetrics& measured : second.cases)
        known[measured.id] = &measured;
    TableComparison comparison{first_name, second_name, 0, {}, {}};
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics) {
            std::vector<std::pair<double, double>> values;
            for (const CaseMetrics& measured : first.cases) {
                const auto other = known.find(measured.id);
                if (other == known.end())
                    continue;
                const auto& a = measured[region][metric];
                const auto& b = (*other->second)[region][metric];
                if (a && b)
                    values.emplace_back(*a, *b);
            }
            comparison.columns[static_cast<std::size_t>(region)][static_cast<std::size_t>(metric)] = paired(values);
        }
    comparison.cases = std::count_if(first.cases.begin(), first.cases.end(),
                                     [&](const CaseMetrics& measured) { return known.count(measured.id) > 0; });
    if (comparison.cases == 0)
        return Error{ErrorCode::dataset_empty,
                     text("no case of ", first_name, " is in ", second_name, ", so that there is nothing to compare"),
                     second_name};
    for (const std::string& note : {only_in(first, second, first_name), only_in(second, first, second_name)})
        if (!note.empty())
            comparison.notes.push_back(note);
    return comparison;
}

std::string to_json(const TableComparison& comparison) {
    OrderedJson json = {{"first", comparison.first}, {"second", comparison.second}, {"cases", comparison.cases}};
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics) {
            const PairedDifference& of =
                comparison.columns[static_cast<std::size_t>(region)][static_cast<std::size_t>(metric)];
            json["differences"][std::string(name(region))][std::string(name(metric))] = {
                {"count", of.count},
                {"first_mean", number_json(of.first_mean)},
                {"second_mean", number_json(of.second_mean)},
                {"mean_difference", number_json(of.mean)},
                {"confidence_95", interval_json(of.interval)},
                {"second_higher", of.higher},
                {"equal", of.equal},
                {"second_lower", of.lower}};
        }
    json["notes"] = comparison.notes;
    json["notice"] = "Research use only: not a medical device.";
    return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace);
}

std::string to_markdown(const TableComparison& comparison) {
    std::vector<std::vector<std::string>> rows = {
        {"metric", "region", "cases", "first", "second", "difference", "95 % interval", "higher", "equal", "lower"}};
    for (const Metric metric : all_metrics)
        for (const TumourRegion region : tumour_regions) {
            const PairedDifference& of =
                comparison.columns[static_cast<std::size_t>(region)][static_cast<std::size_t>(metric)];
            const bool clear = of.interval && (of.interval->low > 0.0 || of.interval->high < 0.0);
            rows.push_back({metric_title(metric), std::string(name(region)), std::to_string(of.count),
                            decimal_text(of.first_mean, 5, ""), decimal_text(of.second_mean, 5, ""),
                            decimal_text(of.mean, 5, "") + (clear ? "*" : " "),
                            of.interval ? text(decimal_text(of.interval->low, 5, ""), " to ",
                                               decimal_text(of.interval->high, 5, ""))
                                        : "",
                            std::to_string(of.higher), std::to_string(of.equal), std::to_string(of.lower)});
        }
    std::string all =
        text(counted(comparison.cases, "case"), " of ", comparison.first, " (first) and ", comparison.second,
             " (second), paired. Differences are second - first, with the 95 % bootstrap interval of their "
             "mean (* without 0) and the number of cases in which the second is higher, equal or lower.\n\n",
             markdown_table(rows, 2));
    for (const std::string& note : comparison.notes)
        all += "\n" + note + "\n";
    return all;
}

} // namespace mfres
