// SPDX-License-Identifier: MIT
// The program from outside: exit codes, what it prints, what it leaves on disk.
#include "imaging/nifti/nifti.h"
#include "support/catch.h"
#include "support/program.h"

#include <mfres/predictor.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

using mfres::available_backends;
using mfres::BackendInfo;
using mfres::test::file_text;
using mfres::test::run_program;
using mfres::test::TemporaryFolder;
using nlohmann::json;

namespace {

std::string make_phantom(const TemporaryFolder& folder, const std::string& size = "64,72,56") {
    const auto made = run_program({"phantom", "--seed", "3", "--size", size, "--out", (folder / "p3").string()});
    INFO(made.err);
    REQUIRE(made.exit_code == 0);
    return (folder / "p3").string();
}

std::string make_model(const TemporaryFolder& folder, const std::string& network = "mf-res2net") {
    const auto path = (folder / "m.safetensors").string();
    const auto made = run_program({"init", "--network", network, "--seed", "1", "--out", path});
    INFO(made.err);
    REQUIRE(made.exit_code == 0);
    return path;
}

/// The names between "Commands:" and "help".
std::vector<std::string> commands_of(const std::string& help) {
    std::vector<std::string> names;
    std::istringstream lines(help.substr(help.find("Commands:\n")));
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line) && line.rfind("  help ", 0) != 0)
        names.push_back(line.substr(2, line.find(' ', 2) - 2));
    return names;
}

} // namespace

TEST_CASE("mfres info --plan shows how a model runs, op by op") {
    const TemporaryFolder folder;
    const auto model = make_model(folder);
    const auto shown = run_program({"info", model, "--plan", "--backend", "reference", "--size", "16,32,48", "--json"});
    INFO(shown.err);
    REQUIRE(shown.exit_code == 0);
    const json plan = json::parse(shown.out);
    CHECK(plan["operations"]["conv"]["built"] == 105); // the network's convolutions, as its specification counts them
    CHECK(plan["operations"]["batch_norm"]["built"] == 104);
    std::int64_t macs = 0;
    for (const json& op : plan["ops"])
        macs += op["macs"].get<std::int64_t>();
    CHECK(macs == 184230720); // 15,721,021,440 at 128^3, times the share of voxels: 16 * 32 * 48 / 128^3
    std::int64_t of_implementations = 0;
    for (const json& sum : plan["macs_by_implementation"])
        of_implementations += sum.get<std::int64_t>();
    CHECK(of_implementations == macs);
    CHECK(plan["weight_bytes"].get<std::int64_t>() >= 3157168 * 4);
    CHECK(plan["peak_bytes"].get<std::int64_t>() > plan["weight_bytes"].get<std::int64_t>());
    const auto text = run_program({"info", model, "--plan", "--size", "16"});
    REQUIRE(text.exit_code == 0);
    CHECK(text.out.find("batch_norm") != std::string::npos);
    CHECK(text.out.find("MiB peak of activations") != std::string::npos);
    CHECK(run_program({"info", model, "--plan", "--size", "17"}).exit_code != 0);
}

TEST_CASE("phantom, init, info, check and segment work as the README says") {
    const TemporaryFolder folder;
    const auto phantom = make_phantom(folder);
    const auto model = make_model(folder);

    const auto info = run_program({"info", model, "--json"});
    REQUIRE(info.exit_code == 0);
    CHECK(json::parse(info.out)["model"]["learnable"] == 3157168);

    // Small phantoms are smaller than a brain.
    const auto small = run_program({"check", phantom, "--json"});
    CHECK(small.exit_code == 3);
    CHECK(json::parse(small.out)[0]["code"] == "brain_implausible");
    const auto check = run_program({"check", phantom, "--json", "--accept", "brain_implausible"});
    REQUIRE(check.exit_code == 0);
    CHECK(json::parse(check.out)[0]["accepted"] == true);
    CHECK(json::parse(check.out)[0]["warnings"].size() == 1);
    CHECK(run_program({"check", phantom, "--accept", "gzip_corrupt"}).exit_code == 2);
    CHECK(json::parse(check.out)[0]["labels"] == "0 1 2 4");

    const auto labels = (folder / "labels.nii.gz").string();
    const auto segment = run_program({"segment", "--model", model, "--case", phantom, "--out", labels, "--preview",
                                      (folder / "p.png").string(), "--report", (folder / "r.json").string(), "--json",
                                      "--quiet", "--accept", "brain_implausible"});
    INFO(segment.err);
    REQUIRE(segment.exit_code == 0);
    CHECK(segment.err.empty());
    const json report = json::parse(segment.out);
    CHECK(report == json::parse(file_text(folder / "r.json")));
    CHECK(report["network"] == "mf-res2net");
    CHECK(std::filesystem::exists(labels));
    CHECK(file_text(folder / "p.png").substr(1, 3) == "PNG");

    // A second run must not overwrite by accident.
    const auto again = run_program({"segment", "--model", model, "--case", phantom, "--out", labels});
    CHECK(again.exit_code == 6);
    CHECK(run_program({"segment", "--model", model, "--case", phantom, "--out", labels, "--force", "--accept",
                       "brain_implausible"})
              .exit_code == 0);
}

TEST_CASE("a folder of cases: the good ones are segmented, the bad one is named, the exit code says so") {
    const TemporaryFolder folder;
    const auto model = make_model(folder);
    for (const std::string id : {"a", "b", "c"}) {
        const auto made =
            run_program({"phantom", "--seed", "4", "--size", "48,48,48", "--out", (folder / "data" / id).string()});
        REQUIRE(made.exit_code == 0);
    }
    const auto bad = folder / "data" / "b" / "b_t2.nii.gz";
    std::filesystem::resize_file(bad, std::filesystem::file_size(bad) - 5);
    const auto out = folder / "labels";
    const auto run = run_program({"segment", "--model", model, "--data", (folder / "data").string(), "--out",
                                  out.string(), "--json", "--accept", "brain_implausible"});
    CHECK(run.exit_code == 3);
    const json all = json::parse(run.out);
    REQUIRE(all.size() == 3);
    CHECK(all[1]["error"] == "gzip_truncated");
    CHECK(std::filesystem::exists(out / "a.nii.gz"));
    CHECK_FALSE(std::filesystem::exists(out / "b.nii.gz"));
    CHECK(std::filesystem::exists(out / "c.nii.gz"));
}

TEST_CASE("an incomplete patient stops neither segment nor check, which tells everything about a folder") {
    const TemporaryFolder folder;
    const auto model = make_model(folder);
    const std::string data = (folder / "data").string();
    for (const std::string id : {"a", "b", "c"})
        REQUIRE(run_program({"phantom", "--seed", "4", "--size", "48,48,48", "--out", data + "/" + id}).exit_code == 0);
    std::filesystem::rename(data + "/b/b_t2.nii.gz", data + "/b/b_t2w_new.nii.gz");
    std::filesystem::create_symlink("nowhere.nii.gz", data + "/b/b_t2.nii.gz");
    std::filesystem::create_directories(data + "/d\n");
    for (const char* contrast : {"t1", "t2"})
        std::filesystem::copy_file(data + "/a/a_" + contrast + ".nii.gz", data + "/d\n/d_" + contrast + ".nii.gz");
    std::filesystem::create_directories(data + "/other");
    std::filesystem::copy_file(data + "/a/a_t1.nii.gz", data + "/other/scan.nii.gz");

    const auto check = run_program({"check", data, "--accept", "brain_implausible"});
    CHECK(check.exit_code == 3);
    CHECK(check.out.find("ok       a ") != std::string::npos);
    CHECK(check.out.find("ok       c ") != std::string::npos);
    CHECK(check.out.find("REJECTED b ") != std::string::npos);
    CHECK(check.out.find("b_t2w_new.nii.gz") != std::string::npos);
    CHECK(check.out.find("t2 ends in _t2 or -t2w") != std::string::npos);
    CHECK(check.out.find("links to files that do not exist: b_t2.nii.gz") != std::string::npos);
    CHECK(check.out.find("REJECTED d\\x0a ") != std::string::npos);
    CHECK(check.out.find("skipped  other ") != std::string::npos);
    CHECK(check.out.find("scan.nii.gz") != std::string::npos);
    CHECK(check.out.find("2 of 4 cases accepted") != std::string::npos);
    CHECK(check.out.find("are read as brats (") != std::string::npos);
    const json found = json::parse(run_program({"check", data, "--json", "--accept", "brain_implausible"}).out);
    REQUIRE(found.size() == 5);
    CHECK(found[0]["label_scheme"] == "brats");
    CHECK(found[4]["skipped"] == true);

    const auto run = run_program({"segment", "--model", model, "--data", data, "--out", (folder / "out").string(),
                                  "--accept", "brain_implausible"});
    CHECK(run.exit_code == 3);
    CHECK(run.err.find("[modality_missing]: b: ") != std::string::npos);
    CHECK(run.err.find('\n' + std::string("mfres: left out: ")) != std::string::npos);
    CHECK(std::filesystem::exists(folder / "out" / "a.nii.gz"));
    CHECK(std::filesystem::exists(folder / "out" / "c.nii.gz"));
    CHECK_FALSE(std::filesystem::exists(folder / "out" / "b.nii.gz"));
    CHECK(run.out.find("2 of 4 cases segmented") != std::string::npos);

    const auto one = run_program({"segment", "--model", model, "--case", data, "--out", (folder / "x.nii").string()});
    CHECK(one.exit_code == 3);
    CHECK(one.err.find("is no case but holds 3 of them, a first") != std::string::npos);
    CHECK(one.err.find("--data") != std::string::npos);
}

TEST_CASE("check reads the labels of a set by one scheme, and says when the set has none") {
    const TemporaryFolder folder;
    const std::string data = (folder / "data").string();
    for (const std::string id : {"a", "b"})
        REQUIRE(run_program({"phantom", "--seed", "4", "--size", "48,48,48", "--out", data + "/" + id}).exit_code == 0);
    const auto lines = [&](std::vector<std::string> options) {
        options.insert(options.begin(), {"check", data, "--accept", "brain_implausible"});
        return run_program(options);
    };
    CHECK(lines({}).exit_code == 0);
    CHECK(lines({"--labels", "brats2023"}).exit_code == 3);
    CHECK(lines({"--labels", "brats2023"}).out.find("[label_outside_scheme]") != std::string::npos);
    CHECK(lines({"--label-map", "1:ncr,2:ed,4:et"}).exit_code == 0);
    CHECK(lines({"--label-map", "brats"}).exit_code == 2);
    CHECK(lines({"--labels", "brats", "--label-map", "1:ncr"}).exit_code == 2);
    const auto treated = lines({"--labels", "brats2024"});
    CHECK(treated.exit_code == 0);
    CHECK(treated.out.find("counts as background") != std::string::npos);

    // One case in the scheme of 2023 beside one of 2019.
    const auto segmentation = data + "/b/b_seg.nii.gz";
    auto labels = mfres::read_nifti_labels(segmentation);
    REQUIRE_OK(labels);
    std::replace(labels->map.labels.begin(), labels->map.labels.end(), std::uint8_t{4}, std::uint8_t{3});
    REQUIRE_OK(mfres::write_nifti_labels(segmentation, labels->map, labels->geometry, "synthetic", true));
    const auto mixed = lines({});
    CHECK(mixed.exit_code == 3);
    CHECK(mixed.out.find("REJECTED (all)") != std::string::npos);
    CHECK(mixed.out.find("[label_scheme_unclear]") != std::string::npos);
    CHECK(mixed.out.find("2 of 2 cases accepted") != std::string::npos);
    CHECK(run_program({"cache", "--data", data, "--out", (folder / "c.mfcache").string()}).exit_code == 3);
    CHECK_FALSE(std::filesystem::exists(folder / "c.mfcache"));
}

TEST_CASE("segment names what it has written when its last file fails, and takes no input for an output") {
    const TemporaryFolder folder;
    const auto model = make_model(folder);
    const auto phantom = make_phantom(folder);
    const auto out = (folder / "l.nii.gz").string();
    const auto run = [&](std::vector<std::string> options) {
        options.insert(options.begin(),
                       {"segment", "--case", phantom, "--model", model, "--out", out, "--accept", "brain_implausible"});
        return run_program(options);
    };
    CHECK(run({"--report", out}).exit_code == 2);
    CHECK(run({"--preview", out}).exit_code == 2);
    CHECK(run({"--report", phantom + "/p3_t1.nii.gz", "--force"}).exit_code == 2);
    CHECK_FALSE(std::filesystem::exists(out));
    // A folder of the report's name cannot be replaced by a file.
    std::filesystem::create_directories(folder / "r.json" / "full");
    const auto failed = run({"--report", (folder / "r.json").string(), "--force"});
    CHECK(failed.exit_code == 6);
    CHECK(failed.err.find("all else was (" + out + ")") != std::string::npos);
    CHECK(std::filesystem::exists(out));
}

TEST_CASE("wrong use is told apart from wrong data") {
    const TemporaryFolder folder;
    CHECK(run_program({}).exit_code == 2);
    CHECK(run_program({"segmentt"}).exit_code == 2);
    CHECK(run_program({"segment"}).exit_code == 2);
    CHECK(run_program({"segment", "--modell", "x"}).exit_code == 2);
    CHECK(run_program({"phantom", "--out", (folder / "p").string(), "--size", "240x"}).exit_code == 2);
    CHECK(run_program({"phantom", "--out", (folder / "p").string(), "--size", "16"}).exit_code == 2);
    CHECK(run_program({"complexity", "--network", "resnet"}).exit_code == 4);
    CHECK(run_program({"complexity", "--network", R"({"network": "mf-res2net", "splits": 3})"}).exit_code == 4);
    CHECK(run_program({"info", (folder / "missing").string()}).exit_code == 6);
    const auto model = make_model(folder);
    const auto phantom = make_phantom(folder);
    const auto labels = (folder / "l.nii").string();
    CHECK(run_program({"segment", "--model", model, "--case", phantom, "--out", labels, "--backend", "x"}).exit_code ==
          5);
    CHECK(run_program({"segment", "--model", model, "--case", phantom, "--out", labels, "--max-memory", "1M",
                       "--accept", "brain_implausible"})
              .exit_code == 5);
    CHECK(
        run_program({"segment", "--model", phantom + "/p3_t1.nii.gz", "--case", phantom, "--out", labels}).exit_code ==
        4);
    const auto rejected =
        run_program({"segment", "--model", model, "--case", folder.path().string(), "--out", labels, "--json"});
    CHECK(rejected.exit_code == 3);
    CHECK(json::parse(rejected.out)["error"]["code"] == "modality_missing");
    CHECK_FALSE(std::filesystem::exists(labels));
    // A script whose variable is empty must not find exit code 0 and no labels.
    const auto nowhere = run_program({"segment", "--model", model, "--case", phantom, "--out", ""});
    CHECK(nowhere.exit_code == 2);
    CHECK(nowhere.err.find("--out is given without a value") != std::string::npos);
    CHECK(run_program({"cache", "--data", "", phantom, "--out", (folder / "c.mfcache").string()}).exit_code == 2);
    CHECK(run_program({"segment", "--model=", "--case", phantom, "--out", labels}).exit_code == 2);
}

TEST_CASE("a result that cannot be printed is an error") {
    if (!std::filesystem::exists("/dev/full")) {
        std::puts("SKIPPED: there is no /dev/full");
        return;
    }
    const TemporaryFolder folder;
    const auto model = make_model(folder);
    for (const std::vector<std::string>& words : {std::vector<std::string>{"complexity"},
                                                  {"complexity", "--json"},
                                                  {"info", model},
                                                  {"help"},
                                                  {"--version"},
                                                  {"segment", "--help"},
                                                  {"convert", model, "--out", (folder / "m.onnx").string(), "--force"},
                                                  {"bench", "--network", "mf-res2net", "--size", "0", "--json"}}) {
        std::string command = MFRES_PROGRAM;
        for (const std::string& word : words)
            command += " '" + word + "'";
        const int usual = run_program(words).exit_code;
        for (const std::string output : {">/dev/full", ">&-"}) {
            INFO(command << ' ' << output);
            const auto run = mfres::test::run_command({"sh", "-c", command + " " + output});
            CHECK(run.exit_code == (usual == 0 ? 6 : usual));
            if (usual == 0)
                CHECK(run.err.find("mfres: error [file_write]: standard output") != std::string::npos);
        }
    }
    // With standard output closed nothing that is printed lands in the file that is written.
    const std::string made = (folder / "closed.safetensors").string();
    const auto closed = mfres::test::run_command(
        {"sh", "-c", std::string(MFRES_PROGRAM) + " init --network mf-res2net --seed 1 --out '" + made + "' >&- 2>&-"});
    CHECK(closed.exit_code == 6);
    CHECK(run_program({"info", made}).exit_code == 0);
}

TEST_CASE("JSON of 100,000 levels is an error with an exit code wherever it is read") {
    const TemporaryFolder folder;
    const std::string deep = "{\"network\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}";
    const auto file = (folder / "deep.json").string();
    std::ofstream(file) << deep;
    CHECK(run_program({"complexity", "--network", file}).exit_code == 4);
    CHECK(run_program({"init", "--network", file, "--out", (folder / "m").string()}).exit_code == 4);
    const std::string cases = folder.path().string();
    CHECK(run_program({"train", "--data", cases, "--out", (folder / "r").string(), "--recipe", file}).exit_code == 2);
    CHECK(run_program({"train", "--data", cases, "--out", (folder / "r").string(), "--recipe", file, "--steps", "1"})
              .exit_code == 2);
    CHECK(run_program({"train", "--data", cases, "--out", (folder / "r").string(), "--network", file}).exit_code == 2);
}

TEST_CASE("every command explains itself") {
    const auto help = run_program({"help"});
    CHECK(help.exit_code == 0);
    const std::vector<std::string> commands = commands_of(help.out);
    CHECK(commands.size() >= 14);
    for (const std::string& command : commands) {
        INFO(command);
        const auto own = run_program({command, "--help"});
        CHECK(own.exit_code == 0);
        for (const std::string& words :
             {std::string("Examples:"), "mfres " + command, std::string("--json"), std::string("-q [ --quiet ]")}) {
            INFO(words);
            CHECK(own.out.find(words) != std::string::npos);
        }
        if (own.out.find("--backend") != std::string::npos)
            for (const BackendInfo& backend : available_backends()) {
                INFO(backend.name);
                CHECK(own.out.find(backend.name) != std::string::npos);
            }
    }
}

TEST_CASE("the exit codes in the help are those of the README") {
    const std::string help = run_program({"help"}).out;
    const std::string readme = file_text(std::string(MFRES_SOURCE_DIR) + "/README.md");
    for (const std::string code : {"0", "1", "2", "3", "4", "5", "6", "130"}) {
        INFO("exit code " << code);
        const auto row = readme.find("\n| " + code + " | ");
        REQUIRE(row != std::string::npos);
        const auto begin = row + code.size() + 6;
        const std::string meaning = readme.substr(begin, readme.find(" |\n", begin) - begin);
        CHECK(help.find("\n  " + code + std::string(12 - code.size(), ' ') + meaning + "\n") != std::string::npos);
    }
}

TEST_CASE("misspelt options and commands are told the nearest name") {
    const auto rejected = [](const std::vector<std::string>& arguments, const std::string& words) {
        const auto run = run_program(arguments);
        INFO(run.err);
        CHECK(run.exit_code == 2);
        CHECK(run.err.find(words) != std::string::npos);
    };
    rejected({"bench", "--sizes", "32"}, "there is no option '--sizes'; did you mean '--size'?");
    rejected({"segment", "--bakcend", "auto"}, "did you mean '--backend'?");
    rejected({"train", "--max-mem", "2G"}, "did you mean '--max-memory'?");
    rejected({"train", "--learning_rate", "1"}, "did you mean '--learning-rate'?");
    rejected({"segmant"}, "there is no command 'segmant'; did you mean 'segment'?");
    const auto far = run_program({"info", "--entirely-different"});
    CHECK(far.exit_code == 2);
    CHECK(far.err.find("did you mean") == std::string::npos);
    CHECK(far.err.find("there is no option '--entirely-different'") != std::string::npos);
}

TEST_CASE("results and errors of commands that write files are JSON where it is asked for, and quiet is quiet") {
    const TemporaryFolder folder;
    const auto path = [&](const char* name) { return (folder / name).string(); };
    const auto printed = [](const std::vector<std::string>& arguments, int code) {
        const auto run = run_program(arguments);
        INFO(run.err);
        CHECK(run.exit_code == code);
        return run.out;
    };
    const json phantom = json::parse(printed({"phantom", "--size", "32", "--out", path("p"), "--json"}, 0));
    CHECK(phantom["case"] == "p");
    CHECK(phantom["size"] == json::array({32, 32, 32}));
    const json model = json::parse(printed({"init", "--seed", "7", "--out", path("m.safetensors"), "--json"}, 0));
    CHECK(model["network"] == "mf-res2net");
    CHECK(model["seed"] == 7);
    const json listed = json::parse(printed({"complexity", "--list", "--json"}, 0));
    CHECK(listed[0]["keys"].size() > 0);
    CHECK(printed({"phantom", "--size", "32", "--out", path("q"), "--quiet"}, 0).empty());
    CHECK(printed({"init", "--out", path("n.safetensors"), "--quiet"}, 0).empty());

    const auto error = [&](const std::vector<std::string>& arguments, int code) {
        return json::parse(printed(arguments, code))["error"]["code"].get<std::string>();
    };
    CHECK(error({"phantom", "--size", "32", "--out", path("p"), "--json"}, 6) == "file_exists");
    CHECK(error({"init", "--out", path("m.safetensors"), "--json"}, 6) == "file_exists");
    CHECK(error({"complexity", "--network", "u-not", "--json"}, 4) == "network_unknown");
    CHECK(error({"info", path("absent"), "--json"}, 6) == "file_not_found");
    CHECK(printed({"complexity", "--format", "json"}, 2).empty()); // --json says it, for every command
}

TEST_CASE("complexity without arguments is the paper's Table 2 in every format") {
    const auto json_run = run_program({"complexity", "--json"});
    REQUIRE(json_run.exit_code == 0);
    CHECK_FALSE(json::parse(json_run.out).empty());
    for (const std::string format : {"text", "markdown", "csv", "html"}) {
        const auto run = run_program({"complexity", "--format", format});
        CHECK(run.exit_code == 0);
        CHECK(run.out.find("mf-res2net") != std::string::npos);
    }
    const auto text = run_program({"complexity"});
    CHECK(text.out.find("3,157,168") != std::string::npos);
    CHECK(text.out.find("16.24") != std::string::npos);
    CHECK(run_program({"complexity", "--size", "120"}).exit_code != 0); // no multiple of 16
}

TEST_CASE("complexity compares networks, sweeps variants and predicts times") {
    const TemporaryFolder folder;
    const auto both = run_program({"complexity", "--compare", "--network", "mfnet-96", "--network", "dmfnet", "--size",
                                   "32", "--json", "--machine", "h200-sxm", "--precision", "f32"});
    REQUIRE(both.exit_code == 0);
    CHECK(json::parse(both.out).at("predicted").size() == 1);
    CHECK(run_program({"complexity", "--compare", "--network", "dmfnet"}).exit_code == 2);

    const std::string plot = (folder / "pareto.svg").string();
    const auto swept = run_program({"complexity", "--sweep", "splits=2|4", "--sweep", "size=32|64", "--max-macs", "1e9",
                                    "--machine", "raspberry-pi-5", "--max-ms", "1000", "--plot", plot, "--json", "-q"});
    INFO(swept.err);
    REQUIRE(swept.exit_code == 0);
    CHECK(json::parse(swept.out).at("variants").size() == 4);
    CHECK(std::filesystem::file_size(plot) > 1000);
    CHECK(run_program({"complexity", "--sweep", "splits"}).exit_code == 2);
    CHECK(run_program({"complexity", "--sweep", "splits=2", "--max-ms", "5"}).exit_code == 2);

    const std::string roofline = (folder / "roofline.svg").string();
    const auto predicted = run_program({"complexity", "--network", "mf-res2net", "--size", "64", "--machine",
                                        "xeon-8480+", "--precision", "f32,int8", "--threads", "8", "--plot", roofline});
    INFO(predicted.err);
    REQUIRE(predicted.exit_code == 0);
    CHECK(predicted.out.find("data sheet") != std::string::npos);
    CHECK(std::filesystem::file_size(roofline) > 1000);
    CHECK(run_program({"complexity", "--network", "dmfnet", "--machine", "xeon-8480+", "--precision", "fp16"})
              .exit_code == 2);
    CHECK(run_program({"complexity", "--network", "dmfnet", "--machine", "abacus"}).exit_code == 6);
    CHECK(run_program({"complexity", "--plot", plot}).exit_code == 2);

    const auto listed = run_program({"probe", "--list", "--json"});
    CHECK(json::parse(listed.out).size() >= 4);
    CHECK(run_program({"probe", "--threads", "x"}).exit_code == 2);
    CHECK(run_program({"complexity", (folder / "absent.onnx").string()}).exit_code == 6);
    CHECK(run_program({"complexity", (folder / "absent.onnx").string(), "--input", "x=1x0"}).exit_code == 2);
}

TEST_CASE("planned and measured peak memory of a full-size case lie within 10 % of each other") {
    const TemporaryFolder folder;
    const auto phantom = make_phantom(folder, "240,240,155");
    const auto model = make_model(folder);
    const auto run = run_program(
        {"segment", "--model", model, "--case", phantom, "--out", (folder / "l.nii.gz").string(), "--json", "--quiet"});
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    const json report = json::parse(run.out);
    const double planned = report["planned_peak_bytes"];
    const double measured = report["measured_peak_bytes"];
    if (measured == 0 || !mfres::test::resident_memory_is_ours) {
        std::puts("SKIPPED: this system or a sanitizer does not tell the program's own resident memory");
        return;
    }
    INFO("planned " << planned / (1 << 20) << " MiB, measured " << measured / (1 << 20) << " MiB");
    CHECK(std::abs(measured - planned) <= 0.1 * planned);
    for (const char* stage : {"read", "prepare", "compile", "fill input", "network", "labels", "restore", "write"}) {
        INFO(stage);
        CHECK(report["stages_ms"].contains(stage));
    }
}

TEST_CASE("the weights that come with the program are found where there is no /proc") {
    const std::string hide = "mount -t tmpfs none /proc && ";
    const auto apart = [&](const std::string& command) {
        return mfres::test::run_command(
            {"env", "-u", "MFRES_MODELS", "unshare", "--map-root-user", "--mount", "sh", "-c", hide + command});
    };
    if (apart("true").exit_code != 0) {
        std::printf("SKIPPED: this system lets no process hide /proc from itself\n");
        return;
    }
    // Called by its path, and by its name from elsewhere.
    const std::filesystem::path program = MFRES_PROGRAM;
    const std::string arguments = " bench --size 16 --runs 1 --no-probe --backend reference --json";
    const auto by_path = apart(program.string() + arguments);
    INFO(by_path.err);
    CHECK(by_path.exit_code == 0);
    const auto by_name = apart("cd / && PATH=" + program.parent_path().string() + ":$PATH && " +
                               program.filename().string() + arguments);
    INFO(by_name.err);
    CHECK(by_name.exit_code == 0);
}
