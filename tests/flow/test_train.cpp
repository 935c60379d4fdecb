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
std::filesystem::path make_cases(const TemporaryFolder& folder) {
    const auto cases = folder / "cases";
    const Finished made = run_program({"phantom", "--seed", "1", "--size", "48,56,48", "--out", cases / "phantom-1"});
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
    rejected({"--data", "x", "--out", run, "--batch", "0"}, 2, "recipe key batch: 0");
    rejected({"--data", "x", "--out", run, "--batch", "many"}, 2, "recipe key batch: \"many\"");
    rejected({"--data", "x", "--out", run, "--crop", "64,64,70"}, 2, "multiple of 16");
    rejected({"--data", "x", "--out", run, "--loss", "hope"}, 2, "recipe key loss: \"hope\"");
    rejected({"--data", "x", "--out", run, "--checkpoint-every", "5h"}, 2, "checkpoint-every");
    rejected({"--data", "x", "--out", run, "--network", "u-not"}, 2, "u-not");
    rejected({"--data", "x", "--out", run, "--precision", "f16"}, 2, "recipe key precision: \"f16\"");
    rejected({"--data", "x", "--out", run, "--memory-cap", "lots"}, 2, "lots");
    rejected({"--data", folder / "absent", "--out", run}, 6, "absent");
    rejected({"--data", "x", "--out", folder / "new", "--resume"}, 6, "nothing to resume");
    rejected({"--export", folder / "absent.ckpt", "--out", run + ".safetensors"}, 6, "absent.ckpt");
    CHECK_FALSE(std::filesystem::exists(folder / "new"));
}

TEST_CASE("mfres train goes from a folder of cases to a model that segments") {
    const TemporaryFolder folder;
    const auto cases = make_cases(folder);
    const auto run = folder / "run";
    { // a recipe file, with an option over it
        std::ofstream recipe(folder / "recipe.json");
        recipe << R"({"steps": 50, "ema": 0.5, "learning_rate": 0.002, "flips": false})";
    }
    const auto arguments =
        std::vector<std::string>{
            "train",   "--data", cases,         "--val", cases,   "--out", run, "--recipe", folder / "recipe.json",
            "--steps", "4",      "--row-every", "2",     "--json"} +
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
    CHECK(report["best"]["cases"].contains("phantom-1"));
    for (const char* name : {"recipe.json", "metrics.csv", "validation.csv", "curve.svg", "last.ckpt", "previous.ckpt",
                             "best.ckpt", "model.safetensors", "train.mfcache", "val.mfcache"}) {
        INFO(name);
        CHECK(std::filesystem::file_size(run / name) > 0);
    }

    const Finished twice = run_program(arguments);
    CHECK(twice.exit_code == 6);
    CHECK(twice.err.find("not empty") != std::string::npos);

    const auto model = folder / "exported.safetensors";
    const Finished exported = run_program({"train", "--export", run / "best.ckpt", "-o", model});
    CHECK(exported.exit_code == 0);
    CHECK(exported.out.find("averaged weights") != std::string::npos);
    CHECK(file_text(model) == file_text(run / "model.safetensors"));
    CHECK(run_program({"train", "--export", run / "best.ckpt", "-o", model}).exit_code == 6);
    CHECK(run_program({"train", "--export", run / "best.ckpt", "-o", model, "--force"}).exit_code == 0);
    const Finished segmented = run_program(
        {"segment", "--model", model, "--case", cases / "phantom-1", "--out", folder / "labels.nii.gz", "--quiet"});
    INFO(segmented.err);
    CHECK(segmented.exit_code == 0);
}

TEST_CASE("SIGINT and SIGTERM save a training, which --resume completes") {
    const TemporaryFolder folder;
    const auto cases = make_cases(folder);
    const auto run = folder / "run";
    const auto log = folder / "log";
    std::int64_t trained = 0;
    for (const int signal : {SIGINT, SIGTERM}) {
        auto arguments = std::vector<std::string>{"train", "--data", cases, "--out", run, "--row-every", "1"};
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
