// SPDX-License-Identifier: MIT
#include "cli.h"

#include "core/file.h"
#include "core/try.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
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
    case ErrorCode::logits_not_finite:
    case ErrorCode::label_outside_scheme:
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

int fail(const Error& error, bool json) {
    const int code = exit_code(error.code);
    if (json) {
        const nlohmann::json object = {
            {"error",
             {{"code", name(error.code)}, {"message", error.message}, {"where", error.where}, {"exit_code", code}}}};
        std::cout << object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    }
    std::cerr << "mfres: error [" << name(error.code) << "]: " << error.message << '\n';
    return code;
}

int usage_error(const std::string& message) {
    std::cerr << "mfres: " << message << "\nTry 'mfres help' or '--help' after a command.\n";
    return exit_usage;
}

Options::Options(std::string usage, std::string about, std::string examples)
    : usage_(std::move(usage)), about_(std::move(about)), examples_(std::move(examples)), visible_("Options", 110, 70) {
    visible_.add_options()("help,h", "show this text");
}

std::optional<int> Options::parse(const std::vector<std::string>& arguments) {
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
    } catch (const po::error& error) {
        return usage_error(error.what());
    }
    return std::nullopt;
}

std::vector<std::filesystem::path> Options::paths(const char* name) const {
    const auto values = get_or_default<std::vector<std::string>>(name);
    return {values.begin(), values.end()};
}

void add_relaxation_options(Options& options) {
    // clang-format off
    options.add()
        ("allow-tf32", "allow TF32 (10-bit mantissas) for f32 products on a GPU; rejected by other backends")
        ("non-deterministic", "allow faster GPU algorithms whose results differ between runs; rejected by other backends");
    // clang-format on
}

void add_arithmetic_options(Options& options) {
    options.add()("precision", po::value<std::string>()->default_value("auto"),
                  "of activations and convolutions: f32, bf16, fp16 or int8 where the backend has it; auto: int8 for a "
                  "model file that holds integers, else f32");
    add_relaxation_options(options);
}

void add_mirror_option(Options& options) {
    options.add()("mirror", po::value<std::string>(),
                  "axes along which mirror images are labelled too and probabilities averaged: x (left and right; "
                  "twice the time), xyz (eight times), or any of these letters");
}

void add_least_options(Options& options) {
    // clang-format off
    options.add()
        ("min-enhancing", po::value<double>(), "mm^3: less enhancing tumour in total is labelled as necrotic core; 0 = never; default: as the model file recommends")
        ("min-component", po::value<double>(), "mm^3: smaller connected components of tumour are removed, except the largest; 0 = never; default: as the model file recommends");
    // clang-format on
}

Result<std::int64_t> parse_bytes(const std::string& text_value) {
    std::int64_t value = 0;
    const char* end = text_value.data() + text_value.size();
    const auto [rest, problem] = std::from_chars(text_value.data(), end, value);
    const std::string suffix(rest, end);
    const auto bad = [&] {
        return Error{ErrorCode::invalid_argument,
                     text("'", text_value, "' is not a number of bytes; write 500000, 128M or 2G"), text_value};
    };
    if (problem != std::errc() || value <= 0)
        return bad();
    std::int64_t unit = 0;
    for (const auto& [letter, shift] : {std::pair{"", 0}, {"K", 10}, {"M", 20}, {"G", 30}})
        if (suffix == letter)
            unit = std::int64_t{1} << shift;
    if (unit == 0 || value > (std::int64_t{1} << 50) / unit)
        return bad();
    return value * unit;
}

Result<std::array<std::int64_t, 3>> parse_size(const std::string& text_value) {
    std::vector<std::int64_t> extents;
    const char* at = text_value.data();
    const char* end = at + text_value.size();
    while (true) {
        std::int64_t value = 0;
        const auto [rest, problem] = std::from_chars(at, end, value);
        const bool separator = rest != end && (*rest == ',' || *rest == 'x');
        if (problem != std::errc() || value <= 0 || (rest != end && !separator))
            break;
        extents.push_back(value);
        if (rest == end && extents.size() == 1)
            return std::array{extents[0], extents[0], extents[0]};
        if (rest == end && extents.size() == 3)
            return std::array{extents[0], extents[1], extents[2]};
        if (rest == end)
            break;
        at = rest + 1;
    }
    return Error{ErrorCode::invalid_argument, text("'", text_value, "' is not a size; write 128 or 240,240,160"),
                 text_value};
}

Result<std::vector<int>> processors_of(const Options& options) {
    std::vector<int> processors;
    const std::string list = options.get_or_default<std::string>("processors");
    const char* at = list.data();
    const char* const end = at + list.size();
    while (at != end) {
        int value = 0;
        const auto [rest, problem] = std::from_chars(at, end, value);
        if (problem != std::errc() || value < 0 || (rest != end && (*rest != ',' || rest + 1 == end)))
            return Error{ErrorCode::invalid_argument, text("'", list, "' is not a list of processors; write 0 or 0,2"),
                         list};
        processors.push_back(value);
        at = rest == end ? rest : rest + 1;
    }
    return processors;
}

Result<std::filesystem::path> model_path(const Options& options) {
    return find_model(options.has("model") ? options.get<std::string>("model") : "mf-res2net");
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
