// SPDX-License-Identifier: MIT
// `mfres experiment` as a user runs it: interrupted, gone on with, rejected, and what its table says.
#include "paper/experiment.h"
#include "support/cached_cases.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/program.h"

#include <mfres/dataset.h>
#include <mfres/evaluate.h>

#include <nlohmann/json.hpp>

#include <fstream>

#include <csignal>

namespace mfres {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::file_text;
using test::Finished;
using test::run_program;
using test::TemporaryFolder;

/// Three phantoms of 48 x 56 x 48 voxels below HGG and LGG, made once per test program.
const fs::path& data() {
    static const TemporaryFolder folder;
    static const bool made = [] {
        for (const auto& [seed, group] : {std::pair{1, "HGG"}, {2, "LGG"}, {3, "HGG"}}) {
            const auto phantom =
                make_phantom({.seed = static_cast<std::uint64_t>(seed), .size = {48, 56, 48}, .threads = 1});
            REQUIRE_OK(phantom);
            const std::string id = "case" + std::to_string(seed);
            test::write_labelled_case(folder, id, phantom->volumes, phantom->labels);
            fs::create_directories(folder / group);
            fs::rename(folder / id, folder / (std::string(group) + "/" + id));
        }
        return true;
    }();
    REQUIRE(made);
    return folder.path();
}

std::string tiny(const std::string& name) {
    json variant = json::parse(test::small_network);
    variant["name"] = name;
    return variant.dump();
}

/// Two equal tiny networks, a few steps of one small patch.
ExperimentOptions tiny_experiment(const fs::path& out) {
    ExperimentOptions options;
    options.table = ExperimentTable::table2;
    options.data = data();
    options.out = out;
    options.networks = {tiny("first"), tiny("second")};
    options.recipe = R"({"steps": 4, "crop": [16, 16, 16], "batch": 1, "tumour_probability": 1})";
    options.compute.threads = 1; // two would wait for each other on a busy machine
    options.accept = {ErrorCode::brain_implausible};
    return options;
}

/// Two losses of one of them, so that the rows differ.
ExperimentOptions tiny_losses(const fs::path& out) {
    ExperimentOptions options = tiny_experiment(out);
    options.table = ExperimentTable::table1;
    options.networks = {tiny("first")};
    options.losses = {"dice", "weighted-tversky"};
    return options;
}

/// What a finished experiment has to hold, by the file's path below its folder.
std::map<std::string, std::string> results(const fs::path& out) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
        const std::string name = entry.path().filename().string();
        if (name == "table.md" || name == "cases.csv" || name == "experiment.json" || name == "model.safetensors")
            files[fs::relative(entry.path(), out).string()] = file_text(entry.path());
    }
    return files;
}

std::vector<RunState> states(const ExperimentReport& report) {
    std::vector<RunState> all;
    for (const ExperimentRun& run : report.runs)
        all.push_back(run.state);
    return all;
}

} // namespace

TEST_CASE("an experiment that is stopped again and again ends as one that is not") {
    const TemporaryFolder folder;
    const auto whole = run_experiment(tiny_losses(folder / "whole"));
    REQUIRE_OK(whole);
    CHECK_FALSE(whole->stopped);
    CHECK(states(*whole) == std::vector(2, RunState::finished));

    const auto options = tiny_losses(folder / "broken");
    // Stopped at each thing that can happen to a run: while training, between the runs, while evaluating.
    using Kind = ExperimentEvent::Kind;
    const auto stop_at = [&](const auto& moment) {
        auto report = run_experiment(options, [&](const ExperimentEvent& event) { return !moment(event); });
        REQUIRE_OK(report);
        CHECK(report->stopped);
        return *report;
    };
    const auto training = stop_at([](const ExperimentEvent& event) {
        return event.kind == Kind::training && event.training->kind == TrainEvent::Kind::step &&
               event.training->step == 2;
    });
    CHECK(states(training) == std::vector{RunState::begun, RunState::waiting});
    CHECK(training.runs[0].step == 2);
    const auto evaluating = stop_at([](const ExperimentEvent& event) { return event.kind == Kind::evaluating; });
    CHECK(states(evaluating) == std::vector{RunState::trained, RunState::waiting});
    const auto between = stop_at(
        [](const ExperimentEvent& event) { return event.kind == Kind::end && event.state == RunState::finished; });
    CHECK(states(between) == std::vector{RunState::finished, RunState::waiting});
    const auto status = experiment_status(options.out);
    REQUIRE_OK(status);
    CHECK(states(*status) == states(between));

    std::vector<std::string> begun;
    const auto done = run_experiment(options, [&](const ExperimentEvent& event) {
        if (event.kind == Kind::begin)
            begun.push_back(event.run);
        return event.kind != Kind::caching; // the caches are kept: this would stop it
    });
    REQUIRE_OK(done);
    CHECK(begun == std::vector<std::string>{"weighted-tversky"});
    CHECK(states(*done) == std::vector(2, RunState::finished));
    const auto expected = results(folder / "whole");
    CHECK(expected.size() == 6);
    CHECK(results(folder / "broken") == expected);
    CHECK(expected.at("dice/model.safetensors") != expected.at("weighted-tversky/model.safetensors"));
}

TEST_CASE("an experiment's figures are those of mfres evaluate on the held-out cases") {
    const TemporaryFolder folder;
    auto options = tiny_experiment(folder / "out");
    options.networks.pop_back();
    const auto report = run_experiment(options);
    REQUIRE_OK(report);
    REQUIRE(report->plan.held_out.ids.size() == 1);
    CHECK(report->plan.train.ids.size() == 2);
    CHECK(report->plan.train.fingerprint.size() == 64);

    const std::string held_out = report->plan.held_out.ids[0];
    const fs::path place = data() / (held_out == "case2" ? "LGG" : "HGG") / held_out;
    const auto files = find_cases(place);
    REQUIRE_OK(files);
    auto segmenter = Segmenter::open(folder / "out/first/model.safetensors",
                                     {.compute = {.threads = 1}, .accept = {ErrorCode::brain_implausible}});
    REQUIRE_OK(segmenter);
    const auto table = evaluate_model(*segmenter, *files, {});
    REQUIRE_OK(table);
    CHECK(file_text(folder / "out/first/cases.csv") == to_csv(*table));
    const MetricsSummary summary = summarise(*table);
    REQUIRE(report->runs[0].measured);
    for (const TumourRegion region : tumour_regions)
        for (const Metric metric : {Metric::dice, Metric::hd95})
            CHECK(report->runs[0].measured->at(region, metric).mean == summary.at(region, metric).mean);
    CHECK(report->runs[0].step == 4);
    CHECK(report->runs[0].peak_bytes > 0);
    CHECK_FALSE(report->runs[0].used.engine.empty());
    CHECK(to_markdown(*report) == file_text(folder / "out/table.md"));

    // Cases of their own folder are evaluated and all the others trained on.
    const TemporaryFolder apart;
    fs::create_directories(apart / "data");
    fs::create_directory_symlink(data() / "HGG", apart / "data/HGG");
    options.out = apart / "out";
    options.data = apart / "data";
    options.validation = data() / "LGG";
    options.max_memory = 1; // what matters here was decided before
    const auto chosen = run_experiment(options);
    REQUIRE_OK(chosen);
    CHECK(chosen->plan.train.ids == std::vector<std::string>{"case1", "case3"});
    CHECK(chosen->plan.held_out.ids == std::vector<std::string>{"case2"});
}

TEST_CASE("an experiment holds out the fold it is told, and scans of one patient together") {
    const TemporaryFolder folder;
    auto options = tiny_experiment(folder / "fold");
    options.max_memory = 1; // skips all training
    options.fold = "2/3";   // the order by sha256sum is case2, case1, case3
    const auto fold = run_experiment(options);
    REQUIRE_OK(fold);
    CHECK(fold->plan.held_out.ids == std::vector<std::string>{"case1"});
    CHECK(fold->plan.train.ids == std::vector<std::string>{"case2", "case3"});
    CHECK(fold->plan.split.find("fold 2/3") != std::string::npos);

    options.out = folder / "patients";
    options.fold = "2/2";
    options.same_patient = folder / "patients.txt";
    std::ofstream(options.same_patient) << "case3 case1\nx y\n";
    const auto patients = run_experiment(options);
    REQUIRE_OK(patients);
    CHECK(patients->plan.held_out.ids == std::vector<std::string>{"case1", "case3"});
    REQUIRE_FALSE(patients->warnings.empty());
    CHECK(patients->warnings[0].find(": x, y") != std::string::npos);

    options.validation = data() / "LGG";
    REQUIRE_CODE(run_experiment(options), invalid_argument);
}

TEST_CASE("an experiment takes training caches, and folders and caches together") {
    const TemporaryFolder folder;
    ExperimentOptions options = tiny_losses(folder / "from-folder");
    options.losses = {"dice"};
    options.recipe = R"({"steps": 4, "crop": [16, 16, 16], "batch": 1, "normalisation": "zscore-brain-clipped"})";
    const auto from_folder = run_experiment(options);
    REQUIRE_OK(from_folder);
    REQUIRE(from_folder->plan.held_out.ids.size() == 1);

    // The two sides of that split as caches, of which the trained one is a cache and a folder.
    const std::string held_out = from_folder->plan.held_out.ids[0];
    const auto all = find_cases(data());
    REQUIRE_OK(all);
    std::vector<CaseFiles> trained;
    for (const CaseFiles& files : *all)
        if (files.id != held_out)
            trained.push_back(files);
    REQUIRE(trained.size() == 2);
    PackOptions packing{.accept = options.accept, .normalisation = Normalisation::zscore_brain_clipped};
    REQUIRE_OK(pack_cases(folder / "first.mfcache", {trained[0]}, packing));
    REQUIRE_OK(pack_cases(folder / "held-out.mfcache", CaseSet::find(folder / "from-folder/held-out.mfcache").value(),
                          packing)); // a cache of a cache
    options.data = DataSources({folder / "first.mfcache", trained[1].modalities[0].parent_path()});
    options.validation = folder / "held-out.mfcache";
    options.out = folder / "from-caches";
    const auto from_caches = run_experiment(options);
    REQUIRE_OK(from_caches);
    CHECK(from_caches->plan.train.fingerprint == from_folder->plan.train.fingerprint);
    CHECK(from_caches->plan.held_out.fingerprint == from_folder->plan.held_out.fingerprint);
    for (const TumourRegion region : tumour_regions)
        CHECK(over_seeds(*from_caches, 0, region, Metric::dice).mean ==
              over_seeds(*from_folder, 0, region, Metric::dice).mean);
    CHECK(file_text(folder / "from-caches/dice/model.safetensors") ==
          file_text(folder / "from-folder/dice/model.safetensors"));

    options.validation = folder / "first.mfcache";
    options.out = folder / "overlap";
    REQUIRE_CODE(run_experiment(options), invalid_argument);
}

TEST_CASE("an experiment's folder takes no other experiment") {
    const TemporaryFolder folder;
    auto options = tiny_experiment(folder / "out");
    options.max_memory = 1; // skips all training
    const auto first = run_experiment(options);
    REQUIRE_OK(first);
    const auto before = file_text(options.out / "experiment.json");
    const auto rejected = [&](const auto& change, const std::string& difference) {
        ExperimentOptions changed = options;
        change(changed);
        const auto report = run_experiment(changed);
        INFO(difference);
        REQUIRE_CODE(report, checkpoint_mismatch);
        INFO(report.error().message);
        CHECK(report.error().message.find(difference) != std::string::npos);
        CHECK(file_text(options.out / "experiment.json") == before);
    };
    using Options = ExperimentOptions;
    rejected(
        [](Options& o) { o.recipe = R"({"steps": 5, "crop": [16, 16, 16], "batch": 1, "tumour_probability": 1})"; },
        "recipe steps 5 instead of 4");
    rejected([](Options& o) { o.seeds = 2; }, "seeds [1,2] instead of [1]");
    rejected([](Options& o) { o.networks.pop_back(); }, "rows first instead of first, second");
    rejected([](Options& o) { o.compute.backend = "reference"; }, "backend reference instead of auto");
    rejected([](Options& o) { o.data = data() / "HGG"; }, "1 case to train on instead of 2");
    // Threads, memory and what was skipped are no part of it.
    options.compute.threads = 2;
    options.max_memory = 2;
    REQUIRE_OK(run_experiment(options));

    // A folder of other things, and one whose cache is not the one that was recorded.
    const fs::path used = folder / "used";
    fs::create_directories(used);
    std::ofstream(used / "thesis.txt") << "years of work";
    options.out = used;
    REQUIRE_CODE(run_experiment(options), file_exists);
    CHECK(file_text(used / "thesis.txt") == "years of work");
    fs::copy_file(folder / "out/held-out.mfcache", folder / "out/train.mfcache", fs::copy_options::overwrite_existing);
    options.out = folder / "out";
    const auto swapped = run_experiment(options);
    REQUIRE_CODE(swapped, checkpoint_mismatch);
    CHECK(swapped.error().message.find("of the cases to train on") != std::string::npos);
}

TEST_CASE("what does not fit into memory is skipped, and the table says so") {
    const TemporaryFolder folder;
    auto options = tiny_experiment(folder / "out");
    options.networks = {"3d-unetpp", tiny("tiny")};
    options.max_memory = std::int64_t{100} << 20U;
    const auto report = run_experiment(options);
    REQUIRE_OK(report);
    CHECK(states(*report) == std::vector{RunState::skipped, RunState::finished});
    CHECK(report->runs[0].reason.find("MiB") != std::string::npos);
    CHECK(report->runs[0].reason.find("100 MiB may be used") != std::string::npos);
    const std::string page = file_text(options.out / "table.md");
    CHECK(page.find("skipped: " + report->runs[0].reason) != std::string::npos);
    const auto status = experiment_status(options.out);
    REQUIRE_OK(status);
    CHECK(states(*status) == states(*report));
    CHECK(status->runs[0].reason == report->runs[0].reason);
    CHECK(to_markdown(*status) == page);
}

TEST_CASE("the experiment command shows its table, its status and what it rejects") {
    const TemporaryFolder folder;
    const std::string out = folder / "out";
    for (const char* name : {"first", "second"})
        std::ofstream(folder / (std::string(name) + ".json")) << tiny(name);
    std::ofstream(folder / "recipe.json") << R"({"epochs": 2, "tumour_probability": 1, "crop": [64, 64, 64]})";
    const std::vector<std::string> command = {
        "experiment", "table2",
        "--data",     data(),
        "--out",      out,
        "--networks", (folder / "first.json").string() + "," + (folder / "second.json").string(),
        "--recipe",   folder / "recipe.json",
        "--patch",    "16",
        "--batch",    "1",
        "--threads",  "1",
        "--accept",   "brain_implausible"};
    const auto with = [&](const std::vector<std::string>& more) {
        std::vector<std::string> all = command;
        all.insert(all.end(), more.begin(), more.end());
        return all;
    };

    // Ctrl-C in a long training saves, and the same command resumes.
    const fs::path log = folder / "log";
    const pid_t child = test::start_program(with({"--steps", "100000"}), log);
    const bool trains = test::wait_for(log, "step 10/100000");
    REQUIRE(::kill(child, SIGINT) == 0);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    INFO(file_text(log));
    REQUIRE(trains);
    CHECK(WEXITSTATUS(status) == 130);
    CHECK(file_text(log).find("the same command resumes") != std::string::npos);
    const Finished begun = run_program({"experiment", "--status", "--out", out});
    CHECK(begun.exit_code == 0);
    CHECK(begun.out.find("table2, 0 of 2 runs finished") != std::string::npos);
    CHECK(begun.out.find("first  begun (step ") != std::string::npos);
    CHECK(begun.out.find("second  waiting") != std::string::npos);
    const Finished shorter = run_program(with({"--steps", "2"}));
    CHECK(shorter.exit_code == 4);
    CHECK(shorter.err.find("recipe steps 2 instead of 100000") != std::string::npos);

    fs::remove_all(out);
    const Finished done = run_program(with({"--steps", "2"}));
    INFO(done.err);
    REQUIRE(done.exit_code == 0);
    CHECK(done.out == file_text(folder / "out/table.md"));
    CHECK(done.out.find("| first (variant of mf-res2net) |") != std::string::npos);
    CHECK(done.out.find("2 steps with a batch of 1, patches of 16 x 16 x 16") != std::string::npos);
    CHECK(done.err.find("[1/2] first\n") != std::string::npos);
    CHECK(done.err.find("[2/2] second finished") != std::string::npos);
    CHECK(done.err.find('\r') == std::string::npos);
    const Finished again = run_program(with({"--steps", "2", "--json", "--quiet"}));
    CHECK(again.exit_code == 0);
    CHECK(again.err.empty());
    const json report = json::parse(again.out);
    CHECK(report["program"].get<std::string>().starts_with("mfres "));
    CHECK(report["date"].get<std::string>().size() == std::string("2019-10-03T12:00:00Z").size());
    CHECK(report["options"]["steps"] == 2);
    CHECK(report["options"]["quiet"] == true);
    CHECK(report["plan"]["recipe"]["crop"] == json({16, 16, 16}));
    CHECK(report["plan"]["recipe"]["tumour_probability"] == 1.0);
    CHECK(report["plan"]["recipe"].contains("epochs") == false);
    for (const json& row : report["rows"]) {
        CHECK(row["ours"]["pass"]["median_ms"] > 0.0);
        CHECK(row["ours"]["pass"]["planned_peak_mib"] > 1.0);
    }
    // What was measured once is kept: the second run's table is the first one's.
    const auto without_date = [](const std::string& page) { return page.substr(0, page.rfind("\nMade by mfres ")); };
    CHECK(without_date(done.out).size() < done.out.size());
    CHECK(without_date(file_text(folder / "out/table.md")) == without_date(done.out));
    CHECK(file_text(folder / "out/tradeoff.svg").find("first, ") != std::string::npos);
    CHECK(report["runs"][1]["state"] == "finished");
    CHECK(report == json::parse(file_text(folder / "out/table.json")));
}

TEST_CASE("the experiment command rejects with the documented exit codes") {
    const TemporaryFolder folder;
    const std::string out = folder / "out";
    const auto rejected = [](std::vector<std::string> arguments, int code, const std::string& words) {
        arguments.insert(arguments.begin(), "experiment");
        const Finished run = run_program(arguments);
        INFO(run.err);
        CHECK(run.exit_code == code);
        CHECK(run.err.find(words) != std::string::npos);
        CHECK(run.out.empty());
    };
    const std::string cases = data();
    rejected({"table1", "--data", cases}, 2, "--out");
    rejected({"table1", "--out", out}, 2, "--data");
    rejected({"--data", cases, "--out", out}, 2, "table1 or table2");
    rejected({"table3", "--data", cases, "--out", out}, 2, "table3");
    rejected({"table2", "--data", cases, "--out", out, "--patch", "40"}, 2, "multiple of 16");
    rejected({"table2", "--data", cases, "--out", out, "--patch", "wide"}, 2, "'wide' is not a size");
    rejected({"table2", "--data", cases, "--out", out, "--networks", "dmfnet,,3d-unet"}, 4, "no network ''");
    rejected({"table2", "--data", cases, "--out", out, "--networks", "alexnet"}, 4, "alexnet");
    rejected({"table1", "--data", cases, "--out", out, "--max-memory", "lots"}, 2, "lots");
    rejected({"table1", "--data", cases, "--out", out, "--recipe", folder / "absent.json"}, 6, "absent.json");
    rejected({"table1", "--data", folder / "absent", "--out", out}, 6, "absent");
    rejected({"--status", "--out", out}, 6, "no experiment");
    CHECK_FALSE(fs::exists(out));
    const Finished help = run_program({"experiment", "--help"});
    CHECK(help.exit_code == 0);
    CHECK(help.out.find("--steps 20 --patch 32") != std::string::npos);
    CHECK(help.out.find("table1 --data MICCAI_BraTS_2019_Data_Training") != std::string::npos);
}

} // namespace mfres
