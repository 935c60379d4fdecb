// What all subcommands share: options, exit codes, error output, progress.
#pragma once

#include <mfres/segmenter.h>
#include <mfres/status.h>

#include <boost/program_options.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres::cli {

namespace po = boost::program_options;

/// Exit codes of the program; README.md documents the same list.
enum ExitCode : int {
    exit_ok = 0,
    exit_failure = 1,   ///< a bug in mfres, or a training that diverged
    exit_usage = 2,     ///< unknown or contradicting options
    exit_refused = 3,   ///< the images (see `mfres check`) or a table of measurements were rejected
    exit_model = 4,     ///< the model file or network variant was rejected
    exit_resources = 5, ///< not enough memory, or the backend failed or is missing
    exit_files = 6,     ///< a file could not be found, read or written, or standard output could not be written
    exit_interrupted = 130,
};

/// The exit code an error leads to.
ExitCode exit_code(ErrorCode code);

/// Prints "mfres: error [code]: sentence" to stderr, or {"error": {...}} to stdout with `json`; returns the exit code.
int fail(const Error& error, bool json = false);

/// A subcommand: its own options and positional arguments, parsed with --help handled.
class Options {
  public:
    /// `usage`: the line after "mfres"; `about`: what it does; `examples`: shown at the end of --help.
    Options(std::string usage, std::string about, std::string examples);

    po::options_description_easy_init add() { return visible_.add_options(); }
    /// Lets bare arguments fill option `name`.
    void positional(const char* name, int count = 1) { positional_.add(name, count); }

    /// Parses; returns nothing when the command should go on, or the exit code (help shown, or a usage error).
    std::optional<int> parse(const std::vector<std::string>& arguments);

    bool has(const char* name) const { return values_.count(name) > 0; }
    template <typename T>
    const T& get(const char* name) const {
        return values_[name].template as<T>();
    }
    /// The value, or T() where the option was not given.
    template <typename T>
    T get_or_default(const char* name) const {
        return has(name) ? get<T>(name) : T();
    }

  private:
    std::string usage_, about_, examples_;
    po::options_description visible_;
    po::positional_options_description positional_;
    po::variables_map values_;
};

/// --allow-tf32 and --non-deterministic.
void add_relaxation_options(Options& options);
/// These and --precision: how an engine may compute.
void add_arithmetic_options(Options& options);

/// What they say, into anything with members as those of SegmenterOptions.
template <typename Setup>
void read_arithmetic(const Options& options, Setup& setup) {
    setup.precision = options.get<std::string>("precision");
    setup.allow_tf32 = options.has("allow-tf32");
    setup.deterministic = !options.has("non-deterministic");
}

/// --mirror, of commands that label cases: SegmenterOptions::mirror.
void add_mirror_option(Options& options);
/// --min-enhancing and --min-component.
void add_least_options(Options& options);

/// What these two say, into SegmentOptions or EvaluationOptions.
template <typename Request>
void read_least_options(const Options& options, Request& request) {
    request.min_enhancing_mm3 = options.get<double>("min-enhancing");
    request.min_component_mm3 = options.get<double>("min-component");
}

/// Prints a usage error to stderr and returns exit_usage.
int usage_error(const std::string& message);

/// "128M", "2G", "500000" -> bytes. invalid_argument for anything else.
Result<std::int64_t> parse_bytes(const std::string& text);

/// "128" or "240,240,160" -> three extents. invalid_argument for anything else.
Result<std::array<std::int64_t, 3>> parse_size(const std::string& text);

/// What --processors says: "0,2" -> {0, 2}; none without it. invalid_argument for anything else.
Result<std::vector<int>> processors_of(const Options& options);

/// The model a command uses: the file that --model names; or the weights that come with mfres under that name
/// (mf-res2net-half) where it is one without folder or ending, and mf-res2net without --model. Those are looked for in
/// $MFRES_MODELS, in <prefix>/share/mfres/models of an installed program and in the source tree of a built one.
/// Errors: file_not_found where none of these has them.
Result<std::filesystem::path> model_path(const Options& options);

/// A network as a user names one: text as it is, unless it names a file, whose content (JSON, at most 1 MiB) it then
/// is.
Result<std::string> network_text(const std::string& argument);

/// True after the first SIGINT, SIGTERM or SIGUSR1; long work asks for it and stops cleanly. A second signal kills.
bool stop_requested();
void watch_signals();

/// Progress of long work on stderr: a bar with the time left on a terminal, plain lines elsewhere, nothing when quiet.
class ProgressDisplay {
  public:
    explicit ProgressDisplay(bool quiet);
    ProgressDisplay(const ProgressDisplay&) = delete;
    ProgressDisplay& operator=(const ProgressDisplay&) = delete;
    ~ProgressDisplay() { clear(); }

    /// Text in front of every line, e.g. the case's id.
    void set_label(std::string label) { label_ = std::move(label); }
    /// Fits mfres::Progress: also returns false once stop_requested().
    bool update(std::string_view stage, double done);
    /// Removes the bar, so that other output starts on a clean line.
    void clear();

  private:
    using Clock = std::chrono::steady_clock;
    void draw_bar(double done, Clock::time_point now);

    bool quiet_;
    bool terminal_;
    bool drawn_ = false;
    std::string label_;
    std::string stage_;
    Clock::time_point stage_start_{};
    Clock::time_point last_output_{};
};

// One line per subcommand; each lives in the file of its name.
int segment(const std::vector<std::string>& arguments);
int check(const std::vector<std::string>& arguments);
int evaluate(const std::vector<std::string>& arguments);
int robustness(const std::vector<std::string>& arguments);
int complexity(const std::vector<std::string>& arguments);
int init(const std::vector<std::string>& arguments);
int info(const std::vector<std::string>& arguments);
int convert(const std::vector<std::string>& arguments);
int phantom(const std::vector<std::string>& arguments);
int train(const std::vector<std::string>& arguments);
int experiment(const std::vector<std::string>& arguments);
int bench(const std::vector<std::string>& arguments);
int cache(const std::vector<std::string>& arguments);

} // namespace mfres::cli
