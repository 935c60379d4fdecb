// SPDX-License-Identifier: MIT
// `mfres train` under mpirun, as a user runs it on several processes.
#include "support/catch.h"
#include "support/program.h"
#include "support/ranks.h"
#include "support/training.h"
#include "train/checkpoint.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <optional>

namespace mfres {

namespace {

using test::file_text;
using test::Finished;
using test::TemporaryFolder;
using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

/// The words that start two processes of the program, or nothing where MPI is absent, which has been said then. Asked
/// to end, they have so many seconds to save.
std::optional<Words> launch([[maybe_unused]] const std::string& seconds_to_save = "1") {
#ifdef MFRES_MPIEXEC
    if (std::filesystem::exists(MFRES_MPIEXEC)) {
        ::setenv("ASAN_OPTIONS", "detect_leaks=0", 1); // MPI leaves much at the end
        return Words{MFRES_MPIEXEC,
                     "--allow-run-as-root",
                     "--oversubscribe",
                     "--bind-to",
                     "none",
                     "--mca",
                     "btl",
                     "self,vader",
                     "--mca",
                     "odls_base_sigkill_timeout",
                     seconds_to_save,
                     "-n",
                     "2",
                     MFRES_PROGRAM};
    }
#endif
    std::printf("SKIPPED: this build has no MPI, or there is no mpiexec\n");
    return std::nullopt;
}

/// Two phantoms of 48 x 56 x 48 voxels in a cache.
std::filesystem::path make_cache(const TemporaryFolder& folder, const std::string& name = "cases",
                                 const Words& seeds = {"1", "2"}) {
    for (const std::string& seed : seeds) {
        const Finished made = test::run_program(
            {"phantom", "--seed", seed, "--size", "48,56,48", "--out", folder / name / ("phantom-" + seed)});
        REQUIRE(made.exit_code == 0);
    }
    const auto cache = folder / (name + ".mfcache");
    REQUIRE(test::run_program({"cache", "--data", folder / name, "--out", cache}).exit_code == 0);
    return cache;
}

/// A network of two levels, small steps and noisy images: what one process and two can be compared on, see the
/// trainer's tests.
const Words tiny = {"--network",
                    R"({"network": "mf-res2net", "widths": [8, 16], "decoder": [8, 4], "units": [1, 1],
                        "decoder_units": [1, 1]})",
                    "--crop",
                    "16",
                    "--threads",
                    "1",
                    "--log-every",
                    "1",
                    "--learning-rate",
                    "3e-5",
                    "--loss",
                    "dice",
                    "--noise",
                    "2",
                    "--seed",
                    "3",
                    "--tumour-probability",
                    "1"};

Checkpoint checkpoint_of(const std::filesystem::path& path) {
    auto checkpoint = read_checkpoint(path);
    REQUIRE_OK(checkpoint);
    return std::move(checkpoint).value();
}

/// The process that the launcher started as that rank.
pid_t process_of_rank(pid_t launcher, int rank) {
    const std::string wanted = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank);
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (!std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; }))
            continue;
        const std::string status = file_text(entry.path() / "status");
        const std::string variables = '\0' + file_text(entry.path() / "environ");
        if (status.find("\nPPid:\t" + std::to_string(launcher) + "\n") != std::string::npos &&
            variables.find('\0' + wanted + '\0') != std::string::npos)
            return std::stoi(name);
    }
    return -1;
}

/// Its exit code as a shell gives it, or nothing after a minute and a half.
std::optional<int> wait_for_end(pid_t child) {
    for (int i = 0; i < 900; ++i) {
        int status = 0;
        if (::waitpid(child, &status, WNOHANG) == child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return std::nullopt;
}

/// How often the words occur.
std::size_t count(const std::string& content, const std::string& words) {
    std::size_t found = 0;
    for (std::size_t at = content.find(words); at != std::string::npos; at = content.find(words, at + 1))
        ++found;
    return found;
}

/// Whether a process of another parent ends within ten seconds; one that only waits to be reaped has ended.
bool ends(pid_t process) {
    for (int tenth = 0; tenth < 100; ++tenth) {
        const std::string stat = file_text("/proc/" + std::to_string(process) + "/stat");
        const auto name_end = stat.rfind(") ");
        if (name_end == std::string::npos || stat[name_end + 2] == 'Z')
            return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return false;
}

} // namespace

TEST_CASE("two processes under mpirun train as one with the whole batch, and one goes on where they stopped") {
    const auto mpirun = launch();
    if (!mpirun)
        return;
    const TemporaryFolder folder;
    const auto cache = make_cache(folder);
    const auto others = make_cache(folder, "others", {"3", "4"});
    const Words arguments = Words{"train", "--data", cache, "--steps", "10", "--batch", "2", "--json"} + tiny;
    const Finished one = test::run_program(arguments + Words{"--out", folder / "one"});
    INFO(one.err);
    REQUIRE(one.exit_code == 0);
    const Finished two = test::run_command(*mpirun + arguments + Words{"--out", folder / "two", "--val", others});
    INFO(two.err);
    REQUIRE(two.exit_code == 0);
    CHECK(count(two.err, "step 10/10  loss ") == 1); // one process speaks
    const auto report = nlohmann::json::parse(two.out);
    CHECK(report["ranks"] == 2);
    CHECK(report["step"] == 10);
    CHECK(report["best"]["cases"].size() == 2);
    CHECK(std::filesystem::exists(folder / "two" / "model.safetensors"));

    const Checkpoint whole = checkpoint_of(folder / "one" / "last.ckpt");
    const Checkpoint parts = checkpoint_of(folder / "two" / "last.ckpt");
    REQUIRE(whole.rows.size() == parts.rows.size());
    for (std::size_t i = 0; i < whole.rows.size(); ++i)
        CHECK(parts.rows[i].loss == Approx(whole.rows[i].loss).epsilon(1e-5));
    CHECK(test::relative_error(parts.state.weights, whole.state.weights) <= 1e-5);

    const Finished more = test::run_program({"train", "--data", cache, "--val", others, "--out", folder / "two",
                                             "--resume", "--steps", "11", "--threads", "1"});
    INFO(more.err);
    CHECK(more.exit_code == 0);
    CHECK(more.err.find("on each of 2 ranks") != std::string::npos);
}

TEST_CASE("two processes that meet through sockets, as torchrun starts them, train as one with the whole batch") {
    const TemporaryFolder folder;
    const auto cache = make_cache(folder);
    const Words arguments = Words{"train", "--data", cache, "--steps", "3", "--batch", "2", "--json"} + tiny;
    REQUIRE(test::run_program(arguments + Words{"--out", folder / "one"}).exit_code == 0);
    const std::string port = std::to_string(test::free_port());
    const auto command = [&](const std::string& rank) {
        return Words{"env",
                     "RANK=" + rank,
                     "WORLD_SIZE=2",
                     "LOCAL_RANK=" + rank,
                     "MASTER_ADDR=127.0.0.1",
                     "MASTER_PORT=" + port,
                     MFRES_PROGRAM} +
               arguments + Words{"--out", folder / "two"};
    };
    const pid_t second = test::start_command(command("1"), folder / "log");
    const Finished first = test::run_command(command("0"));
    INFO(first.err);
    CHECK(first.exit_code == 0);
    CHECK(wait_for_end(second) == 0);
    CHECK(file_text(folder / "log").empty()); // one process speaks
    CHECK(nlohmann::json::parse(first.out)["ranks"] == 2);
    const Checkpoint whole = checkpoint_of(folder / "one" / "last.ckpt");
    const Checkpoint parts = checkpoint_of(folder / "two" / "last.ckpt");
    CHECK(test::relative_error(parts.state.weights, whole.state.weights) <= 1e-5);

    const Finished many = test::run_program(
        {"train", "--data", cache, "--out", folder / "many", "--backend", "reference", "--gpus", "7"});
    CHECK(many.exit_code == 5);
    CHECK(many.err.find("'7' needs 7 devices, and backend reference has 1 here") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(folder / "many"));
}

TEST_CASE("SIGINT while ranks are waited for is a clean stop") {
    const TemporaryFolder folder;
    const auto cache = make_cache(folder);
    for (const std::string rank : {"0", "1"}) {
        INFO("rank " << rank);
        const std::string port = std::to_string(test::free_port());
        const auto log = folder / ("log" + rank);
        const pid_t waiting = test::start_command(Words{"env", "RANK=" + rank, "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
                                                        "MASTER_PORT=" + port, MFRES_PROGRAM, "train", "--data", cache,
                                                        "--steps", "3", "--out", folder / "run"} +
                                                      tiny,
                                                  log);
        std::this_thread::sleep_for(std::chrono::seconds(3)); // it says nothing while it waits
        REQUIRE(::kill(waiting, SIGINT) == 0);
        CHECK(wait_for_end(waiting) == 130);
        INFO(file_text(log));
        CHECK(file_text(log).find("interrupted while waiting for the other ranks") != std::string::npos);
        CHECK_FALSE(std::filesystem::exists(folder / "run" / "last.ckpt"));
    }
}

TEST_CASE("under mpirun what is rejected is said once, with the exit code of one process") {
    const auto mpirun = launch();
    if (!mpirun)
        return;
    const TemporaryFolder folder;
    const auto cache = make_cache(folder);
    const Finished odd = test::run_command(
        *mpirun + Words{"train", "--data", cache, "--steps", "10", "--batch", "3", "--out", folder / "run"} + tiny);
    INFO(odd.err);
    CHECK(odd.exit_code == 2);
    CHECK(count(odd.err, "mfres: error [recipe_invalid]: recipe key batch: 3 samples cannot be split evenly over 2") ==
          1);
    CHECK_FALSE(std::filesystem::exists(folder / "run"));
    const Finished usage = test::run_command(*mpirun + Words{"train", "--out", folder / "run"});
    CHECK(usage.exit_code == 2);
    CHECK(count(usage.err, "--data names the cases") == 1);
    const Finished absent =
        test::run_command(*mpirun + Words{"train", "--data", folder / "absent", "--out", folder / "run"});
    CHECK(absent.exit_code == 6);
    CHECK(count(absent.err, "mfres: error [file_not_found]") == 1);
}

TEST_CASE("a signal to one process stops all and saves, and a process that is killed ends all and harms nothing") {
    const auto mpirun = launch("5");
    if (!mpirun)
        return;
    const TemporaryFolder folder;
    const auto cache = make_cache(folder);
    const auto run = folder / "run";
    const auto log = folder / "log";
    const Words begin = Words{"train", "--data", cache, "--steps", "100000", "--batch", "2", "--out", run} + tiny;
    const Words resume = {"train", "--data", cache, "--out", run, "--resume", "--threads", "1", "--log-every", "1"};
    std::int64_t trained = 0;
    struct Signal {
        int number;
        int rank; ///< -1 = the launcher
    };
    for (const Signal& signal : {Signal{SIGINT, 1}, Signal{SIGUSR1, -1}}) {
        INFO("signal " << signal.number << " to " << signal.rank);
        const pid_t launcher = test::start_command(*mpirun + (trained == 0 ? begin : resume), log);
        const bool started = test::wait_for(log, "step " + std::to_string(trained + 2) + "/100000");
        INFO(file_text(log));
        CHECK(started);
        const pid_t target = signal.rank < 0 ? launcher : process_of_rank(launcher, signal.rank);
        REQUIRE(target > 0);
        REQUIRE(::kill(target, signal.number) == 0);
        CHECK(wait_for_end(launcher) == 130);
        CHECK(file_text(log).find("stopped and saved") != std::string::npos);
        const Checkpoint saved = checkpoint_of(run / "last.ckpt");
        CHECK(saved.step >= trained + 2);
        trained = saved.step;
    }

    const pid_t launcher = test::start_command(*launch() + resume, log);
    REQUIRE(test::wait_for(log, "step " + std::to_string(trained + 2) + "/100000"));
    const pid_t root = process_of_rank(launcher, 0);
    const pid_t victim = process_of_rank(launcher, 1);
    REQUIRE(root > 0);
    REQUIRE(victim > 0);
    REQUIRE(::kill(victim, SIGKILL) == 0);
    const auto code = wait_for_end(launcher);
    INFO(file_text(log));
    REQUIRE(code);
    CHECK(*code != 0);
    CHECK(ends(root));
    CHECK(checkpoint_of(run / "last.ckpt").step == trained);
}

} // namespace mfres
