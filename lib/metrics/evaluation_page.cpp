// SPDX-License-Identifier: MIT
// The page of an evaluation (analysis.h).
#include "core/decimal_text.h"
#include "core/format.h"
#include "core/try.h"
#include "imaging/case_page.h"
#include "metrics/analysis.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

constexpr const char* style = R"css(
body{margin:0;padding:16px 24px;background:#fff;color:#1a1d21;font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.35rem;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:24px 0 6px}
.notice{color:#8a4b00;margin:0 0 10px}
table{border-collapse:collapse}
th,td{padding:3px 14px 3px 0;text-align:left;vertical-align:top}
thead th{border-bottom:2px solid #1a1d21;white-space:nowrap}
button{font:inherit;font-weight:600;background:none;border:0;padding:0;cursor:pointer;text-decoration:underline dotted}
td.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.number::after{content:" *";visibility:hidden}td.far{font-weight:700}td.far::after{visibility:visible}
.bar{float:left;height:10px;width:120px;background:#dde1e6;margin:6px 8px 0 0}
.bar i{display:block;height:10px}
.facts th{font-weight:500;color:#555}
.facts td{overflow-wrap:anywhere}
)css";

constexpr const char* script = R"js(
"use strict";
const body = document.querySelector("#cases tbody");
document.querySelectorAll("#cases thead button").forEach((button, column) => {
  let up = column !== 1; // by which the rows are sorted already
  button.addEventListener("click", () => {
    const key = row => row.cells[column].dataset.value;
    const rows = [...body.rows];
    rows.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = column === 0 ? x.localeCompare(y) : Number(x) - Number(y);
      return up ? order : -order;
    });
    up = !up;
    body.append(...rows);
  });
});
document.body.dataset.ready = "yes";
)js";

/// Of the Okabe-Ito palette, as in plots: whole tumour, core, enhancing.
constexpr std::array<const char*, 3> bar_colours = {"#0072B2", "#D55E00", "#009E73"};

struct PageColumn {
    Metric metric;
    TumourRegion region;
};

std::vector<PageColumn> page_columns() {
    std::vector<PageColumn> columns;
    for (const Metric metric : {Metric::dice, Metric::hd95})
        for (const TumourRegion region : tumour_regions)
            columns.push_back({metric, region});
    return columns;
}

std::string title_of(const PageColumn& column) {
    return text(column.metric == Metric::hd95 ? "HD95 " : "Dice ", name(column.region));
}

std::string bar(double dice, TumourRegion region) {
    const double percent = 100.0 * std::clamp(dice, 0.0, 1.0);
    return text("<span class=\"bar\"><i style=\"width:", decimal_text(percent, 1, ""),
                "%;background:", bar_colours[static_cast<std::size_t>(region)], "\"></i></span>");
}

std::string cell(const std::optional<double>& value, const PageColumn& column, bool far) {
    const bool dice = column.metric == Metric::dice;
    return text("<td class=\"number", far ? " far" : "", "\" data-value=\"", decimal_text(value, 9, ""), "\">",
                value && dice ? bar(*value, column.region) : "", decimal_text(value, dice ? 4 : 2, ""), "</td>");
}

std::string case_rows(const MetricsTable& table) {
    const auto far = outliers(table);
    const auto columns = page_columns();
    std::string rows;
    for (const std::size_t index : by_dice(table)) {
        const CaseMetrics& of = table.cases[index];
        const std::string id = html_text(of.id);
        const std::string site = html_text(of.site.empty() ? site_of(of.id) : of.site);
        rows += text("<tr><td data-value=\"", id, "\">", id, "</td><td class=\"number\" data-value=\"",
                     decimal_text(mean_dice(of), 9, ""), "\">", decimal_text(mean_dice(of), 4, ""), "</td>");
        for (const PageColumn& column : columns)
            rows += cell(of[column.region][column.metric], column,
                         std::any_of(far.begin(), far.end(), [&](const Outlier& one) {
                             return one.index == index && one.region == column.region && one.metric == column.metric;
                         }));
        rows += text("<td>", site, "</td></tr>\n");
    }
    return rows;
}

std::string summary_table(const MetricsTable& table) {
    const MetricsSummary summary = summarise(table);
    std::string rows;
    for (const Metric metric : all_metrics)
        for (const TumourRegion region : tumour_regions) {
            const Statistics& of = summary.at(region, metric);
            std::vector<double> values;
            for (const CaseMetrics& measured : table.cases)
                if (const auto& value = measured[region][metric])
                    values.push_back(*value);
            const auto interval = mean_interval(values);
            rows +=
                text("<tr><td>", metric == Metric::hd95 ? "HD95 (mm)" : name(metric), "</td><td>", name(region),
                     "</td><td class=\"number\">", of.count, "</td><td class=\"number\">", decimal_text(of.mean, 4, ""),
                     "</td><td class=\"number\">",
                     interval ? text(decimal_text(interval->low, 4, ""), " to ", decimal_text(interval->high, 4, ""))
                              : std::string(),
                     "</td><td class=\"number\">", decimal_text(of.median, 4, ""), "</td><td class=\"number\">",
                     decimal_text(of.lower_quartile, 4, ""), "</td><td class=\"number\">",
                     decimal_text(of.upper_quartile, 4, ""), "</td></tr>\n");
        }
    return text("<table>\n<thead><tr><th>metric</th><th>region</th><th>cases</th><th>mean</th><th>95 % interval of the "
                "mean</th><th>median</th><th>25 %</th><th>75 %</th></tr></thead>\n<tbody>\n",
                rows, "</tbody>\n</table>\n");
}

} // namespace

std::string evaluation_page(const MetricsTable& table, const std::string& title,
                            const std::vector<std::pair<std::string, std::string>>& facts) {
    std::string heads = "<th><button>case</button></th><th><button>mean Dice</button></th>";
    for (const PageColumn& column : page_columns())
        heads += text("<th><button>", title_of(column), "</button></th>");
    std::string notes;
    for (const std::string& note : table.notes)
        notes += text("<p>", html_text(note), "</p>\n");
    return text(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'\">\n<title>",
        html_text(title), "</title>\n<style>", style, "</style>\n</head>\n<body>\n<h1>", html_text(title),
        "</h1>\n<p class=\"notice\">Research use only: not a medical device.</p>\n<h2>",
        counted(table.cases.size(), "case"), "</h2>\n", summary_table(table), notes,
        "<h2>Cases, the lowest mean Dice first</h2>\n<p>A value with * is beyond the quartiles by more than 1.5 "
        "times their distance. HD95 is in mm. A click on a head sorts.</p>\n<table id=\"cases\">\n<thead><tr>",
        heads, "<th>site</th></tr></thead>\n<tbody>\n", case_rows(table),
        "</tbody>\n</table>\n<h2>How this was measured</h2>\n<table class=\"facts\">\n", html_rows(facts),
        "</table>\n<script>", script, "</script>\n</body>\n</html>\n");
}

} // namespace mfres
