// SPDX-License-Identifier: MIT
// Every example of every --help and of the README runs as it stands, on small synthetic data under the names of the examples.
#include "core/file.h"
#include "core/try.h"
#include "imaging/nifti/nifti.h"
#include "model/model.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/program.h"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <map>
#include <sstream>

using namespace mfres;
using test::file_text;
using test::run_command;
using test::run_program;
using test::TemporaryFolder;

namespace {

namespace fs = std::filesystem;

/// What an example needs that a small machine without GPUs and launchers has not, and why it is left out.
const std::map<std::string, std::string>& left_out() {
    static const std::map<std::string, std::string> reasons = {
        {"mpirun ", "needs MPI and several processors; tests/flow/test_ranks.cpp runs it"},
        {"torchrun ", "needs PyTorch's launcher; test_ranks.cpp runs what it does"},
        {"srun ", "needs Slurm"},
        {"--gpus ", "needs GPUs"},
        {"dmfnet.pth", "needs weights of PyTorch; tests/exchange reads such files"},
        {"theirs.pth", "needs weights of PyTorch; tests/exchange reads such files"},
        {"resnet50.onnx", "needs a network of others; tests/exchange counts such files"},
        {"backend native", "a build may be without it; the selftest runs every backend"},
        {"mfres selftest", "tests/selftest runs it, for every backend"},
        {"mfres robustness", "runs every case many times; tests/flow/test_robustness.cpp runs it"},
        {"| man ", "needs man, and a terminal"},
    };
    return reasons;
}

/// Commands that work for hours: they are started, and interrupted once they are at work.
bool is_long(const std::string& line) {
    return line.find("mfres train ") != std::string::npos || line.find("mfres experiment table") != std::string::npos;
}

/// A training example for a small machine: by itself it would take crops of 128 voxels, or all of the memory.
std::string kept_small(std::string example) {
    const auto add = [&](const std::string& command, const std::string& option, const std::string& value) {
        const std::size_t at = example.find(command);
        if (at != std::string::npos && example.find(option) == std::string::npos)
            example.insert(at + command.size(), " " + option + " " + value);
    };
    if (example.find("--recipe") == std::string::npos && example.find("--resume") == std::string::npos)
        add("mfres train", "--crop", "32");
    for (const char* command : {"mfres experiment table1", "mfres experiment table2"}) {
        add(command, "--patch", "32");
        add(command, "--batch", "1");
    }
    return example;
}

/// Lines of shell commands: those with "mfres", with their continuations, without comments.
std::vector<std::string> commands_in(const std::string& text, const std::string& indent) {
    std::vector<std::string> found;
    std::istringstream lines(text);
    bool continues = false;
    for (std::string line; std::getline(lines, line);) {
        const bool begins = line.starts_with(indent) && line.size() > indent.size() && line[indent.size()] != ' ';
        if (!continues && !(begins && line.find("mfres ") != std::string::npos))
            continue;
        const bool more = line.ends_with('\\');
        if (more)
            line.pop_back();
        if (continues)
            found.back() += line;
        else
            found.push_back(line.substr(indent.size()));
        continues = more;
    }
    return found;
}

std::vector<std::string> examples_of_help() {
    std::vector<std::string> all;
    std::istringstream help(run_program({"help"}).out);
    bool listed = false;
    for (std::string line; std::getline(help, line);) {
        listed = listed ? line.rfind("  help ", 0) != 0 && !line.empty() : line == "Commands:";
        if (!listed || line == "Commands:")
            continue;
        const std::string command = line.substr(2, line.find(' ', 2) - 2);
        const std::string own = run_program({command, "--help"}).out;
        const std::size_t at = own.find("Examples:\n");
        REQUIRE(at != std::string::npos);
        const auto examples = commands_in(own.substr(at + 10), "  ");
        INFO(command);
        CHECK_FALSE(examples.empty());
        all.insert(all.end(), examples.begin(), examples.end());
    }
    return all;
}

/// The commands of the README's section "Use".
std::vector<std::string> examples_of_readme() {
    const std::string readme = file_text(std::string(MFRES_SOURCE_DIR) + "/README.md");
    const std::size_t section = readme.find("\n## Use\n");
    const std::size_t begin = readme.find("```sh\n", section);
    REQUIRE(begin != std::string::npos);
    return commands_in(readme.substr(begin + 6, readme.find("```", begin + 6) - begin - 6), "");
}

/// A folder that has everything that examples name.
class Place {
  public:
    Place() {
        fs::create_directories(at("bin"));
        fs::create_symlink(MFRES_PROGRAM, at("bin/mfres"));
        for (const char* name : {"mf-res2net", "mf-res2net-half", "mf-res2net-quarter", "mf-res2net-missing"})
            write_small_model(at("models") / (std::string(name) + ".safetensors"));
        write_small_model(at("m.safetensors"));
        fs::create_directories(at(".zfunc"));
        for (const char* name : {"fold0", "fold1"})
            write_small_model(at(std::string(name) + ".safetensors"));
        write_cases();
        write_tables();
        write_training();
        write_machine();
    }

    fs::path at(const std::string& name) const { return folder_ / name; }

    /// The command as a shell runs it in this folder, for at most ten minutes. `interrupted`: until it has told how long a
    /// step of a training takes, for at most ten seconds, and then once more with Ctrl-C for at most thirty.
    test::Finished run(const std::string& command, bool interrupted) const {
        const std::string begun = "set -m; bash -c " + quoted(command) +
                                  " 2>told & job=$!\n"
                                  "running() { sleep 0.1; kill -0 $job 2>/dev/null; }\n"
                                  "for n in $(seq 100); do running || break; grep -q s/step told && break; done\n"
                                  "kill -INT -- -$job 2>/dev/null\n"
                                  "for n in $(seq 300); do running || break; done\n"
                                  "kill -KILL -- -$job 2>/dev/null\n"
                                  "wait $job; code=$?; cat told >&2; exit $code";
        return run_command({"bash", "-c",
                            text("cd '", folder_.path().string(),
                                 "' && export HOME=\"$PWD\" PATH=\"$PWD/bin:$PATH\" MFRES_MODELS=\"$PWD/models\" && ",
                                 interrupted ? begun : "timeout -s KILL 600 bash -c " + quoted(command))});
    }

    /// What examples replaced and later ones need: the label maps of results/, and the run.
    void restore() const {
        fs::create_directories(at("results"));
        for (const auto& entry : fs::directory_iterator(at("references")))
            if (!fs::exists(at("results") / entry.path().filename()))
                fs::copy_file(entry.path(), at("results") / entry.path().filename());
        fs::remove_all(at("runs/laptop"));
        fs::copy(at("run"), at("runs/laptop"), fs::copy_options::recursive);
        write_machine();
    }

  private:
    static std::string quoted(const std::string& words) {
        std::string all = "'";
        for (const char c : words)
            all += c == '\'' ? std::string("'\\''") : std::string(1, c);
        return all + "'";
    }

    /// What `mfres probe` has measured.
    void write_machine() const {
        const fs::path measured = fs::path(MFRES_SOURCE_DIR) / "tests/fuzz/seeds/machine/machine.json";
        fs::copy_file(measured, at("machine.json"), fs::copy_options::skip_existing);
    }

    static void write_small_model(const fs::path& path) {
        fs::create_directories(path.parent_path());
        auto variant = parse_variant(test::small_network);
        REQUIRE_OK(variant);
        auto model = init_model(*variant, 1);
        REQUIRE_OK(model);
        test::take_any_brain(model->metadata);
        REQUIRE_OK(save_model(path, *model, Dtype::f32, true));
    }

    void phantom(const std::string& name, const std::string& seed, const std::string& size = "160,176,128") const {
        const auto made =
            run_program({"phantom", "--seed", seed, "--size", size, "--out", at(name).string(), "--quiet"});
        INFO(made.err);
        REQUIRE(made.exit_code == 0);
    }

    void write_cases() const {
        phantom("BraTS19_CBICA_AAB_1", "1");
        const fs::path one = at("BraTS19_CBICA_AAB_1");
        for (const char* link : {"DIR", "CASE", "phantom_case"})
            fs::create_directory_symlink(one, at(link));
        // Sets of three and more patients, which a fold can be held out of.
        phantom("patients/BraTS19_CBICA_AAC_1", "2");
        phantom("patients/BraTS19_CBICA_AAD_1", "3");
        for (const char* id : {"BraTS19_TCIA01_001_1", "BraTS19_TCIA01_002_1", "BraTS19_2013_1_1"})
            copy_case(at("patients/BraTS19_CBICA_AAC_1"), at("patients") / id);
        for (const char* set : {"MICCAI_BraTS_2019_Data_Training", "BraTS2021"})
            fs::create_directory_symlink(at("patients"), at(set));
        for (const char* id : {"BraTS19_CBICA_AAC_1", "BraTS19_TCIA01_001_1"}) // few, since some commands take long
            copy_case(at("patients/BraTS19_CBICA_AAC_1"), at("FOLDER_OF_CASES") / id);
        copy_case(one, at("FOLDER/BraTS19_MDA_001_1"));
        fs::create_directories(at("BraTS2019"));
        fs::create_directory_symlink(at("patients"), at("BraTS2019/Training"));
        copy_case(one, at("MICCAI_BraTS_2019_Data_Validation/BraTS19_X_1"));
        copy_case(one, at("MORE_CASES/more1"));
        copy_case(one, at("BraTS-Africa/BraTS-SSA-00001-000"));
        const std::map<std::string, std::string> bids = {
            {"t1", "T1w"}, {"t1ce", "ce-gd_T1w"}, {"t2", "T2w"}, {"flair", "FLAIR"}};
        const std::map<std::string, std::string> single = {{"t1", "a"}, {"t1ce", "b"}, {"t2", "c"}, {"flair", "d"}};
        fs::create_directories(at("BIDS_FOLDER/sub-01/anat"));
        for (const auto& [contrast, word] : bids)
            fs::copy_file(one / ("BraTS19_CBICA_AAB_1_" + contrast + ".nii.gz"),
                          at("BIDS_FOLDER/sub-01/anat") / ("sub-01_" + word + ".nii.gz"));
        for (const auto& [contrast, letter] : single) {
            const auto bytes =
                run_command({"sh", "-c",
                             text("gzip -dc '", (one / ("BraTS19_CBICA_AAB_1_" + contrast + ".nii.gz")).string(),
                                  "' > '", at(letter + ".nii").string(), "'")});
            REQUIRE(bytes.exit_code == 0);
        }
        write_2024();
    }

    /// A copy whose files have the name of the folder.
    static void copy_case(const fs::path& from, const fs::path& to) {
        fs::create_directories(to);
        const std::string old = from.filename().string();
        for (const auto& entry : fs::directory_iterator(from)) {
            const std::string name = entry.path().filename().string();
            if (name.starts_with(old + "_"))
                fs::copy_file(entry.path(), to / (to.filename().string() + name.substr(old.size())));
        }
    }

    /// Labels of BraTS 2024: 3 in place of 4.
    void write_2024() const {
        const fs::path to = at("BraTS-GLI-2024/BraTS-GLI-00001-100");
        copy_case(at("BraTS19_CBICA_AAB_1"), to);
        const fs::path labels = to / "BraTS-GLI-00001-100_seg.nii.gz";
        auto read = read_nifti_labels(labels);
        REQUIRE_OK(read);
        for (std::uint8_t& label : read->map.labels)
            label = label == 4 ? 3 : label;
        REQUIRE_OK(write_nifti_labels(labels, read->map, read->geometry, "test", true));
    }

    /// Results, references, and tables of them.
    void write_tables() const {
        for (const char* set : {"results", "other-results", "references"})
            fs::create_directories(at(set));
        for (const auto& entry : fs::directory_iterator(at("patients"))) {
            const std::string id = entry.path().filename().string();
            for (const char* set : {"results", "other-results", "references"})
                fs::copy_file(entry.path() / (id + "_seg.nii.gz"), at(set) / (id + ".nii.gz"));
        }
        const std::string table = "Label,Dice_ET,Dice_WT,Dice_TC\na,0.7,0.9,0.8\nb,0.6,0.8,0.7\n";
        for (const char* name : {"a/cases.csv", "b/cases.csv", "Stats_Validation_final.csv"}) {
            fs::create_directories(at(name).parent_path());
            std::ofstream(at(name)) << table;
        }
        std::ofstream(at("variant.json")) << R"({"network": "mf-res2net", "widths": [16, 32, 64, 128]})";
        std::ofstream(at("small.json")) << test::small_network;
        std::ofstream(at("patients.txt")) << "BraTS19_CBICA_AAC_1 BraTS19_CBICA_AAD_1\n";
    }

    /// Caches, and a run of two steps.
    void write_training() const {
        const auto cache = [&](const std::string& data, const std::string& name) {
            const auto made =
                run_program({"cache", "--data", at(data).string(), "--out", at(name).string(), "--quiet"});
            INFO(made.err);
            REQUIRE(made.exit_code == 0);
        };
        cache("patients", "train.mfcache");
        cache("MORE_CASES", "val.mfcache");
        cache("BraTS-Africa", "africa.mfcache");
        fs::create_directories(at("other"));
        copy_case(at("BraTS19_CBICA_AAB_1"), at("other/another"));
        cache("other", "other.mfcache");
        const auto trained = run_program({"train",
                                          "--data",
                                          at("train.mfcache").string(),
                                          "--val",
                                          at("val.mfcache").string(),
                                          "--out",
                                          at("run").string(),
                                          "--network",
                                          std::string(test::small_network),
                                          "--steps",
                                          "4",
                                          "--crop",
                                          "16",
                                          "--batch",
                                          "1",
                                          "--quiet",
                                          "--checkpoint-every",
                                          "2",
                                          "--validate-every",
                                          "2"});
        INFO(trained.err);
        REQUIRE(trained.exit_code == 0);
        const auto calibrated =
            run_program({"convert", at("m.safetensors").string(), "--out", at("m-int8.safetensors").string(),
                         "--calibrate", at("val.mfcache").string(), "--quiet"});
        INFO(calibrated.err);
        REQUIRE(calibrated.exit_code == 0);
        fs::create_directories(at("runs"));
        for (const char* name : {"runs/laptop", "fine1", "fine2"})
            fs::copy(at("run"), at(name), fs::copy_options::recursive);
    }

    TemporaryFolder folder_;
};

/// The values of options that name what a command writes.
std::vector<std::string> outputs_of(const std::string& example) {
    std::vector<std::string> names;
    for (const std::string option : {" --out ", " --preview ", " --html "})
        if (const std::size_t at = example.find(option); at != std::string::npos) {
            const std::size_t begin = at + option.size();
            names.push_back(example.substr(begin, example.find_first_of(" ;", begin) - begin));
        }
    return names;
}

/// Every example stands for itself: what an earlier one wrote is not in its way.
void clear_outputs(const Place& place, const std::string& example) {
    for (const char* going_on : {"--skip-existing", "--resume", "--status", "for i in"})
        if (example.find(going_on) != std::string::npos)
            return;
    for (const std::string& name : outputs_of(example))
        fs::remove_all(place.at(name.ends_with('/') ? name.substr(0, name.size() - 1) : name));
}

void run_all(const std::vector<std::string>& examples) {
    const Place place;
    std::size_t done = 0;
    for (const std::string& example : examples) {
        INFO(example);
        const auto reason = std::find_if(left_out().begin(), left_out().end(),
                                         [&](const auto& one) { return example.find(one.first) != std::string::npos; });
        if (reason != left_out().end())
            continue;
        clear_outputs(place, example);
        const bool interrupted = is_long(example);
        const auto run = place.run(kept_small(example), interrupted);
        place.restore();
        INFO(run.out);
        INFO(run.err);
        const bool fine = run.exit_code == 0 || (interrupted && run.exit_code == 130);
        CHECK(fine);
        if (!interrupted)
            CHECK(run.err.find("mfres: error [") == std::string::npos);
        ++done;
    }
    CHECK(done > 10);
}

} // namespace

TEST_CASE("every example of the README runs as it stands") {
    run_all(examples_of_readme());
}

TEST_CASE("every example of every help runs as it stands") {
    run_all(examples_of_help());
}
