// SPDX-License-Identifier: MIT
// The program is killed (SIGKILL) at random moments: every file that it writes is there as a whole or not at all, and a
// training goes on to the model that it would have become.
#include "core/file.h"
#include "core/random.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/program.h"
#include "support/training_runs.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <map>

using namespace mfres;

namespace {

using Clock = std::chrono::steady_clock;

/// Kills in all: 25, or what the environment variable MFRES_KILLS says.
int kills() {
    const char* const wanted = std::getenv("MFRES_KILLS"); // NOLINT(concurrency-mt-unsafe): nobody sets it
    return wanted ? std::atoi(wanted) : 25;
}

/// A command of the program and the files that it writes, with what a run that nobody killed wrote.
struct Job {
    std::vector<std::string> arguments;
    std::vector<std::filesystem::path> outputs;
    std::map<std::filesystem::path, std::string> content;
    double seconds = 0.0;
};

/// Whether the program ended by itself before the kill.
bool run_and_kill(const std::vector<std::string>& arguments, double after, const std::filesystem::path& log) {
    const pid_t child = test::start_program(arguments, log);
    std::this_thread::sleep_for(std::chrono::duration<double>(after));
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        return false;
    INFO(test::file_text(log));
    CHECK(WEXITSTATUS(status) == 0);
    return true;
}

double run_whole(const std::vector<std::string>& arguments) {
    const auto begin = Clock::now();
    const auto done = test::run_program(arguments);
    INFO(done.err);
    REQUIRE(done.exit_code == 0);
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Removes what killed processes left beside their targets, which begins with a dot. Gives the names.
std::vector<std::string> remove_leftovers(const std::filesystem::path& folder) {
    std::vector<std::string> removed;
    const auto entries = list_folder(folder);
    REQUIRE_OK(entries);
    for (const FolderEntry& entry : *entries)
        if (const std::string name = entry.path.filename().string(); name.starts_with('.')) {
            removed.push_back(name);
            std::filesystem::remove(entry.path);
        }
    return removed;
}

bool has_checkpoint(const std::filesystem::path& run) {
    return std::filesystem::exists(run / "last.ckpt") || std::filesystem::exists(run / "previous.ckpt");
}

} // namespace

TEST_CASE("a program killed at random moments leaves whole files") {
    const test::TemporaryFolder folder;
    const auto out = folder / "out";
    std::filesystem::create_directory(out);
    const std::string model = test::write_model(folder, R"({"network": "no-new-net", "widths": [4, 4]})").string();
    const std::string scans = test::write_case(folder).modalities[0].parent_path().string();
    const std::string labelled = test::training_cases().cases().string();
    const auto in = [&](const char* name) { return (out / name).string(); };
    std::vector<Job> jobs = {
        {{"segment", "--case", scans, "--model", model, "--threads", "1", "--backend", "reference", "--force", "--out",
          in("labels.nii.gz"), "--probabilities", in("probabilities.nii.gz"), "--preview", in("picture.png")},
         {out / "labels.nii.gz", out / "probabilities.nii.gz", out / "picture.png"}},
        {{"convert", model, "--out", in("model.onnx"), "--force"}, {out / "model.onnx"}},
        {{"convert", model, "--out", in("half.safetensors"), "--dtype", "f16", "--force"}, {out / "half.safetensors"}},
        {{"cache", "--data", labelled, "--threads", "1", "--accept", "brain_implausible", "--force", "--out",
          in("cases.mfcache")},
         {out / "cases.mfcache"}},
    };
    for (Job& job : jobs) {
        job.seconds = run_whole(job.arguments);
        for (const auto& output : job.outputs)
            job.content[output] = test::file_text(output);
    }
    Random random(static_cast<std::uint64_t>(::getpid()));
    int killed = 0;
    int early = 0;
    std::size_t leftovers = 0;
    for (int turn = 0; killed < kills(); ++turn) {
        const Job& job = jobs[static_cast<std::size_t>(turn) % jobs.size()];
        std::map<std::filesystem::path, bool> there_before;
        const bool fresh = random.below(2) == 0; // else the outputs of the run before are replaced
        for (const auto& output : job.outputs) {
            if (fresh)
                std::filesystem::remove(output);
            there_before[output] = std::filesystem::exists(output);
        }
        if (run_and_kill(job.arguments, random.uniform(0.0, job.seconds), folder / "log"))
            continue;
        ++killed;
        leftovers += remove_leftovers(out).size();
        for (const auto& output : job.outputs) {
            INFO(output.string() << " after kill " << killed);
            const bool there = std::filesystem::exists(output);
            early += there ? 0 : 1;
            CHECK((there || !there_before[output]));
            if (there)
                CHECK(test::file_text(output) == job.content.at(output));
        }
    }
    std::printf("%d kills: %d outputs not there yet, %zu temporary files\n", killed, early, leftovers);
}

TEST_CASE("a training killed at random moments goes on to the same model") {
    const test::TemporaryFolder folder;
    const auto recipe = folder / "recipe.json";
    const std::string settings = test::tiny_recipe({{"steps", 6}, {"batch", 1}, {"validate_every", 3}});
    REQUIRE_OK(write_file_atomically(recipe, std::as_bytes(std::span(settings))));
    const auto command = [&](const std::string& run) {
        return std::vector<std::string>{"train",
                                        "--data",
                                        test::training_cases().path().string(),
                                        "--val",
                                        test::validation_cases().path().string(),
                                        "--recipe",
                                        recipe.string(),
                                        "--out",
                                        run,
                                        "--backend",
                                        "reference",
                                        "--threads",
                                        "1",
                                        "--checkpoint-every",
                                        "1",
                                        "--quiet"};
    };
    const double seconds = run_whole(command((folder / "whole").string()));
    const std::string wanted = test::file_text(folder / "whole" / "model.safetensors");
    REQUIRE(!wanted.empty());

    Random random(static_cast<std::uint64_t>(::getpid()));
    const auto run = folder / "run";
    int killed = 0;
    int resumed = 0;
    int finished = 0;
    while (killed < kills() || finished == 0) {
        auto arguments = command(run.string());
        if (has_checkpoint(run)) {
            arguments.emplace_back("--resume");
            ++resumed;
        } else {
            std::filesystem::remove_all(run);
        }
        if (killed == kills()) {
            run_whole(arguments);
        } else if (!run_and_kill(arguments, random.uniform(0.0, 0.6 * seconds), folder / "log")) {
            ++killed;
            continue;
        }
        ++finished;
        CHECK(test::file_text(run / "model.safetensors") == wanted);
        CHECK(remove_leftovers(run) == std::vector<std::string>()); // a run that goes on clears up
        std::filesystem::remove_all(run);
    }
    std::printf("%d kills, %d times resumed, %d trainings finished\n", killed, resumed, finished);
}
