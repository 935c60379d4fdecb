// SPDX-License-Identifier: MIT
// Options that several commands have, each with the function that reads it.
#pragma once

#include "cli.h"
#include "core/json_value.h"

#include <mfres/case.h>
#include <mfres/compute.h>
#include <mfres/segmenter.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace mfres::cli {

// ---- compute --------------------------------------------------------------------------------------------------------

/// "auto (the first that works here), onednn or reference", with what auto means. Names the backends of the build without
/// asking whether they work, which would open the modules of some.
std::string backend_help(const char* automatic);

/// --threads.
void add_threads_option(Options& options);

/// --backend, --precision, --allow-tf32, --non-deterministic and --threads, of every command that runs a network.
void add_compute_options(Options& options);
/// Those, and --device, --cpus and --wait-policy, of commands that run a network for inference.
void add_inference_options(Options& options);

/// The values of these options; a default for those that the command does not have. `several_precisions`: leaves out
/// precisions with commas between, see precisions_of(). Errors: invalid_argument.
Result<ComputeOptions> compute_options(const Options& options, bool several_precisions = false);

/// --precision as a list: "f32,bf16"; empty for "auto". Errors: invalid_argument.
Result<std::vector<Precision>> precisions_of(const Options& options);

/// --max-memory; `help` says what happens beyond it.
void add_max_memory_option(Options& options, const char* help);
/// Its value in bytes, 0 without it. Errors: invalid_argument.
Result<std::int64_t> max_memory_of(const Options& options);

// ---- models ---------------------------------------------------------------------------------------------------------

/// --model.
void add_model_option(Options& options);
/// find_model of what --model names, mf-res2net without it. Errors: those of find_model.
Result<std::filesystem::path> model_path(const Options& options);

/// Of commands that label cases: --model, --mirror, --no-skip, --max-memory and those of add_inference_options.
void add_segmenter_options(Options& options);
/// Their values but --model. Errors: invalid_argument.
Result<SegmenterOptions> segmenter_options(const Options& options, bool several_precisions = false);

// ---- cases ----------------------------------------------------------------------------------------------------------

/// --affine and --resample, of commands that read cases.
void add_case_options(Options& options);
/// Copies their values. Errors: invalid_argument.
Status read_case_options(const Options& options, AffineSource& affine, bool& resample);

/// --labels and --label-map, of every command that reads or writes labels. `standard`: what happens without them.
void add_label_options(Options& options, const std::string& standard);
/// What they say, for the label_scheme of the library's options: "auto", a scheme's name or a mapping; empty without
/// them. Errors: invalid_argument (both of them, or no such scheme or mapping).
Result<std::string> label_choice(const Options& options);
/// --accept, of commands that read cases.
void add_accept_option(Options& options);
/// Its values; none for commands that do not have it. Errors: invalid_argument for a code that is no check.
Result<AcceptedChecks> accepted_checks(const Options& options);

/// --min-enhancing and --min-component.
void add_small_part_options(Options& options);

/// Copies those that are given to SegmentOptions, EvaluationOptions or RobustnessOptions.
template <typename Request>
void read_small_part_options(const Options& options, Request& request) {
    if (options.has("min-enhancing"))
        request.min_enhancing_mm3 = options.get<double>("min-enhancing");
    if (options.has("min-component"))
        request.min_component_mm3 = options.get<double>("min-component");
}

// ---- output ---------------------------------------------------------------------------------------------------------

/// --config, of commands with many options: a JSON object of them.
void add_config_option(Options& options);

/// Whether a file that is to be written has one of these endings, in small or capital letters. An empty path is no file.
/// Errors: invalid_argument, which names the option and the endings.
Status check_ending(std::string_view option, const std::filesystem::path& path,
                    std::initializer_list<std::string_view> endings);
/// Likewise for an option that names a folder: rejects the name of a file of that kind where no folder has it.
Status check_folder(std::string_view option, const std::filesystem::path& path,
                    std::initializer_list<std::string_view> endings);

/// "mfres 0.1.0", the time of the program's start in UTC, and all options: what every report begins with.
OrderedJson provenance(const Options& options);

/// --json and --quiet, which every command has.
void add_report_options(Options& options);
/// Those and --force, of commands that write files.
void add_output_options(Options& options);

/// What a command says about files that it has written: the object with --json, nothing with --quiet, else the line.
void confirm(const Options& options, const Json& object, const std::string& line);

// ---- values ---------------------------------------------------------------------------------------------------------

/// "a,b" -> {"a", "b"}.
std::vector<std::string> listed(const std::string& names);

/// "128M", "2G", "500000" -> bytes. invalid_argument for anything else.
Result<std::int64_t> parse_bytes(const std::string& text);

/// "128" or "240,240,160" -> three extents. invalid_argument for anything else.
Result<std::array<std::int64_t, 3>> parse_size(const std::string& text);

/// "0,2" -> {0, 2}; "" -> {}. invalid_argument for anything else.
Result<std::vector<int>> parse_cpus(const std::string& text);

/// "f32, bf16 or int8": the names of the values of an enum, for help texts.
template <typename Values>
std::string names_of(const Values& values) {
    std::string all;
    for (std::size_t i = 0; i < values.size(); ++i)
        all.append(i == 0 ? "" : i + 1 == values.size() ? " or " : ", ").append(to_string(values[i]));
    return all;
}

} // namespace mfres::cli
