// SPDX-License-Identifier: MIT
// Tables: statistics by hand, the challenge server's own table, numbers that survive a file, tables that are rejected.
#include "core/file.h"
#include "support/catch.h"
#include "support/paths.h"

#include <mfres/metrics.h>

#include <nlohmann/json.hpp>

#include <cmath>
#include <map>
#include <sstream>

using namespace mfres;

namespace {

constexpr const char* server_table = "data/metrics/dmfnet-brats2018-validation.csv";

std::string content_of(const std::filesystem::path& path) {
    const auto bytes = read_file(path, 1U << 20U);
    REQUIRE_OK(bytes);
    return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

/// The rows of a simple CSV file by their label, split at commas and nothing more.
std::map<std::string, std::vector<std::string>> plain_rows(const std::string& csv) {
    std::map<std::string, std::vector<std::string>> rows;
    std::istringstream lines(csv);
    for (std::string line; std::getline(lines, line);) {
        std::vector<std::string> cells(1);
        for (const char c : line) {
            if (c == ',')
                cells.emplace_back();
            else
                cells.back() += c;
        }
        rows[cells[0]] = cells;
    }
    return rows;
}

CaseMetrics case_of(const std::string& id, double first) {
    CaseMetrics measured{id, {}};
    double value = first;
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : all_metrics) {
            measured[region][metric] = value;
            value = value * 0.7 + 0.01;
        }
    return measured;
}

MetricsTable table_of(const std::string& csv) {
    auto table = parse_csv(csv, "test.csv");
    REQUIRE_OK(table);
    return std::move(table).value();
}

void check_rejected(const std::string& csv, const std::string& part_of_message) {
    INFO(csv);
    const auto table = parse_csv(csv, "test.csv");
    REQUIRE_CODE(table, table_invalid);
    INFO(table.error().message);
    CHECK(table.error().message.find("test.csv") == 0);
    CHECK(table.error().message.find(part_of_message) != std::string::npos);
    CHECK(table.error().where == "test.csv");
}

} // namespace

TEST_CASE("statistics by hand") {
    const Statistics four = statistics({4.0, 1.0, 3.0, 2.0});
    CHECK(four.count == 4);
    CHECK(four.mean == 2.5);
    CHECK(four.deviation == std::sqrt(5.0 / 3.0)); // (2.25 + 0.25 + 0.25 + 2.25) / 3
    CHECK(four.median == 2.5);
    CHECK(four.lower_quartile == 1.75);
    CHECK(four.upper_quartile == 3.25);
    const Statistics one = statistics({7.0});
    CHECK(one.mean == 7.0);
    CHECK(one.median == 7.0);
    CHECK_FALSE(one.deviation.has_value());
    const Statistics none = statistics({});
    CHECK(none.count == 0);
    CHECK_FALSE(none.mean.has_value());
    CHECK_FALSE(none.median.has_value());
}

TEST_CASE("the server's table comes out as the server summarised it") {
    const auto path = test::shared_data(server_table);
    if (!path)
        return;
    const auto table = read_csv(*path);
    REQUIRE_OK(table);
    CHECK(table->cases.size() == 66);
    CHECK_FALSE(table->definition.has_value());
    CHECK_FALSE(table->scheme.has_value());
    REQUIRE(table->notes.size() == 1);
    CHECK(table->notes[0].find("agree") != std::string::npos);

    const MetricsSummary summary = summarise(*table);
    CHECK(summary.at(TumourRegion::et, Metric::dice).count == 66);
    CHECK(*summary.at(TumourRegion::et, Metric::dice).mean == Approx(0.80116).margin(5e-6));
    CHECK(summary.at(TumourRegion::et, Metric::hd95).count == 59);
    CHECK(*summary.at(TumourRegion::et, Metric::hd95).mean == Approx(3.0605).margin(5e-5));

    // Every column against the file's own rows, read here by another way than parse_csv's.
    auto rows = plain_rows(content_of(*path));
    const std::vector<std::string> names = rows.at("Label");
    REQUIRE(names.size() == 13);
    for (std::size_t c = 1; c < names.size(); ++c)
        for (const TumourRegion region : tumour_regions)
            for (const Metric metric : all_metrics) {
                if (names[c] != std::string(name(metric)) + "_" + std::string(name(region)))
                    continue;
                INFO(names[c]);
                const Statistics& ours = summary.at(region, metric);
                const auto said = [&](const char* row) { return Approx(std::stod(rows.at(row)[c])).margin(1.1e-5); };
                CHECK(*ours.mean == said("Mean"));
                CHECK(*ours.deviation == said("StdDev"));
                CHECK(*ours.median == said("Median"));
                CHECK(*ours.lower_quartile == said("25quantile"));
                CHECK(*ours.upper_quartile == said("75quantile"));
            }
}

TEST_CASE("the server's table by site, worked out from its own rows") {
    const auto path = test::shared_data(server_table);
    if (!path)
        return;
    const auto table = read_csv(*path);
    REQUIRE_OK(table);
    const auto sites = summarise_by_site(*table);
    REQUIRE(sites.size() > 1);
    auto rows = plain_rows(content_of(*path));
    const std::vector<std::string> names = rows.at("Label");
    const auto column = static_cast<std::size_t>(std::find(names.begin(), names.end(), "Dice_ET") - names.begin());
    std::map<std::string, std::pair<std::int64_t, double>> sums; // by what stands between the id's first two marks
    for (const auto& [label, cells] : rows)
        if (label.starts_with("Brats18_")) {
            std::string site = label.substr(8, label.find('_', 8) - 8);
            site = site.starts_with("TCIA") ? "TCIA" : site;
            sums[site].first += 1;
            sums[site].second += std::stod(cells[column]);
        }
    REQUIRE(sites.size() == sums.size());
    std::int64_t cases = 0;
    for (const SiteSummary& of : sites) {
        INFO(of.site);
        REQUIRE(sums.count(of.site) == 1);
        const auto& [count, sum] = sums[of.site];
        CHECK(of.summary.cases == count);
        CHECK(*of.summary.at(TumourRegion::et, Metric::dice).mean ==
              Approx(sum / static_cast<double>(count)).epsilon(1e-12));
        cases += count;
    }
    CHECK(cases == 66);
}

TEST_CASE("the server's blanks under the scheme of 2020") {
    const auto path = test::shared_data(server_table);
    if (!path)
        return;
    const auto table = read_csv(*path);
    REQUIRE_OK(table);
    // Seven cases have no HD95 for ET: four with Dice 1 (both empty), three with Dice 0.
    const MetricsSummary blank = summarise(with_scheme(*table, EmptyScheme::server2019));
    const MetricsTable scored = with_scheme(*table, EmptyScheme::brats2020);
    CHECK(scored.scheme == EmptyScheme::brats2020);
    const MetricsSummary filled = summarise(scored);
    CHECK(filled.at(TumourRegion::et, Metric::hd95).count == 66);
    const double before = *blank.at(TumourRegion::et, Metric::hd95).mean;
    CHECK(*filled.at(TumourRegion::et, Metric::hd95).mean == Approx((59 * before + 3 * 373.12866) / 66).epsilon(1e-12));
    CHECK(filled.at(TumourRegion::wt, Metric::hd95).mean == blank.at(TumourRegion::wt, Metric::hd95).mean);
}

TEST_CASE("a table written and read again is the same to the bit") {
    MetricsTable table;
    table.cases = {case_of("plain", 1.0 / 3.0), case_of("with, comma", 0.1), case_of("with \"marks\"", 2.0 / 7.0),
                   case_of("with\nline", 1e-17), case_of("last", 1.0)};
    table.cases[1][TumourRegion::et][Metric::hd95].reset();
    table.cases[2][TumourRegion::wt][Metric::hd95] = 373.12866;
    table.cases[3][TumourRegion::tc][Metric::hd95] = 1.0 / 3e5;
    const MetricsTable read = table_of(to_csv(table));
    CHECK(read.cases == table.cases);
    REQUIRE(read.notes.size() == 1);
    CHECK(read.notes[0].find("agree") != std::string::npos);
    CHECK(sites_csv(table).starts_with("Site,Cases,Dice_ET,Dice_WT"));
    CHECK(to_csv(table).find("Label,Dice_ET,Dice_WT,Dice_TC,Sensitivity_ET,Sensitivity_WT,Sensitivity_TC,"
                             "Specificity_ET,Specificity_WT,Specificity_TC,Hausdorff95_ET,Hausdorff95_WT,"
                             "Hausdorff95_TC\nplain,") == 0);
}

TEST_CASE("columns in another order, some absent, Windows line ends and a byte order mark are read") {
    const MetricsTable table = table_of("\xEF\xBB\xBF"
                                        "Hausdorff95_TC,Label,Dice_WT\r\n2.5,a,0.5\r\n\r\n,\"b\",1\r\n");
    REQUIRE(table.cases.size() == 2);
    CHECK(table.cases[0].id == "a");
    CHECK(table.cases[0][TumourRegion::tc][Metric::hd95] == 2.5);
    CHECK(table.cases[0][TumourRegion::wt][Metric::dice] == 0.5);
    CHECK_FALSE(table.cases[0][TumourRegion::et][Metric::dice].has_value());
    CHECK(table.cases[1].id == "b");
    CHECK_FALSE(table.cases[1][TumourRegion::tc][Metric::hd95].has_value());
    CHECK(table.notes.empty());
    const MetricsSummary summary = summarise(table);
    CHECK(summary.at(TumourRegion::et, Metric::dice).count == 0);
}

TEST_CASE("a summary in the file that does not follow from its cases is told") {
    const MetricsTable table = table_of("Label,Dice_ET,Dice_WT\na,0.5,0.25\nb,1,0.75\nMean,0.75,0.51\nMedian,,0.5\n");
    CHECK(table.cases.size() == 2);
    REQUIRE(table.notes.size() == 1);
    CHECK(table.notes[0].find("differ") != std::string::npos);
    CHECK(table.notes[0].find("Mean of Dice_WT is 0.51 there and 0.5 here") != std::string::npos);
    CHECK(table.notes[0].find("Dice_ET") == std::string::npos);
}

TEST_CASE("tables that cannot be believed are rejected with file, line and value") {
    check_rejected("", "line 1: there is no row of column names");
    check_rejected("\n\n", "line 1");
    check_rejected("Label,Dice_ET\n", "ends without a case");
    check_rejected("Label,Dice_ET\nMean,0.5\n", "ends without a case");
    check_rejected("Label\na\n", "there is no metric column");
    check_rejected("Dice_ET,Dice_WT\n0.1,0.2\n", "no column \"Label\"");
    check_rejected("Label,Dice_Et\na,0.1\n", "line 1: \"Dice_Et\"");
    check_rejected("Label,Dice_ET,Dice_ET\na,0.1,0.2\n", "\"Dice_ET\" appears twice");
    check_rejected("Label,Dice_ET\na,0.1\nb\n", "line 3: there are 1 cells under 2 columns");
    check_rejected("Label,Dice_ET\na,0.1,0.2\n", "line 2: there are 3 cells under 2 columns");
    check_rejected("Label,Dice_ET\na,zero\n", "line 2: Dice_ET is \"zero\"");
    check_rejected("Label,Dice_ET\n\na,0.1x\n", "line 3: Dice_ET is \"0.1x\"");
    check_rejected("Label,Dice_ET\na,nan\n", "\"nan\"");
    check_rejected("Label,Hausdorff95_ET\na,inf\n", "\"inf\"");
    check_rejected("Label,Dice_ET\na,1e999\n", "\"1e999\"");
    check_rejected("Label,Dice_ET\na,1.01\n", "Dice_ET is 1.01");
    check_rejected("Label,Specificity_WT\na,-0.1\n", "Specificity_WT is -0.1");
    check_rejected("Label,Hausdorff95_WT\na,-3\n", "Hausdorff95_WT is -3");
    check_rejected("Label,Dice_ET\na,0.1\nb,0.2\na,0.3\n", "line 4: the label \"a\" appears twice");
    check_rejected("Label,Dice_ET\n,0.1\n", "line 2: the label is empty");
    check_rejected("Label,Dice_ET\n\"a,0.1\nb,0.2\n", "line 2: a quotation mark is not closed");
    REQUIRE_CODE(read_csv("/nonexistent/table.csv"), file_not_found);
}

TEST_CASE("JSON holds every number as it is, and names what was measured how") {
    MetricsTable table;
    table.definition = RegionDefinition::paper;
    table.scheme = EmptyScheme::brats2020;
    table.cases = {case_of("a", 1.0 / 3.0), case_of("b", 0.9)};
    table.cases[1][TumourRegion::et][Metric::hd95].reset();
    table.notes = {"A note."};
    const auto json = nlohmann::json::parse(to_json(table));
    CHECK(json["regions"] == "paper");
    CHECK(json["scheme"] == "brats2020");
    CHECK(json["cases"] == 2);
    CHECK(json["notes"][0] == "A note.");
    CHECK(json["per_case"][0]["WT"]["dice"].get<double>() == 1.0 / 3.0);
    CHECK(json["per_case"][1]["ET"]["hd95_mm"].is_null());
    CHECK(json["summary"]["ET"]["hd95_mm"]["count"] == 1);
    CHECK(json["summary"]["ET"]["hd95_mm"]["std"].is_null());
    CHECK(json["summary"]["WT"]["dice"]["mean"].get<double>() == (1.0 / 3.0 + 0.9) / 2);
}

TEST_CASE("the Markdown table names definition and scheme and has a row per metric and region") {
    MetricsTable table;
    table.definition = RegionDefinition::brats;
    table.scheme = EmptyScheme::server2019;
    table.cases = {case_of("a", 0.25), case_of("b", 0.75)};
    const std::string markdown = to_markdown(table);
    INFO(markdown);
    CHECK(
        markdown.find("`brats` (WT = necrotic core + oedema + enhancing tumour, TC = necrotic core + enhancing tumour, "
                      "ET = enhancing tumour)") != std::string::npos);
    CHECK(markdown.find("`server2019`") != std::string::npos);
    CHECK(markdown.find("| Dice        | WT     |     2 | 0.50000 |") != std::string::npos);
    CHECK(std::count(markdown.begin(), markdown.end(), '\n') == 2 + 2 + 12);
    table.definition = RegionDefinition::paper;
    table.labels = "brats"; // what was read, where labels were
    CHECK(to_markdown(table).find("`paper` (WT = labels 1, 2, TC = labels 1, ET = labels 4 of the scheme `brats`)") !=
          std::string::npos);
    table.labels = "brats-ped";
    CHECK(to_markdown(table).find("`paper` (WT = labels 2, 3, 4, TC = labels 2, 3, ET = labels 1 of the scheme "
                                  "`brats-ped`)") != std::string::npos);
}
