// SPDX-License-Identifier: MIT
// Confidence intervals, outliers, files and pages of cases, and the comparison of two tables.
#include "core/random.h"
#include "metrics/analysis.h"
#include "support/catch.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

using namespace mfres;

namespace {

/// Cases c0, c1, ... whose Dice of every region is that value, and whose HD95 is 10 times what is missing to 1.
MetricsTable table_of(const std::vector<double>& dice) {
    MetricsTable table;
    table.definition = RegionDefinition::brats;
    table.scheme = EmptyScheme::server2019;
    for (std::size_t n = 0; n < dice.size(); ++n) {
        CaseMetrics& measured = table.cases.emplace_back();
        measured.id = "c" + std::to_string(n);
        for (const TumourRegion region : tumour_regions) {
            measured[region][Metric::dice] = dice[n];
            measured[region][Metric::sensitivity] = dice[n];
            measured[region][Metric::specificity] = 1.0;
            measured[region][Metric::hd95] = 10.0 * (1.0 - dice[n]);
        }
    }
    return table;
}

const std::vector<double> usual = {0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.20};

bool has(const std::string& text, const std::string& words) {
    return text.find(words) != std::string::npos;
}

} // namespace

TEST_CASE("the bootstrap interval of a mean is near that of the normal distribution, and always the same") {
    Random random(3);
    std::vector<double> values(400);
    double sum = 0.0;
    double squares = 0.0;
    for (double& value : values) {
        value = 5.0 + 2.0 * random.normal();
        sum += value;
    }
    const double mean = sum / 400.0;
    for (const double value : values)
        squares += (value - mean) * (value - mean);
    const double standard_error = std::sqrt(squares / 399.0 / 400.0);
    const auto interval = mean_interval(values);
    REQUIRE(interval);
    CHECK(interval->low == Approx(mean - 1.96 * standard_error).margin(0.15 * standard_error));
    CHECK(interval->high == Approx(mean + 1.96 * standard_error).margin(0.15 * standard_error));
    CHECK(mean_interval(values) == interval);
    CHECK_FALSE(mean_interval(std::vector<double>{1.0}));
    CHECK(mean_interval(std::vector<double>{2.0, 2.0, 2.0}) == Interval{2.0, 2.0});
    const std::string sentence = intervals_sentence(table_of({0.5, 0.5, 0.5}));
    CHECK(has(sentence, "Dice WT 0.5000 to 0.5000, Dice TC"));
    CHECK(has(sentence, "HD95 ET 5.00 to 5.00."));
    CHECK(intervals_sentence(table_of({0.5})).empty());
}

TEST_CASE("outliers are found by Tukey's rule, and a few cases have none") {
    const auto far = outliers(table_of(usual));
    REQUIRE(far.size() == 6); // Dice and HD95 of three regions
    for (const Outlier& of : far)
        CHECK(of.index == 7);
    CHECK(far[0].metric == Metric::dice);
    CHECK(far[0].value == 0.20);
    CHECK(far[3].metric == Metric::hd95);
    // Quartiles of the values by hand: 0.815 and 0.885.
    CHECK(far[0].limit == Approx(0.815 - 1.5 * 0.07));
    CHECK(outliers(table_of({0.9, 0.9, 0.9, 0.1})).empty());
    CHECK(outliers(table_of({0.9, 0.8, 0.85, 0.82, 0.88})).empty());
}

TEST_CASE("cases are listed by Dice, the lowest first, with marks") {
    const MetricsTable table = table_of(usual);
    const auto order = by_dice(table);
    CHECK(order.front() == 7);
    CHECK(order.back() == 6);
    const std::string all = cases_markdown(table, 40);
    CHECK(has(all, "0.2000*"));
    CHECK(has(all, "8.00*"));
    CHECK(all.find("| c7 ") < all.find("| c0 "));
    CHECK(std::count(all.begin(), all.end(), '\n') == 3 + 2 + 8);
    const std::string some = cases_markdown(table, 2);
    CHECK(has(some, "The 2 of 8 cases with the lowest mean Dice"));
    CHECK_FALSE(has(some, "| c6 "));
    CHECK(cases_markdown(table, 0).empty());
    MetricsTable blank = table;
    for (const TumourRegion region : tumour_regions)
        blank.cases[7][region][Metric::dice].reset();
    CHECK(by_dice(blank).back() == 7);
}

TEST_CASE("the table of cases holds cases only, and the statistics are another file") {
    MetricsTable table = table_of(usual);
    table.cases[2].id = "a \"quoted\",\nname";
    const std::string cases = cases_csv(table);
    CHECK_FALSE(has(cases, "Mean"));
    const auto read = parse_csv(cases, "cases.csv");
    REQUIRE_OK(read);
    REQUIRE(read->cases.size() == table.cases.size());
    for (std::size_t n = 0; n < table.cases.size(); ++n)
        CHECK(read->cases[n].regions == table.cases[n].regions);
    CHECK(read->notes.empty());
    const std::string summary = summary_csv(table);
    for (const char* row :
         {"\nMean,", "\nStdDev,", "\nMedian,", "\n25quantile,", "\n75quantile,", "\nCI95low,", "\nCI95high,"})
        CHECK(has(summary, row));
    CHECK(std::count(summary.begin(), summary.end(), '\n') == 8);
}

TEST_CASE("JSON of a table has intervals and outliers") {
    const auto json = nlohmann::json::parse(to_json_with_analysis(table_of(usual)));
    const auto& interval = json["confidence_95"]["WT"]["Dice"];
    REQUIRE(interval.size() == 2);
    CHECK(interval[0].get<double>() < json["summary"]["WT"]["dice"]["mean"].get<double>());
    CHECK(interval[1].get<double>() > json["summary"]["WT"]["dice"]["mean"].get<double>());
    REQUIRE(json["outliers"].size() == 6);
    CHECK(json["outliers"][0]["case"] == "c7");
}

TEST_CASE("two tables are compared case by case") {
    const MetricsTable first = table_of({0.5, 0.6, 0.7, 0.8, 0.9});
    MetricsTable second = table_of({0.6, 0.7, 0.8, 0.9, 0.9});
    std::swap(second.cases[0], second.cases[4]); // pairs go by name
    second.cases.push_back(table_of({0.1}).cases[0]);
    second.cases.back().id = "other";
    const auto compared = compare_tables(first, "A", second, "B");
    REQUIRE_OK(compared);
    CHECK(compared->cases == 5);
    const PairedDifference& dice = compared->columns[0][0];
    CHECK(dice.count == 5);
    CHECK(dice.higher == 4);
    CHECK(dice.equal == 1);
    CHECK(dice.lower == 0);
    CHECK(*dice.mean == Approx(0.08));
    CHECK(*dice.second_mean - *dice.first_mean == Approx(0.08));
    REQUIRE(dice.interval);
    CHECK(dice.interval->low > 0.0);
    REQUIRE(compared->notes.size() == 1);
    CHECK(has(compared->notes[0], "in B only (other)"));
    const std::string markdown = to_markdown(*compared);
    CHECK(has(markdown, "0.08000*"));
    const auto json = nlohmann::json::parse(to_json(*compared));
    CHECK(json["differences"]["WT"]["Dice"]["mean_difference"].get<double>() == Approx(0.08));
    CHECK(json["differences"]["ET"]["Specificity"]["equal"] == 5);
    MetricsTable strangers = table_of({0.5});
    strangers.cases[0].id = "x";
    REQUIRE_CODE(compare_tables(first, "A", strangers, "C"), dataset_empty);
}

TEST_CASE("the page of an evaluation has every case, sorted, and loads nothing") {
    MetricsTable table = table_of(usual);
    table.cases[0].id = "<script>alert(1)</script>";
    const std::string page = evaluation_page(table, "A & B", {{"program", "mfres \"x\""}});
    CHECK(has(page, "<title>A &amp; B</title>"));
    CHECK(has(page, "&lt;script&gt;alert(1)&lt;/script&gt;"));
    CHECK_FALSE(has(page, "<script>alert"));
    CHECK(has(page, "mfres &quot;x&quot;"));
    CHECK(has(page, "not a medical device"));
    CHECK(page.find(">c7<") < page.find(">c1<"));
    CHECK(page.find(">c1<") < page.find(">c6<"));
    CHECK(has(page, "default-src 'none'"));
    for (const char* from_outside : {"http:", "https:", "src=", "@import", "url("})
        CHECK_FALSE(has(page, from_outside));
}
