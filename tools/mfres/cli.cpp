// SPDX-License-Identifier: MIT
#include "cli.h"

#include "commands.h"

#include "core/file.h"
#include "core/format.h"
#include "core/json.h"
#include "core/platform.h"
#include "core/try.h"
#include "imaging/case.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>

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
    : usage_(std::move(usage)), about_(std::move(about)), examples_(std::move(examples)) {
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
        // "arg (=auto)"
        const std::string parameter = option->format_parameter();
        const std::size_t standard = takes_value ? parameter.find("(=") : std::string::npos;
        texts.push_back({.name = option->long_name(),
                         .letter = letter.size() == 2 && letter[0] == '-' ? letter.substr(1) : "",
                         .takes_value = takes_value,
                         .help = standard == std::string::npos
                                     ? option->description()
                                     : text(option->description(), " (default ", parameter.substr(standard + 2))});
    }
    if (positional.max_total_count() > 0)
        for (OptionText& option : texts)
            option.positional = option.name == positional.name_for_position(0);
    return texts;
}

/// The table of --help.
po::options_description help_table(const std::vector<OptionText>& options) {
    po::options_description table("Options", 110, 70);
    auto add = table.add_options();
    for (const OptionText& option : options) {
        const std::string names = option.name + (option.letter.empty() ? "" : "," + option.letter);
        if (option.takes_value)
            add(names.c_str(), po::value<std::string>(), option.help.c_str());
        else
            add(names.c_str(), option.help.c_str());
    }
    return table;
}

} // namespace

CommandText describe(const Command& command) {
    CommandText words;
    described = &words;
    (void)command.run({});
    described = nullptr;
    return words;
}

namespace {

// No abbreviated option names, because a new option could change the meaning of a script.
constexpr int option_style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;

/// The option that a value which has none before it was probably meant for; empty where its name does not tell.
std::vector<std::string> probable_options(const std::string& value) {
    std::error_code ignored;
    if (std::filesystem::is_directory(value, ignored))
        return {"--case", "--data", "--pred", "--ref"};
    if (const auto slot = named_slot(value))
        return {*slot == segmentation_slot ? "--out" : "--" + std::string(name(modalities[*slot]))};
    constexpr std::array<std::pair<std::string_view, std::string_view>, 10> endings = {{{".nii", "--out"},
                                                                                        {".nii.gz", "--out"},
                                                                                        {".safetensors", "--model"},
                                                                                        {".onnx", "--model"},
                                                                                        {".mfcache", "--data"},
                                                                                        {".json", "--config"},
                                                                                        {".json", "--recipe"},
                                                                                        {".csv", "--table"},
                                                                                        {".png", "--preview"},
                                                                                        {".html", "--html"}}};
    std::vector<std::string> probable;
    for (const auto& [ending, option] : endings)
        if (value.ends_with(ending))
            probable.emplace_back(option);
    return probable;
}

/// One argument for an option and its value as a file of --config holds it; none for a switch that is off.
Result<std::vector<std::string>> config_arguments(const po::option_description& option, const Json& value,
                                                  const std::string& file) {
    const std::string name = "--" + option.long_name();
    const auto bad = [&](std::string_view wanted) {
        return Error{ErrorCode::invalid_argument,
                     text(file, ": '", option.long_name(), "' is ", json_excerpt(value), ", must be ", wanted), file};
    };
    if (option.semantic()->max_tokens() == 0) {
        if (!value.is_boolean())
            return bad("true or false");
        return value.get<bool>() ? std::vector<std::string>{name} : std::vector<std::string>();
    }
    std::vector<std::string> arguments;
    for (const Json& one : value.is_array() ? value : Json::array({value})) {
        if (!one.is_string() && !one.is_number())
            return bad("a text, a number, or a list of them");
        arguments.push_back(text(name, "=", one.is_string() ? one.get<std::string>() : one.dump()));
    }
    return arguments;
}

} // namespace

std::vector<std::string> Options::names() const {
    std::vector<std::string> known;
    for (const auto& option : visible_.options())
        known.push_back("--" + option->long_name());
    return known;
}

std::string Options::misplaced(const std::vector<std::string>& arguments) const {
    const auto parsed = po::command_line_parser(arguments).options(visible_).style(option_style).run();
    const auto allowed = static_cast<int>(positional_.max_total_count());
    std::string value;
    for (const auto& option : parsed.options)
        if (option.position_key >= allowed && value.empty())
            value = option.value.front();
    std::string words = text("'", value, "' has no option before it");
    const std::vector<std::string> known = names();
    std::string meant;
    for (const std::string& option : probable_options(value))
        if (std::find(known.begin(), known.end(), option) != known.end())
            meant += text(meant.empty() ? "" : " or ", option, " ", value);
    if (!meant.empty())
        return text(words, "; write ", meant);
    // A word that is a value cut off at a blank, or an option whose dashes are missing.
    return words + did_you_mean("--" + value, known);
}

Status Options::store_config() {
    const std::string file = get<std::string>("config");
    MFRES_TRY(const auto bytes, read_file(file, std::uint64_t{1} << 20U));
    MFRES_TRY(const Json config, parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file));
    if (!config.is_object())
        return Error{ErrorCode::invalid_argument,
                     text(file, R"( is not an object of options, such as {"backend": "native", "threads": 2})"), file};
    std::vector<std::string> arguments;
    for (const auto& [key, value] : config.items()) {
        const auto* const option = key == "config" || key == "help" ? nullptr : visible_.find_nothrow(key, false);
        if (option == nullptr)
            return Error{ErrorCode::invalid_argument,
                         text(file, ": there is no option '", key, "'", did_you_mean("--" + key, names())), file};
        MFRES_TRY(const auto words, config_arguments(*option, value, file));
        arguments.insert(arguments.end(), words.begin(), words.end());
    }
    po::store(po::command_line_parser(arguments).options(visible_).style(option_style).run(), values_);
    return {};
}

namespace {

/// Whether the value of an option is an empty text, or a list with one, as a shell makes of an unset variable.
bool has_empty_text(const boost::any& value) {
    if (const auto* one = boost::any_cast<std::string>(&value))
        return one->empty();
    const auto* several = boost::any_cast<std::vector<std::string>>(&value);
    return several != nullptr && std::find(several->begin(), several->end(), "") != several->end();
}

} // namespace

std::optional<int> Options::parse(const std::vector<std::string>& arguments) {
    if (described != nullptr) {
        *described = {usage_, about_, examples_, option_texts(visible_, positional_)};
        return exit_ok;
    }
    try {
        po::store(
            po::command_line_parser(arguments).options(visible_).positional(positional_).style(option_style).run(),
            values_);
        if (has("help")) {
            std::cout << "Usage: mfres " << usage_ << "\n\n"
                      << about_ << "\n\n"
                      << help_table(option_texts(visible_, positional_)) << '\n'
                      << examples_;
            return exit_ok;
        }
        if (has("config"))
            if (const auto stored = store_config(); !stored) {
                const int code = fail(stored.error(), has("json"));
                return stored.error().code == ErrorCode::json_invalid ? exit_usage : code;
            }
        po::notify(values_);
        for (const auto& [name, value] : values_)
            if (visible_.find(name, false).semantic()->max_tokens() > 0 && !value.defaulted() &&
                has_empty_text(value.value()))
                return usage_error(text("--", name, " is given without a value; write one, or leave the option out"));
    } catch (const po::unknown_option& error) {
        const std::string given = error.get_option_name();
        return usage_error(text("there is no option '", given, "'", did_you_mean(given, names())));
    } catch (const po::too_many_positional_options_error&) {
        return usage_error(misplaced(arguments));
    } catch (const po::error& error) {
        return usage_error(error.what());
    }
    return std::nullopt;
}

namespace {

/// The value of an option by its type; null for a type that no option has.
OrderedJson option_value(const boost::any& value) {
    OrderedJson json;
    const auto take = [&]<typename T>(const T*) {
        if (const T* held = boost::any_cast<T>(&value))
            json = *held;
    };
    take(static_cast<const std::string*>(nullptr));
    take(static_cast<const std::vector<std::string>*>(nullptr));
    take(static_cast<const int*>(nullptr));
    take(static_cast<const std::int64_t*>(nullptr));
    take(static_cast<const std::uint64_t*>(nullptr));
    take(static_cast<const double*>(nullptr));
    return json;
}

} // namespace

OrderedJson Options::as_json() const {
    OrderedJson all = OrderedJson::object();
    for (const auto& option : visible_.options()) {
        const std::string& name = option->long_name();
        if (values_.count(name) == 0)
            continue;
        all[name] = option->semantic()->max_tokens() == 0 ? OrderedJson(true) : option_value(values_[name].value());
    }
    return all;
}

std::vector<std::filesystem::path> Options::paths(const char* name) const {
    const auto values = get_or_default<std::vector<std::string>>(name);
    return {values.begin(), values.end()};
}

Result<std::string> network_text(const std::string& argument) {
    std::error_code ignored;
    const bool is_text = argument.find('{') != std::string::npos;
    if (!is_text && argument.ends_with(".json") && !std::filesystem::exists(argument, ignored))
        return Error{ErrorCode::file_not_found,
                     text("there is no file ", argument,
                          "; a network is a file of JSON, JSON itself, or one of the "
                          "names that 'mfres complexity --list' shows"),
                     argument};
    if (is_text || !std::filesystem::is_regular_file(argument, ignored))
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
#ifdef SIGUSR1
    std::signal(SIGUSR1, on_signal); // sent by schedulers some time before they end a job
#endif
}

ProgressDisplay::ProgressDisplay(bool quiet) : quiet_(quiet), terminal_(platform::errors_go_to_terminal()) {}

void ProgressDisplay::start_part(std::size_t index, std::size_t count, const std::string& name) {
    clear();
    if (index == 0)
        start_ = Clock::now();
    part_ = index;
    parts_ = count;
    part_done_ = 0.0;
    label_ = text("[", index + 1, "/", count, "] ", escape_controls(name));
    if (!terminal_ && !quiet_)
        std::cerr << label_ << '\n';
}

double ProgressDisplay::share_of_all(double done) {
    // Nearly all of the time of a case is the network's.
    if (stage_ == "network")
        part_done_ = std::max(part_done_, 0.95 * done);
    return (static_cast<double>(part_) + part_done_) / static_cast<double>(parts_);
}

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
    } else if ((new_stage && parts_ == 0) || since_output.count() > 10.0) {
        const std::string share = new_stage ? "" : text(" ", std::lround(100 * done), " %");
        std::cerr << (label_.empty() ? "" : label_ + ": ") << stage_ << share << '\n';
        last_output_ = now;
    }
    return !stop_requested();
}

void ProgressDisplay::draw_bar(double stage_done, Clock::time_point now) {
    constexpr int width = 28;
    const double done = parts_ > 0 ? share_of_all(stage_done) : stage_done;
    const int filled = static_cast<int>(done * width);
    std::string bar;
    for (int i = 0; i < width; ++i)
        bar += i < filled ? "█" : "░";
    const std::chrono::duration<double> elapsed = now - (parts_ > 0 ? start_ : stage_start_);
    std::string left;
    if (done > 0.005 && done < 1.0 && (parts_ > 0 || done > 0.02))
        left = text(", ", duration(std::ceil(elapsed.count() * (1 - done) / done)), " left");
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

std::string duration(double seconds) {
    const auto whole = static_cast<long long>(std::llround(std::max(seconds, 0.0)));
    std::array<char, 48> words{};
    if (whole < 90)
        std::snprintf(words.data(), words.size(), "%lld s", whole);
    else if (whole < 5400)
        std::snprintf(words.data(), words.size(), "%lld min", (whole + 30) / 60);
    else if (whole < 48 * 3600)
        std::snprintf(words.data(), words.size(), "%lldh%02lld", whole / 3600, whole % 3600 / 60);
    else
        std::snprintf(words.data(), words.size(), "%lldd%02lldh", whole / 86400, whole % 86400 / 3600);
    return words.data();
}

} // namespace mfres::cli
