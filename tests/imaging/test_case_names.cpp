// SPDX-License-Identifier: MIT
// Cases under the names that public data sets and other programs give them.
#include "imaging/case.h"
#include "imaging/case_names.h"
#include "nifti_bytes.h"
#include "support/catch.h"
#include "support/paths.h"

#include <mfres/case.h>

#include <fstream>

using namespace mfres;

namespace {

namespace fs = std::filesystem;

void touch(const fs::path& path) {
    fs::create_directories(path.parent_path());
    test::save(path, {});
}

void write(const fs::path& path, const std::string& content) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << content;
}

/// File names in the order T1, T1ce, T2, FLAIR and segmentation; "" where there is none.
using Names = std::array<std::string, 5>;

Names names_of(const CaseFiles& files) {
    Names names;
    for (std::size_t slot = 0; slot < 4; ++slot)
        names[slot] = files.modalities[slot].filename().string();
    names[4] = files.segmentation ? files.segmentation->filename().string() : "";
    return names;
}

CaseFiles case_in(const fs::path& folder) {
    auto files = find_case(folder);
    REQUIRE_OK(files);
    return std::move(files).value();
}

} // namespace

TEST_CASE("names of BIDS, UPENN-GBM, UCSF-PDGM, bare words and Analyze pairs are found") {
    // clang-format off
    const std::vector<Names> namings = {
        {"sub-01_T1w.nii.gz", "sub-01_ce-gd_T1w.nii.gz", "sub-01_T2w.nii.gz", "sub-01_FLAIR.nii.gz", "sub-01_dseg.nii.gz"},
        {"sub-01_space-MNI_T1w.nii", "sub-01_ce-gadolinium_space-MNI_T1w.nii", "sub-01_space-MNI_T2w.nii", "sub-01_space-MNI_FLAIR.nii", ""},
        {"UPENN-GBM-00001_11_T1.nii.gz", "UPENN-GBM-00001_11_T1GD.nii.gz", "UPENN-GBM-00001_11_T2.nii.gz", "UPENN-GBM-00001_11_FLAIR.nii.gz", "UPENN-GBM-00001_11_segm.nii.gz"},
        {"UCSF-PDGM-0004_T1.nii.gz", "UCSF-PDGM-0004_T1c.nii.gz", "UCSF-PDGM-0004_T2.nii.gz", "UCSF-PDGM-0004_FLAIR.nii.gz", "UCSF-PDGM-0004_tumor_segmentation.nii.gz"},
        {"t1.nii.gz", "t1ce.nii.gz", "t2.nii.gz", "flair.nii.gz", "seg.nii.gz"},
        {"T1.nii", "T1Gd.nii", "T2.nii", "FLAIR.nii", "labels.nii"},
        {"p_t1.hdr", "p_t1ce.hdr", "p_t2.hdr", "p_flair.hdr", ""},
    };
    // clang-format on
    const test::TemporaryFolder folder;
    for (std::size_t n = 0; n < namings.size(); ++n) {
        const fs::path place = folder / ("case" + std::to_string(n));
        for (const std::string& name : namings[n])
            if (!name.empty())
                touch(place / name);
        if (namings[n][0].ends_with(".hdr"))
            for (const std::string& name : namings[n])
                if (!name.empty())
                    touch(place / (name.substr(0, name.size() - 4) + ".img"));
        for (const char* other : {"x_brain_segmentation.nii.gz", "x_T1_unstripped.nii.gz", "x_ADC.nii.gz"})
            touch(place / other);
        INFO(namings[n][0]);
        CHECK(names_of(case_in(place)) == namings[n]);
    }
    const auto all = find_cases(folder.path());
    REQUIRE_OK(all);
    CHECK(all->size() == namings.size());
}

TEST_CASE("a name of BraTS comes before names of other kinds, and of two others the case is ambiguous") {
    const test::TemporaryFolder folder;
    for (const char* name : {"p_t1.nii.gz", "p_t1ce.nii.gz", "p_t2.nii.gz", "p_flair.nii.gz"})
        touch(folder / "p" / name);
    touch(folder / "p" / "t1.nii.gz");
    touch(folder / "p" / "p_T2w.nii.gz");
    CHECK(names_of(case_in(folder / "p")) ==
          Names{"p_t1.nii.gz", "p_t1ce.nii.gz", "p_t2.nii.gz", "p_flair.nii.gz", ""});
    fs::remove(folder / "p" / "p_t2.nii.gz");
    touch(folder / "p" / "t2.nii.gz");
    REQUIRE_CODE(find_case(folder / "p"), modality_ambiguous);
    fs::remove(folder / "p" / "t2.nii.gz");
    // Of two label maps neither is meant for sure.
    touch(folder / "p" / "a_label.nii.gz");
    CHECK(names_of(case_in(folder / "p"))[4] == "a_label.nii.gz");
    touch(folder / "p" / "b_label.nii.gz");
    CHECK(names_of(case_in(folder / "p"))[4].empty());
}

TEST_CASE("a data set in BIDS layout has the subject and the session in the ids of its cases") {
    const test::TemporaryFolder folder;
    for (const std::string place : {"sub-01/ses-1/anat", "sub-01/ses-2/anat", "sub-02/anat", "sub-03"})
        for (const char* name : {"a_T1w.nii.gz", "a_ce-gd_T1w.nii.gz", "a_T2w.nii.gz", "a_FLAIR.nii.gz"})
            touch(folder / "bids" / place / name);
    write(folder / "bids/dataset_description.json", "{}");
    const auto cases = find_cases(folder / "bids");
    REQUIRE_OK(cases);
    std::vector<std::string> ids;
    for (const CaseFiles& files : *cases)
        ids.push_back(files.id);
    CHECK(ids == std::vector<std::string>{"sub-01_ses-1", "sub-01_ses-2", "sub-02", "sub-03"});
    CHECK(case_in(folder / "bids/sub-02/anat/").id == "sub-02");
}

TEST_CASE("a data set of nnU-Net has the order of its dataset.json") {
    const test::TemporaryFolder folder;
    const fs::path set = folder / "Dataset137_BraTS";
    for (const char* id : {"BraTS_001", "BraTS_002"}) {
        for (const char* channel : {"_0000", "_0001", "_0002", "_0003"})
            touch(set / "imagesTr" / (std::string(id) + channel + ".nii.gz"));
        touch(set / "labelsTr" / (std::string(id) + ".nii.gz"));
    }
    for (const char* channel : {"_0000", "_0001", "_0002"})
        touch(set / "imagesTs" / (std::string("BraTS_003") + channel + ".nii.gz"));

    const auto none = search_cases(set);
    REQUIRE_OK(none);
    REQUIRE(none->rejected.size() == 2);
    CHECK(none->rejected[0].error.message.find("there is no dataset.json") != std::string::npos);

    write(set / "dataset.json",
          R"({"channel_names": {"0": "FLAIR", "1": "T1w", "2": "T1-Gd", "3": "T2w"}, "file_ending": ".nii.gz"})");
    const auto found = search_cases(set, true);
    REQUIRE_OK(found);
    REQUIRE(found->cases.size() == 3);
    CHECK(found->skipped.empty());
    CHECK(names_of(found->cases[0]) == Names{"BraTS_001_0001.nii.gz", "BraTS_001_0002.nii.gz", "BraTS_001_0003.nii.gz",
                                             "BraTS_001_0000.nii.gz", "BraTS_001.nii.gz"});
    CHECK(found->cases[2].id == "BraTS_003");
    CHECK(found->cases[2].modalities[2].empty());
    const auto complete = search_cases(set);
    REQUIRE_OK(complete);
    REQUIRE(complete->rejected.size() == 1);
    CHECK(complete->rejected[0].error.message.find("BraTS_003") != std::string::npos);
    CHECK(complete->rejected[0].error.message.find("no file for t2") != std::string::npos);
}

TEST_CASE("one case of nnU-Net is a case, several are a data set, and old and wrong dataset.json are told apart") {
    const test::TemporaryFolder folder;
    const fs::path set = folder / "set";
    for (const char* channel : {"_0000", "_0001", "_0002", "_0003"})
        touch(set / "imagesTs" / (std::string("a") + channel + ".nii.gz"));
    write(set / "dataset.json", R"({"modality": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}})");
    CHECK(names_of(case_in(set / "imagesTs"))[1] == "a_0001.nii.gz");
    touch(set / "imagesTs/b_0000.nii.gz");
    const auto several = find_case(set / "imagesTs");
    REQUIRE_CODE(several, modality_missing);
    CHECK(several.error().message.find("give it as a data set (--data)") != std::string::npos);
    write(set / "dataset.json", R"({"channel_names": {"0": "ADC"}})");
    const auto nameless = find_case(set / "imagesTs");
    REQUIRE_CODE(nameless, modality_missing);
    CHECK(nameless.error().message.find("names no contrast") != std::string::npos);
    write(set / "dataset.json", "{");
    REQUIRE_CODE(find_case(set / "imagesTs"), json_invalid);
}

TEST_CASE("where no name fits, the files and the four options are named") {
    const test::TemporaryFolder folder;
    for (const char* name : {"scan1.nii.gz", "scan2.nii.gz"})
        touch(folder / "p" / name);
    const auto missing = find_case(folder / "p");
    REQUIRE_CODE(missing, modality_missing);
    for (const char* words : {"scan1.nii.gz, scan2.nii.gz", "--t1 F --t1ce F --t2 F --flair F", "BIDS"})
        CHECK(missing.error().message.find(words) != std::string::npos);
    const auto none = find_cases(folder / "p");
    REQUIRE_CODE(none, file_not_found);
    for (const char* words : {"scan1.nii.gz", "--t1 F --t1ce F --t2 F --flair F"})
        CHECK(none.error().message.find(words) != std::string::npos);
}
