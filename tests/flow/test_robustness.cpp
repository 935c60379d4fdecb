// SPDX-License-Identifier: MIT
// Robustness measured on phantoms: what cannot change does not, and the program tells it.
#include "core/file.h"
#include "paper/robustness.h"
#include "support/cases.h"
#include "support/program.h"

#include <nlohmann/json.hpp>

using namespace mfres;
using test::run_program;
using test::TemporaryFolder;

namespace {

CaseFiles write_labelled_case(const TemporaryFolder& folder) {
    CaseFiles files = test::write_case(folder);
    files.segmentation = folder / "phantom" / "phantom_seg.nii.gz";
    const LabelMap& labels = test::small_phantom().labels;
    REQUIRE_OK(write_nifti_labels(*files.segmentation, labels, geometry_of(labels.grid), "synthetic", true));
    return files;
}

std::filesystem::path shipped_model() {
    return std::filesystem::path(MFRES_SOURCE_DIR) / "models" / "mf-res2net.safetensors";
}

} // namespace

TEST_CASE("moved and cropped cases get the very same labels, others nearly") {
    const TemporaryFolder folder;
    const CaseFiles files = write_labelled_case(folder);
    auto segmenter =
        Segmenter::open(shipped_model(), {.compute = {.threads = 2}, .accept = {ErrorCode::brain_implausible}});
    REQUIRE_OK(segmenter);
    double last = 0.0;
    const auto report = measure_robustness(*segmenter, {files}, {}, [&](std::string_view stage, double done) {
        CHECK(stage == "robustness");
        CHECK(done >= last);
        last = done;
        return true;
    });
    REQUIRE_OK(report);
    REQUIRE(report->rows.size() == disturbances.size());
    for (std::size_t row = 0; row < report->rows.size(); ++row) {
        INFO(name(disturbances[row]));
        CHECK(report->rows[row].disturbance == disturbances[row]);
        REQUIRE(report->rows[row].cases.size() == 1);
        const RobustnessCase& measured = report->rows[row].cases[0];
        CHECK(measured.id == "phantom");
        REQUIRE(measured.dice.has_value());
        REQUIRE(measured.false_enhancing.has_value());
        const bool same = row <= static_cast<std::size_t>(Disturbance::loose_crop);
        for (const double dice : measured.agreement)
            CHECK((same ? dice == 1.0 : dice > 0.5 && dice <= 1.0));
        if (same) {
            CHECK(measured == report->rows[0].cases[0]);
        }
    }
    CHECK(report->rows.back().cases[0].agreement[0] < 1.0); // noise is seen
    const std::string table = to_markdown(*report);
    CHECK(table.find("| tight-crop |") != std::string::npos);
    CHECK(table.find("Predictions by mf-res2net") != std::string::npos);
}

TEST_CASE("robustness of nothing, of a rejected case and after a stop is an error") {
    const TemporaryFolder folder;
    const CaseFiles files = write_labelled_case(folder);
    auto segmenter =
        Segmenter::open(shipped_model(), {.compute = {.threads = 1}, .accept = {ErrorCode::brain_implausible}});
    REQUIRE_OK(segmenter);
    REQUIRE_CODE(measure_robustness(*segmenter, {}, {}), dataset_empty);
    REQUIRE_CODE(measure_robustness(*segmenter, {files}, {}, [](std::string_view, double) { return false; }),
                 interrupted);
    REQUIRE_OK(write_file_atomically(files.modalities[2], std::string_view("no NIfTI")));
    REQUIRE_CODE(measure_robustness(*segmenter, {files}, {}), gzip_corrupt);
}

TEST_CASE("mfres robustness prints and writes its table, and overwrites nothing by accident") {
    const TemporaryFolder folder;
    write_labelled_case(folder);
    const std::string out = (folder / "table.md").string();
    const std::vector<std::string> command{"robustness", "--data",   folder.path().string(),
                                           "--quiet",    "--accept", "brain_implausible"};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), command.begin(), command.end());
        return run_program(more);
    };
    const auto first = with({"--out", out});
    INFO(first.err);
    REQUIRE(first.exit_code == 0);
    CHECK(first.out == test::file_text(out));
    CHECK(with({"--out", out}).exit_code == 6);
    const auto json = with({"--json", "--threads", "1"});
    REQUIRE(json.exit_code == 0);
    const auto parsed = nlohmann::json::parse(json.out);
    CHECK(parsed.at("disturbances").size() == disturbances.size());
    CHECK(parsed.at("disturbances")[0].at("cases")[0].at("dice_with_untouched") == std::vector<double>{1.0, 1.0, 1.0});
    CHECK(run_program({"robustness"}).exit_code == 2);
}
