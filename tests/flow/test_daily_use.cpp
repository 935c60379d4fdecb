// SPDX-License-Identifier: MIT
// The program in daily use: folders of cases, names that people have, mistakes that people make, configuration files.
#include "support/catch.h"
#include "support/program.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <sstream>

using mfres::test::file_text;
using mfres::test::Finished;
using mfres::test::run_program;
using mfres::test::TemporaryFolder;
using nlohmann::json;

namespace {

namespace fs = std::filesystem;

/// A model of random weights, small enough for tests.
std::string make_model(const TemporaryFolder& folder) {
    const std::string path = (folder / "m.safetensors").string();
    const auto made = run_program({"init", "--network", "mf-res2net", "--seed", "1", "--out", path});
    INFO(made.err);
    REQUIRE(made.exit_code == 0);
    return path;
}

/// Small phantoms DATA/ID.
std::string make_cases(const TemporaryFolder& folder, const std::vector<std::string>& ids) {
    for (const std::string& id : ids) {
        const auto made =
            run_program({"phantom", "--seed", "4", "--size", "48,48,48", "--out", (folder / "data" / id).string()});
        INFO(made.err);
        REQUIRE(made.exit_code == 0);
    }
    return (folder / "data").string();
}

Finished segment(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"segment", "--accept", "brain_implausible"});
    return run_program(arguments);
}

std::vector<std::vector<std::string>> csv_of(const fs::path& file) {
    std::vector<std::vector<std::string>> rows;
    std::istringstream lines(file_text(file));
    for (std::string line; std::getline(lines, line);) {
        auto& row = rows.emplace_back(1);
        bool quoted = false;
        for (const char c : line) {
            quoted = c == '"' ? !quoted : quoted;
            if (c == ',' && !quoted)
                row.emplace_back();
            else if (c != '"')
                row.back() += c;
        }
    }
    return rows;
}

bool has(const std::string& text, const std::string& words) {
    return text.find(words) != std::string::npos;
}

/// Wrong use: the exit code of usage errors, and words of the message.
void rejected(const std::vector<std::string>& arguments, const std::vector<std::string>& words, int code = 2) {
    const auto run = run_program(arguments);
    INFO(run.err);
    CHECK(run.exit_code == code);
    for (const std::string& part : words) {
        INFO(part);
        CHECK(has(run.err, part));
    }
}

} // namespace

TEST_CASE("a folder of cases leaves a table and a summary, in which a bad case is a row") {
    const TemporaryFolder folder;
    const std::string model = make_model(folder);
    const std::string data = make_cases(folder, {"a", "b", "c"});
    const fs::path bad = folder / "data/b/b_t2.nii.gz";
    fs::resize_file(bad, fs::file_size(bad) - 5);
    const fs::path out = folder / "out";
    const auto run = segment({"--model", model, "--data", data, "--out", out.string()});
    CHECK(run.exit_code == 3);
    CHECK(has(run.err, "[1/3] a\n"));
    CHECK(has(run.err, "[3/3] c\n"));
    CHECK(has(run.out, "2 of 3 cases segmented"));

    const auto table = csv_of(out / "volumes.csv");
    REQUIRE(table.size() == 4);
    CHECK(table[0][0] == "case");
    CHECK(table[0].size() == 11);
    for (const auto& row : table)
        CHECK(row.size() == table[0].size());
    const auto row_of = [&](const std::string& id) {
        const auto found = std::find_if(table.begin(), table.end(), [&](const auto& row) { return row[0] == id; });
        REQUIRE(found != table.end());
        return *found;
    };
    CHECK(row_of("a")[1] == "segmented");
    CHECK(std::stod(row_of("a")[7]) > 0); // seconds
    CHECK(row_of("b")[1] == "rejected");
    CHECK(row_of("b")[9] == "gzip_truncated");
    CHECK(has(row_of("b")[10], "b_t2.nii.gz"));
    // Whole tumour and core are what the classes add up to.
    const auto number = [&](const std::string& id, std::size_t column) { return std::stod(row_of(id)[column]); };
    CHECK(number("a", 5) == Approx(number("a", 2) + number("a", 3) + number("a", 4)));
    CHECK(number("a", 6) == Approx(number("a", 2) + number("a", 4)));

    const json summary = json::parse(file_text(out / "summary.json"));
    CHECK(has(summary["program"].get<std::string>(), "mfres "));
    CHECK(summary["date"].get<std::string>().size() == 20);
    CHECK(summary["options"]["data"] == data);
    CHECK(summary["options"]["threads"] == 0);
    CHECK(summary["segmented"] == 2);
    CHECK(summary["rejected"] == 1);
    CHECK(summary["exit_code"] == 3);
    CHECK(summary["network"] == "mf-res2net");
    REQUIRE(summary["cases"].size() == 3);
    CHECK(has(summary["cases"][0]["warnings"].dump(), "the weights are random"));
}

TEST_CASE("skip-existing goes on where a run was interrupted, and the table has all cases") {
    const TemporaryFolder folder;
    const std::string model = make_model(folder);
    const std::string data = make_cases(folder, {"a", "b", "c"});
    const fs::path out = folder / "out";
    const std::vector<std::string> words = {"--model", model, "--data", data, "--out", out.string()};
    REQUIRE(segment(words).exit_code == 0);
    const auto first = csv_of(out / "volumes.csv");
    const auto again = segment(words);
    CHECK(again.exit_code == 6);
    CHECK(has(again.err, "--skip-existing goes on"));

    fs::remove(out / "b.nii.gz");
    const auto time_of_a = fs::last_write_time(out / "a.nii.gz");
    std::vector<std::string> more = words;
    more.push_back("--skip-existing");
    const auto resumed = segment(more);
    INFO(resumed.err);
    CHECK(resumed.exit_code == 0);
    CHECK(has(resumed.err, "[1/1] b\n"));
    CHECK(has(resumed.out, "1 of 3 cases segmented"));
    CHECK(has(resumed.out, "2 were there already"));
    CHECK(fs::last_write_time(out / "a.nii.gz") == time_of_a);
    CHECK(fs::exists(out / "b.nii.gz"));
    const json summary = json::parse(file_text(out / "summary.json"));
    CHECK(summary["existing"] == 2);
    CHECK(summary["segmented"] == 1);

    // Without the summary the volumes are those of the label maps, and equal.
    fs::remove(out / "summary.json");
    REQUIRE(segment(more).exit_code == 0);
    const auto measured = csv_of(out / "volumes.csv");
    REQUIRE(measured.size() == first.size());
    for (std::size_t row = 1; row < first.size(); ++row) {
        CHECK(measured[row][0] == first[row][0]);
        CHECK(measured[row][1] == "existing");
        for (std::size_t column = 2; column < 7; ++column)
            CHECK(std::stod(measured[row][column]) == Approx(std::stod(first[row][column])));
    }
    // A label map that cannot be read is a row, not the end.
    fs::remove(out / "summary.json");
    std::ofstream(out / "a.nii.gz") << "damaged";
    const auto damaged = segment(more);
    CHECK(damaged.exit_code == 3);
    CHECK(has(damaged.err, "remove it, so that the case is segmented again"));

    more.push_back("--force");
    CHECK(segment(more).exit_code == 2);
}

TEST_CASE("results in the layout of BIDS derivatives have description, table of labels and sidecars") {
    const TemporaryFolder folder;
    const std::string model = make_model(folder);
    const std::string data = make_cases(folder, {"sub-01_ses-2", "Köln 7"});
    const fs::path out = folder / "derivatives";
    const auto run = segment({"--model", model, "--data", data, "--out", out.string(), "--layout", "bids", "--quiet"});
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    const fs::path stem = out / "sub-01/ses-2/anat/sub-01_ses-2_desc-tumour_dseg";
    CHECK(fs::exists(stem.string() + ".nii.gz"));
    CHECK(json::parse(file_text(stem.string() + ".json"))["network"] == "mf-res2net");
    CHECK(fs::exists(out / "sub-Kln7/anat/sub-Kln7_desc-tumour_dseg.nii.gz"));
    const json description = json::parse(file_text(out / "dataset_description.json"));
    CHECK(description["DatasetType"] == "derivative");
    CHECK(description["GeneratedBy"][0]["Name"] == "mfres");
    CHECK(has(file_text(out / "desc-tumour_dseg.tsv"), "4\tenhancing tumour\tet\t#FAE63C"));
    rejected({"segment", "--data", data, "--out", out.string(), "--layout", "tree"}, {"tree", "flat", "bids"});
    rejected({"segment", "--case", data, "--out", "l.nii.gz", "--layout", "bids"}, {"--layout is for a folder"});
}

TEST_CASE("a BIDS folder and a folder of nnU-Net are segmented as they are") {
    const TemporaryFolder folder;
    const std::string model = make_model(folder);
    const fs::path made = make_cases(folder, {"p"}) + "/p";
    const auto copy = [&](const std::string& contrast, const fs::path& to) {
        fs::create_directories(to.parent_path());
        fs::copy_file(made / ("p_" + contrast + ".nii.gz"), to);
    };
    const fs::path anat = folder / "bids/sub-01/anat";
    copy("t1", anat / "sub-01_T1w.nii.gz");
    copy("t1ce", anat / "sub-01_ce-gd_T1w.nii.gz");
    copy("t2", anat / "sub-01_T2w.nii.gz");
    copy("flair", anat / "sub-01_FLAIR.nii.gz");
    const fs::path set = folder / "Dataset001";
    copy("flair", set / "imagesTs/x_0000.nii.gz");
    copy("t1", set / "imagesTs/x_0001.nii.gz");
    copy("t1ce", set / "imagesTs/x_0002.nii.gz");
    copy("t2", set / "imagesTs/x_0003.nii.gz");
    std::ofstream(set / "dataset.json")
        << R"({"channel_names": {"0": "FLAIR", "1": "T1", "2": "T1Gd", "3": "T2"}, "numTraining": 0})";
    const auto labels = [&](const std::string& data, const std::string& id) {
        const fs::path out = folder / ("out" + id);
        const auto run = segment({"--model", model, "--data", data, "--out", out.string(), "--quiet"});
        INFO(run.err);
        REQUIRE(run.exit_code == 0);
        return file_text(out / (id + ".nii.gz"));
    };
    const std::string plain = labels(made.parent_path().string(), "p");
    CHECK(labels((folder / "bids").string(), "sub-01") == plain);
    CHECK(labels(set.string(), "x") == plain);
}

TEST_CASE("help of a command, forgotten options and files that are no model are explained") {
    const TemporaryFolder folder;
    const auto help = run_program({"help", "segment"});
    CHECK(help.exit_code == 0);
    CHECK(help.out == run_program({"segment", "--help"}).out);
    rejected({"help", "segmnet"}, {"did you mean 'segment'?"});

    const std::string data = make_cases(folder, {"a"});
    rejected({"segment", data, "--out", "x.nii.gz"},
             {"has no option before it; write --case " + data, "--data " + data});
    rejected({"segment", "p_t1ce.nii.gz", "--out", "x.nii.gz"}, {"write --t1ce p_t1ce.nii.gz"});
    rejected({"segment", "--case", data, "m.safetensors", "--out", "x.nii"}, {"write --model m.safetensors"});
    rejected({"segment", "--case", data, "quiet", "--out", "x.nii"}, {"'quiet' has no option before it", "--quiet"});

    const auto as_model = [&](const std::string& name, const std::string& content, const std::string& words) {
        std::ofstream(folder / name, std::ios::binary) << content;
        rejected({"info", (folder / name).string()}, {}, run_program({"info", (folder / name).string()}).exit_code);
        rejected({"segment", "--model", (folder / name).string(), "--case", data + "/a", "--out",
                  (folder / "l.nii.gz").string()},
                 {"is no model file: ", words}, 4);
    };
    as_model("m.onnx", "\x08\x07 and so on, longer than a header", "it is ONNX; 'mfres convert");
    as_model("best.ckpt", "MFRESCKP and so on, longer than a header", "checkpoint of mfres train; 'mfres convert");
    as_model("t.mfcache", "mfrcache and so on, longer than a header", "training cache, which is given with --data");
    as_model("m.pt", "PK\x03\x04 and so on, longer than a header", "--modalities");
    as_model("old.pth", "\x80\x02 and so on, longer than a header", "it is a PyTorch file");
    as_model("net.json", "{\"network\": \"unet\"}, longer than a header", "it is JSON");
    rejected({"init", "--network", (folder / "absent.json").string(), "--out", (folder / "n.safetensors").string()},
             {"there is no file ", "complexity --list"}, 6);
}

TEST_CASE("options come from a file, and those of the command line come first") {
    const TemporaryFolder folder;
    const std::string model = make_model(folder);
    const std::string data = make_cases(folder, {"a"});
    const std::string file = (folder / "c.json").string();
    const auto config = [&](const json& content) { std::ofstream(file) << content.dump(); };
    config({{"model", model}, {"threads", 1}, {"accept", {"brain_implausible"}}, {"quiet", true}, {"force", false}});
    const std::string labels = (folder / "l.nii.gz").string();
    const auto run = run_program({"segment", "--config", file, "--case", data + "/a", "--out", labels, "--json"});
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    const json report = json::parse(run.out);
    CHECK(report["backend"]["threads"] == 1);
    CHECK(report["options"]["quiet"] == true);
    CHECK(report["options"].contains("force") == false);
    const auto other = run_program(
        {"segment", "--config", file, "--case", data + "/a", "--out", labels, "--json", "--force", "--threads", "2"});
    REQUIRE(other.exit_code == 0);
    CHECK(json::parse(other.out)["options"]["threads"] == 2);

    config({{"thread", 1}});
    rejected({"segment", "--config", file}, {"there is no option 'thread'; did you mean '--threads'?"});
    config({{"quiet", "yes"}});
    rejected({"segment", "--config", file}, {"'quiet' is \"yes\", must be true or false"});
    config({{"threads", {{"a", 1}}}});
    rejected({"segment", "--config", file}, {"must be a text, a number, or a list"});
    std::ofstream(file) << "{";
    rejected({"segment", "--config", file}, {"json_invalid"});
    rejected({"segment", "--config", (folder / "none.json").string()}, {"none.json"}, 6);
    config({{"table", (folder / "none.csv").string()}});
    rejected({"evaluate", "--config", file}, {"none.csv"}, 6);
}

TEST_CASE("the default report is short, and verbose tells what the backend chose") {
    const TemporaryFolder folder;
    const std::string model = make_model(folder);
    const std::string data = make_cases(folder, {"a"});
    const std::vector<std::string> words = {
        "--model", model, "--case", data + "/a", "--out", (folder / "l.nii").string(), "--force", "--json"};
    const auto usual = segment(words);
    REQUIRE(usual.exit_code == 0);
    CHECK(std::count(usual.out.begin(), usual.out.end(), '\n') < 130);
    CHECK_FALSE(json::parse(usual.out).contains("chosen"));
    std::vector<std::string> more = words;
    more.push_back("--verbose");
    CHECK(json::parse(segment(more).out)["chosen"].size() > 50);
    more.erase(std::find(more.begin(), more.end(), "--json"));
    CHECK(has(segment(more).out, "chosen by the backend"));
}

TEST_CASE("outputs have the ending of what is in them, and folders are no files") {
    const TemporaryFolder folder;
    const std::string data = make_cases(folder, {"a"});
    const std::string one = data + "/a";
    rejected({"segment", "--case", one, "--out", "l.nii", "--preview", "p.jpg"}, {"p.jpg, must end in .png"});
    rejected({"segment", "--case", one, "--out", "l.nii", "--report", "r.txt"}, {"must end in .json"});
    rejected({"segment", "--case", one, "--out", "l.nii", "--html", "r.pdf"}, {"must end in .html"});
    rejected({"segment", "--case", one, "--out", "l.mgz"}, {"must end in .nii or .nii.gz"});
    rejected({"segment", "--data", data, "--out", "l.nii.gz"}, {"--out names a folder"});
    rejected({"segment", "--data", data, "--out", (folder / "o").string(), "--preview", "p.png"},
             {"--preview names a folder"});
    rejected({"init", "--out", (folder / "m.onnx").string()}, {"must end in .safetensors"});
    rejected({"cache", "--data", data, "--out", (folder / "m.zip").string()}, {"must end in .mfcache"});
    CHECK_FALSE(fs::exists(folder / "o"));
}

TEST_CASE("values that make no sense are usage errors, and doubtful ones are warned about") {
    const TemporaryFolder folder;
    const std::string model = make_model(folder);
    const std::string data = make_cases(folder, {"a"});
    rejected({"bench", "--size", "0"}, {});
    rejected({"bench", "--model", model, "--size", "17"}, {"17"});
    rejected({"bench", "--runs", "0"}, {});
    rejected({"complexity", "--size", "120"}, {"120"});
    rejected({"info", model, "--plan", "--size", "17"}, {"17"});
    rejected({"train", "--data", data, "--out", (folder / "r").string(), "--batch", "0"}, {"batch"});
    rejected({"train", "--data", data, "--out", (folder / "r").string(), "--crop", "17"}, {"17"});
    rejected({"train", "--data", data, "--out", (folder / "r").string(), "--steps", "-1"}, {"steps"});
    rejected({"segment", "--case", data + "/a", "--out", "l.nii", "--threads", "-1"}, {"threads"});
    rejected({"convert", model, "--out", (folder / "m.onnx").string(), "--size", "17"}, {"17"});
    const auto many = segment({"--model", model, "--case", data + "/a", "--out", (folder / "l.nii").string(),
                               "--threads", "1000", "--quiet"});
    CHECK(many.exit_code == 0);
    CHECK(has(many.err, "mfres: warning: --threads 1000 "));
    const auto random = segment({"--model", model, "--case", data + "/a", "--out", (folder / "k.nii").string()});
    CHECK(has(random.out, "the weights are random"));
}
