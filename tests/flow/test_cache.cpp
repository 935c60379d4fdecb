// SPDX-License-Identifier: MIT
// mfres cache from outside.
#include "support/catch.h"
#include "support/program.h"

#include <nlohmann/json.hpp>

#include <csignal>
#include <fcntl.h>
#include <spawn.h>
#include <thread>
#include <unistd.h>

extern char** environ;

using mfres::test::file_text;
using mfres::test::run_program;
using mfres::test::TemporaryFolder;
using nlohmann::json;

namespace {

std::string make_data(const TemporaryFolder& folder, int cases) {
    for (int seed = 1; seed <= cases; ++seed) {
        const auto path = (folder / ("data/case" + std::to_string(seed))).string();
        const auto made = run_program({"phantom", "--seed", std::to_string(seed), "--size", "64,72,56", "--out", path});
        INFO(made.err);
        REQUIRE(made.exit_code == 0);
    }
    return (folder / "data").string();
}

} // namespace

TEST_CASE("cache packs a folder of cases and shows what it packed") {
    const TemporaryFolder folder;
    const auto data = make_data(folder, 2);
    const auto path = (folder / "train.mfcache").string();
    const auto made = run_program({"cache", "--data", data, "-o", path, "--json", "--quiet", "--threads", "2"});
    INFO(made.err);
    REQUIRE(made.exit_code == 0);
    CHECK(made.err.empty());
    const json described = json::parse(made.out);
    CHECK(described["file"] == path);
    CHECK(described["bytes"] == std::filesystem::file_size(path));
    REQUIRE(described["cases"].size() == 2);
    CHECK(described["cases"][0]["case"] == "case1");
    CHECK(described["cases"][1]["case"] == "case2");
    for (const json& one : described["cases"]) {
        std::int64_t classes = 0;
        for (const json& voxels : one["class_voxels"])
            classes += voxels.get<std::int64_t>();
        CHECK(classes == one["box"][0].get<std::int64_t>() * one["box"][1].get<std::int64_t>() *
                             one["box"][2].get<std::int64_t>());
        CHECK(one["class_voxels"][3] > 0);
    }

    const auto info = run_program({"info", path, "--json", "--quiet"});
    REQUIRE(info.exit_code == 0);
    CHECK(json::parse(info.out) == described);
    const auto table = run_program({"info", path});
    REQUIRE(table.exit_code == 0);
    CHECK(table.err.find("checking") != std::string::npos);
    CHECK(table.out.find("case2") != std::string::npos);
    CHECK(table.out.find(described["fingerprint"].get<std::string>()) != std::string::npos);

    // A part of the cases, their blocks copied from the cache.
    const auto part = run_program(
        {"cache", "--data", path, "--cases", "1", "-o", (folder / "part.mfcache").string(), "--json", "--quiet"});
    INFO(part.err);
    REQUIRE(part.exit_code == 0);
    REQUIRE(json::parse(part.out)["cases"].size() == 1);
    CHECK(json::parse(part.out)["cases"][0] == described["cases"][0]);

    // Not by accident, but on demand, and with fewer steps a smaller file.
    const auto again = run_program({"cache", "--data", data, "-o", path, "--levels", "16"});
    CHECK(again.exit_code == 6);
    CHECK(again.err.find("file_exists") != std::string::npos);
    const auto forced = run_program({"cache", "--data", data, "-o", path, "--levels", "16", "--force", "--json"});
    REQUIRE(forced.exit_code == 0);
    CHECK(forced.err.find("case1: packing") != std::string::npos);
    CHECK(json::parse(forced.out)["bytes"] < described["bytes"]);
    CHECK(json::parse(forced.out)["fingerprint"] != described["fingerprint"]);
}

TEST_CASE("cache rejects what it should, with the documented exit codes") {
    const TemporaryFolder folder;
    const auto data = make_data(folder, 1);
    const auto path = (folder / "c.mfcache").string();
    for (const auto& arguments :
         std::vector<std::vector<std::string>>{{"cache"},
                                               {"cache", "--data", data},
                                               {"cache", "--out", path},
                                               {"cache", "--data", data, "--out", path, "--cases", "-1"},
                                               {"cache", "--data", data, "--out", path, "--levels", "1"}})
        CHECK(run_program(arguments).exit_code == 2);
    CHECK(run_program({"info", path}).exit_code == 6);
    CHECK(run_program({"cache", "--data", (folder / "nothing").string(), "--out", path}).exit_code == 6);
    const std::string volume = data + "/case1/case1_t1.nii.gz";
    const auto no_cache = run_program({"cache", "--data", volume, "--out", path, "--json"});
    CHECK(no_cache.exit_code == 3);
    CHECK(json::parse(no_cache.out)["error"]["code"] == "cache_invalid");
    CHECK(run_program({"info", volume, "--json"}).exit_code == 4); // neither a cache nor a model

    REQUIRE(run_program({"cache", "--data", data, "--out", path, "--quiet"}).exit_code == 0);
    std::string bytes = file_text(path);
    bytes[bytes.size() / 2] ^= 1;
    std::ofstream(path, std::ios::binary) << bytes;
    const auto damaged = run_program({"info", path, "--json", "--quiet"});
    CHECK(damaged.exit_code == 3);
    CHECK(json::parse(damaged.out)["error"]["code"] == "cache_damaged");
    CHECK(json::parse(damaged.out)["error"]["message"].get<std::string>().find("case1") != std::string::npos);

    std::filesystem::remove(data + "/case1/case1_seg.nii.gz");
    const auto unlabelled = run_program({"cache", "--data", data, "--out", path, "--force", "--quiet"});
    CHECK(unlabelled.exit_code == 6);
    CHECK(file_text(path) == bytes);
}

TEST_CASE("an interrupted cache leaves nothing behind") {
    const TemporaryFolder folder;
    const auto data = make_data(folder, 1);
    for (int copy = 2; copy <= 40; ++copy) // enough cases that the signal comes in time
        std::filesystem::create_directory_symlink(data + "/case1", data + "/link" + std::to_string(copy));
    const auto out = folder / "out";
    std::filesystem::create_directory(out);
    const std::string path = (out / "c.mfcache").string();
    const std::string log = (folder / "log").string();
    std::vector<std::string> arguments = {MFRES_PROGRAM, "cache", "--data", data, "--out", path, "--threads", "1"};
    std::vector<char*> raw;
    for (auto& argument : arguments)
        raw.push_back(argument.data());
    raw.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, log.c_str(), O_WRONLY | O_CREAT, 0600);
    pid_t child = 0;
    REQUIRE(posix_spawn(&child, raw[0], &files, nullptr, raw.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&files);
    for (int n = 0; n < 1000 && file_text(log).find("packing") == std::string::npos; ++n)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ::kill(child, SIGINT);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 130);
    CHECK(file_text(log).find("interrupted") != std::string::npos);
    CHECK(std::filesystem::is_empty(out));
}
