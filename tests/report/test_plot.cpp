// SPDX-License-Identifier: MIT
// The training curve: its scales, and that both files hold what was drawn.
#include "report/plot.h"
#include "report/text_table.h"
#include "support/catch.h"
#include "train/history.h"

#include <cmath>
#include <locale>

namespace mfres {

namespace {

std::vector<TrainRow> rows(std::int64_t count) {
    std::vector<TrainRow> made;
    for (std::int64_t i = 1; i <= count; ++i) {
        TrainRow row{10 * i, 1.0 / static_cast<double>(i), 1e-3, 2.0, 5.0, 1e6, 0.1, std::nullopt};
        if (i % 5 == 0)
            row.dice = RegionDice{0.5, 0.6, 0.7};
        made.push_back(row);
    }
    return made;
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t found = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
        ++found;
    return found;
}

} // namespace

TEST_CASE("ticks are 1, 2 or 5 times a power of ten") {
    CHECK(tick_step(1.0, 5) == Approx(0.2));
    CHECK(tick_step(0.9, 5) == Approx(0.2));
    CHECK(tick_step(10.0, 5) == Approx(2.0));
    CHECK(tick_step(11.0, 5) == Approx(5.0));
    CHECK(tick_step(20938.0, 9) == Approx(5000.0));
    CHECK(tick_step(3e-7, 6) == Approx(5e-8));
}

TEST_CASE("the running mean is centred and shorter at the ends") {
    const std::vector<double> values = {1, 2, 6, 4, 10};
    const auto means = running_mean(values, 3);
    const std::vector<double> expected = {1.5, 3, 4, 20.0 / 3, 7};
    REQUIRE(means.size() == expected.size());
    for (std::size_t i = 0; i < means.size(); ++i)
        CHECK(means[i] == Approx(expected[i]));
    CHECK(running_mean({}, 3).empty());
}

TEST_CASE("a curve shows every row, every region and the best step") {
    const std::string svg = draw_curve(rows(50), {"a <run> & more", 1000, 250}).svg();
    CHECK(svg.find("a &lt;run&gt; &amp; more") != std::string::npos);
    CHECK(count(svg, "<circle") == 10 + 1); // a marker per validation and one in the key
    CHECK(count(svg, "<polygon") == 2 * (10 + 1));
    CHECK(svg.find("best: step 250") != std::string::npos);
    CHECK(svg.find("0.700") != std::string::npos);
    CHECK(svg.find("stroke-dasharray") != std::string::npos);
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.ends_with("</svg>\n"));

    const std::string without = draw_curve(rows(4), {"no validation", 1000, std::nullopt}).svg();
    CHECK(count(without, "<circle") == 0);
    CHECK(without.find("Dice") == std::string::npos);
}

TEST_CASE("a host with decimal commas gets the same curve and the same table") {
    struct CommaNumbers : std::numpunct<char> {
        char do_decimal_point() const override { return ','; }
        char do_thousands_sep() const override { return '.'; }
        std::string do_grouping() const override { return "\3"; }
    };
    const auto made = [] {
        return draw_curve(rows(50), {"a run of 1234567 steps", 123456, 250}).svg() + metrics_csv(rows(50)) +
               grouped(1234567.25, 2);
    };
    const std::string classic = made();
    const std::locale before = std::locale::global(std::locale(std::locale::classic(), new CommaNumbers));
    const std::string german = made();
    std::locale::global(before);
    CHECK(german == classic);
}

TEST_CASE("curves of no rows, one row and equal rows have finite coordinates") {
    const std::vector<TrainRow> one = {{1, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, std::nullopt}};
    std::vector<TrainRow> equal = rows(3);
    for (TrainRow& row : equal)
        row.loss = 0.25;
    for (const auto& some : {std::vector<TrainRow>(), one, equal}) {
        const std::string svg = draw_curve(some, {"edge", 0, std::nullopt}).svg();
        CHECK(svg.find("nan") == std::string::npos);
        CHECK(svg.find("inf") == std::string::npos);
        CHECK(svg.find("<text") != std::string::npos);
    }
}

TEST_CASE("a curve is a PNG of the asked size") {
    const auto png = draw_curve(rows(50), {"picture", 1000, 250}).png(1.5);
    REQUIRE_OK(png);
    REQUIRE(png->size() > 24);
    CHECK(std::to_integer<int>((*png)[1]) == 'P');
    const auto width = (std::to_integer<unsigned>((*png)[18]) << 8U) + std::to_integer<unsigned>((*png)[19]);
    CHECK(width == 1500);
}

TEST_CASE("tables of a run quote case names and leave blanks where nothing was evaluated") {
    auto some = rows(5);
    some[4].skipped = 3;
    const std::string metrics = metrics_csv(some);
    CHECK(metrics.find("\n10,1,0.001,2,5.00,1000000,0.1000,,,,0\n") != std::string::npos);
    CHECK(metrics.find("\n50,0.2,0.001,2,5.00,1000000,0.1000,0.500000,0.600000,0.700000,3\n") != std::string::npos);
    const Validation validation{7, {0.5, 0.25, 1}, {{"a,\"b\"", {0.5, 0.25, 1}}}, 1.0};
    CHECK(validation_csv(std::span(&validation, 1)) == "step,case,wt,tc,et\n"
                                                       "7,\"a,\"\"b\"\"\",0.500000,0.250000,1.000000\n"
                                                       "7,mean,0.500000,0.250000,1.000000\n");
}

} // namespace mfres
