// SPDX-License-Identifier: MIT
// Evaluation of whole data sets: labels of phantoms against themselves and against spoilt ones, a model, the program.
#include "core/file.h"
#include "imaging/labels.h"
#include "support/cases.h"
#include "support/program.h"

#include <mfres/evaluate.h>

#include <nlohmann/json.hpp>

using namespace mfres;
using nlohmann::json;
using test::file_text;
using test::run_program;
using test::TemporaryFolder;

namespace {

void write_labels(const std::filesystem::path& path, LabelMap classes, LabelScheme scheme = LabelScheme::brats) {
    std::filesystem::create_directories(path.parent_path());
    REQUIRE_OK(classes_to_labels(classes, scheme, "test"));
    REQUIRE_OK(write_nifti_labels(path, classes, geometry_of(classes.grid), "synthetic", true));
}

/// The phantom's classes.
LabelMap phantom_classes() {
    LabelMap classes = test::small_phantom().labels;
    REQUIRE_OK(labels_to_classes(classes, LabelScheme::brats, "phantom"));
    return classes;
}

/// The same moved by one voxel along i.
LabelMap shifted(const LabelMap& classes) {
    LabelMap moved = classes;
    std::rotate(moved.labels.begin(), moved.labels.end() - 1, moved.labels.end());
    return moved;
}

/// References of cases a and a_2 as flat files.
void write_references(const TemporaryFolder& folder) {
    for (const std::string id : {"a", "a_2"})
        write_labels(folder / "ref" / (id + ".nii.gz"), phantom_classes());
}

Result<MetricsTable> evaluate(const TemporaryFolder& folder, const EvaluationOptions& options = {}) {
    return evaluate_folders(folder / "pred", folder / "ref", options);
}

void check_perfect(const CaseMetrics& measured) {
    for (const TumourRegion region : tumour_regions) {
        CHECK(measured[region][Metric::dice] == 1.0);
        CHECK(measured[region][Metric::sensitivity] == 1.0);
        CHECK(measured[region][Metric::specificity] == 1.0);
        CHECK(measured[region][Metric::hd95] == 0.0);
    }
}

CaseFiles write_full_case(const TemporaryFolder& folder, const std::string& id) {
    const Phantom& phantom = test::small_phantom();
    CaseFiles files = test::write_case(folder, phantom.volumes, geometry_of(phantom.volumes[0].grid), id);
    files.segmentation = folder / id / (id + "_seg.nii.gz");
    write_labels(*files.segmentation, phantom_classes());
    return files;
}

} // namespace

TEST_CASE("a perfect prediction scores 1 and 0 mm, one moved by a voxel a little less and 1 mm") {
    const TemporaryFolder folder;
    write_references(folder);
    write_labels(folder / "pred" / "a.nii.gz", phantom_classes());
    write_labels(folder / "pred" / "a_2_my-seg.nii", shifted(phantom_classes()));
    const auto table = evaluate(folder);
    REQUIRE_OK(table);
    REQUIRE(table->cases.size() == 2);
    CHECK(table->definition == RegionDefinition::brats);
    CHECK(table->scheme == EmptyScheme::server2019);
    CHECK(table->labels == "brats");
    REQUIRE(table->notes.size() == 2);
    CHECK(table->notes[0] == "Labels of the references are read as brats (0 background, 1 necrotic core, 2 oedema, "
                             "4 enhancing tumour): of 2 segmentations, 2 hold a 4 and none a 3.");
    CHECK(to_markdown(*table).find("ET = labels 4 of the scheme `brats`") != std::string::npos);
    CHECK(table->cases[0].id == "a");
    check_perfect(table->cases[0]);
    CHECK(table->cases[1].id == "a_2");
    const RegionMetrics& wt = table->cases[1][TumourRegion::wt];
    CHECK(*wt[Metric::dice] < 1.0);
    CHECK(*wt[Metric::dice] > 0.8);
    CHECK(wt[Metric::hd95] == 1.0);
}

TEST_CASE("BraTS folders on both sides, each of which has a label scheme of its own") {
    const TemporaryFolder folder;
    write_full_case(folder, "case_1");
    std::filesystem::create_directories(folder / "ref" / "HGG");
    std::filesystem::rename(folder / "case_1", folder / "ref" / "HGG" / "case_1");
    write_labels(folder / "pred" / "case_1" / "segmentation.nii.gz", phantom_classes(), LabelScheme::brats2023);
    const auto table = evaluate(folder);
    REQUIRE_OK(table);
    REQUIRE(table->cases.size() == 1);
    CHECK(table->cases[0].id == "case_1");
    check_perfect(table->cases[0]);
    CHECK(table->notes[1].find("predictions are read as brats2023") != std::string::npos);
    REQUIRE_CODE(evaluate(folder, {.label_scheme = "brats"}), label_outside_scheme);
    REQUIRE_OK(evaluate(folder, {.label_scheme = "brats", .prediction_scheme = "auto"}));
    REQUIRE_CODE(evaluate(folder, {.label_scheme = "brats1999"}), invalid_argument);
}

TEST_CASE("a set of labels has one scheme: mixed and missing evidence is rejected, and a named scheme is obeyed") {
    const TemporaryFolder folder;
    write_labels(folder / "ref" / "a.nii.gz", phantom_classes());
    write_labels(folder / "ref" / "b.nii.gz", phantom_classes(), LabelScheme::brats2023);
    REQUIRE_CODE(evaluate_folders(folder / "ref", folder / "ref", {}), label_scheme_unclear);

    LabelMap low_grade = phantom_classes();
    std::replace(low_grade.labels.begin(), low_grade.labels.end(), std::uint8_t{3}, std::uint8_t{1});
    write_labels(folder / "lone" / "a.nii.gz", low_grade);
    REQUIRE_CODE(evaluate_folders(folder / "lone", folder / "lone", {}), label_scheme_unclear);
    REQUIRE_OK(evaluate_folders(folder / "lone", folder / "lone", {.label_scheme = "brats2023"}));
    // A prediction without enhancing tumour is read as its reference.
    write_labels(folder / "full" / "a.nii.gz", phantom_classes());
    const auto borrowed = evaluate_folders(folder / "lone", folder / "full", {});
    REQUIRE_OK(borrowed);
    CHECK(borrowed->notes[1].find("predictions are read as brats") != std::string::npos);
    CHECK(borrowed->notes[1].find("the other side's do") != std::string::npos);
    CHECK(borrowed->cases[0][TumourRegion::et][Metric::dice] == 0.0);
    CHECK(borrowed->cases[0][TumourRegion::tc][Metric::dice] == 1.0);
}

TEST_CASE("brats2024, brats-ped, msd and a mapping score what the same classes score, and a cavity is told") {
    const TemporaryFolder folder;
    write_labels(folder / "pred" / "a.nii.gz", phantom_classes());
    for (const LabelScheme scheme : {LabelScheme::brats_ped, LabelScheme::msd}) {
        INFO(name(scheme));
        const auto reference = folder / std::string(name(scheme)) / "a.nii.gz";
        write_labels(reference, phantom_classes(), scheme);
        const auto table = evaluate_folders(folder / "pred", reference.parent_path(),
                                            {.label_scheme = std::string(name(scheme)), .prediction_scheme = "brats"});
        REQUIRE_OK(table);
        check_perfect(table->cases[0]);
    }
    LabelMap cavity = phantom_classes();
    REQUIRE_OK(classes_to_labels(cavity, LabelScheme::brats2024, "test"));
    cavity.labels[0] = 4;
    cavity.labels[1] = 4;
    std::filesystem::create_directories(folder / "ref");
    REQUIRE_OK(write_nifti_labels(folder / "ref" / "a.nii.gz", cavity, geometry_of(cavity.grid), "synthetic", true));
    const auto after_treatment = evaluate(folder, {.label_scheme = "brats2024", .prediction_scheme = "brats"});
    REQUIRE_OK(after_treatment);
    check_perfect(after_treatment->cases[0]);
    CHECK(after_treatment->notes.back() == "2 voxels with the label 4 in 1 of the references (resection cavity) count "
                                           "as background.");
    const auto mapped = evaluate(folder, {.label_scheme = "1:ncr,2:ed,3:et,4:bg", .prediction_scheme = "brats"});
    REQUIRE_OK(mapped);
    check_perfect(mapped->cases[0]);
    CHECK(to_markdown(*mapped).find("scheme `1:ncr,2:ed,3:et,4:bg`") != std::string::npos);
    REQUIRE_CODE(evaluate(folder), label_scheme_unclear); // 3 and 4
}

TEST_CASE("a missing prediction is named, a surplus one is noted, two for one case are rejected") {
    const TemporaryFolder folder;
    write_references(folder);
    write_labels(folder / "pred" / "a.nii.gz", phantom_classes());
    write_labels(folder / "pred" / "b.nii.gz", phantom_classes());
    const auto missing = evaluate(folder);
    REQUIRE_CODE(missing, file_not_found);
    CHECK(missing.error().message.find("no prediction for 1 of 2 references: a_2") != std::string::npos);

    write_labels(folder / "pred" / "a_2.nii.gz", phantom_classes());
    const auto surplus = evaluate(folder);
    REQUIRE_OK(surplus);
    CHECK(surplus->notes.back().find("b.nii.gz") != std::string::npos);

    write_labels(folder / "pred" / "more" / "a_seg.nii.gz", phantom_classes());
    const auto twice = evaluate(folder);
    REQUIRE_CODE(twice, modality_ambiguous);
    CHECK(twice.error().message.find("a_seg.nii.gz") != std::string::npos);
}

TEST_CASE("predictions on another grid, with stray labels or in damaged files are rejected") {
    const TemporaryFolder folder;
    write_labels(folder / "ref" / "a.nii.gz", phantom_classes());
    const auto path = folder / "pred" / "a.nii.gz";

    LabelMap larger = phantom_classes();
    larger.grid.size[2] += 1;
    larger.labels.resize(static_cast<std::size_t>(larger.grid.voxels()));
    write_labels(path, larger);
    const auto rejected = evaluate(folder);
    REQUIRE_CODE(rejected, grid_size_mismatch);
    CHECK(rejected.error().message.find("a.nii.gz") != std::string::npos);

    LabelMap elsewhere = phantom_classes();
    elsewhere.grid.affine[0][3] += 1.0;
    write_labels(path, elsewhere);
    REQUIRE_CODE(evaluate(folder), grid_position_mismatch);

    LabelMap stray = phantom_classes(); // 9 belongs to no scheme
    REQUIRE_OK(classes_to_labels(stray, LabelScheme::brats, "test"));
    stray.labels[0] = 9;
    REQUIRE_OK(write_nifti_labels(path, stray, geometry_of(stray.grid), "synthetic", true));
    REQUIRE_CODE(evaluate(folder), label_outside_scheme);

    write_labels(path, phantom_classes());
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 6);
    REQUIRE_CODE(evaluate(folder), gzip_truncated);

    std::filesystem::remove_all(folder / "pred");
    REQUIRE_CODE(evaluate(folder), file_not_found);
    REQUIRE_CODE(evaluate_folders(folder / "ref", folder / "pred", {}), file_not_found);
}

TEST_CASE("a stop is heard between cases") {
    const TemporaryFolder folder;
    write_references(folder);
    int calls = 0;
    const auto stopped = evaluate_folders(folder / "ref", folder / "ref", {}, [&](std::string_view, double done) {
        CHECK(done >= 0.0);
        CHECK(done < 1.0);
        return ++calls < 2;
    });
    REQUIRE_CODE(stopped, interrupted);
    CHECK(stopped.error().message.find("a_2") != std::string::npos);
}

TEST_CASE("a model evaluated in one go scores what its written labels score") {
    const TemporaryFolder folder;
    const CaseFiles files = write_full_case(folder, "case_1");
    auto segmenter = Segmenter::open(test::write_model(folder, test::small_network), {});
    REQUIRE_OK(segmenter);
    double last = 0.0;
    const auto in_one_go = evaluate_model(*segmenter, {files}, {}, [&](std::string_view stage, double done) {
        CHECK(stage == "evaluate"); // one stage, so that its time left is that of everything
        CHECK(done >= last);
        last = done;
        return true;
    });
    REQUIRE_OK(in_one_go);
    CHECK(last > 0.8);
    REQUIRE_OK(segmenter->segment(files, {.output = folder / "labels.nii.gz"}));
    const auto by_file = evaluate_files("case_1", folder / "labels.nii.gz", *files.segmentation, {});
    REQUIRE_OK(by_file);
    REQUIRE(in_one_go->cases.size() == 1);
    CHECK(in_one_go->cases[0] == *by_file);
    CHECK(*by_file->regions[0][Metric::dice] < 0.9); // random weights: no perfect score by accident
    REQUIRE(in_one_go->notes.size() == 2);
    CHECK(in_one_go->notes[0].find("mf-res2net") != std::string::npos);
    CHECK(in_one_go->notes[1].find("read as brats (") != std::string::npos);
    CHECK(in_one_go->labels == "brats");

    CaseFiles without = files;
    without.id = "nameless";
    without.segmentation.reset();
    const auto rejected = evaluate_model(*segmenter, {files, without}, {});
    REQUIRE_CODE(rejected, file_not_found);
    CHECK(rejected.error().message.find("nameless") != std::string::npos);
    REQUIRE_CODE(evaluate_model(*segmenter, {}, {}), dataset_empty);
    REQUIRE_CODE(evaluate_model(*segmenter, {files}, {.threads = -1}), invalid_argument);
}

TEST_CASE("mfres evaluate of files: a table, four files, and no overwriting by accident") {
    const TemporaryFolder folder;
    write_references(folder);
    for (const std::string id : {"a", "a_2"})
        write_labels(folder / "pred" / (id + ".nii.gz"), phantom_classes());
    const std::vector<std::string> arguments = {"evaluate",
                                                "--pred",
                                                (folder / "pred").string(),
                                                "--ref",
                                                (folder / "ref").string(),
                                                "--out",
                                                (folder / "out").string(),
                                                "--quiet"};
    const auto run = run_program(arguments);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    CHECK(run.err.empty());
    CHECK(run.out.find("`brats`") != std::string::npos);
    CHECK(run.out.find("`server2019`") != std::string::npos);
    CHECK(run.out.find("| Dice        | ET     |     2 | 1.00000 |") != std::string::npos);
    CHECK(run.out == file_text(folder / "out" / "table.md"));
    const auto table = read_csv(folder / "out" / "cases.csv");
    REQUIRE_OK(table);
    REQUIRE(table->cases.size() == 2);
    check_perfect(table->cases[1]);
    const json summary = json::parse(file_text(folder / "out" / "summary.json"));
    CHECK(summary["summary"]["WT"]["dice"]["mean"] == 1.0);
    CHECK(run.out.find("| ref  |     2 | 1.00000 |") != std::string::npos); // ids that tell no site: the folder's name
    CHECK(file_text(folder / "out" / "sites.csv").find("\nref,2,1,1,1,1,1,1,1,1,1,0,0,0\n") != std::string::npos);

    CHECK(run_program(arguments).exit_code == 6);
    REQUIRE_OK(write_file_atomically(folder / "sites.csv", std::string_view("case,site\na,Graz\nb,Wien\n")));
    std::vector<std::string> by_site = arguments;
    by_site.insert(by_site.end(), {"--force", "--sites", (folder / "sites.csv").string()});
    const auto sites = run_program(by_site);
    REQUIRE(sites.exit_code == 0);
    CHECK(sites.out.find("| Graz |     1 | 1.00000 |") != std::string::npos);
    CHECK(sites.out.find("| ref  |     1 | 1.00000 |") != std::string::npos);
    CHECK(sites.out.find("names 1 of 2 cases that were not measured") != std::string::npos);
    by_site.back() = (folder / "out/cases.csv").string();
    CHECK(run_program(by_site).exit_code == 3); // no table of sites
    std::vector<std::string> again = arguments;
    again.insert(again.end(), {"--force", "--json", "--regions", "paper", "--scheme", "brats2020"});
    const auto second = run_program(again);
    REQUIRE(second.exit_code == 0);
    const json printed = json::parse(second.out);
    CHECK(printed["regions"] == "paper");
    CHECK(printed["scheme"] == "brats2020");
    CHECK(printed == json::parse(file_text(folder / "out" / "summary.json")));
}

TEST_CASE("mfres evaluate of a model") {
    const TemporaryFolder folder;
    write_full_case(folder, "data");
    const auto model = test::write_model(folder, test::small_network).string();
    const auto run = run_program(
        {"evaluate", "--model", model, "--data", (folder / "data").string(), "--json", "--quiet", "--threads", "2"});
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    const json printed = json::parse(run.out);
    CHECK(printed["cases"] == 1);
    CHECK(printed["per_case"][0]["case"] == "data");
    CHECK(printed["per_case"][0]["WT"]["dice"].is_number());
    CHECK(run_program({"evaluate", "--model", model, "--data", (folder / "data").string(), "--max-memory", "1M"})
              .exit_code == 5);
}

TEST_CASE("mfres evaluate compares precisions with f32 and with the reference") {
    const TemporaryFolder folder;
    write_full_case(folder, "data");
    const auto model = test::write_model(folder, test::small_network).string();
    const std::vector<std::string> arguments = {
        "evaluate",  "--model",   model,         "--data",    (folder / "data").string(),
        "--backend", "reference", "--precision", "bf16,bf16", "--min-component",
        "9"};
    std::vector<std::string> as_json = arguments;
    as_json.insert(as_json.end(), {"--json", "--quiet"});
    const auto run = run_program(as_json);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    const json compared = json::parse(run.out);
    REQUIRE(compared.size() == 2); // f32 comes unasked, what is asked for twice is run once
    CHECK(compared[0]["precision"] == "f32");
    CHECK(compared[0]["against_f32"]["summary"]["WT"]["dice"]["mean"] == 1.0);
    CHECK(compared[1]["precision"] == "bf16");
    const double agreement = compared[1]["against_f32"]["summary"]["WT"]["dice"]["mean"];
    CHECK(agreement > 0.9);
    CHECK(agreement < 1.0); // random weights label by texture: some voxel changes
    const auto table = run_program(arguments);
    REQUIRE(table.exit_code == 0);
    CHECK(table.out.find("| bf16 |") != std::string::npos);
    CHECK(table.out.find("Parts of the tumour below 9 mm^3") != std::string::npos);
    CHECK(run_program({"evaluate", "--model", model, "--data", (folder / "data").string(), "--precision", "f32,f8"})
              .exit_code == 2);
}

TEST_CASE("mfres evaluate of the server's table prints the server's means") {
    const auto path = test::shared_data("data/metrics/dmfnet-brats2018-validation.csv");
    if (!path)
        return;
    const auto run = run_program({"evaluate", "--table", path->string()});
    REQUIRE(run.exit_code == 0);
    CHECK(run.out.find("| Dice        | ET     |    66 | 0.80116 |") != std::string::npos);
    CHECK(run.out.find("| HD95 (mm)   | ET     |    59 | 3.06046 |") != std::string::npos);
    CHECK(run.out.find("as the table was made with") != std::string::npos);
    CHECK(run.out.find("agree") != std::string::npos);
    const auto filled = run_program({"evaluate", "--table", path->string(), "--scheme", "brats2020", "--json"});
    REQUIRE(filled.exit_code == 0);
    CHECK(json::parse(filled.out)["summary"]["ET"]["hd95_mm"]["count"] == 66);
}

TEST_CASE("wrong use of mfres evaluate is told apart from wrong data") {
    const TemporaryFolder folder;
    const auto here = folder.path().string();
    CHECK(run_program({"evaluate"}).exit_code == 2);
    CHECK(run_program({"evaluate", "--pred", here}).exit_code == 2);
    CHECK(run_program({"evaluate", "--pred", here, "--ref", here, "--table", here}).exit_code == 2);
    CHECK(run_program({"evaluate", "--pred", here, "--data", here}).exit_code == 2);
    CHECK(run_program({"evaluate", "--pred", here, "--ref", here, "--regions", "both"}).exit_code == 2);
    CHECK(run_program({"evaluate", "--pred", here, "--ref", here, "--scheme", "brats2019"}).exit_code == 2);
    CHECK(run_program({"evaluate", "--pred", here, "--ref", here}).exit_code == 6);
    CHECK(run_program({"evaluate", "--table", (folder / "t.csv").string()}).exit_code == 6);
    REQUIRE_OK(write_file_atomically(folder / "t.csv", "Label,Dice_ET\na,many\n"));
    const auto rejected = run_program({"evaluate", "--table", (folder / "t.csv").string(), "--json"});
    CHECK(rejected.exit_code == 3);
    CHECK(json::parse(rejected.out)["error"]["code"] == "table_invalid");

    const auto help = run_program({"evaluate", "--help"});
    CHECK(help.exit_code == 0);
    CHECK(help.out.find("mfres evaluate --pred") != std::string::npos);
    CHECK(run_program({"help"}).out.find("  evaluate ") != std::string::npos);
}
