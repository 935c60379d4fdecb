// SPDX-License-Identifier: MIT
#include "cli.h"

#include "commands.h"

#include "core/file.h"
#include "core/format.h"
#include "core/json_value.h"
#include "core/try.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sys/ioctl.h>
#include <unistd.h>

namespace mfres::cli {

ExitCode exit_code(ErrorCode code) {
    switch (code) {
    case ErrorCode::internal:
    case ErrorCode::graph_invalid:
    case ErrorCode::size_overflow: return exit_failure;
    case ErrorCode::invalid_argument: return exit_usage;
    case ErrorCode::interrupted: return exit_interrupted;
    case ErrorCode::file_not_found:
    case ErrorCode::file_read:
    case ErrorCode::file_write:
    case ErrorCode::file_exists: return exit_files;
    case ErrorCode::memory_limit:
    case ErrorCode::operation_unsupported:
    case ErrorCode::backend_unknown:
    case ErrorCode::backend_unavailable:
    case ErrorCode::backend_failed: return exit_resources;
    case ErrorCode::json_invalid:
    case ErrorCode::variant_invalid:
    case ErrorCode::network_unknown:
    case ErrorCode::model_header_too_large:
    case ErrorCode::model_header_invalid:
    case ErrorCode::model_truncated:
    case ErrorCode::model_offsets_invalid:
    case ErrorCode::model_tensor_size:
    case ErrorCode::model_dtype_unsupported:
    case ErrorCode::model_tensor_missing:
    case ErrorCode::model_tensor_extra:
    case ErrorCode::model_tensor_shape:
    case ErrorCode::model_not_finite:
    case ErrorCode::model_metadata_invalid:
    case ErrorCode::model_hash_mismatch: return exit_model;
    case ErrorCode::not_nifti:
    case ErrorCode::nifti_header_invalid:
    case ErrorCode::nifti_dimensions:
    case ErrorCode::nifti_not_3d:
    case ErrorCode::nifti_datatype:
    case ErrorCode::nifti_too_large:
    case ErrorCode::nifti_truncated:
    case ErrorCode::nifti_trailing_bytes:
    case ErrorCode::gzip_corrupt:
    case ErrorCode::gzip_truncated:
    case ErrorCode::modality_missing:
    case ErrorCode::modality_ambiguous:
    case ErrorCode::modality_duplicate:
    case ErrorCode::grid_size_mismatch:
    case ErrorCode::grid_position_mismatch:
    case ErrorCode::qform_sform_disagree:
    case ErrorCode::orientation_missing:
    case ErrorCode::affine_singular:
    case ErrorCode::affine_sheared:
    case ErrorCode::orientation_oblique:
    case ErrorCode::voxel_size_out_of_range:
    case ErrorCode::voxel_not_finite:
    case ErrorCode::volume_constant:
    case ErrorCode::brain_too_small:
    case ErrorCode::brain_implausible:
    case ErrorCode::brain_at_border:
    case ErrorCode::modality_misnamed:
    case ErrorCode::modality_moved:
    case ErrorCode::modality_coverage:
    case ErrorCode::modality_correlation:
    case ErrorCode::intensity_outliers:
    case ErrorCode::logits_not_finite:
    case ErrorCode::label_outside_scheme:
    case ErrorCode::label_scheme_unclear:
    case ErrorCode::cache_invalid:
    case ErrorCode::cache_damaged:
    case ErrorCode::dataset_empty:
    case ErrorCode::table_invalid: return exit_rejected;
    case ErrorCode::recipe_invalid: return exit_usage;
    case ErrorCode::checkpoint_damaged:
    case ErrorCode::checkpoint_mismatch: return exit_model;
    case ErrorCode::training_diverged: return exit_failure;
    }
    return exit_failure;
}

namespace {

/// Lists have a line for each of their entries, which begins with two blanks; no name can begin a line like another.
std::string escape_lines(std::string_view message) {
    constexpr std::string_view entry = "\n  ";
    std::string shown;
    for (std::size_t begin = 0;;) {
        const std::size_t end = message.find(entry, begin);
        shown += escape_controls(message.substr(begin, end - begin));
        if (end == std::string_view::npos)
            return shown;
        shown += entry;
        begin = end + entry.size();
    }
}

} // namespace

int fail(const Error& error, bool json) {
    const int code = exit_code(error.code);
    if (json) {
        const Json object = {
            {"error",
             {{"code", name(error.code)}, {"message", error.message}, {"where", error.where}, {"exit_code", code}}}};
        std::cout << object.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
    }
    std::cerr << "mfres: error [" << name(error.code) << "]: " << escape_lines(error.message) << '\n';
    return code;
}

int usage_error(const std::string& message) {
    std::cerr << "mfres: " << message << "\nTry 'mfres help' or '--help' after a command.\n";
    return exit_usage;
}

namespace {

/// Letters to insert, remove or replace, and neighbours to exchange, to make one word of the other.
std::size_t edits(std::string_view a, std::string_view b) {
    std::vector<std::vector<std::size_t>> table(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = 0; i <= a.size(); ++i)
        for (std::size_t j = 0; j <= b.size(); ++j) {
            if (i == 0 || j == 0) {
                table[i][j] = i + j;
                continue;
            }
            table[i][j] = std::min(
                {table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                table[i][j] = std::min(table[i][j], table[i - 2][j - 2] + 1);
        }
    return table[a.size()][b.size()];
}

} // namespace

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
    constexpr std::size_t least_prefix = 4; // "--" and two letters
    std::string nearest;
    std::size_t distance = std::max<std::size_t>(2, word.size() / 3) + 1;
    for (const std::string& name : known) {
        const bool begins = word.size() >= least_prefix && name.rfind(word, 0) == 0;
        if (const std::size_t own = begins ? 1 : edits(word, name); own < distance) {
            distance = own;
            nearest = name;
        }
    }
    return nearest.empty() ? "" : text("; did you mean '", nearest, "'?");
}

Options::Options(std::string usage, std::string about, std::string examples)
    : usage_(std::move(usage)), about_(std::move(about)), examples_(std::move(examples)), visible_("Options", 110, 70) {
    visible_.add_options()("help,h", "show this text");
}

namespace {

/// Where parse() puts what --help would show, in place of parsing; null at all other times.
CommandText* described = nullptr;

std::vector<OptionText> option_texts(const po::options_description& options,
                                     const po::positional_options_description& positional) {
    std::vector<OptionText> texts;
    for (const auto& option : options.options()) {
        const bool takes_value = option->semantic()->max_tokens() > 0;
        const std::string letter = option->canonical_display_name(po::command_line_style::allow_dash_for_short);
        texts.push_back({.name = option->long_name(),
                         .letter = letter.size() == 2 && letter[0] == '-' ? letter.substr(1) : "",
                         .parameter = takes_value ? option->format_parameter() : "",
                         .help = option->description()});
    }
    if (positional.max_total_count() > 0)
        for (OptionText& option : texts)
            option.positional = option.name == positional.name_for_position(0);
    return texts;
}

} // namespace

CommandText describe(const Command& command) {
    CommandText words;
    described = &words;
    (void)command.run({});
    described = nullptr;
    return words;
}

std::optional<int> Options::parse(const std::vector<std::string>& arguments) {
    if (described != nullptr) {
        *described = {usage_, about_, examples_, option_texts(visible_, positional_)};
        return exit_ok;
    }
    try {
        // No abbreviated option names, because a new option could change the meaning of a script.
        const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
        po::store(po::command_line_parser(arguments).options(visible_).positional(positional_).style(style).run(),
                  values_);
        if (has("help")) {
            std::cout << "Usage: mfres " << usage_ << "\n\n" << about_ << "\n\n" << visible_ << '\n' << examples_;
            return exit_ok;
        }
        po::notify(values_);
    } catch (const po::unknown_option& error) {
        std::vector<std::string> known;
        for (const auto& option : visible_.options())
            known.push_back("--" + option->long_name());
        const std::string given = error.get_option_name();
        return usage_error(text("there is no option '", given, "'", did_you_mean(given, known)));
    } catch (const po::error& error) {
        return usage_error(error.what());
    }
    return std::nullopt;
}

std::vector<std::filesystem::path> Options::paths(const char* name) const {
    const auto values = get_or_default<std::vector<std::string>>(name);
    return {values.begin(), values.end()};
}

Result<std::string> network_text(const std::string& argument) {
    std::error_code ignored;
    if (argument.find('{') != std::string::npos || !std::filesystem::is_regular_file(argument, ignored))
        return argument;
    auto bytes = read_file(argument, 1 << 20);
    if (!bytes)
        return std::move(bytes).error();
    return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

namespace {

volatile std::sig_atomic_t stop_signal = 0;

void on_signal(int signal) {
    stop_signal = signal;
    std::signal(signal, SIG_DFL); // the next signal ends the program at once
}

} // namespace

bool stop_requested() {
    return stop_signal != 0;
}

void watch_signals() {
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
    std::signal(SIGUSR1, on_signal); // sent by schedulers some time before they end a job
}

ProgressDisplay::ProgressDisplay(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) != 0) {}

bool ProgressDisplay::update(std::string_view stage, double done) {
    if (quiet_)
        return !stop_requested();
    const auto now = Clock::now();
    const bool new_stage = stage != stage_;
    if (new_stage) {
        stage_ = stage;
        stage_start_ = now;
    }
    const std::chrono::duration<double> since_output = now - last_output_;
    if (terminal_) {
        if (new_stage || done >= 1.0 || since_output.count() > 0.1) {
            draw_bar(std::clamp(done, 0.0, 1.0), now);
            last_output_ = now;
        }
    } else if (new_stage || since_output.count() > 10.0) {
        const std::string share = new_stage ? "" : text(" ", std::lround(100 * done), " %");
        std::cerr << (label_.empty() ? "" : label_ + ": ") << stage_ << share << '\n';
        last_output_ = now;
    }
    return !stop_requested();
}

void ProgressDisplay::draw_bar(double done, Clock::time_point now) {
    constexpr int width = 28;
    const int filled = static_cast<int>(done * width);
    std::string bar;
    for (int i = 0; i < width; ++i)
        bar += i < filled ? "█" : "░";
    const std::chrono::duration<double> elapsed = now - stage_start_;
    std::string left;
    if (done > 0.02 && done < 1.0) {
        std::array<char, 32> buffer{};
        std::snprintf(buffer.data(), buffer.size(), ", %.0f s left", std::ceil(elapsed.count() * (1 - done) / done));
        left = buffer.data();
    }
    std::cerr << "\r\033[K" << (label_.empty() ? "" : label_ + "  ") << bar << ' ' << std::lround(100 * done) << " % "
              << stage_ << left << std::flush;
    drawn_ = true;
}

void ProgressDisplay::clear() {
    if (drawn_)
        std::cerr << "\r\033[K" << std::flush;
    drawn_ = false;
    stage_.clear();
}

} // namespace mfres::cli
