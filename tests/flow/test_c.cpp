// SPDX-License-Identifier: MIT
// The plain C interface does what the C++ one does.
#include "support/cases.h"

#include <mfres/mfres.h>
#include <mfres/segmenter.h>

#include <nlohmann/json.hpp>

using namespace mfres;

TEST_CASE("plain C: open, segment a folder and named files, read the report, close") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const auto model = test::write_model(folder, test::small_network);
    mfres_error error;
    const mfres_options options{"reference", 2, 0};
    mfres_segmenter* segmenter = mfres_open(model.c_str(), &options, &error);
    INFO(error.message);
    REQUIRE(segmenter != nullptr);
    CHECK(std::string(error.name).empty());

    const auto a = folder / "a.nii";
    const auto b = folder / "b.nii";
    char* report = nullptr;
    REQUIRE(mfres_segment_folder(segmenter, files.modalities[0].parent_path().c_str(), a.c_str(), &report, &error) ==
            0);
    CHECK(nlohmann::json::parse(report)["backend"]["name"] == "reference");
    mfres_free(report);
    REQUIRE(mfres_segment_files(segmenter, files.modalities[0].c_str(), files.modalities[1].c_str(),
                                files.modalities[2].c_str(), files.modalities[3].c_str(), b.c_str(), nullptr,
                                &error) == 0);
    const auto from_folder = read_nifti_labels(a);
    const auto from_files = read_nifti_labels(b);
    REQUIRE_OK(from_folder);
    REQUIRE_OK(from_files);
    CHECK(from_folder->map.labels == from_files->map.labels);

    CHECK(mfres_segment_folder(segmenter, (folder / "missing").c_str(), a.c_str(), &report, &error) == -1);
    CHECK(std::string(error.name) == "file_not_found");
    CHECK(report == nullptr);
    CHECK(mfres_segment_files(segmenter, files.modalities[0].c_str(), nullptr, nullptr, nullptr, a.c_str(), nullptr,
                              nullptr) == -1);
    mfres_close(segmenter);
}

TEST_CASE("plain C: options reach the segmenter") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    const auto model = test::write_model(folder, test::small_network);
    mfres_options options{};
    options.backend = "reference";
    options.precision = "bf16";
    options.wait_policy = "passive";
    options.mirror = "x";
    options.min_component_mm3 = 9.0;
    options.min_enhancing_mm3 = 1e9;
    mfres_error error;
    mfres_segmenter* segmenter = mfres_open(model.c_str(), &options, &error);
    INFO(error.message);
    REQUIRE(segmenter != nullptr);
    char* text = nullptr;
    REQUIRE(mfres_segment_folder(segmenter, files.modalities[0].parent_path().c_str(), (folder / "a.nii").c_str(),
                                 &text, &error) == 0);
    const auto report = nlohmann::json::parse(text);
    mfres_free(text);
    mfres_close(segmenter);
    CHECK(report["backend"]["precision"] == "bf16");
    CHECK(report["mirror_images"] == 2);
    CHECK(report["classes"]["enhancing tumour"]["voxels"] == 0);

    options.accept = "modality_moved,gzip_corrupt";
    CHECK(mfres_open(model.c_str(), &options, &error) == nullptr);
    CHECK(std::string(error.name) == "invalid_argument");
    options.accept = "modality_moved,brain_implausible";
    options.mirror = "w";
    CHECK(mfres_open(model.c_str(), &options, &error) == nullptr);
    CHECK(std::string(error.name) == "invalid_argument");
    options.mirror = nullptr;
    options.min_component_mm3 = -1.0;
    segmenter = mfres_open(model.c_str(), &options, &error);
    REQUIRE(segmenter != nullptr);
    CHECK(mfres_segment_folder(segmenter, files.modalities[0].parent_path().c_str(), (folder / "b.nii").c_str(),
                               nullptr, &error) == -1);
    CHECK(std::string(error.message).find("min_component_mm3") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(folder / "b.nii"));
    mfres_close(segmenter);
}

TEST_CASE("plain C: wrong arguments are errors, not crashes") {
    mfres_error error;
    CHECK(mfres_open(nullptr, nullptr, &error) == nullptr);
    CHECK(std::string(error.name) == "invalid_argument");
    CHECK(mfres_open("x.safetensors", nullptr, nullptr) == nullptr);
    CHECK(mfres_segment_folder(nullptr, "a", "b", nullptr, &error) == -1);
    CHECK(std::string(error.message).find("segmenter") != std::string::npos);
    mfres_close(nullptr);
    mfres_free(nullptr);
    CHECK(version() == mfres_version());
}
