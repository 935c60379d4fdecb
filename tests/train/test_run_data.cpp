// SPDX-License-Identifier: MIT
// The cases of a run: several sources as one, folds, what is rejected, and what a resumed run finds again.
#include "core/file.h"
#include "data/sources.h"
#include "data/split.h"
#include "model/model.h"
#include "support/program.h"
#include "support/training_runs.h"
#include "train/run_data.h"

#include <set>

namespace mfres {

namespace {

using test::check_error;
using test::check_rejected;
using test::checkpoint_of;
using test::PhantomCache;
using test::TemporaryFolder;
using test::tiny_recipe;
using test::tiny_run;
using test::train;
using test::training_cases;
using test::validation_cases;
namespace fs = std::filesystem;

/// Cases whose ids name a site and a patient, and are not in the order of their seeds.
const PhantomCache& named_cases() {
    static const PhantomCache cache(3, 21, "Brats18_CBICA_");
    return cache;
}

Result<OpenedData> begin(const TrainerOptions& options) {
    fs::create_directories(options.run);
    return open_run_data(options, options.run, DataUse::begin, {}, Normalisation::zscore_brain, {});
}

std::vector<std::string> ids_of(const Cache& cache) {
    std::vector<std::string> ids;
    for (const CacheEntry& entry : cache.entries())
        ids.push_back(entry.id);
    return ids;
}

/// Two sources, the second of them a folder.
TrainerOptions mixed(const TemporaryFolder& folder) {
    TrainerOptions options = tiny_run(folder / "run", "auto", tiny_recipe({{"steps", 2}, {"validate_every", 0}}));
    options.data = {named_cases().path(), training_cases().cases()};
    return options;
}

std::string fingerprint(const fs::path& cache) {
    const auto opened = Cache::open(cache);
    REQUIRE_OK(opened);
    return (*opened)->fingerprint();
}

} // namespace

TEST_CASE("a run's data is the union of its sources, with the fingerprint of their merged cache") {
    const TemporaryFolder folder;
    TrainerOptions options = mixed(folder);
    options.validation = validation_cases().path();
    const auto opened = begin(options);
    REQUIRE_OK(opened);
    CHECK(ids_of(*opened->train) ==
          std::vector<std::string>{"Brats18_CBICA_21", "Brats18_CBICA_22", "Brats18_CBICA_23", "case-1", "case-2"});
    CHECK(ids_of(*opened->validation) == std::vector<std::string>{"case-9"});
    CHECK(opened->record.train.caches == std::vector<std::string>{"train.mfcache", named_cases().path().string()});
    CHECK(opened->record.train.files_sha256.size() == 64);
    CHECK(opened->record.sites == SiteTable{{"case-9", "cases"}}); // the cache's name

    const auto data = CaseSet::find(std::vector<fs::path>{training_cases().path(), named_cases().path()});
    REQUIRE_OK(data);
    REQUIRE_OK(write_cache(folder / "merged", *data, {}, {}));
    CHECK(opened->train->fingerprint() == fingerprint(folder / "merged"));
    CHECK(run_data_from(nlohmann::json::parse(to_json(opened->record).dump())) == opened->record);
}

TEST_CASE("a case that occurs twice and a patient on both sides are rejected by name, before anything is packed") {
    const TemporaryFolder folder;
    const auto rejected = [&](const auto& change, ErrorCode code, const std::vector<std::string>& parts) {
        TrainerOptions options = mixed(folder);
        change(options);
        const auto opened = begin(options);
        REQUIRE_FALSE(opened.ok());
        check_error(opened.error(), code, parts);
        CHECK(fs::is_empty(options.run));
    };
    const auto argument = ErrorCode::invalid_argument;
    const std::string cache = training_cases().path().string();
    rejected([&](TrainerOptions& o) { o.data.push_back(cache); }, argument, {"case case-1 occurs twice", cache});
    rejected([&](TrainerOptions& o) { o.validation = cache; }, argument, {"patient case-1 is on both sides"});
    const PhantomCache later(1, 21, "BraTS19_CBICA_"); // the same patient in a later release
    rejected([&](TrainerOptions& o) { o.validation = later.path(); }, argument,
             {"case Brats18_CBICA_21 is trained on", "case BraTS19_CBICA_21 is held out"});
    REQUIRE_OK(write_file_atomically(folder / "patients", std::string_view("case-9 case-2\n")));
    rejected(
        [&](TrainerOptions& o) {
            o.validation = validation_cases().path();
            o.same_patient = folder / "patients";
        },
        argument, {"case case-2 is trained on", "case case-9 is held out"});
    rejected(
        [&](TrainerOptions& o) {
            o.validation = validation_cases().path();
            o.fold = "1/2";
        },
        argument, {"a fold is validated on"});
    rejected([](TrainerOptions& o) { o.fold = "6/5"; }, argument, {"the fold '6/5'"});
    rejected([](TrainerOptions& o) { o.fold = "7/7"; }, ErrorCode::dataset_empty, {"cases of 5 patients", "fold 7/7"});
    rejected([](TrainerOptions& o) { o.data.push_back("/nowhere"); }, ErrorCode::file_not_found, {"/nowhere"});
    rejected([](TrainerOptions& o) { o.sites = "/nowhere"; }, ErrorCode::file_not_found, {"/nowhere"});
    rejected([](TrainerOptions& o) { o.same_patient = "/nowhere"; }, ErrorCode::file_not_found, {"/nowhere"});
}

TEST_CASE("folds of a run hold out every patient once, and a list of patients is heard") {
    const TemporaryFolder folder;
    std::multiset<std::string> held_out;
    for (const char* fold : {"1/3", "2/3", "3/3"}) {
        TrainerOptions options = mixed(folder);
        options.fold = fold;
        const auto opened = begin(options);
        REQUIRE_OK(opened);
        const auto trained = ids_of(*opened->train);
        const auto validated = ids_of(*opened->validation);
        CHECK(trained.size() + validated.size() == 5);
        std::vector<std::string> all = trained;
        all.insert(all.end(), validated.begin(), validated.end());
        CHECK(std::set<std::string>(all.begin(), all.end()).size() == 5);
        held_out.insert(validated.begin(), validated.end());
        CHECK(opened->record.fold == fold);
        CHECK(opened->record.sites.size() == validated.size());
    }
    CHECK(std::set<std::string>(held_out.begin(), held_out.end()).size() == 5);
    CHECK(held_out.size() == 5);

    TrainerOptions options = mixed(folder);
    options.fold = "1/3";
    options.same_patient = folder / "patients";
    REQUIRE_OK(write_file_atomically(folder / "patients",
                                     std::string_view("case-1 case-2 Brats18_CBICA_22 Brats18_CBICA_23\nx y\n")));
    const auto opened = begin(options); // of two patients the first is held out, one of them as a whole
    REQUIRE_OK(opened);
    const std::size_t held = opened->validation->entries().size();
    CHECK((held == 1 || held == 4));
    CHECK(opened->warning.find(": x, y") != std::string::npos);
    CHECK(opened->record.same_patient.size() == 2);
}

TEST_CASE("a resumed run finds the data it had, and rejects other data with both fingerprints") {
    const TemporaryFolder folder;
    TrainerOptions options = mixed(folder);
    options.stop_at = 1;
    CHECK(train(options).cases == 5);
    const std::string recorded = checkpoint_of(folder / "run/last.ckpt").data_fingerprint;
    options.resume = true;
    options.recipe = "{}";
    const auto rejected = [&](const DataSources& data, const std::string& found) {
        TrainerOptions other = options;
        other.data = data;
        check_rejected(other, ErrorCode::checkpoint_mismatch,
                       {"trained on data " + recorded.substr(0, 16), "not on " + found.substr(0, 16)});
    };
    rejected(named_cases().path(), fingerprint(named_cases().path()));
    const auto accepted = [&](const DataSources& data) {
        TrainerOptions same = options;
        same.data = data;
        const auto trainer = Trainer::open(same);
        INFO((trainer ? "" : trainer.error().message));
        CHECK(trainer.ok());
    };
    accepted({});
    accepted({training_cases().cases(), named_cases().path()});
    accepted({training_cases().path(), named_cases().path()}); // the folder's cache in its place

    // A folder is told from another by its cases, not by the cache that the run has made.
    fs::copy(training_cases().cases(), folder / "moved", fs::copy_options::recursive);
    fs::remove(folder / "moved/cases.mfcache");
    accepted({folder / "moved", named_cases().path()});
    fs::copy_file(folder / "moved/case-1/case-1_t1.nii.gz", folder / "moved/case-1/case-1_t2.nii.gz",
                  fs::copy_options::overwrite_existing);
    fs::copy_file(folder / "moved/case-2/case-2_t2.nii.gz", folder / "moved/case-1/case-1_t1.nii.gz",
                  fs::copy_options::overwrite_existing);
    TrainerOptions changed = options;
    changed.data = {folder / "moved", named_cases().path()};
    changed.accept = {ErrorCode::modality_moved, ErrorCode::modality_coverage, ErrorCode::modality_correlation};
    check_rejected(changed, ErrorCode::checkpoint_mismatch, {recorded.substr(0, 16), (folder / "moved").string()});
    for (const auto& entry : fs::directory_iterator(folder / "run"))
        CHECK(entry.path().filename().string().find("compare") == std::string::npos);

    TrainerOptions resumed = options;
    resumed.data.clear();
    resumed.stop_at = 0;
    CHECK(train(resumed).step == 2);
}

TEST_CASE("a run of before sources were recorded is resumed with the folder it was made of, and no other") {
    const TemporaryFolder folder;
    TrainerOptions options = mixed(folder);
    options.data = training_cases().cases();
    options.stop_at = 1;
    train(options);
    Checkpoint old = checkpoint_of(folder / "run/last.ckpt");
    old.data = {};
    REQUIRE_OK(write_checkpoint(folder / "run/last.ckpt", old));
    options.resume = true;
    options.recipe = "{}";
    for (const DataSources& data : {DataSources(), DataSources(training_cases().cases())}) {
        options.data = data;
        REQUIRE_OK(Trainer::open(options));
    }
    options.data = validation_cases().cases();
    check_rejected(options, ErrorCode::checkpoint_mismatch, {old.data_fingerprint.substr(0, 16)});
}

TEST_CASE("a run of a fold validates what it left out, by site, records the fold and keeps to it") {
    const TemporaryFolder folder;
    TrainerOptions options = mixed(folder);
    options.fold = "2/2";
    options.sites = folder / "sites.csv";
    REQUIRE_OK(write_file_atomically(options.sites, std::string_view("case,site\ncase-1,Graz\ncase-2,Graz\n")));
    std::vector<SiteDice> sites;
    const TrainReport report = train(options, [&](const TrainEvent& event) {
        if (event.kind == TrainEvent::Kind::validated)
            sites = by_site(*event.validation);
        return true;
    });
    CHECK(report.fold == "2/2");
    const std::vector<std::string> ids = {"Brats18_CBICA_21", "Brats18_CBICA_22", "Brats18_CBICA_23", "case-1",
                                          "case-2"};
    const auto held_out = in_fold(ids, {2, 2}, {});
    REQUIRE_OK(held_out);
    REQUIRE(report.latest);
    const auto count = static_cast<std::size_t>(std::count(held_out->begin(), held_out->end(), true));
    REQUIRE(report.latest->cases.size() == count);
    CHECK(report.cases == 5 - count);
    std::map<std::string, std::vector<double>> by_hand;
    for (const ValidationCase& entry : report.latest->cases) {
        CHECK((*held_out)[static_cast<std::size_t>(std::find(ids.begin(), ids.end(), entry.id) - ids.begin())]);
        CHECK(entry.site == (entry.id.starts_with("case") ? "Graz" : "CBICA"));
        by_hand[entry.site].push_back(entry.dice[0]);
    }
    REQUIRE(sites.size() == by_hand.size());
    for (const SiteDice& of : sites) {
        REQUIRE(by_hand.count(of.site) == 1);
        const auto& values = by_hand[of.site];
        CHECK(of.cases == values.size());
        double sum = 0.0;
        for (const double value : values)
            sum += value;
        CHECK(of.mean[0] == Approx(sum / static_cast<double>(values.size())).margin(1e-15));
    }
    const auto json = nlohmann::json::parse(to_json(report));
    CHECK(json["fold"] == "2/2");
    CHECK(json["latest"]["sites"].size() == sites.size());
    CHECK(json["latest"]["sites"][sites[0].site]["cases"] == sites[0].cases);
    const auto model = load_model(report.model);
    REQUIRE_OK(model);
    CHECK(nlohmann::json::parse(model->metadata.recipe_json)["fold"] == "2/2");
    CHECK(checkpoint_of(folder / "run/last.ckpt").validations.back().cases[0].site == report.latest->cases[0].site);

    TrainerOptions again = options;
    again.resume = true;
    again.recipe = "{}";
    again.data.clear();
    again.sites.clear();
    again.fold.clear();
    REQUIRE_OK(Trainer::open(again));
    again.fold = "1/2";
    check_rejected(again, ErrorCode::checkpoint_mismatch, {"1/2 instead of 2/2"});
    again.fold.clear();
    again.validation = validation_cases().path();
    REQUIRE_CODE(Trainer::open(again), invalid_argument);
}

} // namespace mfres
