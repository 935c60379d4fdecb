// SPDX-License-Identifier: MIT
// Which cases are held out, and which ids are of one patient.
#include "data/split.h"
#include "support/catch.h"
#include "support/paths.h"

#include <algorithm>
#include <fstream>
#include <set>

namespace mfres {

namespace {

using test::TemporaryFolder;
using Groups = std::vector<std::vector<std::string>>;

CaseSet named(const std::vector<std::string>& ids) {
    std::vector<CaseFiles> cases;
    for (const std::string& id : ids)
        cases.push_back({id, {}, {}});
    return cases;
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
    for (std::size_t i = 0; i < split->train.size(); ++i)
        trained.insert(patient_of(split->train.id(i)));
    for (std::size_t i = 0; i < split->held_out.size(); ++i)
        CHECK(trained.count(patient_of(split->held_out.id(i))) == 0);
}

TEST_CASE("ids of one patient are known by time point, by release and by a list") {
    const Patients plain;
    CHECK(plain.of("BraTS-GLI-00005-100") == plain.of("BraTS-GLI-00005-000"));
    CHECK(plain.of("BraTS19_CBICA_AAB_1") == plain.of("Brats18_CBICA_AAB_1"));
    CHECK(plain.of("Brats17_TCIA_653_1") == plain.of("Brats18_TCIA13_653_1"));
    CHECK(plain.of("Brats18_2013_2_1") != plain.of("Brats18_2013_3_1"));
    CHECK(plain.of("BraTS20_Training_001") == "BraTS20_Training_001"); // renumbered: not the names of 2019
    CHECK(plain.of("TCIA13_653_1") != plain.of("TCIA_653_1"));         // no ids of BraTS
    CHECK(plain.of("BraTS-SSA-00076-000") != plain.of("BraTS-SSA-00081-000"));

    const auto listed = Patients::of_groups({{"BraTS-SSA-00081-000", "BraTS-SSA-00076-000"}, {"x", "y", "z"}});
    REQUIRE_OK(listed);
    CHECK(listed->of("BraTS-SSA-00076-000") == listed->of("BraTS-SSA-00081-000"));
    CHECK(listed->of("BraTS-SSA-00076-100") == listed->of("BraTS-SSA-00081-000")); // a later scan of a listed one
    CHECK(listed->of("z") == listed->of("x"));
    CHECK(listed->of("w") == "w");
    CHECK(listed->warning_about(std::vector<std::string>{"x", "z", "BraTS-SSA-00076-000"})
              .find(": BraTS-SSA-00081-000, y") != std::string::npos);
    CHECK(plain.warning_about({}).empty());

    for (const Groups& groups : {Groups{{"a"}}, Groups{{}}, Groups{{"a", "b"}, {"c", "a"}}, Groups{{"a", ""}},
                                 Groups{{"Brats17_CBICA_A_1", "b"}, {"Brats18_CBICA_A_1", "c"}}})
        REQUIRE_CODE(Patients::of_groups(groups), invalid_argument);
}

TEST_CASE("a list of patients is read line by line, and one that cannot be is rejected with its name") {
    const TemporaryFolder folder;
    const auto path = folder / "patients.txt";
    std::ofstream(path) << "# case ids of one patient on each line\n\nBraTS-SSA-00076-000, BraTS-SSA-00081-000 # told\n"
                           "a\tb c\r\n";
    const auto patients = Patients::read(path);
    REQUIRE_OK(patients);
    CHECK(patients->groups() == Groups{{"BraTS-SSA-00076-000", "BraTS-SSA-00081-000"}, {"a", "b", "c"}});
    std::ofstream(path) << "a b\nc b\n";
    const auto twice = Patients::read(path);
    REQUIRE_CODE(twice, invalid_argument);
    CHECK(twice.error().message.find("patients.txt: patient b is listed twice") != std::string::npos);
    REQUIRE_CODE(Patients::read(folder / "absent"), file_not_found);
}

TEST_CASE("the names of BraTS 2017 to 2019 are 335 patients, each known in every release") {
    const auto path = test::shared_data("data/metrics/brats2019-name_mapping.csv");
    if (!path)
        return;
    std::ifstream lines(*path);
    std::string line;
    std::getline(lines, line);
    REQUIRE(line.starts_with("Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,"));
    const Patients patients;
    std::set<std::string> all;
    while (std::getline(lines, line)) {
        std::vector<std::string> cells(1);
        for (const char c : line)
            if (c == ',')
                cells.emplace_back();
            else if (c != '\r')
                cells.back() += c;
        REQUIRE(cells.size() == 5);
        INFO(line);
        const std::string patient = patients.of(cells[4]);
        CHECK(all.insert(patient).second);
        for (const std::size_t release : {1, 2})
            if (cells[release] != "NA")
                CHECK(patients.of(cells[release]) == patient);
    }
    CHECK(all.size() == 335);
}

TEST_CASE("folds hold every patient once, the first of five is every fifth, and a list keeps scans together") {
    std::vector<std::string> ids;
    for (int i = 1; i <= 11; ++i)
        ids.push_back("case" + std::to_string(i));
    const auto held_out = [](const std::vector<std::string>& of, const Fold& fold, const Patients& patients = {}) {
        const auto inside = in_fold(of, fold, patients);
        REQUIRE_OK(inside);
        REQUIRE(inside->size() == of.size());
        std::set<std::string> held;
        for (std::size_t i = 0; i < of.size(); ++i)
            if ((*inside)[i])
                held.insert(of[i]);
        return held;
    };
    // The order by `printf case8 | sha256sum` and so on: 8 10 2 5 11 1 3 6 4 9 7.
    using Ids = std::set<std::string>;
    CHECK(held_out(ids, {1, 5}) == Ids{"case8", "case1", "case7"});
    CHECK(held_out(ids, {2, 5}) == Ids{"case10", "case3"});
    CHECK(held_out(ids, {3, 5}) == Ids{"case2", "case6"});
    CHECK(held_out(ids, {4, 5}) == Ids{"case5", "case4"});
    CHECK(held_out(ids, {5, 5}) == Ids{"case11", "case9"});
    CHECK(held_out(ids, {2, 2}) == Ids{"case10", "case5", "case1", "case6", "case9"});
    CHECK(held_out({ids.rbegin(), ids.rend()}, {2, 5}) == Ids{"case10", "case3"});

    // case8 and case7 become one patient, numbered by the hash of the smaller id: 10 2 5 11 1 3 6 4 9 7+8.
    const auto patients = Patients::of_groups({{"case8", "case7"}});
    REQUIRE_OK(patients);
    CHECK(held_out(ids, {1, 5}, *patients) == Ids{"case10", "case3"});
    CHECK(held_out(ids, {5, 5}, *patients) == Ids{"case1", "case7", "case8"});

    REQUIRE_CODE(in_fold(std::vector<std::string>{"case1", "case2"}, {3, 5}, {}), dataset_empty);
    REQUIRE_CODE(in_fold(std::vector<std::string>{"case1"}, {1, 2}, {}), dataset_empty);
    REQUIRE_CODE(in_fold(std::vector<std::string>{"case7", "case8"}, {1, 2}, *patients), dataset_empty);
}

TEST_CASE("a fold is written as one number of another") {
    const auto fold = parse_fold("2/5");
    REQUIRE_OK(fold);
    CHECK(fold->index == 2);
    CHECK(fold->count == 5);
    CHECK(to_string(*fold) == "2/5");
    REQUIRE_OK(parse_fold("1000/1000"));
    for (const char* words :
         {"", "2", "2/", "/5", "0/5", "6/5", "1/1", "-1/5", "2/5 ", "2/5/7", "2.0/5", "1/1001", "a/b"}) {
        INFO(words);
        REQUIRE_CODE(parse_fold(words), invalid_argument);
    }
}

TEST_CASE("a patient on both sides is named with both cases") {
    const std::vector<std::string> trained = {"a", "Brats18_CBICA_AAB_1"};
    REQUIRE_OK(check_apart(trained, std::vector<std::string>{"b"}, {}));
    const auto again = check_apart(trained, std::vector<std::string>{"b", "BraTS19_CBICA_AAB_1"}, {});
    REQUIRE_CODE(again, invalid_argument);
    CHECK(again.error().message.find("case Brats18_CBICA_AAB_1 is trained on") != std::string::npos);
    CHECK(again.error().message.find("case BraTS19_CBICA_AAB_1 is held out") != std::string::npos);
    const auto patients = Patients::of_groups({{"a", "b"}});
    REQUIRE_OK(patients);
    REQUIRE_CODE(check_apart(trained, std::vector<std::string>{"b"}, *patients), invalid_argument);
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
    const auto split = find_split({folder / "data", {}, {}, {}});
    REQUIRE_OK(split);
    CHECK(split->train.size() == 2);
    CHECK(split->held_out.size() == 1);
    const auto apart = find_split({folder / "data", folder / "val", {}, {}});
    REQUIRE_OK(apart);
    CHECK(ids_of(apart->train) == std::vector<std::string>{"a", "b", "c"});
    CHECK(ids_of(apart->held_out) == std::vector<std::string>{"d"});
    CHECK(apart->rule != split->rule);

    const auto fold = find_split({folder / "data", {}, Fold{2, 3}, {}});
    REQUIRE_OK(fold);
    CHECK(ids_of(fold->held_out) == std::vector<std::string>{"b"}); // by sha256sum: c b a
    CHECK(fold->rule.find("fold 2/3") != std::string::npos);
    REQUIRE_CODE(find_split({folder / "data", folder / "val", Fold{2, 3}, {}}), invalid_argument);

    make_case(folder / "val/b");
    const auto overlap = find_split({folder / "data", folder / "val", {}, {}});
    REQUIRE_CODE(overlap, invalid_argument);
    CHECK(overlap.error().message.find("patient b") != std::string::npos);
    make_case(folder / "data/LGG/e", false);
    const auto unlabelled = find_split({folder / "data", {}, {}, {}});
    REQUIRE_CODE(unlabelled, file_not_found);
    CHECK(unlabelled.error().message.find(": e") != std::string::npos);
    REQUIRE_CODE(find_split({folder / "absent", {}, {}, {}}), file_not_found);
}

} // namespace mfres
