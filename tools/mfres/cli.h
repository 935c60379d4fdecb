// SPDX-License-Identifier: MIT
// Common parts of all subcommands: parsing, exit codes, error output, progress.
#pragma once

#include "core/json_value.h"

#include <mfres/segmenter.h>
#include <mfres/status.h>

#include <boost/program_options.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres::cli {

namespace po = boost::program_options;

/// Exit codes of the program. `mfres help` (main.cpp) and README.md have the same list.
enum ExitCode : int {
    exit_ok = 0,
    exit_failure = 1,   ///< a bug in mfres, or a training that diverged
    exit_usage = 2,     ///< unknown or contradicting options
    exit_rejected = 3,  ///< the images (see `mfres check`) or a table of measurements were rejected
    exit_model = 4,     ///< the model file or network variant was rejected
    exit_resources = 5, ///< not enough memory, or the backend failed or is missing
    exit_files = 6,     ///< a file could not be found, read or written, or standard output could not be written
    exit_interrupted = 130,
};

/// The exit code for an error.
ExitCode exit_code(ErrorCode code);

/// Prints "mfres: error [code]: sentence" to stderr, or {"error": {...}} to stdout with `json`; returns the exit code.
int fail(const Error& error, bool json = false);

/// A subcommand: its own options and positional arguments, parsed with --help handled.
class Options {
  public:
    /// `usage`: the line after "mfres"; `about`: what it does; `examples`: shown at the end of --help.
    Options(std::string usage, std::string about, std::string examples);

    po::options_description_easy_init add() { return visible_.add_options(); }
    /// Arguments without an option name are values of `name`.
    void positional(const char* name, int count = 1) { positional_.add(name, count); }

    /// Parses the arguments, and after them the file of --config where the command has that option: what both name is as
    /// the arguments say. Returns the exit code if the command must end (help, or an error), otherwise nullopt.
    std::optional<int> parse(const std::vector<std::string>& arguments);

    bool has(const char* name) const { return values_.count(name) > 0; }
    /// Whether it was given, and not set by default.
    bool given(const char* name) const { return has(name) && !values_[name].defaulted(); }
    template <typename T>
    const T& get(const char* name) const {
        return values_[name].template as<T>();
    }
    /// The value, or T() if the option was not given.
    template <typename T>
    T get_or_default(const char* name) const {
        return has(name) ? get<T>(name) : T();
    }
    /// The values of an option that takes several and may be repeated, as paths; none where it was not given.
    std::vector<std::filesystem::path> paths(const char* name) const;
    /// Every option that has a value, given or by default, as a file of --config would hold it.
    OrderedJson as_json() const;

  private:
    /// The names of all options, with their dashes.
    std::vector<std::string> names() const;
    Status store_config();
    std::string misplaced(const std::vector<std::string>& arguments) const;

    std::string usage_, about_, examples_;
    po::options_description visible_;
    po::positional_options_description positional_;
    po::variables_map values_;
};

/// Prints a usage error to stderr and returns exit_usage.
int usage_error(const std::string& message);

/// "; did you mean '--size'?", with the nearest of the known words; empty if none is near.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& known);

/// The network of an argument: the content of a file (JSON, at most 1 MiB) if the argument names one, otherwise the
/// argument itself.
Result<std::string> network_text(const std::string& argument);

/// True after the first SIGINT, SIGTERM or SIGUSR1. Long computations poll it and stop cleanly. A second signal
/// terminates the process.
bool stop_requested();
void watch_signals();

/// Progress on stderr: a bar with the remaining time on a terminal, lines of text elsewhere, nothing if quiet.
class ProgressDisplay {
  public:
    explicit ProgressDisplay(bool quiet);
    ProgressDisplay(const ProgressDisplay&) = delete;
    ProgressDisplay& operator=(const ProgressDisplay&) = delete;
    ~ProgressDisplay() { clear(); }

    /// Prefix of every line, e.g. the id of the case.
    void set_label(std::string label) { label_ = std::move(label); }
    /// Of several cases the one that begins now: "[3/38] NAME" before every line, and one bar over all of them. `index`
    /// counts from 0.
    void start_part(std::size_t index, std::size_t count, const std::string& name);
    /// Returns false after stop_requested().
    bool update(std::string_view stage, double done);
    /// update() of this display, which has to outlive it.
    Progress progress() {
        return [this](std::string_view stage, double done) { return update(stage, done); };
    }
    /// Removes the bar before other output.
    void clear();

  private:
    using Clock = std::chrono::steady_clock;
    void draw_bar(double done, Clock::time_point now);
    /// The share of all cases that is done, from that of a stage of this case.
    double share_of_all(double done);

    bool quiet_;
    bool terminal_;
    bool drawn_ = false;
    std::string label_;
    std::string stage_;
    Clock::time_point stage_start_{};
    Clock::time_point last_output_{};
    std::size_t part_ = 0;
    std::size_t parts_ = 0;     ///< 0 = there is one piece of work
    double part_done_ = 0.0;    ///< of this case
    Clock::time_point start_{}; ///< of the first case
};

// One function per subcommand, each in the file of its name.
int segment(const std::vector<std::string>& arguments);
int check(const std::vector<std::string>& arguments);
int evaluate(const std::vector<std::string>& arguments);
int robustness(const std::vector<std::string>& arguments);
int complexity(const std::vector<std::string>& arguments);
int average(const std::vector<std::string>& arguments);
int init(const std::vector<std::string>& arguments);
int info(const std::vector<std::string>& arguments);
int convert(const std::vector<std::string>& arguments);
int phantom(const std::vector<std::string>& arguments);
int train(const std::vector<std::string>& arguments);
int experiment(const std::vector<std::string>& arguments);
int bench(const std::vector<std::string>& arguments);
int probe(const std::vector<std::string>& arguments);
int cache(const std::vector<std::string>& arguments);
int selftest(const std::vector<std::string>& arguments);

/// "45 s", "12 min", "1h03", "3d04h"
std::string duration(double seconds);

} // namespace mfres::cli
