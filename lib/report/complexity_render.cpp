// SPDX-License-Identifier: MIT
// Complexity reports as text, Markdown, CSV and JSON. Every format states the convention of each number, the input size
// and the batch size.
#include "core/csv.h"
#include "core/json_value.h"
#include "core/names.h"
#include "core/try.h"
#include "report/complexity_parts.h"

#include <mfres/complexity.h>

#include <algorithm>
#include <cmath>

namespace mfres {

namespace complexity_parts {

static constexpr auto report_format_names = enum_names<ReportFormat>({{ReportFormat::text, "text"},
                                                                      {ReportFormat::markdown, "markdown"},
                                                                      {ReportFormat::csv, "csv"},
                                                                      {ReportFormat::json, "json"},
                                                                      {ReportFormat::html, "html"}});

// --- common -----------------------------------------------------------------------------------------------------

constexpr const char* by_macs = "learned scalars and MACs";
constexpr const char* by_table2 = "Table 2";
constexpr const char* by_formulas = "paper formulas";

// clang-format off
constexpr const char* conventions =
    "Conventions. Learnables: every learned scalar. MACs: multiply-accumulates of convolutions and products of matrices. "
    "Table 2: MACs + biases "
    "+ 1 per element of normalisation, (leaky) ReLU, max-pooling input and upsampling output, as the counter behind "
    "the paper's Table 2 counts. Eq. 11: a bias per output channel always, no normalisation. Eq. 13: 2 x MACs.";
// clang-format on

std::string times(const std::vector<std::int64_t>& extents, std::size_t from) {
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

constexpr const char* traffic_note =
    "Memory traffic: every layer reads its operands and parameters once and writes its output once. Intensity: "
    "operations of eq. 13 per byte moved. Live: bytes of all values stored while the layer runs, as a share of the peak, "
    "as the network is written.";

/// What an ONNX file says in place of a registered network.
Facts onnx_facts(const OnnxSource& onnx) {
    std::string inputs;
    for (const OnnxInput& input : onnx.inputs)
        inputs += text(inputs.empty() ? "" : ", ", input.name, ' ', times(input.shape));
    return {{"file", onnx.file},
            {"written by", text(onnx.producer.empty() ? "unknown" : onnx.producer, ", ONNX opset ", onnx.opset)},
            {"input", inputs}};
}

Facts network_facts(const ComplexityReport& report) {
    const NetworkDescription& network = report.network;
    std::string changes = network.standard ? ", as registered" : " with";
    for (const std::string& change : network.changes)
        changes += (&change == &network.changes.front() ? " " : "; ") + change;
    return {{"network", network.network + changes},
            {"input", text(times(report.input), " [batch, channels, x, y, z], ", network.classes, " classes")}};
}

Facts facts(const ComplexityReport& report) {
    Facts all = report.onnx ? onnx_facts(*report.onnx) : network_facts(report);
    if (!report.status.empty())
        all.emplace_back("status", report.status);
    if (report.published)
        all.emplace_back("published", published_words(*report.published));
    all.emplace_back("convolutions", grouped(report.convolutions));
    all.emplace_back("weights", mebibytes(report.weight_bytes) + " MiB (with running statistics)");
    all.emplace_back("activations", mebibytes(report.total.activation_bytes) + " MiB if every output were kept");
    all.emplace_back("traffic", text(mebibytes(report.total.bytes_read), " MiB read, ",
                                     mebibytes(report.total.bytes_written), " MiB written, ",
                                     grouped(arithmetic_intensity(report.total), 2), " operations of eq. 13 per byte"));
    all.emplace_back("memory plan",
                     text(mebibytes(report.memory.planned),
                          " MiB peak of activations; no placement for this order of ops needs less than ",
                          mebibytes(report.memory.lower_bound), " MiB (",
                          report.onnx ? "as the file is written; shapes changed without a copy"
                                      : "rewritten for inference, sums and activations in place",
                          "; without weights and workspace)"));
    all.emplace_back("peak", mebibytes(report.peak_bytes) + " MiB of values live at once as the network is written");
    if (report.onnx && !report.onnx->excluded.empty())
        all.emplace_back("excluded", text(report.onnx->excluded.size(), " nodes, listed below"));
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
        add(layer.name, layer.operation, times(layer.output, report.onnx ? 0 : 1), layer.seen_by_table2, layer.counts);
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

std::string share(std::int64_t part, std::int64_t whole) {
    return whole > 0 ? grouped(100.0 * static_cast<double>(part) / static_cast<double>(whole), 1) : "-";
}

std::vector<std::string> traffic_cells(const std::string& name, const ComplexityCounts& counts, bool layers,
                                       const std::string& live) {
    std::vector<std::string> cells{name, mebibytes(counts.bytes_read), mebibytes(counts.bytes_written),
                                   grouped(arithmetic_intensity(counts), 2)};
    if (layers)
        cells.push_back(live);
    return cells;
}

/// Bytes of every layer or stage.
TextTable traffic_table(const ComplexityReport& report, bool per_layer, bool short_names) {
    std::vector<TableColumn> columns{{"", per_layer ? "layer" : "stage", false},
                                     {"memory traffic", "read MiB", true},
                                     {"memory traffic", "written MiB", true},
                                     {"eq. 13", "ops per byte", true}};
    if (per_layer)
        columns.push_back({"of the peak", "live, per cent", true});
    TextTable table(columns);
    const auto name = [&](const std::string& full) { return short_names ? shortened(full, 60) : full; };
    for (const StageComplexity& stage : report.stages)
        if (!per_layer)
            table.row(traffic_cells(name(stage.name), stage.counts, false, {}));
    for (const LayerComplexity& layer : report.layers)
        if (per_layer)
            table.row(traffic_cells(name(layer.name), layer.counts, true, share(layer.live_bytes, report.peak_bytes)));
    table.rule();
    table.row(traffic_cells("total", report.total, per_layer, "100.0"));
    return table;
}

TextTable excluded_table(const OnnxSource& onnx, bool short_names) {
    TextTable table({{"", "excluded node", false}, {"", "operator", false}, {"", "reason", false}});
    for (const ExcludedNode& node : onnx.excluded)
        table.row({short_names ? shortened(node.node, 40) : node.node,
                   short_names ? shortened(node.operation, 20) : node.operation,
                   short_names ? shortened(node.reason, 54) : node.reason});
    return table;
}

PageStyle page_style(ReportFormat format) {
    return format == ReportFormat::html       ? PageStyle::html
           : format == ReportFormat::markdown ? PageStyle::markdown
                                              : PageStyle::text;
}

void add_report(Page& page, PageStyle style, const ComplexityReport& report, bool per_layer) {
    const bool text = style == PageStyle::text;
    page.heading(report.network.name);
    page.facts(facts(report));
    page.table(per_layer ? layer_table(report, !text) : stage_table(report));
    page.table(traffic_table(report, per_layer, text));
    if (report.onnx && !report.onnx->excluded.empty())
        page.table(excluded_table(*report.onnx, text));
    if (per_layer && has_unseen(report))
        page.paragraph(unseen_note);
    page.paragraph(conventions);
    page.paragraph(traffic_note);
}

std::string as_page(const ComplexityReport& report, ReportFormat format, bool per_layer) {
    Page page(page_style(format));
    add_report(page, page_style(format), report, per_layer);
    return page.finish();
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

const std::vector<std::string>& count_names() {
    static const std::vector<std::string> names{"learnables",      "macs",          "table2_flops",
                                                "eq11_parameters", "eq13_flops",    "activation_bytes",
                                                "bytes_read",      "bytes_written", "ops_per_byte"};
    return names;
}

std::vector<std::string> count_fields(const ComplexityCounts& counts) {
    return {std::to_string(counts.learnables),   std::to_string(counts.macs),
            std::to_string(counts.table2_flops), std::to_string(counts.eq11_parameters),
            std::to_string(counts.eq13_flops),   std::to_string(counts.activation_bytes),
            std::to_string(counts.bytes_read),   std::to_string(counts.bytes_written),
            text(arithmetic_intensity(counts))};
}

double live_share(const ComplexityReport& report, const LayerComplexity& layer) {
    return report.peak_bytes > 0 ? static_cast<double>(layer.live_bytes) / static_cast<double>(report.peak_bytes) : 0.0;
}

std::string as_csv(const std::vector<ComplexityReport>& reports, bool per_layer) {
    std::vector<std::string> head{"name", "network", "input"};
    append(head, per_layer ? std::vector<std::string>{"layer", "operation", "output", "seen_by_table2"}
                           : std::vector<std::string>{"classes"});
    append(head, count_names());
    append(head, per_layer
                     ? std::vector<std::string>{"live_bytes", "live_share"}
                     : std::vector<std::string>{"weight_bytes", "memory_lower_bound", "memory_planned", "peak_bytes"});
    std::string all = csv_line(head);
    for (const ComplexityReport& report : reports) {
        const std::vector<std::string> common{report.network.name, report.network.network, times(report.input)};
        if (!per_layer) {
            auto fields = common;
            append(fields, {std::to_string(report.network.classes)});
            append(fields, count_fields(report.total));
            append(fields, {std::to_string(report.weight_bytes), std::to_string(report.memory.lower_bound),
                            std::to_string(report.memory.planned), std::to_string(report.peak_bytes)});
            all += csv_line(fields);
            continue;
        }
        for (const LayerComplexity& layer : report.layers) {
            auto fields = common;
            append(fields, {layer.name, layer.operation, times(layer.output), layer.seen_by_table2 ? "true" : "false"});
            append(fields, count_fields(layer.counts));
            append(fields, {std::to_string(layer.live_bytes), text(live_share(report, layer))});
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
    json["bytes_read"] = counts.bytes_read;
    json["bytes_written"] = counts.bytes_written;
    json["ops_per_byte"] = arithmetic_intensity(counts);
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

void put_onnx(OrderedJson& json, const OnnxSource& onnx) {
    json["file"] = onnx.file;
    json["producer"] = onnx.producer;
    json["opset"] = onnx.opset;
    json["inputs"] = OrderedJson::array();
    for (const OnnxInput& input : onnx.inputs)
        json["inputs"].push_back({{"name", input.name}, {"shape", input.shape}});
    json["excluded"] = OrderedJson::array();
    for (const ExcludedNode& node : onnx.excluded)
        json["excluded"].push_back({{"node", node.node}, {"operator", node.operation}, {"reason", node.reason}});
}

OrderedJson as_json(const ComplexityReport& report, bool per_layer) {
    OrderedJson json;
    json["name"] = report.network.name;
    json["network"] = report.network.network;
    if (report.onnx) {
        put_onnx(json, *report.onnx);
    } else {
        json["as_registered"] = report.network.standard;
        json["variant"] = OrderedJson::parse(report.network.json, nullptr, false);
    }
    json["input"] = report.input;
    if (!report.onnx)
        json["classes"] = report.network.classes;
    if (!report.status.empty())
        json["status"] = report.status;
    if (report.published)
        json["published"] = published_json(*report.published);
    put_counts(json, report.total);
    json["convolutions"] = report.convolutions;
    json["weight_bytes"] = report.weight_bytes;
    json["memory"] = {{"lower_bound", report.memory.lower_bound}, {"planned", report.memory.planned}};
    json["peak_bytes"] = report.peak_bytes;
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
        entry["live_bytes"] = layer.live_bytes;
        entry["live_share"] = live_share(report, layer);
        json["layers"].push_back(std::move(entry));
    }
    return json;
}

std::string dumped(const OrderedJson& json) {
    return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + '\n';
}

// --- several reports --------------------------------------------------------------------------------------------

void add_overview(Page& page, const std::vector<ComplexityReport>& reports) {
    TextTable table(count_columns("network"));
    std::string inputs;
    for (const ComplexityReport& report : reports) {
        table.row(count_cells(report.network.name, report.total));
        const std::string input = times(report.input);
        if (inputs.find(input) == std::string::npos)
            inputs += (inputs.empty() ? "" : ", ") + input;
    }
    page.paragraph("Input " + inputs + " [batch, channels, x, y, z]");
    page.table(table);
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

std::string table2_page(const Table2Report& report, ReportFormat format) {
    Page page(page_style(format));
    page.paragraph("Published figures beside this library's counts, input " + times(report.input) +
                   " [batch, channels, x, y, z], 4 classes");
    page.table(residual_table(report));
    page.table(formula_table(report));
    Facts states;
    for (const Table2Row& row : report.rows)
        states.emplace_back(row.name, row.status);
    page.facts(states);
    for (const char* note : {table2_note, conventions})
        page.paragraph(note);
    return page.finish();
}

std::string table2_csv(const Table2Report& report) {
    std::vector<std::string> head{"network", "input", "published_parameters_m", "published_flops_g"};
    append(head, count_names());
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

} // namespace complexity_parts

using namespace complexity_parts;

std::string render(const ComplexityReport& report, ReportFormat format, bool per_layer) {
    switch (format) {
    case ReportFormat::text:
    case ReportFormat::markdown:
    case ReportFormat::html: return as_page(report, format, per_layer);
    case ReportFormat::csv: return as_csv({report}, per_layer);
    case ReportFormat::json: return dumped(as_json(report, per_layer));
    }
    return {};
}

std::string render(const std::vector<ComplexityReport>& reports, ReportFormat format, bool per_layer) {
    switch (format) {
    case ReportFormat::text:
    case ReportFormat::markdown:
    case ReportFormat::html: {
        Page page(page_style(format));
        add_overview(page, reports);
        if (!per_layer)
            page.paragraph(conventions);
        for (const ComplexityReport& report : reports)
            if (per_layer)
                add_report(page, page_style(format), report, true);
        return page.finish();
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
    case ReportFormat::text:
    case ReportFormat::markdown:
    case ReportFormat::html: return table2_page(report, format);
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
