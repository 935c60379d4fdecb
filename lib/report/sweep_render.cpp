// SPDX-License-Identifier: MIT
// Comparisons and sweeps as tables, CSV, JSON and a plot.
#include "core/csv.h"
#include "core/format.h"
#include "core/json_value.h"
#include "core/try.h"
#include "report/complexity_parts.h"
#include "report/log_plot.h"

#include <mfres/sweep.h>

#include <algorithm>
#include <tuple>

namespace mfres {

using namespace complexity_parts;

namespace {

// --- comparison -------------------------------------------------------------------------------------------------

constexpr const char* comparison_note =
    "Differences are b - a. Parts are matched by their names; equal ones are left out of the table.";

std::string name_of(const ComplexityReport& report) {
    return report.onnx ? report.onnx->file : report.network.name;
}

std::string signed_count(std::int64_t value) {
    return (value > 0 ? "+" : "") + grouped(value);
}

ComplexityCounts or_zeros(const std::optional<ComplexityCounts>& counts) {
    return counts.value_or(ComplexityCounts{});
}

std::vector<std::string> difference_cells(const std::string& name, const std::string& where, const ComplexityCounts& a,
                                          const ComplexityCounts& b) {
    const auto millions = [](std::int64_t value) { return with_sign(static_cast<double>(value) / 1e6, 3); };
    const auto traffic = [](const ComplexityCounts& counts) { return counts.bytes_read + counts.bytes_written; };
    return {name,
            where,
            grouped(a.learnables),
            grouped(b.learnables),
            signed_count(b.learnables - a.learnables),
            millions(b.macs - a.macs),
            millions(b.table2_flops - a.table2_flops),
            with_sign(static_cast<double>(traffic(b) - traffic(a)) / (1 << 20), 2)};
}

std::string where_of(const ComparedPart& part) {
    return !part.a ? "only b" : !part.b ? "only a" : part.equal ? "equal" : "both";
}

TextTable comparison_table(const ComplexityComparison& comparison, bool per_layer, bool short_names) {
    TextTable table({{"", per_layer ? "layer" : "stage", false},
                     {"", "in", false},
                     {"learnables", "a", true},
                     {"learnables", "b", true},
                     {"learnables", "difference", true},
                     {"difference", "10^6 MACs", true},
                     {"difference", "10^6 Table 2", true},
                     {"difference", "MiB moved", true}});
    for (const ComparedPart& part : per_layer ? comparison.layers : comparison.stages)
        if (!part.equal)
            table.row(difference_cells(short_names ? shortened(part.name, 30) : part.name, where_of(part),
                                       or_zeros(part.a), or_zeros(part.b)));
    table.rule();
    table.row(difference_cells("total", "both", comparison.a.total, comparison.b.total));
    return table;
}

std::string comparison_page(const ComplexityComparison& comparison, ReportFormat format, bool per_layer) {
    Page page(page_style(format));
    page.heading("a: " + name_of(comparison.a) + ", b: " + name_of(comparison.b));
    Facts facts{{"input", times(comparison.a.input) + " and " + times(comparison.b.input)},
                {"MACs", grouped(comparison.a.total.macs) + " and " + grouped(comparison.b.total.macs)},
                {"Table 2", grouped(comparison.a.total.table2_flops) + " and " +
                                grouped(comparison.b.total.table2_flops) + " operations"},
                {"memory plan", mebibytes(comparison.a.memory.planned) + " and " +
                                    mebibytes(comparison.b.memory.planned) + " MiB peak of activations"}};
    for (const ComparedTime& time : comparison.predicted)
        facts.emplace_back("predicted",
                           text(grouped(time.a_ms, 3), " and ", grouped(time.b_ms, 3), " ms (", time.machine, ", ",
                                to_string(time.precision), ", ", counted(time.threads, "thread"), ")"));
    page.facts(facts);
    page.table(comparison_table(comparison, per_layer, page_style(format) == PageStyle::text));
    page.paragraph(comparison_note);
    return page.finish();
}

std::string comparison_csv(const ComplexityComparison& comparison, bool per_layer) {
    std::vector<std::string> head{per_layer ? "layer" : "stage", "in", "operation_a", "operation_b"};
    for (const char* side : {"a_", "b_"})
        for (const std::string& count : count_names())
            head.push_back(side + count);
    std::string all = csv_line(head);
    for (const ComparedPart& part : per_layer ? comparison.layers : comparison.stages) {
        std::vector<std::string> fields{part.name, where_of(part), part.operation_a.value_or(""),
                                        part.operation_b.value_or("")};
        append(fields, count_fields(or_zeros(part.a)));
        append(fields, count_fields(or_zeros(part.b)));
        all += csv_line(fields);
    }
    return all;
}

OrderedJson parts_json(const std::vector<ComparedPart>& parts) {
    OrderedJson all = OrderedJson::array();
    for (const ComparedPart& part : parts) {
        OrderedJson entry{{"name", part.name}, {"in", where_of(part)}};
        for (const auto& [key, counts, operation] :
             {std::tuple{"a", &part.a, &part.operation_a}, {"b", &part.b, &part.operation_b}}) {
            if (!*counts)
                continue;
            OrderedJson side;
            if (*operation && !(**operation).empty())
                side["operation"] = **operation;
            put_counts(side, **counts);
            entry[key] = std::move(side);
        }
        all.push_back(std::move(entry));
    }
    return all;
}

std::string comparison_json(const ComplexityComparison& comparison, bool per_layer) {
    OrderedJson json{{"a", as_json(comparison.a, false)}, {"b", as_json(comparison.b, false)}};
    for (const ComparedTime& time : comparison.predicted)
        json["predicted"].push_back({{"machine", time.machine},
                                     {"precision", to_string(time.precision)},
                                     {"threads", time.threads},
                                     {"a_ms", time.a_ms},
                                     {"b_ms", time.b_ms}});
    json["stages"] = parts_json(comparison.stages);
    if (per_layer)
        json["layers"] = parts_json(comparison.layers);
    return dumped(json);
}

// --- sweep ------------------------------------------------------------------------------------------------------

constexpr const char* sweep_note =
    "MiB: weights and peak memory of activations, f32. Front: no other variant within the budgets has as many learnables "
    "or more for less time, or for fewer multiply-adds where no machine is given.";

std::string size_words(const std::array<std::int64_t, 3>& size) {
    return text(size[0], 'x', size[1], 'x', size[2]);
}

/// Within the budgets, the front first, each in the order of their cost.
std::vector<const SweepVariant*> listed(const SweepReport& report) {
    std::vector<const SweepVariant*> variants;
    for (const SweepVariant& variant : report.variants)
        if (variant.within)
            variants.push_back(&variant);
    std::stable_sort(variants.begin(), variants.end(), [](const SweepVariant* a, const SweepVariant* b) {
        if (a->pareto != b->pareto)
            return a->pareto;
        return a->ms && b->ms ? *a->ms < *b->ms : a->macs < b->macs;
    });
    return variants;
}

Facts sweep_facts(const SweepReport& report, std::size_t within) {
    std::string budgets;
    const auto add = [&](const std::string& words) { budgets += (budgets.empty() ? "" : ", ") + words; };
    if (report.budget.parameters)
        add("parameters " + grouped(*report.budget.parameters));
    if (report.budget.macs)
        add("multiply-adds " + grouped(*report.budget.macs));
    if (report.budget.bytes)
        add("memory " + mebibytes(*report.budget.bytes) + " MiB");
    if (report.budget.ms)
        add("time " + grouped(*report.budget.ms, 2) + " ms");
    return {
        {"variants", text(grouped(static_cast<std::int64_t>(report.variants.size())), ", of which ",
                          grouped(static_cast<std::int64_t>(within)), " within the budgets")},
        {"rejected", grouped(static_cast<std::int64_t>(report.rejected.size())) + " combinations that are no variants"},
        {"budgets", budgets.empty() ? "none" : budgets}};
}

TextTable sweep_table(const SweepReport& report, const std::vector<const SweepVariant*>& variants) {
    std::vector<TableColumn> columns{{"", "front", false}};
    for (const std::string& key : report.keys)
        columns.push_back({"", key, false});
    columns.insert(columns.end(), {{"", "learnables", true}, {"", "10^6 MACs", true}, {"", "MiB", true}});
    if (report.predicted)
        columns.push_back({"predicted", "ms", true});
    TextTable table(columns);
    for (const SweepVariant* variant : variants) {
        std::vector<std::string> cells{variant->pareto ? "*" : ""};
        append(cells, variant->values);
        append(cells, {grouped(variant->parameters), grouped(static_cast<double>(variant->macs) / 1e6, 1),
                       mebibytes(variant->bytes)});
        if (report.predicted)
            cells.push_back(variant->ms ? grouped(*variant->ms, 2) : "-");
        table.row(std::move(cells));
    }
    return table;
}

std::string sweep_page(const SweepReport& report, ReportFormat format, std::size_t rows) {
    auto variants = listed(report);
    Page page(page_style(format));
    page.heading("sweep of " + report.network);
    page.facts(sweep_facts(report, variants.size()));
    variants.resize(std::min(variants.size(), rows));
    page.table(sweep_table(report, variants));
    page.svg(pareto_svg(report));
    page.paragraph(sweep_note);
    return page.finish();
}

std::string sweep_csv(const SweepReport& report) {
    std::vector<std::string> head = report.keys;
    append(head,
           {"input", "parameters", "macs", "table2_flops", "bytes", "predicted_ms", "within", "pareto", "variant"});
    std::string all = csv_line(head);
    for (const SweepVariant& variant : report.variants) {
        std::vector<std::string> fields = variant.values;
        append(fields, {size_words(variant.size), std::to_string(variant.parameters), std::to_string(variant.macs),
                        std::to_string(variant.table2_flops), std::to_string(variant.bytes),
                        variant.ms ? text(*variant.ms) : "", variant.within ? "true" : "false",
                        variant.pareto ? "true" : "false", variant.json});
        all += csv_line(fields);
    }
    return all;
}

std::string sweep_json(const SweepReport& report) {
    OrderedJson json{{"network", report.network}, {"keys", report.keys}};
    OrderedJson& budgets = json["budgets"] = OrderedJson::object();
    if (report.budget.parameters)
        budgets["parameters"] = *report.budget.parameters;
    if (report.budget.macs)
        budgets["macs"] = *report.budget.macs;
    if (report.budget.bytes)
        budgets["bytes"] = *report.budget.bytes;
    if (report.budget.ms)
        budgets["ms"] = *report.budget.ms;
    json["within"] = listed(report).size();
    json["variants"] = OrderedJson::array();
    for (const SweepVariant& variant : report.variants) {
        OrderedJson entry{{"values", OrderedJson::object()},
                          {"variant", OrderedJson::parse(variant.json, nullptr, false)},
                          {"size", variant.size},
                          {"parameters", variant.parameters},
                          {"macs", variant.macs},
                          {"table2_flops", variant.table2_flops},
                          {"bytes", variant.bytes},
                          {"within", variant.within},
                          {"pareto", variant.pareto}};
        for (std::size_t i = 0; i < report.keys.size(); ++i)
            entry["values"][report.keys[i]] = OrderedJson::parse(variant.values[i], nullptr, false);
        if (variant.ms)
            entry["predicted_ms"] = *variant.ms;
        json["variants"].push_back(std::move(entry));
    }
    json["rejected"] = OrderedJson::array();
    for (const SweepRejection& rejection : report.rejected)
        json["rejected"].push_back({{"values", rejection.values}, {"reason", rejection.reason}});
    return dumped(json);
}

} // namespace

std::string render(const ComplexityComparison& comparison, ReportFormat format, bool per_layer) {
    switch (format) {
    case ReportFormat::text:
    case ReportFormat::markdown:
    case ReportFormat::html: return comparison_page(comparison, format, per_layer);
    case ReportFormat::csv: return comparison_csv(comparison, per_layer);
    case ReportFormat::json: return comparison_json(comparison, per_layer);
    }
    return {};
}

std::string render(const SweepReport& report, ReportFormat format, std::size_t rows) {
    switch (format) {
    case ReportFormat::text:
    case ReportFormat::markdown:
    case ReportFormat::html: return sweep_page(report, format, rows);
    case ReportFormat::csv: return sweep_csv(report);
    case ReportFormat::json: return sweep_json(report);
    }
    return {};
}

std::string pareto_svg(const SweepReport& report) {
    constexpr Colour within{0x00, 0x72, 0xB2};
    constexpr Colour beyond{0xBB, 0xBB, 0xBB};
    constexpr Colour front{0xD5, 0x5E, 0x00};
    const auto cost = [&](const SweepVariant& variant) {
        return report.predicted ? variant.ms.value_or(0.0) : static_cast<double>(variant.macs) / 1e9;
    };
    const auto learnables = [](const SweepVariant& variant) { return static_cast<double>(variant.parameters) / 1e6; };
    LogRange x, y;
    if (!report.variants.empty()) {
        x.least = x.most = std::max(cost(report.variants.front()), 1e-6);
        y.least = y.most = std::max(learnables(report.variants.front()), 1e-6);
    }
    for (const SweepVariant& variant : report.variants) {
        x.include(cost(variant));
        y.include(learnables(variant));
    }
    LogPlot plot("Variants of " + report.network, report.predicted ? "predicted ms" : "10^9 multiply-adds",
                 "10^6 learnables", x, y);
    std::vector<std::pair<double, double>> corner;
    for (const bool inside : {false, true})
        for (const SweepVariant& variant : report.variants)
            if (variant.within == inside && !variant.pareto)
                plot.point(cost(variant), learnables(variant), Marker::circle, 2.5, inside ? within : beyond);
    for (const SweepVariant& variant : report.variants)
        if (variant.pareto)
            corner.emplace_back(cost(variant), learnables(variant));
    std::sort(corner.begin(), corner.end());
    plot.line(corner, front, 1.5);
    for (const auto& [at, value] : corner)
        plot.point(at, value, Marker::square, 4, front);
    plot.key("Pareto front", Marker::square, front);
    plot.key("within the budgets", Marker::circle, within);
    plot.key("beyond a budget", Marker::circle, beyond);
    return plot.drawing().svg();
}

} // namespace mfres
