// SPDX-License-Identifier: MIT
// Statistics of a table as JSON and as Markdown.
#include "core/decimal_text.h"
#include "core/json_value.h"
#include "core/try.h"
#include "imaging/labels.h"
#include "metrics/markdown_table.h"

#include <mfres/metrics.h>

#include <algorithm>

namespace mfres {

namespace {

using Cells = std::vector<std::string>;

OrderedJson value_json(const std::optional<double>& value) {
    return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

std::string_view key(Metric metric) {
    switch (metric) {
    case Metric::dice: return "dice";
    case Metric::sensitivity: return "sensitivity";
    case Metric::specificity: return "specificity";
    case Metric::hd95: return "hd95_mm";
    }
    return "unknown";
}

OrderedJson statistics_json(const Statistics& of) {
    return {{"count", of.count},
            {"mean", value_json(of.mean)},
            {"std", value_json(of.deviation)},
            {"median", value_json(of.median)},
            {"quantile25", value_json(of.lower_quartile)},
            {"quantile75", value_json(of.upper_quartile)}};
}

OrderedJson case_json(const CaseMetrics& measured) {
    OrderedJson json = {{"case", measured.id}, {"site", measured.site.empty() ? site_of(measured.id) : measured.site}};
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics)
            json[std::string(name(region))][std::string(key(metric))] = value_json(measured[region][metric]);
    return json;
}

OrderedJson summary_json(const MetricsSummary& summary) {
    OrderedJson json;
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics)
            json[std::string(name(region))][std::string(key(metric))] = statistics_json(summary.at(region, metric));
    return json;
}

/// The labels that belong to classes, or the classes by name where labels are unknown.
std::string members(const ClassSet& classes, const std::optional<LabelCoding>& coding) {
    std::vector<std::string> all;
    for (int c = 0; c < tumour_classes; ++c) {
        if (!classes[static_cast<std::size_t>(c)])
            continue;
        if (!coding)
            all.emplace_back(appearance(c).name);
        else
            for (const std::uint8_t label : coding->labels_of(c))
                all.push_back(std::to_string(label));
    }
    std::string list = coding ? "labels " : "";
    for (std::size_t i = 0; i < all.size(); ++i)
        list += (i == 0 ? "" : coding ? ", " : " + ") + all[i];
    return list;
}

std::string definition_sentence(const MetricsTable& table) {
    if (!table.definition)
        return "Regions as the table was made with";
    std::optional<LabelCoding> coding;
    if (!table.labels.empty())
        if (auto parsed = LabelCoding::parse(table.labels))
            coding = std::move(parsed).value();
    std::string sentence = text("Regions by definition `", to_string(*table.definition), "` (");
    for (const TumourRegion region : tumour_regions)
        sentence += text(region == TumourRegion::wt ? "" : ", ", name(region), " = ",
                         members(region_classes(region, *table.definition), coding));
    return sentence + (coding ? text(" of the scheme `", coding->name(), "`)") : ")");
}

std::string scheme_sentence(const std::optional<EmptyScheme>& scheme) {
    if (!scheme)
        return "empty regions as the table was made with, blanks skipped";
    switch (*scheme) {
    case EmptyScheme::server2019:
        return "empty regions by scheme `server2019` (both empty: Dice 1; one empty: Dice 0; HD95 then blank, and "
               "skipped)";
    case EmptyScheme::brats2020:
        return text("empty regions by scheme `brats2020` (both empty: Dice 1, HD95 0; one empty: Dice 0, HD95 ",
                    worst_hd95_mm, " mm)");
    }
    return "unknown";
}

std::string fixed(const std::optional<double>& value) {
    return decimal_text(value, 5, "");
}

/// The mean Dice of each site; nothing where no case tells its site.
std::string sites_markdown(const MetricsTable& table) {
    const auto sites = summarise_by_site(table);
    if (sites.empty() || (sites.size() == 1 && sites[0].site == unknown_site))
        return {};
    std::vector<Cells> rows = {{"site", "cases"}};
    for (const TumourRegion region : tumour_regions)
        rows[0].push_back(text("Dice ", name(region)));
    for (const SiteSummary& of : sites) {
        Cells& row = rows.emplace_back(Cells{of.site, std::to_string(of.summary.cases)});
        for (const TumourRegion region : tumour_regions)
            row.push_back(fixed(of.summary.at(region, Metric::dice).mean));
    }
    return "\nMean Dice by site:\n\n" + markdown_table(rows, 1);
}

} // namespace

std::string to_json(const MetricsTable& table) {
    OrderedJson json;
    json["regions"] = table.definition ? OrderedJson(to_string(*table.definition)) : OrderedJson(nullptr);
    json["labels"] = table.labels.empty() ? OrderedJson(nullptr) : OrderedJson(table.labels);
    json["scheme"] = table.scheme ? OrderedJson(to_string(*table.scheme)) : OrderedJson(nullptr);
    const MetricsSummary summary = summarise(table);
    json["cases"] = summary.cases;
    json["summary"] = summary_json(summary);
    json["sites"] = OrderedJson::array();
    for (const SiteSummary& of : summarise_by_site(table))
        json["sites"].push_back(
            {{"site", of.site}, {"cases", of.summary.cases}, {"summary", summary_json(of.summary)}});
    json["notes"] = table.notes;
    json["per_case"] = OrderedJson::array();
    for (const CaseMetrics& measured : table.cases)
        json["per_case"].push_back(case_json(measured));
    json["notice"] = "Research use only: not a medical device.";
    // Labels may contain bytes that are not UTF-8; these are replaced.
    return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace);
}

std::string to_markdown(const MetricsTable& table) {
    const MetricsSummary summary = summarise(table);
    std::vector<Cells> rows = {{"metric", "region", "cases", "mean", "std", "median", "25 %", "75 %"}};
    for (const Metric metric : all_metrics)
        for (const TumourRegion region : tumour_regions) {
            const Statistics& of = summary.at(region, metric);
            rows.push_back({metric == Metric::hd95 ? "HD95 (mm)" : std::string(name(metric)), std::string(name(region)),
                            std::to_string(of.count), fixed(of.mean), fixed(of.deviation), fixed(of.median),
                            fixed(of.lower_quartile), fixed(of.upper_quartile)});
        }
    std::string all = text(summary.cases, summary.cases == 1 ? " case. " : " cases. ", definition_sentence(table), "; ",
                           scheme_sentence(table.scheme), ".\n\n");
    all += markdown_table(rows, 2) + sites_markdown(table);
    for (const std::string& note : table.notes)
        all += "\n" + note + "\n";
    return all;
}

} // namespace mfres
