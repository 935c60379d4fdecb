// A table's statistics for programs (JSON) and for people (Markdown).
#include "core/format.h"
#include "core/try.h"
#include "imaging/labels.h"

#include <mfres/metrics.h>

#include <nlohmann/json.hpp>

#include <algorithm>

namespace mfres {

namespace {

using Json = nlohmann::ordered_json;
using Cells = std::vector<std::string>;

Json value_json(const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
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

Json statistics_json(const Statistics& of) {
    return {{"count", of.count},
            {"mean", value_json(of.mean)},
            {"std", value_json(of.deviation)},
            {"median", value_json(of.median)},
            {"quantile25", value_json(of.lower_quartile)},
            {"quantile75", value_json(of.upper_quartile)}};
}

Json case_json(const CaseMetrics& measured) {
    Json json = {{"case", measured.id}};
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics)
            json[std::string(name(region))][std::string(key(metric))] = value_json(measured[region][metric]);
    return json;
}

std::string definition_sentence(const std::optional<RegionDefinition>& definition) {
    if (!definition)
        return "Regions as the table was made with";
    std::string sentence = text("Regions by definition `", name(*definition), "` (");
    const auto labels = labels_of(LabelScheme::brats);
    for (const TumourRegion region : tumour_regions) {
        const ClassSet classes = region_classes(region, *definition);
        std::string members;
        for (std::size_t c = 0; c < classes.size(); ++c)
            if (classes[c])
                members += text(members.empty() ? "" : ", ", static_cast<int>(labels[c]));
        sentence += text(region == TumourRegion::wt ? "" : ", ", name(region), " = labels ", members);
    }
    return sentence + ")";
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
    if (!value)
        return "";
    std::array<char, 64> buffer{};
    print_classic(buffer.data(), buffer.size(), "%.5f", *value);
    return buffer.data();
}

/// Aligned for reading as plain text, too. The first two columns are words, the others numbers.
std::string markdown_table(const std::vector<Cells>& rows) {
    constexpr std::size_t words = 2;
    std::vector<std::size_t> widths(rows[0].size(), 3);
    for (const Cells& row : rows)
        for (std::size_t c = 0; c < row.size(); ++c)
            widths[c] = std::max(widths[c], row[c].size());
    std::string all;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        for (std::size_t c = 0; c < rows[r].size(); ++c) {
            const std::string space(widths[c] - rows[r][c].size(), ' ');
            all += "| " + (c < words ? rows[r][c] + space : space + rows[r][c]) + ' ';
        }
        all += "|\n";
        if (r == 0) {
            for (std::size_t c = 0; c < widths.size(); ++c)
                all += c < words ? '|' + std::string(widths[c] + 2, '-') : '|' + std::string(widths[c] + 1, '-') + ':';
            all += "|\n";
        }
    }
    return all;
}

} // namespace

std::string to_json(const MetricsTable& table) {
    Json json;
    json["regions"] = table.definition ? Json(name(*table.definition)) : Json(nullptr);
    json["scheme"] = table.scheme ? Json(name(*table.scheme)) : Json(nullptr);
    const MetricsSummary summary = summarise(table);
    json["cases"] = summary.cases;
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics)
            json["summary"][std::string(name(region))][std::string(key(metric))] =
                statistics_json(summary.at(region, metric));
    json["notes"] = table.notes;
    json["per_case"] = Json::array();
    for (const CaseMetrics& measured : table.cases)
        json["per_case"].push_back(case_json(measured));
    json["notice"] = "Research use only: not a medical device.";
    // Labels may hold bytes that are no UTF-8; they are replaced rather than failing the report.
    return json.dump(2, ' ', false, Json::error_handler_t::replace);
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
    std::string all = text(summary.cases, summary.cases == 1 ? " case. " : " cases. ",
                           definition_sentence(table.definition), "; ", scheme_sentence(table.scheme), ".\n\n");
    all += markdown_table(rows);
    for (const std::string& note : table.notes)
        all += "\n" + note + "\n";
    return all;
}

} // namespace mfres
