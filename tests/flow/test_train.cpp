// SPDX-License-Identifier: MIT
// `mfres train` as a user runs it: from a folder of cases to a model that segments, stopped and resumed on the way.
#include "support/catch.h"
#include "support/program.h"
#include "train/checkpoint.h"

#include <nlohmann/json.hpp>

#include <csignal>

namespace mfres {

namespace {

using test::file_text;
using test::Finished;
using test::run_program;
using test::start_program;
using test::TemporaryFolder;
using test::wait_for;

/// A folder with one phantom of 48 x 56 x 48 voxels.
std::filesystem::path make_cases(const TemporaryFolder& folder, const std::string& name = "cases",
                                 const std::string& seed = "1") {
    const auto cases = folder / name;
    const Finished made =
        run_program({"phantom", "--seed", seed, "--size", "48,56,48", "--out", cases / ("phantom-" + seed)});
    REQUIRE(made.exit_code == 0);
    return cases;
}

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

const std::vector<std::string> tiny = {
    "--network", R"({"network": "mf-res2net", "widths": [8, 16, 24, 32], "decoder": [16, 8, 8, 4]})",
    "--batch",   "1",
    "--crop",    "16",
    "--threads", "1"};

} // namespace

TEST_CASE("mfres train --help lists every option of the recipe and a worked example") {
    const Finished help = run_program({"train", "--help"});
    CHECK(help.exit_code == 0);
    for (const RecipeField& field : recipe_fields()) {
        std::string option = "--" + field.key;
        std::replace(option.begin(), option.end(), '_', '-');
        if (option == "--deterministic") // is told by the switch that all commands have
            option = "--non-deterministic";
        else if (option != "--allow-tf32")
            option += " arg";
        INFO(option);
        CHECK(help.out.find(option) != std::string::npos);
    }
    CHECK(help.out.find("mfres train --data BraTS2019/Training --out") != std::string::npos);
}

TEST_CASE("mfres train follows teachers, and mfres average writes the mean of what runs left") {
    const TemporaryFolder folder;
    const std::string cases = make_cases(folder).string();
    const std::string small = tiny[1];
    std::vector<std::string> teachers;
    for (const std::string seed : {"1", "2"}) {
        teachers.push_back((folder / ("teacher" + seed + ".safetensors")).string());
        REQUIRE(run_program({"init", "--network", small, "--seed", seed, "--out", teachers.back()}).exit_code == 0);
    }
    const std::string run = (folder / "run").string();
    const std::vector<std::string> arguments =
        std::vector<std::string>{
            "train",  "--data",  cases,       "--out",     run,         "--steps",   "2",
            "--loss", "dice-ce", "--teacher", teachers[0], "--teacher", teachers[1], "--deep-supervision",
            "yes",    "--json"} +
        tiny;
    const Finished trained = run_program(arguments);
    INFO(trained.err << trained.out);
    REQUIRE(trained.exit_code == 0);
    const auto report = nlohmann::json::parse(trained.out);
    CHECK(report["program"].get<std::string>().starts_with("mfres "));
    CHECK(report["date"].get<std::string>().size() == std::string("2019-10-03T12:00:00Z").size());
    CHECK(report["options"]["loss"] == "dice-ce");
    CHECK(report["options"]["teacher"] == nlohmann::json(teachers));
    CHECK(report["options"]["log-every"] == 10);
    CHECK(report["recipe"]["teachers_sha256"].get<std::string>().size() == 129);
    CHECK(report["recipe"]["ce_weight"] == 1.0);
    const Finished other = run_program({"train", "--out", run, "--resume", "--steps", "3", "--teacher", teachers[0]});
    CHECK(other.exit_code == 4);
    CHECK(other.err.find("teachers") != std::string::npos);

    const std::string mean = (folder / "mean.safetensors").string();
    const std::vector<std::string> average = {"average", teachers[0], run + "/last.ckpt", "--out", mean};
    const Finished averaged = run_program(average);
    INFO(averaged.err);
    CHECK(averaged.exit_code == 0);
    CHECK(averaged.out.find("mean of 2 models") != std::string::npos);
    CHECK(run_program(average).exit_code == 6); // it is there already
    CHECK(nlohmann::json::parse(run_program(average + std::vector<std::string>{"--force", "--json"}).out)["models"] ==
          2);
    CHECK(run_program({"info", mean}).exit_code == 0);
    CHECK(run_program({"average", teachers[0], "--out", mean}).exit_code == 2);
}

TEST_CASE("mfres train rejects what it cannot do, with the right exit code") {
    const TemporaryFolder folder;
    const auto rejected = [](const std::vector<std::string>& arguments, int code, const std::string& words) {
        const Finished run = run_program({std::vector<std::string>{"train"} + arguments});
        INFO(run.err);
        CHECK(run.exit_code == code);
        CHECK(run.err.find(words) != std::string::npos);
        CHECK(run.out.empty());
    };
    const std::string run = folder / "run";
    rejected({"--out", run}, 2, "--data");
    rejected({"--data", "x"}, 2, "--out");
    rejected({"--data", "x", "--val", "y", "--fold", "1/5", "--out", run}, 2, "--fold");
    rejected({"--data", "x", "--fold", "0/5", "--out", run}, 2, "the fold '0/5'");
    rejected({"--data", "x", "--out", run, "--batch", "0"}, 2, "recipe key batch: 0");
    rejected({"--data", "x", "--out", run, "--batch", "many"}, 2, "recipe key batch: \"many\"");
    rejected({"--data", "x", "--out", run, "--crop", "64,64,70"}, 2, "multiple of 16");
    rejected({"--data", "x", "--out", run, "--loss", "hope"}, 2, "recipe key loss: \"hope\"");
    rejected({"--data", "x", "--out", run, "--checkpoint-every", "5h"}, 2, "checkpoint-every");
    rejected({"--data", "x", "--out", run, "--network", "u-not"}, 2, "u-not");
    rejected({"--data", "x", "--out", run, "--precision", "f16"}, 2, "precision 'f16' is not known");
    rejected({"--data", "x", "--out", run, "--max-memory", "lots"}, 2, "lots");
    rejected({"--data", folder / "absent", "--out", run}, 6, "absent");
    rejected({"--data", "x", "--out", folder / "new", "--resume"}, 6, "nothing to resume");
    rejected({"--data", "x", "--out", run, "--precision", "int8"}, 2, "recipe key precision: \"int8\"");
    const Finished absent = run_program({"convert", folder / "absent.ckpt", "--out", run + ".safetensors"});
    CHECK(absent.exit_code == 6);
    CHECK(absent.err.find("absent.ckpt") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(folder / "new"));
}

TEST_CASE("mfres train goes from a folder of cases to a model that segments") {
    const TemporaryFolder folder;
    const auto cases = make_cases(folder);
    const auto others = make_cases(folder, "others", "2");
    const auto run = folder / "run";
    { // a recipe file, with an option over it
        std::ofstream recipe(folder / "recipe.json");
        recipe << R"({"steps": 50, "ema": 0.5, "learning_rate": 0.002, "flips": false})";
    }
    const auto arguments =
        std::vector<std::string>{
            "train",   "--data", cases,         "--val", others,  "--out", run, "--recipe", folder / "recipe.json",
            "--steps", "4",      "--log-every", "2",     "--json"} +
        tiny;
    const Finished trained = run_program(arguments);
    INFO(trained.err);
    REQUIRE(trained.exit_code == 0);
    CHECK(trained.err.find("step 2/4  loss 0.") != std::string::npos);
    CHECK(trained.err.find("s/step  ETA ") != std::string::npos);
    CHECK(trained.err.find("validation  WT ") != std::string::npos);
    CHECK(trained.err.find('\r') == std::string::npos); // no bar in a log
    const auto report = nlohmann::json::parse(trained.out);
    CHECK(report["step"] == 4);
    CHECK(report["stopped"] == false);
    CHECK(report["recipe"]["ema"] == 0.5);
    CHECK(report["recipe"]["learning_rate"] == 0.002);
    CHECK(report["recipe"]["flips"] == false);
    CHECK(report["best"]["cases"].contains("phantom-2"));
    CHECK(report["best"]["sites"]["others"]["cases"] == 1);
    for (const char* name : {"recipe.json", "metrics.csv", "validation.csv", "curve.svg", "last.ckpt", "previous.ckpt",
                             "best.ckpt", "model.safetensors", "train.mfcache", "val.mfcache"}) {
        INFO(name);
        CHECK(std::filesystem::file_size(run / name) > 0);
    }

    const Finished twice = run_program(arguments);
    CHECK(twice.exit_code == 6);
    CHECK(twice.err.find("not empty") != std::string::npos);

    const auto model = folder / "exported.safetensors";
    const Finished exported = run_program({"convert", run / "best.ckpt", "-o", model});
    CHECK(exported.exit_code == 0);
    CHECK(exported.out.find("averaged weights") != std::string::npos);
    CHECK(file_text(model) == file_text(run / "model.safetensors"));
    CHECK(run_program({"convert", run / "best.ckpt", "-o", model}).exit_code == 6);
    const Finished forced =
        run_program({"convert", run / "best.ckpt", "-o", model, "--force", "--dtype", "f16", "--json"});
    CHECK(forced.exit_code == 0);
    CHECK(nlohmann::json::parse(forced.out)["averaged"] == true);
    CHECK(nlohmann::json::parse(forced.out)["dice_wt_tc_et"].size() == 3);
    CHECK(run_program({"convert", run / "best.ckpt", "-o", folder / "best.onnx", "--size", "32"}).exit_code == 0);
    CHECK(run_program({"convert", run / "best.ckpt", "-o", folder / "x.onnx", "--network", "dmfnet"}).exit_code == 4);
    const Finished segmented = run_program({"segment", "--model", model, "--case", cases / "phantom-1", "--out",
                                            folder / "labels.nii.gz", "--quiet", "--accept", "brain_implausible"});
    INFO(segmented.err);
    CHECK(segmented.exit_code == 0);
}

TEST_CASE("mfres train takes folders and caches together, tells sites apart and goes on with a fold") {
    const TemporaryFolder folder;
    const std::filesystem::path first = make_cases(folder, "first", "1");
    const std::filesystem::path second = make_cases(folder, "second", "2");
    const std::filesystem::path third = make_cases(folder, "third", "3");
    const auto cache = folder / "third.mfcache";
    REQUIRE(run_program({"cache", "--data", third, "--out", cache, "--quiet"}).exit_code == 0);
    const auto run = folder / "run";
    // By sha256sum of phantom-1 and so on, fold 1/2 holds out phantom-1 and phantom-2.
    const Finished trained =
        run_program(std::vector<std::string>{"train", "--data", first, second, "--data", cache, "--fold", "1/2",
                                             "--out", run, "--steps", "2", "--stop-at", "1", "--json"} +
                    tiny);
    INFO(trained.err);
    REQUIRE(trained.exit_code == 0);
    const auto report = nlohmann::json::parse(trained.out);
    CHECK(report["fold"] == "1/2");
    CHECK(report["cases"] == 1);
    CHECK(report["validation_cases"] == 2);
    const Finished other = run_program({"train", "--resume", "--data", third, "--out", run, "--threads", "1"});
    CHECK(other.exit_code != 0);
    const Finished done = run_program({"train", "--resume", "--out", run, "--threads", "1"});
    INFO(done.err);
    REQUIRE(done.exit_code == 0);
    CHECK(done.err.find("step 2/2  by site  first ") != std::string::npos);

    const Finished both =
        run_program(std::vector<std::string>{"train", "--data", first, "--val", first, "--out", folder / "new"} + tiny);
    CHECK(both.exit_code == 2);
    CHECK(both.err.find("patient phantom-1 is on both sides") != std::string::npos);
}

TEST_CASE("SIGINT and SIGTERM save a training, which --resume completes") {
    const TemporaryFolder folder;
    const auto cases = make_cases(folder);
    const auto run = folder / "run";
    const auto log = folder / "log";
    std::int64_t trained = 0;
    for (const int signal : {SIGINT, SIGTERM}) {
        auto arguments = std::vector<std::string>{"train", "--data", cases, "--out", run, "--log-every", "1"};
        arguments = arguments + (trained == 0 ? tiny + std::vector<std::string>{"--steps", "100000"}
                                              : std::vector<std::string>{"--resume", "--threads", "1"});
        const pid_t child = start_program(arguments, log);
        REQUIRE(wait_for(log, "step " + std::to_string(trained + 2) + "/100000"));
        REQUIRE(::kill(child, signal) == 0);
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        INFO(file_text(log));
        REQUIRE(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 130);
        CHECK(file_text(log).find("stopped and saved") != std::string::npos);
        const auto saved = read_checkpoint(run / "last.ckpt");
        REQUIRE_OK(saved);
        CHECK(saved->step >= trained + 2);
        trained = saved->step;
    }
    const Finished stopped = run_program({"train", "--data", cases, "--out", run, "--resume", "--threads", "1",
                                          "--stop-at", std::to_string(trained + 1)});
    INFO(stopped.err);
    CHECK(stopped.exit_code == 0); // as asked for
    CHECK(stopped.out.find("--resume goes on") != std::string::npos);
    const std::string last = std::to_string(trained + 2);
    const Finished done =
        run_program({"train", "--data", cases, "--out", run, "--resume", "--threads", "1", "--steps", last});
    INFO(done.err);
    CHECK(done.exit_code == 0);
    CHECK(done.out.find("step " + last + " of " + last) != std::string::npos);
    CHECK(std::filesystem::exists(run / "model.safetensors"));
}

} // namespace mfres
