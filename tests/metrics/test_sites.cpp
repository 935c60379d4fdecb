// SPDX-License-Identifier: MIT
// Sites: what ids tell, tables of sites, and summaries by site worked out by hand.
#include "core/file.h"
#include "support/catch.h"
#include "support/paths.h"

#include <mfres/metrics.h>

#include <nlohmann/json.hpp>

using namespace mfres;

namespace {

CaseMetrics case_of(const std::string& id, double wt, double tc, double et) {
    CaseMetrics measured{id, {}, {}};
    measured[TumourRegion::wt][Metric::dice] = wt;
    measured[TumourRegion::tc][Metric::dice] = tc;
    measured[TumourRegion::et][Metric::dice] = et;
    return measured;
}

/// Two cases of CBICA, one of TCIA that failed, and one whose id tells nothing.
MetricsTable mixed_table() {
    MetricsTable table;
    table.cases = {case_of("Brats18_CBICA_AAB_1", 0.75, 0.5, 1.0), case_of("BraTS19_TCIA02_606_1", 0.125, 0.0, 0.25),
                   case_of("Brats18_CBICA_AAC_1", 0.5, 0.75, 0.5), case_of("patient-7", 1.0, 1.0, 1.0)};
    table.cases[1][TumourRegion::wt][Metric::hd95] = 12.5;
    return table;
}

void check_rejected(const std::string& csv, const std::string& part_of_message) {
    const test::TemporaryFolder folder;
    REQUIRE_OK(write_file_atomically(folder / "sites.csv", std::string_view(csv)));
    const auto sites = read_sites(folder / "sites.csv");
    INFO(csv);
    REQUIRE_CODE(sites, table_invalid);
    INFO(sites.error().message);
    CHECK(sites.error().message.find("sites.csv") != std::string::npos);
    CHECK(sites.error().message.find(part_of_message) != std::string::npos);
}

} // namespace

TEST_CASE("case ids name their sites") {
    // clang-format off
    const std::vector<std::pair<const char*, const char*>> expected = {
        {"Brats18_CBICA_AAB_1", "CBICA"}, {"BraTS19_CBICA_ASK_1", "CBICA"}, {"Brats17_2013_27_1", "2013"},
        {"Brats18_TCIA02_606_1", "TCIA"}, {"Brats17_TCIA_653_1", "TCIA"}, {"BraTS19_TMC_06290_1", "TMC"},
        {"BraTS20_Training_001", "BraTS2020"}, {"BraTS2021_01478", "BraTS2021"}, {"brats2021_01478", "BraTS2021"},
        {"BraTS-SSA-00002-000", "BraTS-Africa"}, {"BraTS-GLI-00005-100", "BraTS-GLI"}, {"BraTS-MET-00001-000", "BraTS-MET"},
        {"UPENN-GBM-00006_11", "UPENN"}, {"TCGA-FG-6692", "TCGA"},
        {"Brats18_WashU_S036_1", "WashU"}, {"Brats18_UAB_3446_1", "UAB"}, {"Brats18_TCIAN_1", "TCIAN"}, {"Brats18_2013", ""}, {"Brats18_", ""}, {"Brats18", ""}, {"Brats22_CBICA_A_1", ""},
        {"BraTS-12", ""}, {"BraTS-", ""}, {"BraTS", ""}, {"CBICA_AAB", ""}, {"patient-7", ""}, {"", ""},
    };
    // clang-format on
    for (const auto& [id, site] : expected) {
        INFO(id);
        CHECK(site_named_by(id) == site);
    }
    CHECK(site_of("patient-7") == "unknown");
    CHECK(site_of("patient-7", {}, "hospital") == "hospital");
    CHECK(site_of("patient-7", {{"patient-7", "Graz"}}, "hospital") == "Graz");
    CHECK(site_of("Brats18_CBICA_AAB_1", {}, "hospital") == "CBICA");
    CHECK(site_of("Brats18_CBICA_AAB_1", {{"Brats18_CBICA_AAB_1", "Penn"}}, "hospital") == "Penn");
}

TEST_CASE("a table of sites is read in either order of columns, and rejected with file, line and value") {
    const test::TemporaryFolder folder;
    const SiteTable expected = {{"a", "Graz"}, {"b, c", "Wien \"AKH\""}};
    for (const std::string_view csv : {"case,site\na,Graz\n\n\"b, c\",\"Wien \"\"AKH\"\"\"\n",
                                       "\xEF\xBB\xBFsite,case\r\nGraz,a\r\n\"Wien \"\"AKH\"\"\",\"b, c\"\r\n"}) {
        REQUIRE_OK(write_file_atomically(folder / "sites.csv", csv));
        const auto sites = read_sites(folder / "sites.csv");
        REQUIRE_OK(sites);
        CHECK(*sites == expected);
    }
    check_rejected("", "case,site");
    check_rejected("id,site\na,b\n", "case,site");
    check_rejected("case,site,city\na,b,c\n", "case,site");
    check_rejected("case,site\na,b\nc\n", "line 3: a row has a case and its site");
    check_rejected("case,site\na,\n", "line 2");
    check_rejected("case,site\n,b\n", "line 2");
    check_rejected("case,site\na,b\na,b\n", "line 3: the case \"a\" appears twice");
    check_rejected("case,site\n\"a,b\n", "quotation mark");
    REQUIRE_CODE(read_sites(folder / "absent.csv"), file_not_found);
}

TEST_CASE("every site has the means of its own cases") {
    MetricsTable table = mixed_table();
    const auto sites = summarise_by_site(table);
    REQUIRE(sites.size() == 3);
    CHECK(sites[0].site == "CBICA");
    CHECK(sites[0].summary.cases == 2);
    CHECK(sites[0].summary.at(TumourRegion::wt, Metric::dice).mean == 0.625);
    CHECK(sites[0].summary.at(TumourRegion::tc, Metric::dice).mean == 0.625);
    CHECK(sites[0].summary.at(TumourRegion::et, Metric::dice).mean == 0.75);
    CHECK(sites[1].site == "TCIA");
    CHECK(sites[1].summary.at(TumourRegion::wt, Metric::hd95).mean == 12.5);
    CHECK(sites[2].site == "unknown");

    CHECK(sites_csv(table) == "Site,Cases,Dice_ET,Dice_WT,Dice_TC,Sensitivity_ET,Sensitivity_WT,Sensitivity_TC,"
                              "Specificity_ET,Specificity_WT,Specificity_TC,Hausdorff95_ET,Hausdorff95_WT,"
                              "Hausdorff95_TC\n"
                              "CBICA,2,0.75,0.625,0.625,,,,,,,,,\n"
                              "TCIA,1,0.25,0.125,0,,,,,,,,12.5,\n"
                              "unknown,1,1,1,1,,,,,,,,,\n");
    const auto json = nlohmann::json::parse(to_json(table));
    REQUIRE(json["sites"].size() == 3);
    CHECK(json["sites"][0]["site"] == "CBICA");
    CHECK(json["sites"][0]["cases"] == 2);
    CHECK(json["sites"][0]["summary"]["ET"]["dice"]["mean"] == 0.75);
    CHECK(json["sites"][1]["summary"]["WT"]["hd95_mm"]["count"] == 1);
    CHECK(json["per_case"][1]["site"] == "TCIA");
    CHECK(json["per_case"][3]["site"] == "unknown");
    const std::string page = to_markdown(table);
    INFO(page);
    CHECK(page.find("\nMean Dice by site:\n\n| site    | cases | Dice WT | Dice TC | Dice ET |\n"
                    "|---------|------:|--------:|--------:|--------:|\n"
                    "| CBICA   |     2 | 0.62500 | 0.62500 | 0.75000 |\n"
                    "| TCIA    |     1 | 0.12500 | 0.00000 | 0.25000 |\n"
                    "| unknown |     1 | 1.00000 | 1.00000 | 1.00000 |\n") != std::string::npos);

    set_sites(table, {{"Brats18_CBICA_AAC_1", "Penn, 2"}, {"absent", "x"}}, "hospital");
    CHECK(sites_csv(table).find("\n\"Penn, 2\",1,0.5,0.5,0.75,") != std::string::npos);
    CHECK(sites_csv(table).find("\nhospital,1,1,1,1,") != std::string::npos);
    REQUIRE(table.notes.size() == 1);
    CHECK(table.notes[0] == "The table of sites names 1 of 2 cases that were not measured.");

    MetricsTable plain;
    plain.cases = {case_of("x", 1, 1, 1)};
    CHECK(to_markdown(plain).find("by site") == std::string::npos); // it would say what the table above says
}
