// SPDX-License-Identifier: MIT
// Tables in the CSV format of the challenge server. Cells may be quoted as in RFC 4180.
#include "core/csv.h"
#include "core/file.h"
#include "core/guard.h"
#include "core/number.h"
#include "core/try.h"
#include "metrics/csv_rows.h"
#include "metrics/summary_rows.h"

#include <mfres/metrics.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

namespace mfres {

namespace {

constexpr std::uint64_t largest_file = std::uint64_t{64} << 20U;
constexpr std::string_view label_heading = "Label";

/// Tolerance for the summary of a file: the file rounds both the summary and the cases to five decimals.
constexpr double rounding = 1.1e-5;

struct Column {
    Metric metric;
    TumourRegion region;
};

/// The columns in the server's order: ET, WT, TC of each metric.
std::vector<Column> server_columns() {
    std::vector<Column> columns;
    for (const Metric metric : all_metrics)
        for (const TumourRegion region : {TumourRegion::et, TumourRegion::wt, TumourRegion::tc})
            columns.push_back({metric, region});
    return columns;
}

std::string heading(const Column& column) {
    return text(name(column.metric), "_", name(column.region));
}

// Writing ----------------------------------------------------------------------------------------------------------

std::string number(double value) {
    std::array<char, 32> buffer{};
    const auto written = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
    return {buffer.data(), written.ptr};
}

std::string line_of(const CaseMetrics& measured, const std::vector<Column>& columns) {
    std::string line = csv_cell(measured.id);
    for (const Column& column : columns) {
        const auto& value = measured[column.region][column.metric];
        line += ',' + (value ? number(*value) : std::string());
    }
    return line + '\n';
}

// Reading ----------------------------------------------------------------------------------------------------------

Error invalid(const std::string& source, std::size_t line, const std::string& what) {
    return {ErrorCode::table_invalid, text(source, ", line ", line, ": ", what), source};
}

/// The column of each cell of a row; nullopt for the label.
using Layout = std::vector<std::optional<Column>>;

Result<Layout> layout_of(const CsvRow& header, const std::string& source) {
    Layout layout;
    std::set<std::string> seen;
    const auto known = server_columns();
    for (const std::string& cell : header.cells) {
        if (!seen.insert(cell).second)
            return invalid(source, header.line, text("the column \"", cell, "\" appears twice"));
        const auto found = std::find_if(known.begin(), known.end(), [&](const auto& c) { return heading(c) == cell; });
        if (found == known.end() && cell != label_heading)
            return invalid(source, header.line,
                           text("\"", cell, "\" is not a column of such a table; the columns are ", label_heading,
                                ", and Dice, Sensitivity, Specificity and Hausdorff95, each with _ET, _WT or _TC"));
        layout.push_back(found == known.end() ? std::nullopt : std::optional(*found));
    }
    if (seen.count(std::string(label_heading)) == 0)
        return invalid(source, header.line, text("there is no column \"", label_heading, "\""));
    if (seen.size() == 1)
        return invalid(source, header.line, "there is no metric column");
    return layout;
}

/// The value of a cell; nullopt if it is blank. Errors: table_invalid.
Result<std::optional<double>> parse_value(const std::string& cell, const Column& column, const std::string& source,
                                          std::size_t line) {
    if (cell.empty())
        return std::optional<double>();
    const auto [value, length] = read_number(cell);
    if (length != cell.size())
        return invalid(source, line, text(heading(column), " is \"", cell, "\", which is not a finite number"));
    if (value < 0.0 || (value > 1.0 && column.metric != Metric::hd95))
        return invalid(
            source, line,
            text(heading(column), " is ", cell, ", outside ", column.metric == Metric::hd95 ? "0.." : "0..1"));
    return std::optional<double>(value);
}

Result<CaseMetrics> parse_row(const CsvRow& row, const Layout& layout, const std::string& source) {
    if (row.cells.size() != layout.size())
        return invalid(source, row.line,
                       text("there are ", row.cells.size(), " cells under ", layout.size(), " columns"));
    CaseMetrics measured;
    for (std::size_t c = 0; c < layout.size(); ++c)
        if (!layout[c])
            measured.id = row.cells[c];
    if (measured.id.empty())
        return invalid(source, row.line, "the label is empty");
    for (std::size_t c = 0; c < layout.size(); ++c)
        if (const auto& column = layout[c]) {
            MFRES_TRY(measured[column->region][column->metric], parse_value(row.cells[c], *column, source, row.line));
        }
    return measured;
}

/// Compares the summary rows of a file with the statistics of its cases.
std::string compare_summary(const std::vector<CaseMetrics>& stated, const MetricsTable& table) {
    const auto ours = summary_rows(summarise(table));
    std::string rows;
    std::string different;
    for (const CaseMetrics& theirs : stated) {
        rows += text(rows.empty() ? "" : ", ", theirs.id);
        const auto& row = *std::find_if(ours.begin(), ours.end(), [&](const auto& own) { return own.id == theirs.id; });
        for (const Column& column : server_columns()) {
            const auto& said = theirs[column.region][column.metric];
            const auto& found = row[column.region][column.metric];
            if (said && (!found || std::abs(*said - *found) > rounding))
                different += text("; ", theirs.id, " of ", heading(column), " is ", number(*said), " there and ",
                                  found ? number(*found) : "blank", " here");
        }
    }
    if (different.empty())
        return text("The file's own rows ", rows, " agree with these statistics to five decimals.");
    return text("The file's own rows ", rows, " differ from these statistics", different, ".");
}

Result<MetricsTable> parse_table(std::string_view csv, const std::string& source) {
    MFRES_TRY(const auto rows, csv_rows(csv, source));
    if (rows.empty())
        return invalid(source, 1, "there is no row of column names");
    MFRES_TRY(const Layout layout, layout_of(rows[0], source));
    MetricsTable table;
    std::vector<CaseMetrics> stated;
    std::set<std::string> labels;
    for (std::size_t r = 1; r < rows.size(); ++r) {
        MFRES_TRY(CaseMetrics measured, parse_row(rows[r], layout, source));
        if (!labels.insert(measured.id).second)
            return invalid(source, rows[r].line, text("the label \"", measured.id, "\" appears twice"));
        const bool summary =
            std::find(summary_labels.begin(), summary_labels.end(), measured.id) != summary_labels.end();
        (summary ? stated : table.cases).push_back(std::move(measured));
    }
    if (table.cases.empty())
        return invalid(source, rows.back().line, "the table ends without a case");
    if (!stated.empty())
        table.notes.push_back(compare_summary(stated, table));
    return table;
}

} // namespace

std::string to_csv(const MetricsTable& table) {
    const auto columns = server_columns();
    std::string csv(label_heading);
    for (const Column& column : columns)
        csv += ',' + heading(column);
    csv += '\n';
    for (const CaseMetrics& measured : table.cases)
        csv += line_of(measured, columns);
    for (const CaseMetrics& row : summary_rows(summarise(table)))
        csv += line_of(row, columns);
    return csv;
}

std::string sites_csv(const MetricsTable& table) {
    const auto columns = server_columns();
    std::string csv = "Site,Cases";
    for (const Column& column : columns)
        csv += ',' + heading(column);
    csv += '\n';
    for (const SiteSummary& of : summarise_by_site(table)) {
        csv += text(csv_cell(of.site), ',', of.summary.cases);
        for (const Column& column : columns) {
            const auto& mean = of.summary.at(column.region, column.metric).mean;
            csv += ',' + (mean ? number(*mean) : std::string());
        }
        csv += '\n';
    }
    return csv;
}

Result<MetricsTable> parse_csv(std::string_view csv, const std::string& source) {
    return guarded(source, [&] { return parse_table(csv, source); });
}

Result<MetricsTable> read_csv(const std::filesystem::path& path) {
    return guarded(path, [&]() -> Result<MetricsTable> {
        MFRES_TRY(const auto bytes, read_file(path, largest_file, ErrorCode::table_invalid));
        return parse_csv({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
    });
}

} // namespace mfres
