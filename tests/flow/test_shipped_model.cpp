// SPDX-License-Identifier: MIT
// The weights that come with mfres: found without being named, and worth something.
#include "support/cases.h"
#include "support/program.h"

#include <mfres/evaluate.h>

#include <nlohmann/json.hpp>

#include <limits>

using namespace mfres;

TEST_CASE("without --model the weights that come with mfres segment a phantom near its truth") {
    const test::TemporaryFolder folder;
    const std::string phantom = folder / "phantom";
    REQUIRE(test::run_program({"phantom", "--seed", "3", "--out", phantom}).exit_code == 0);
    const auto evaluated = test::run_program({"evaluate", "--data", phantom, "--json", "--quiet"});
    INFO(evaluated.err);
    REQUIRE(evaluated.exit_code == 0);

    auto segmenter = Segmenter::open(std::filesystem::path(MFRES_SOURCE_DIR) / "models" / "mf-res2net.safetensors", {});
    REQUIRE_OK(segmenter);
    const auto cases = find_cases(phantom);
    REQUIRE_OK(cases);
    const auto table = evaluate_model(*segmenter, *cases, {}, {});
    REQUIRE_OK(table);
    REQUIRE(table->cases.size() == 1);
    // Trained on patients, not on phantoms: a tumour that is found at all scores this much, a wrong axis or channel
    // order scores near 0.
    for (const TumourRegion region : {TumourRegion::wt, TumourRegion::tc, TumourRegion::et}) {
        const auto dice = table->cases[0][region][Metric::dice];
        REQUIRE(dice.has_value());
        CHECK(*dice > 0.7);
    }
}

TEST_CASE("smaller networks that come with mfres are found by their names and segment a phantom with ever less work") {
    const test::TemporaryFolder folder;
    const std::string phantom = folder / "phantom";
    REQUIRE(test::run_program({"phantom", "--seed", "3", "--out", phantom}).exit_code == 0);
    std::int64_t macs = std::numeric_limits<std::int64_t>::max();
    for (const std::string name : {"mf-res2net", "mf-res2net-half", "mf-res2net-quarter"}) {
        INFO(name);
        const auto evaluated =
            test::run_program({"evaluate", "--model", name, "--data", phantom, "--json", "--quiet", "--threads", "2"});
        INFO(evaluated.err);
        REQUIRE(evaluated.exit_code == 0);
        const auto measured = nlohmann::json::parse(evaluated.out)["per_case"][0];
        for (const char* region : {"WT", "TC", "ET"})
            CHECK(measured[region]["dice"].get<double>() > 0.5);
        const auto timed =
            test::run_program({"bench", "--model", name, "--size", "32", "--runs", "1", "--no-probe", "--json"});
        REQUIRE(timed.exit_code == 0);
        const auto report = nlohmann::json::parse(timed.out);
        CHECK(report["network"] == name);
        CHECK(report["macs"] < macs / 2);
        macs = report["macs"];
    }
}

TEST_CASE("without FLAIR the usual weights reject a case and name those that take it, which do") {
    const test::TemporaryFolder folder;
    const std::string phantom = folder / "phantom";
    REQUIRE(test::run_program({"phantom", "--seed", "3", "--out", phantom}).exit_code == 0);
    for (const auto& entry : std::filesystem::directory_iterator(phantom))
        if (entry.path().string().find("flair") != std::string::npos)
            std::filesystem::remove(entry.path());
    const std::string labels = folder / "labels.nii.gz";
    const auto rejected = test::run_program({"segment", "--case", phantom, "--out", labels, "--quiet"});
    CHECK(rejected.exit_code == 3);
    CHECK(rejected.err.find("mf-res2net-missing") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(labels));
    const auto taken = test::run_program({"segment", "--model", "mf-res2net-missing", "--case", phantom, "--out",
                                          labels, "--json", "--quiet", "--threads", "2"});
    INFO(taken.err);
    REQUIRE(taken.exit_code == 0);
    CHECK(std::filesystem::exists(labels));
    CHECK(nlohmann::json::parse(taken.out)["warnings"].dump().find("FLAIR") != std::string::npos);
}

TEST_CASE("a name that no weights come under is named") {
    const test::TemporaryFolder folder;
    const std::string case_folder = test::write_case(folder).modalities[0].parent_path();
    const auto missing = test::run_program(
        {"segment", "--model", "mf-res2net-tenth", "--case", case_folder, "--out", folder / "labels.nii.gz"});
    CHECK(missing.exit_code == 6);
    CHECK(missing.err.find("no weights called mf-res2net-tenth") != std::string::npos);
}

TEST_CASE("a model file that does not exist is named") {
    const test::TemporaryFolder folder;
    const std::string case_folder = test::write_case(folder).modalities[0].parent_path();
    const auto missing = test::run_program(
        {"segment", "--model", folder / "none.safetensors", "--case", case_folder, "--out", folder / "labels.nii.gz"});
    CHECK(missing.exit_code == 6);
    CHECK(missing.err.find("none.safetensors") != std::string::npos);
}

TEST_CASE("enhancing tumour below the least that is asked for is labelled as core, and the report says so") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    auto segmenter = Segmenter::open(std::filesystem::path(MFRES_SOURCE_DIR) / "models" / "mf-res2net.safetensors",
                                     {.accept = {ErrorCode::brain_implausible}});
    REQUIRE_OK(segmenter);
    const auto plain = segmenter->segment(files, {});
    REQUIRE_OK(plain);
    const std::int64_t enhancing = plain->report.classes[2].voxels;
    REQUIRE(enhancing > 0);
    const auto kept = segmenter->segment(files, {.min_enhancing_mm3 = static_cast<double>(enhancing)});
    const auto dropped = segmenter->segment(files, {.min_enhancing_mm3 = static_cast<double>(enhancing) + 1.0});
    REQUIRE_OK(kept);
    REQUIRE_OK(dropped);
    CHECK(kept->labels.labels == plain->labels.labels);
    CHECK(dropped->report.classes[2].voxels == 0);
    CHECK(dropped->report.classes[0].voxels == plain->report.classes[0].voxels + enhancing);
    CHECK(dropped->report.warnings.size() == plain->report.warnings.size() + 1);
    REQUIRE_CODE(segmenter->segment(files, {.min_enhancing_mm3 = -1.0}), invalid_argument);
    REQUIRE_CODE(segmenter->segment(files, {.min_component_mm3 = -1.0}), invalid_argument);
}
