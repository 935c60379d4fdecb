// Which cases an experiment holds out.
#include "data/split.h"
#include "support/catch.h"
#include "support/paths.h"

#include <algorithm>
#include <fstream>
#include <set>

namespace mfres {

namespace {

using test::TemporaryFolder;

std::vector<CaseFiles> named(const std::vector<std::string>& ids) {
    std::vector<CaseFiles> cases;
    for (const std::string& id : ids)
        cases.push_back({id, {}, {}});
    return cases;
}

std::vector<std::string> ids_of(const std::vector<CaseFiles>& cases) {
    std::vector<std::string> ids;
    for (const CaseFiles& files : cases)
        ids.push_back(files.id);
    return ids;
}

/// Empty files with the names of a case: enough to be found.
void make_case(const std::filesystem::path& folder, bool segmented = true) {
    std::filesystem::create_directories(folder);
    const std::string id = folder.filename().string();
    for (const char* suffix : {"t1", "t1ce", "t2", "flair", "seg"})
        if (segmented || std::string_view(suffix) != "seg")
            std::ofstream(folder / (id + "_" + suffix + ".nii.gz"));
}

} // namespace

TEST_CASE("every fifth patient in the order of their hashes is held out") {
    // The order by `printf case8 | sha256sum` and so on: 8 10 2 5 11 1 3 6 4 9 7.
    std::vector<std::string> ids;
    for (int i = 1; i <= 11; ++i)
        ids.push_back("case" + std::to_string(i));
    const auto split = hold_out_fifth(named(ids));
    REQUIRE_OK(split);
    CHECK(ids_of(split->held_out) == std::vector<std::string>{"case1", "case7", "case8"});
    CHECK(ids_of(split->train) ==
          std::vector<std::string>{"case2", "case3", "case4", "case5", "case6", "case9", "case10", "case11"});

    std::reverse(ids.begin(), ids.end());
    const auto reversed = hold_out_fifth(named(ids));
    REQUIRE_OK(reversed);
    CHECK(ids_of(reversed->held_out) == std::vector<std::string>{"case8", "case7", "case1"});
}

TEST_CASE("all scans of a patient are on the same side") {
    CHECK(patient_of("BraTS-GLI-00005-100") == "BraTS-GLI-00005");
    CHECK(patient_of("BraTS-GLI-00005-000") == "BraTS-GLI-00005");
    CHECK(patient_of("BraTS19_CBICA_AAB_1") == "BraTS19_CBICA_AAB_1");
    CHECK(patient_of("TCGA-FG-669") == "TCGA-FG-669");
    CHECK(patient_of("BraTS-12") == "BraTS-12");
    CHECK(patient_of("") == "");

    std::vector<std::string> ids;
    for (int patient = 10; patient < 40; ++patient)
        for (const char* scan : {"-000", "-100", "-101"})
            ids.push_back("BraTS-GLI-000" + std::to_string(patient) + scan);
    const auto split = hold_out_fifth(named(ids));
    REQUIRE_OK(split);
    CHECK(split->held_out.size() == 18); // 6 of 30 patients
    CHECK(split->train.size() == 72);
    std::set<std::string_view> trained;
    for (const CaseFiles& files : split->train)
        trained.insert(patient_of(files.id));
    for (const CaseFiles& files : split->held_out)
        CHECK(trained.count(patient_of(files.id)) == 0);
}

TEST_CASE("a split leaves cases on both sides or is rejected") {
    REQUIRE_CODE(hold_out_fifth({}), dataset_empty);
    REQUIRE_CODE(hold_out_fifth(named({"one"})), dataset_empty);
    REQUIRE_CODE(hold_out_fifth(named({"BraTS-GLI-00005-000", "BraTS-GLI-00005-100"})), dataset_empty);
    const auto two = hold_out_fifth(named({"one", "two"}));
    REQUIRE_OK(two);
    CHECK(two->train.size() == 1);
    CHECK(two->held_out.size() == 1);
}

TEST_CASE("cases are found below HGG and LGG, and held-out ones in a folder of their own") {
    const TemporaryFolder folder;
    for (const char* path : {"data/HGG/a", "data/HGG/b", "data/LGG/c", "val/d"})
        make_case(folder / path);
    const auto split = find_split(folder / "data", {});
    REQUIRE_OK(split);
    CHECK(split->train.size() == 2);
    CHECK(split->held_out.size() == 1);
    const auto apart = find_split(folder / "data", folder / "val");
    REQUIRE_OK(apart);
    CHECK(ids_of(apart->train) == std::vector<std::string>{"a", "b", "c"});
    CHECK(ids_of(apart->held_out) == std::vector<std::string>{"d"});
    CHECK(apart->rule != split->rule);

    make_case(folder / "val/b");
    const auto overlap = find_split(folder / "data", folder / "val");
    REQUIRE_CODE(overlap, invalid_argument);
    CHECK(overlap.error().message.find("patient b") != std::string::npos);
    make_case(folder / "data/LGG/e", false);
    const auto unlabelled = find_split(folder / "data", {});
    REQUIRE_CODE(unlabelled, file_not_found);
    CHECK(unlabelled.error().message.find(": e") != std::string::npos);
    REQUIRE_CODE(find_split(folder / "absent", {}), file_not_found);
}

} // namespace mfres
