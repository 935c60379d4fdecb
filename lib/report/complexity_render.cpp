// SPDX-License-Identifier: MIT
// Complexity reports as text, Markdown, CSV and JSON. Every format states the convention of each number, the input size
// and the batch size.
#include "core/csv.h"
#include "core/json_value.h"
#include "core/names.h"
#include "core/try.h"
#include "report/text_table.h"

#include <mfres/complexity.h>

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

constexpr auto report_format_names = enum_names<ReportFormat>({{ReportFormat::text, "text"},
                                                               {ReportFormat::markdown, "markdown"},
                                                               {ReportFormat::csv, "csv"},
                                                               {ReportFormat::json, "json"}});

// --- common -----------------------------------------------------------------------------------------------------

constexpr const char* by_macs = "learned scalars and MACs";
constexpr const char* by_table2 = "Table 2";
constexpr const char* by_formulas = "paper formulas";

// clang-format off
constexpr const char* conventions =
    "Conventions. Learnables: every learned scalar. MACs: multiply-accumulates of convolutions. Table 2: MACs + biases "
    "+ 1 per element of normalisation, (leaky) ReLU, max-pooling input and upsampling output, as the counter behind "
    "the paper's Table 2 counts. Eq. 11: a bias per output channel always, no normalisation. Eq. 13: 2 x MACs.";
// clang-format on

std::string times(const std::array<std::int64_t, 5>& extents, std::size_t from = 0) {
    std::string all;
    for (std::size_t i = from; i < extents.size(); ++i)
        all += (i == from ? "" : "x") + std::to_string(extents[i]);
    return all;
}

std::string mebibytes(std::int64_t bytes) {
    return grouped(static_cast<double>(bytes) / (1 << 20), 1);
}

std::string millions(std::int64_t value) {
    return grouped(static_cast<double>(value) / 1e6, 3);
}

/// Shortens long names in the middle.
std::string shortened(const std::string& name, std::size_t width) {
    if (name.size() <= width)
        return name;
    const std::size_t tail = width / 2;
    return name.substr(0, width - tail - 1) + "~" + name.substr(name.size() - tail);
}

std::string published_words(const PublishedFigures& published) {
    std::string words;
    const auto append = [&](const std::string& more) { words += (words.empty() ? "" : ", ") + more; };
    if (published.parameters_m)
        append(grouped(*published.parameters_m, 2) + " M parameters");
    if (published.flops_g)
        append(grouped(*published.flops_g, published.parameters_m ? 2 : 3) + " G operations");
    if (published.dice)
        append("Dice WT/TC/ET " + grouped(published.dice->whole_tumour, 2) + " / " +
               grouped(published.dice->tumour_core, 2) + " / " + grouped(published.dice->enhancing, 2) +
               " (not re-measured)");
    return words + "; " + published.source;
}

// --- one report as text and Markdown ----------------------------------------------------------------------------

using Facts = std::vector<std::pair<std::string, std::string>>;

Facts facts(const ComplexityReport& report) {
    const NetworkDescription& network = report.network;
    std::string changes = network.standard ? ", as registered" : " with";
    for (const std::string& change : network.changes)
        changes += (&change == &network.changes.front() ? " " : "; ") + change;
    Facts all{{"network", network.network + changes},
              {"input", text(times(report.input), " [batch, channels, x, y, z], ", network.classes, " classes")}};
    if (!report.status.empty())
        all.emplace_back("status", report.status);
    if (report.published)
        all.emplace_back("published", published_words(*report.published));
    all.emplace_back("convolutions", grouped(report.convolutions));
    all.emplace_back("weights", mebibytes(report.weight_bytes) + " MiB (f32, with running statistics)");
    all.emplace_back("activations", mebibytes(report.total.activation_bytes) + " MiB if every output were kept (f32)");
    all.emplace_back(
        "memory plan",
        mebibytes(report.memory.planned) +
            " MiB peak of activations; no placement for this order of ops needs less than " +
            mebibytes(report.memory.lower_bound) +
            " MiB (rewritten for inference, sums and activations in place; without weights and workspace)");
    return all;
}

std::vector<std::string> count_cells(const std::string& name, const ComplexityCounts& counts) {
    return {name,
            grouped(counts.learnables),
            grouped(counts.macs),
            grouped(counts.table2_flops),
            grouped(counts.eq11_parameters),
            grouped(counts.eq13_flops),
            mebibytes(counts.activation_bytes)};
}

std::vector<TableColumn> count_columns(const std::string& first) {
    return {{"", first, false},
            {by_macs, "learnables", true},
            {by_macs, "MACs", true},
            {by_table2, "operations", true},
            {by_formulas, "eq. 11 params", true},
            {by_formulas, "eq. 13 ops", true},
            {"outputs", "MiB", true}};
}

TextTable stage_table(const ComplexityReport& report) {
    TextTable table(count_columns("stage"));
    for (const StageComplexity& stage : report.stages)
        table.row(count_cells(shortened(stage.name, 22), stage.counts));
    table.rule();
    table.row(count_cells("total", report.total));
    return table;
}

/// Counts are in millions, so that the table fits into 120 columns.
TextTable layer_table(const ComplexityReport& report, bool with_operation) {
    std::vector<TableColumn> columns{{"", "layer", false}};
    if (with_operation)
        columns.push_back({"", "operation", false});
    const std::vector<TableColumn> numbers{{"", "output", true},          {by_macs, "learnables", true},
                                           {by_macs, "10^6 MACs", true},  {by_table2, "10^6 ops", true},
                                           {by_formulas, "eq. 11", true}, {by_formulas, "10^6 eq. 13", true}};
    columns.insert(columns.end(), numbers.begin(), numbers.end());
    TextTable table(columns);
    const auto add = [&](const std::string& name, const std::string& operation, const std::string& output, bool seen,
                         const ComplexityCounts& counts) {
        std::vector<std::string> cells{with_operation ? name : shortened(name, 38)};
        if (with_operation)
            cells.push_back(operation);
        const std::vector<std::string> counted{output,
                                               grouped(counts.learnables),
                                               millions(counts.macs),
                                               seen ? millions(counts.table2_flops) : "unseen",
                                               grouped(counts.eq11_parameters),
                                               millions(counts.eq13_flops)};
        cells.insert(cells.end(), counted.begin(), counted.end());
        table.row(std::move(cells));
    };
    for (const LayerComplexity& layer : report.layers)
        add(layer.name, layer.operation, times(layer.output, 1), layer.seen_by_table2, layer.counts);
    table.rule();
    add("total", "", "", true, report.total);
    return table;
}

bool has_unseen(const ComplexityReport& report) {
    return std::any_of(report.layers.begin(), report.layers.end(),
                       [](const LayerComplexity& layer) { return !layer.seen_by_table2; });
}

constexpr const char* unseen_note =
    "unseen: a function call in the original code; the counter behind Table 2 visits modules only and adds 0 for it.";

std::string as_text(const ComplexityReport& report, bool per_layer) {
    std::string all = report.network.name + '\n';
    for (const auto& [key, value] : facts(report))
        all += text("  ", key, std::string(14 - key.size(), ' '), wrapped(value, 16), '\n');
    all += '\n' + (per_layer ? layer_table(report, false) : stage_table(report)).text() + '\n';
    if (per_layer && has_unseen(report))
        all += wrapped(unseen_note, 0) + '\n';
    return all + wrapped(conventions, 0) + '\n';
}

std::string as_markdown(const ComplexityReport& report, bool per_layer) {
    std::string all = "## " + report.network.name + "\n\n";
    for (const auto& [key, value] : facts(report))
        all += "- " + key + ": " + value + '\n';
    all += '\n' + (per_layer ? layer_table(report, true) : stage_table(report)).markdown() + '\n';
    if (per_layer && has_unseen(report))
        all += std::string(unseen_note) + "\n\n";
    return all + conventions + '\n';
}

// --- JSON and CSV -----------------------------------------------------------------------------------------------

std::string csv_line(const std::vector<std::string>& fields) {
    std::string line;
    for (const std::string& field : fields)
        line += (line.empty() ? "" : ",") + csv_cell(field);
    return line + '\n';
}

void append(std::vector<std::string>& fields, const std::vector<std::string>& more) {
    fields.insert(fields.end(), more.begin(), more.end());
}

const std::vector<std::string> count_names{"learnables",      "macs",       "table2_flops",
                                           "eq11_parameters", "eq13_flops", "activation_bytes"};

std::vector<std::string> count_fields(const ComplexityCounts& counts) {
    return {std::to_string(counts.learnables),   std::to_string(counts.macs),
            std::to_string(counts.table2_flops), std::to_string(counts.eq11_parameters),
            std::to_string(counts.eq13_flops),   std::to_string(counts.activation_bytes)};
}

std::string as_csv(const std::vector<ComplexityReport>& reports, bool per_layer) {
    std::vector<std::string> head{"name", "network", "input"};
    append(head, per_layer ? std::vector<std::string>{"layer", "operation", "output", "seen_by_table2"}
                           : std::vector<std::string>{"classes"});
    append(head, count_names);
    if (!per_layer)
        append(head, {"weight_bytes", "memory_lower_bound", "memory_planned"});
    std::string all = csv_line(head);
    for (const ComplexityReport& report : reports) {
        const std::vector<std::string> common{report.network.name, report.network.network, times(report.input)};
        if (!per_layer) {
            auto fields = common;
            append(fields, {std::to_string(report.network.classes)});
            append(fields, count_fields(report.total));
            append(fields, {std::to_string(report.weight_bytes), std::to_string(report.memory.lower_bound),
                            std::to_string(report.memory.planned)});
            all += csv_line(fields);
            continue;
        }
        for (const LayerComplexity& layer : report.layers) {
            auto fields = common;
            append(fields, {layer.name, layer.operation, times(layer.output), layer.seen_by_table2 ? "true" : "false"});
            append(fields, count_fields(layer.counts));
            all += csv_line(fields);
        }
    }
    return all;
}

void put_counts(OrderedJson& json, const ComplexityCounts& counts) {
    json["learnables"] = counts.learnables;
    json["macs"] = counts.macs;
    json["table2_flops"] = counts.table2_flops;
    json["eq11_parameters"] = counts.eq11_parameters;
    json["eq13_flops"] = counts.eq13_flops;
    json["activation_bytes"] = counts.activation_bytes;
}

OrderedJson published_json(const PublishedFigures& published) {
    OrderedJson json;
    if (published.parameters_m)
        json["parameters_m"] = *published.parameters_m;
    if (published.flops_g)
        json["flops_g"] = *published.flops_g;
    if (published.dice) {
        json["dice"] = {{"whole_tumour", published.dice->whole_tumour},
                        {"tumour_core", published.dice->tumour_core},
                        {"enhancing", published.dice->enhancing}};
    }
    json["source"] = published.source;
    json["note"] = "as published, not re-measured";
    return json;
}

OrderedJson as_json(const ComplexityReport& report, bool per_layer) {
    OrderedJson json;
    json["name"] = report.network.name;
    json["network"] = report.network.network;
    json["as_registered"] = report.network.standard;
    json["variant"] = OrderedJson::parse(report.network.json, nullptr, false);
    json["input"] = report.input;
    json["classes"] = report.network.classes;
    if (!report.status.empty())
        json["status"] = report.status;
    if (report.published)
        json["published"] = published_json(*report.published);
    put_counts(json, report.total);
    json["convolutions"] = report.convolutions;
    json["weight_bytes"] = report.weight_bytes;
    json["memory"] = {{"lower_bound", report.memory.lower_bound}, {"planned", report.memory.planned}};
    for (const StageComplexity& stage : report.stages) {
        OrderedJson entry{{"name", stage.name}};
        put_counts(entry, stage.counts);
        json["stages"].push_back(std::move(entry));
    }
    if (!per_layer)
        return json;
    for (const LayerComplexity& layer : report.layers) {
        OrderedJson entry{{"name", layer.name},
                          {"operation", layer.operation},
                          {"output", layer.output},
                          {"seen_by_table2", layer.seen_by_table2}};
        put_counts(entry, layer.counts);
        json["layers"].push_back(std::move(entry));
    }
    return json;
}

std::string dumped(const OrderedJson& json) {
    return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + '\n';
}

// --- several reports --------------------------------------------------------------------------------------------

std::string overview(const std::vector<ComplexityReport>& reports, bool markdown) {
    TextTable table(count_columns("network"));
    std::string inputs;
    for (const ComplexityReport& report : reports) {
        table.row(count_cells(report.network.name, report.total));
        const std::string input = times(report.input);
        if (inputs.find(input) == std::string::npos)
            inputs += (inputs.empty() ? "" : ", ") + input;
    }
    return "Input " + inputs + " [batch, channels, x, y, z]\n\n" + (markdown ? table.markdown() : table.text());
}

// --- Table 2 ----------------------------------------------------------------------------------------------------

// clang-format off
constexpr const char* table2_note =
    "Published figures have two or three decimals, so residuals (ours - published) below half their last digit are "
    "agreement. Dice is what the papers print (BraTS 2019 validation server), not re-measured. No width was tuned to "
    "hit a printed number.";
// clang-format on

struct Residuals {
    std::optional<double> parameters_m, flops_g;
};

double in_millions(const Table2Row& row) {
    return static_cast<double>(row.counts.learnables) / 1e6;
}

double in_giga(std::int64_t operations) {
    return static_cast<double>(operations) / 1e9;
}

Residuals residuals(const Table2Row& row) {
    Residuals difference;
    if (row.published && row.published->parameters_m)
        difference.parameters_m = in_millions(row) - *row.published->parameters_m;
    if (row.published && row.published->flops_g)
        difference.flops_g = in_giga(row.counts.table2_flops) - *row.published->flops_g;
    return difference;
}

/// "+0.4123 (+2.61 %)", or "-" without a published figure.
std::string residual_cell(const std::optional<double>& residual, double published) {
    if (!residual)
        return "-";
    const double percent = 100.0 * *residual / published;
    return with_sign(*residual, 4) + " (" + with_sign(percent, std::abs(percent) < 0.01 ? 4 : 2) + " %)";
}

std::string dice_cell(const Table2Row& row) {
    if (!row.published || !row.published->dice)
        return "-";
    const PublishedDice& dice = *row.published->dice;
    return grouped(dice.whole_tumour, 2) + " / " + grouped(dice.tumour_core, 2) + " / " + grouped(dice.enhancing, 2);
}

TextTable residual_table(const Table2Report& report) {
    TextTable table({{"", "network", false},
                     {"published", "M", true},
                     {"published", "G", true},
                     {"ours, Table 2 convention", "parameters", true},
                     {"ours, Table 2 convention", "G", true},
                     {"residual", "M", true},
                     {"residual", "G", true}});
    for (const Table2Row& row : report.rows) {
        const Residuals difference = residuals(row);
        const auto& published = row.published;
        const double m = published ? published->parameters_m.value_or(0) : 0;
        const double g = published ? published->flops_g.value_or(0) : 0;
        table.row({row.name, difference.parameters_m ? grouped(m, 2) : "-",
                   difference.flops_g ? grouped(g, difference.parameters_m ? 2 : 3) : "-",
                   grouped(row.counts.learnables), grouped(in_giga(row.counts.table2_flops), 4),
                   residual_cell(difference.parameters_m, m), residual_cell(difference.flops_g, g)});
    }
    return table;
}

TextTable formula_table(const Table2Report& report) {
    TextTable table({{"", "network", false},
                     {"ours, paper formulas", "eq. 11 params", true},
                     {"ours, paper formulas", "eq. 13 G", true},
                     {"ours", "MACs G", true},
                     {"published Dice, per cent", "WT / TC / ET", true},
                     {"", "source of published figures", false}});
    for (const Table2Row& row : report.rows)
        table.row({row.name, grouped(row.counts.eq11_parameters), grouped(in_giga(row.counts.eq13_flops), 4),
                   grouped(in_giga(row.counts.macs), 4), dice_cell(row), row.published ? row.published->source : "-"});
    return table;
}

std::string table2_for_people(const Table2Report& report, bool markdown) {
    const auto table = [&](const TextTable& rows) { return markdown ? rows.markdown() : rows.text(); };
    std::string all = "Published figures beside this library's counts, input " + times(report.input) +
                      " [batch, channels, x, y, z], 4 classes\n\n" + table(residual_table(report)) + '\n' +
                      table(formula_table(report)) + '\n';
    for (const Table2Row& row : report.rows)
        all += markdown ? "- " + row.name + ": " + row.status + '\n'
                        : row.name + std::string(24 - std::min<std::size_t>(23, row.name.size()), ' ') +
                              wrapped(row.status, 24) + '\n';
    all += '\n';
    for (const char* note : {table2_note, conventions})
        all += (markdown ? std::string(note) + '\n' : wrapped(note, 0)) + '\n';
    return all;
}

std::string table2_csv(const Table2Report& report) {
    std::vector<std::string> head{"network", "input", "published_parameters_m", "published_flops_g"};
    append(head, count_names);
    append(head, {"residual_parameters_m", "residual_flops_g", "published_dice_wt", "published_dice_tc",
                  "published_dice_et", "source", "status"});
    std::string all = csv_line(head);
    const auto number = [](const std::optional<double>& value) { return value ? text(*value) : std::string(); };
    for (const Table2Row& row : report.rows) {
        const PublishedFigures published = row.published.value_or(PublishedFigures{});
        const Residuals difference = residuals(row);
        std::vector<std::string> fields{row.name, times(report.input), number(published.parameters_m),
                                        number(published.flops_g)};
        append(fields, count_fields(row.counts));
        append(fields, {number(difference.parameters_m), number(difference.flops_g)});
        if (published.dice)
            append(fields, {text(published.dice->whole_tumour), text(published.dice->tumour_core),
                            text(published.dice->enhancing)});
        else
            append(fields, {"", "", ""});
        append(fields, {published.source, row.status});
        all += csv_line(fields);
    }
    return all;
}

OrderedJson table2_json(const Table2Report& report) {
    OrderedJson json;
    json["input"] = report.input;
    for (const Table2Row& row : report.rows) {
        OrderedJson entry{{"network", row.name}, {"status", row.status}};
        put_counts(entry, row.counts);
        if (row.published)
            entry["published"] = published_json(*row.published);
        const Residuals difference = residuals(row);
        if (difference.parameters_m) {
            entry["residual"]["parameters_m"] = *difference.parameters_m;
            entry["residual"]["parameters_percent"] = 100.0 * *difference.parameters_m / *row.published->parameters_m;
        }
        if (difference.flops_g) {
            entry["residual"]["flops_g"] = *difference.flops_g;
            entry["residual"]["flops_percent"] = 100.0 * *difference.flops_g / *row.published->flops_g;
        }
        json["rows"].push_back(std::move(entry));
    }
    json["note"] = table2_note;
    return json;
}

} // namespace

std::string render(const ComplexityReport& report, ReportFormat format, bool per_layer) {
    switch (format) {
    case ReportFormat::text: return as_text(report, per_layer);
    case ReportFormat::markdown: return as_markdown(report, per_layer);
    case ReportFormat::csv: return as_csv({report}, per_layer);
    case ReportFormat::json: return dumped(as_json(report, per_layer));
    }
    return {};
}

std::string render(const std::vector<ComplexityReport>& reports, ReportFormat format, bool per_layer) {
    const bool markdown = format == ReportFormat::markdown;
    switch (format) {
    case ReportFormat::text:
    case ReportFormat::markdown: {
        std::string all = overview(reports, markdown) + '\n';
        if (!per_layer)
            return all + (markdown ? std::string(conventions) : wrapped(conventions, 0)) + '\n';
        for (const ComplexityReport& report : reports)
            all += '\n' + render(report, format, true);
        return all;
    }
    case ReportFormat::csv: return as_csv(reports, per_layer);
    case ReportFormat::json: {
        OrderedJson json = OrderedJson::array();
        for (const ComplexityReport& report : reports)
            json.push_back(as_json(report, per_layer));
        return dumped(json);
    }
    }
    return {};
}

std::string render(const Table2Report& report, ReportFormat format) {
    switch (format) {
    case ReportFormat::text: return table2_for_people(report, false);
    case ReportFormat::markdown: return table2_for_people(report, true);
    case ReportFormat::csv: return table2_csv(report);
    case ReportFormat::json: return dumped(table2_json(report));
    }
    return {};
}

std::string_view to_string(ReportFormat format) noexcept {
    return report_format_names.of(format);
}

Result<ReportFormat> parse_report_format(std::string_view text) {
    return report_format_names.parse("report format", text);
}

} // namespace mfres
