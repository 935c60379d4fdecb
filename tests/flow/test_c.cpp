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
    options.waiting = "passive";
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

TEST_CASE("plain C: a size of 0 is what the model recommends, unless that is turned off") {
    const test::TemporaryFolder folder;
    const CaseFiles files = test::write_case(folder);
    auto model = load_model(test::write_model(folder, test::small_network));
    REQUIRE_OK(model);
    model->metadata.postprocessing = {20.0, 1e9};
    const auto path = (folder / "recommends.safetensors").string();
    REQUIRE_OK(save_model(path, *model));
    const auto report_with = [&](double min_component, int none) {
        mfres_options options{};
        options.backend = "reference";
        options.min_component_mm3 = min_component;
        options.no_recommended_sizes = none;
        mfres_error error;
        mfres_segmenter* segmenter = mfres_open(path.c_str(), &options, &error);
        REQUIRE(segmenter != nullptr);
        char* text = nullptr;
        REQUIRE(mfres_segment_folder(segmenter, files.modalities[0].parent_path().c_str(), (folder / "a.nii").c_str(),
                                     &text, &error) == 0);
        auto report = nlohmann::json::parse(text);
        mfres_free(text);
        mfres_close(segmenter);
        return report["postprocessing"];
    };
    const auto sizes = [](double component, double enhancing) {
        return nlohmann::json{{"min_component_mm3", component}, {"min_enhancing_mm3", enhancing}};
    };
    CHECK(report_with(0.0, 0) == sizes(20.0, 1e9));
    CHECK(report_with(7.0, 0) == sizes(7.0, 1e9));
    CHECK(report_with(7.0, 1) == sizes(7.0, 0.0));
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
