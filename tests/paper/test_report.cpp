// SPDX-License-Identifier: MIT
// The table of an experiment.
#include "paper/plan.h"
#include "paper/tradeoff.h"
#include "support/catch.h"

#include <algorithm>
#include <set>
#include <sstream>

namespace mfres {

namespace {

using nlohmann::json;

MetricsSummary measured(double dice, std::optional<double> distance) {
    MetricsTable table;
    CaseMetrics one{"case", {}};
    for (const TumourRegion region : tumour_regions) {
        one[region][Metric::dice] = dice;
        one[region][Metric::hd95] = distance;
    }
    table.cases.push_back(one);
    return summarise(table);
}

ExperimentReport sample(ExperimentTable table, const std::vector<std::string>& networks, int seeds = 1) {
    ExperimentOptions options;
    options.table = table;
    options.data = "data";
    options.out = "out";
    options.networks = networks;
    options.seeds = seeds;
    options.recipe = R"({"steps": 20, "crop": [32, 48, 64], "batch": 2, "learning_rate": 0.002})";
    const auto plan = make_plan(options);
    REQUIRE_OK(plan);
    ExperimentReport report;
    report.plan = *plan;
    report.plan.split = "by a rule";
    report.plan.train = {{"a", "b", "c", "d"}, std::string(64, 'a')};
    report.plan.held_out = {{"e"}, std::string(64, 'b')};
    report.runs = runs_of(report.plan);
    return report;
}

/// The cells of the row that begins with that name.
std::vector<std::string> row_of(const std::string& markdown, const std::string& name) {
    std::istringstream lines(markdown);
    std::vector<std::string> cells;
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind("| " + name + " |", 0) != 0)
            continue;
        std::istringstream parts(line.substr(1));
        for (std::string cell; std::getline(parts, cell, '|');) {
            const auto begin = cell.find_first_not_of(' ');
            cells.push_back(begin == std::string::npos ? ""
                                                       : cell.substr(begin, cell.find_last_not_of(' ') - begin + 1));
        }
    }
    return cells;
}

} // namespace

TEST_CASE("published figures and ours stand apart, and the caption says what ours are of") {
    ExperimentReport report = sample(ExperimentTable::table2, {"dmfnet"});
    report.runs[0].measured = measured(0.81239, 4.5);
    report.runs[0].state = RunState::finished;
    report.runs[0].used.engine = "engine 1.2";
    const std::string page = to_markdown(report);
    for (const char* words :
         {"BraTS 2019 validation server, not re-measured", "these cases, this budget",
          "4 trained on (data aaaaaaaaaaaaaaaa)", "1 held out (data bbbbbbbbbbbbbbbb): by a rule",
          "20 steps with a batch of 2", "32 x 48 x 64", "10.0 passes over the cases", "seed 1", "learning_rate 0.002",
          "loss weighted-tversky", "engine 1.2", "regions `brats`", "server2019"}) {
        INFO(words);
        CHECK(page.find(words) != std::string::npos);
    }
    CHECK(page.find("standard deviation") == std::string::npos); // there are no repeats
    // Counts: golden figures of the complexity counter, 3,875,890 learnables and 27,044,806,656 operations.
    CHECK(row_of(page, "dmfnet") == std::vector<std::string>{"dmfnet", "89.34", "82.87", "77.19", "3.88", "27.04",
                                                             "81.24", "81.24", "81.24", "4.50", "4.50", "4.50", "3.88",
                                                             "27.04", "-", "-", "1 of 1", ""});
    std::istringstream lines(page);
    for (std::string line; std::getline(lines, line);)
        if (line.rfind("| network |", 0) == 0)
            CHECK(line.rfind("| network | published: Dice WT | published: Dice TC | published: Dice ET | "
                             "published: parameters | published: operations | ours: Dice WT |",
                             0) == 0);
}

TEST_CASE("repeats give mean and sample standard deviation over the seeds") {
    ExperimentReport report = sample(ExperimentTable::table1, {}, 3);
    const auto set = [&](std::size_t run, double dice, std::optional<double> distance) {
        report.runs[run].measured = measured(dice, distance);
        report.runs[run].state = RunState::finished;
    };
    REQUIRE(report.runs.size() == 9); // dice, gdl, weighted-tversky; three times
    set(0, 0.70, 3.0);
    set(3, 0.73, std::nullopt);
    set(6, 0.76, 5.0);
    set(1, 0.50, std::nullopt);
    const Statistics dice = over_seeds(report, 0, TumourRegion::tc, Metric::dice);
    CHECK(dice.count == 3);
    CHECK(*dice.mean == Approx(0.73));
    CHECK(*dice.deviation == Approx(0.03));
    const std::string page = to_markdown(report);
    CHECK(row_of(page, "dice") == std::vector<std::string>{"dice", "89.93", "82.49", "76.42", "73.00 ± 3.00",
                                                           "73.00 ± 3.00", "73.00 ± 3.00", "4.00 ± 1.41", "4.00 ± 1.41",
                                                           "4.00 ± 1.41", "3 of 3", ""});
    CHECK(row_of(page, "gdl") == std::vector<std::string>{"gdl", "89.83", "82.71", "76.62", "50.00", "50.00", "50.00",
                                                          "-", "-", "-", "1 of 3", "seed 2 waiting; seed 3 waiting"});
    CHECK(page.find("seeds 1, 2, 3") != std::string::npos);
    CHECK(page.find("sample standard deviation over the seeds") != std::string::npos);
    CHECK(page.find("Network: mf-res2net.") != std::string::npos);

    const json object = json::parse(to_json(report));
    CHECK(object["rows"][0]["ours"]["dice"]["et"]["mean"].get<double>() == Approx(0.73));
    CHECK(object["rows"][0]["ours"]["dice"]["et"]["std"].get<double>() == Approx(0.03));
    CHECK(object["rows"][0]["published"]["dice_percent"]["wt"] == 89.93);
    CHECK(object["rows"][1]["ours"]["hd95_mm"]["wt"]["mean"].is_null());
    CHECK(object["rows"][2]["ours"]["runs"] == 0);
    CHECK(object["runs"].size() == 9);
    CHECK(object["runs"][3]["dice"]["wt"].get<double>() == 0.73);
    CHECK(object["plan"]["train"]["cases"].size() == 4);
}

TEST_CASE("a row without figures says why") {
    const std::string variant = R"({"network": "mf-res2net", "name": "mine", "widths": [8, 16, 24, 32]})";
    ExperimentReport report = sample(ExperimentTable::table2, {"3d-unetpp", variant, "no-new-net"});
    report.runs[0].state = RunState::skipped;
    report.runs[0].reason = "it needs 9 | 10 MiB";
    report.runs[1].state = RunState::begun;
    report.runs[1].step = 12;
    report.runs[2].state = RunState::failed;
    report.runs[2].reason = "training diverged";
    const std::string page = to_markdown(report);
    const auto skipped = row_of(page, "3d-unetpp");
    REQUIRE(skipped.size() == 18);
    CHECK(skipped[6] == "-");
    CHECK(skipped[12] == "27.47"); // counted, not trained
    CHECK(skipped[14] == "-");     // and no pass was timed
    CHECK(skipped[16] == "0 of 1");
    CHECK(skipped[17] == "skipped: it needs 9 / 10 MiB");
    const auto mine = row_of(page, "mine (variant of mf-res2net)");
    REQUIRE(mine.size() == 18);
    CHECK(mine[1] == "-"); // nothing was published of it
    CHECK(mine[17] == "begun (step 12)");
    CHECK(row_of(page, "no-new-net").back() == "failed: training diverged");
    CHECK(page.find("the published counts fit another structure") != std::string::npos);
}

TEST_CASE("the cost of a pass is the least of the repeats, in table, JSON and picture") {
    ExperimentReport report = sample(ExperimentTable::table2, {"mf-res2net", "dmfnet"}, 2);
    REQUIRE(report.runs.size() == 4); // both networks with the first seed, then with the second
    for (const std::size_t run : {0U, 1U, 2U}) {
        report.runs[run].measured = measured(0.5 + 0.1 * static_cast<double>(run), 4.5);
        report.runs[run].state = RunState::finished;
    }
    report.runs[0].cost = PassCost{164.4, 60.7, {.engine = "engine 1.2", .threads = 2}};
    report.runs[2].cost = PassCost{151.6, 60.7, {.engine = "engine 1.2", .threads = 2}};
    REQUIRE(cost_of(report, 0).has_value());
    CHECK(cost_of(report, 0)->milliseconds == 151.6);
    CHECK_FALSE(cost_of(report, 1).has_value());
    const std::string page = to_markdown(report);
    CHECK(page.find("engine 1.2, 2 threads") != std::string::npos);
    const auto cells = row_of(page, "mf-res2net");
    REQUIRE(cells.size() == 18);
    CHECK(cells[14] == "152");
    CHECK(cells[15] == "61");
    const json parsed = json::parse(to_json(report));
    CHECK(parsed.at("rows")[0].at("ours").at("pass").at("median_ms") == 151.6);
    CHECK_FALSE(parsed.at("rows")[1].at("ours").contains("pass"));

    // One column of three markers, for the only row that has both Dice and a cost; the key has three more.
    const auto markers = [](const Drawing& drawing) {
        return std::count_if(drawing.shapes().begin(), drawing.shapes().end(), [](const Drawing::Shape& shape) {
            return shape.kind == Drawing::Shape::Kind::circle || shape.kind == Drawing::Shape::Kind::polygon;
        });
    };
    CHECK(markers(draw_tradeoff(report)) == 6);
    report.runs[1].cost = PassCost{400.0, 200.0, {.engine = "engine 1.2", .threads = 2}};
    CHECK(markers(draw_tradeoff(report)) == 9);
    CHECK(draw_tradeoff(report).svg().find("mf-res2net, 61 MiB") != std::string::npos);
    CHECK(markers(draw_tradeoff(sample(ExperimentTable::table2, {"dmfnet"}))) == 3);
}

TEST_CASE("names of networks that cost nearly the same stand on lines of their own") {
    ExperimentReport report = sample(ExperimentTable::table2, {"mf-res2net", "dmfnet", "3d-espnet"});
    for (std::size_t run = 0; run < report.runs.size(); ++run) {
        report.runs[run].measured = measured(0.5, 4.5);
        report.runs[run].state = RunState::finished;
        report.runs[run].cost =
            PassCost{200.0 + 10.0 * static_cast<double>(run), 60.0, {.engine = "engine 1.2", .threads = 1}};
    }
    const auto heights = [&] {
        std::set<double> found;
        const Drawing drawing = draw_tradeoff(report);
        for (const Drawing::Shape& shape : drawing.shapes())
            if (shape.words.find(" MiB") != std::string::npos)
                found.insert(shape.points[0].y);
        return found.size();
    };
    CHECK(heights() == 3);
    report.runs[0].cost->milliseconds = 10.0; // far apart: the lowest line is enough
    report.runs[1].cost->milliseconds = 100.0;
    report.runs[2].cost->milliseconds = 1000.0;
    CHECK(heights() == 1);
}

} // namespace mfres
