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

TEST_CASE("every command that takes a model takes the name of weights that come with mfres") {
    const test::TemporaryFolder folder;
    const std::string name = "mf-res2net-quarter";
    const std::string file = std::string(MFRES_SOURCE_DIR) + "/models/" + name + ".safetensors";
    const auto report = [&](const std::vector<std::string>& arguments) {
        const auto finished = test::run_program(arguments);
        INFO(arguments[0] << ": " << finished.err);
        REQUIRE(finished.exit_code == 0);
        return nlohmann::json::parse(finished.out);
    };
    const auto shown = report({"info", name, "--json"});
    const std::string hash = shown["model"]["weights_sha256"];
    CHECK(shown["kind"] == "model");
    CHECK(std::filesystem::equivalent(shown["path"].get<std::string>(), file));
    CHECK(report({"info", name, "--plan", "--size", "32", "--json"})["ops"].size() > 10);

    const std::string copy = folder / "copy.safetensors";
    REQUIRE(test::run_program({"convert", name, "--out", copy}).exit_code == 0);
    CHECK(report({"info", copy, "--json"})["model"]["weights_sha256"] == hash);
    const std::string mean = folder / "mean.safetensors";
    REQUIRE(test::run_program({"average", name, name, "--out", mean}).exit_code == 0);
    CHECK(report({"info", mean, "--json"})["model"]["recipe"]["average_of"][1]["weights_sha256"] == hash);

    const std::string cases = folder / "cases";
    REQUIRE(test::run_program({"phantom", "--seed", "1", "--size", "48,56,48", "--out", cases + "/p"}).exit_code == 0);
    const auto trained =
        report({"train",  "--data",  cases,     "--out", folder / "run", "--init", name,     "--teacher", name,
                "--loss", "dice-ce", "--steps", "1",     "--batch",      "1",      "--crop", "16",        "--threads",
                "1",      "--json",  "--quiet"});
    CHECK(trained["recipe"]["init_sha256"] == hash);
    CHECK(trained["recipe"]["teachers_sha256"] == hash);

    // A file of that name comes first, and a name that nothing has is told as such.
    std::filesystem::copy_file(copy, folder / name);
    CHECK(report({"info", folder / name, "--json"})["path"].get<std::string>() == (folder / name).string());
    const auto unknown = test::run_program({"info", "mf-res3net"});
    CHECK(unknown.exit_code == 6);
    CHECK(unknown.err.find("no weights called mf-res3net come with mfres: there are mf-res2net-half, ") !=
          std::string::npos);
    CHECK(test::run_program({"info", "--help"}).out.find("mfres complexity NAME") != std::string::npos);
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
