// SPDX-License-Identifier: MIT
#include "option_groups.h"

#include "run_and_print.h"

#include "backends/backend.h"
#include "core/format.h"
#include "core/json_value.h"
#include "core/parallel.h"
#include "core/try.h"
#include "imaging/labels.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <iostream>
#include <sstream>

namespace mfres::cli {

std::string backend_help(const char* automatic) {
    std::string help = text("auto (", automatic, ")");
    const auto& all = backends();
    for (std::size_t i = 0; i < all.size(); ++i)
        help += (i + 1 == all.size() ? " or " : ", ") + std::string(all[i]->name());
    return help;
}

void add_threads_option(Options& options) {
    options.add()("threads", po::value<int>()->default_value(0), "0 = all CPUs this process may use");
}

void add_compute_options(Options& options) {
    const std::string precision = "of activations and convolutions: " + names_of(precisions) +
                                  " where the backend has it; auto: int8 for a model file that holds integers, in "
                                  "training that of the recipe, else f32";
    // clang-format off
    options.add()
        ("backend", po::value<std::string>()->default_value("auto"), backend_help("the first that works here and has the precision").c_str())
        ("precision", po::value<std::string>()->default_value("auto"), precision.c_str())
        ("allow-tf32", "allow TF32 (10-bit mantissas) for f32 products on a GPU; rejected by other backends")
        ("non-deterministic", "allow faster GPU algorithms whose results differ between runs; rejected by other backends");
    // clang-format on
    add_threads_option(options);
}

void add_inference_options(Options& options) {
    const std::string policy = "of threads at barriers: " + names_of(wait_policies);
    add_compute_options(options);
    // clang-format off
    options.add()
        ("device", po::value<int>(), "GPU of the backend, counted from 0 (default the first one)")
        ("cpus", po::value<std::string>(), "CPUs to pin the network's threads to, e.g. 0,2")
        ("wait-policy", po::value<std::string>()->default_value("auto"), policy.c_str());
    // clang-format on
}

Result<std::vector<Precision>> precisions_of(const Options& options) {
    std::vector<Precision> all;
    const std::string given = options.get<std::string>("precision");
    if (given == "auto")
        return all;
    for (const std::string& name : listed(given)) {
        MFRES_TRY(all.emplace_back(), parse_precision(name));
    }
    return all;
}

namespace {

/// Once, although a command may read its options twice.
void warn_of_threads(int threads) {
    static bool warned = false;
    const int available = resolve_threads(0);
    if (threads <= available || warned)
        return;
    warned = true;
    std::cerr << "mfres: warning: --threads " << threads << " is more than the " << available
              << (available == 1 ? " CPU" : " CPUs") << " that this process may use, which makes it slower\n";
}

} // namespace

Result<ComputeOptions> compute_options(const Options& options, bool several_precisions) {
    ComputeOptions compute;
    if (options.has("backend"))
        compute.backend = options.get<std::string>("backend");
    if (options.has("device"))
        compute.device = options.get<int>("device");
    if (options.has("precision") && options.get<std::string>("precision") != "auto" && !several_precisions) {
        MFRES_TRY(compute.precision, parse_precision(options.get<std::string>("precision")));
    }
    compute.tf32 = options.has("allow-tf32");
    compute.deterministic = !options.has("non-deterministic");
    compute.threads = options.get<int>("threads");
    warn_of_threads(compute.threads);
    MFRES_TRY(compute.cpus, parse_cpus(options.get_or_default<std::string>("cpus")));
    if (options.has("wait-policy")) {
        MFRES_TRY(compute.wait_policy, parse_wait_policy(options.get<std::string>("wait-policy")));
    }
    return compute;
}

void add_max_memory_option(Options& options, const char* help) {
    options.add()("max-memory", po::value<std::string>(), help);
}

Result<std::int64_t> max_memory_of(const Options& options) {
    if (!options.has("max-memory"))
        return std::int64_t{0};
    return parse_bytes(options.get<std::string>("max-memory"));
}

void add_model_option(Options& options) {
    options.add()("model,m", po::value<std::string>(),
                  "model file, or a name of weights that come with mfres (mf-res2net-half) (default mf-res2net)");
}

Result<std::filesystem::path> model_path(const Options& options) {
    return find_model(options.has("model") ? options.get<std::string>("model") : "mf-res2net");
}

void add_segmenter_options(Options& options) {
    add_model_option(options);
    add_inference_options(options);
    add_max_memory_option(options, "e.g. 1G: run tile by tile if the whole brain does not fit into it");
    options.add()("mirror", po::value<std::string>(),
                  "axes along which mirror images are labelled too and probabilities averaged: x (left and right; "
                  "twice the time), xyz (eight times), or any of these letters");
    options.add()("no-skip", "compute the background outside the brain as well; labels are the same, only later");
    add_accept_option(options);
}

Result<SegmenterOptions> segmenter_options(const Options& options, bool several_precisions) {
    SegmenterOptions setup;
    MFRES_TRY(setup.compute, compute_options(options, several_precisions));
    MFRES_TRY(setup.max_memory, max_memory_of(options));
    MFRES_TRY(setup.accept, accepted_checks(options));
    MFRES_TRY(setup.mirror, parse_mirror_axes(options.get_or_default<std::string>("mirror")));
    setup.skip_background = !options.has("no-skip");
    return setup;
}

void add_case_options(Options& options) {
    // clang-format off
    options.add()
        ("affine", po::value<std::string>()->default_value("auto"), "of the headers: auto (rejected where sform and qform disagree), sform or qform")
        ("resample", "accept other voxel sizes: resample to 1 mm, and labels back");
    // clang-format on
}

Status read_case_options(const Options& options, AffineSource& affine, bool& resample) {
    MFRES_TRY(affine, parse_affine_source(options.get<std::string>("affine")));
    resample = options.has("resample");
    return {};
}

void add_label_options(Options& options, const std::string& standard) {
    const std::string labels = "label scheme: brats (1 2 4), brats2023 (1 2 3), brats2024 (and 4, a resection cavity), "
                               "brats-ped, msd, or auto: what the values of the whole data set tell (default " +
                               standard + ")";
    // clang-format off
    options.add()
        ("labels", po::value<std::string>(), labels.c_str())
        ("label-map", po::value<std::string>(), "label values instead of a scheme: 1:ncr,2:ed,3:et, and bg for background");
    // clang-format on
}

Result<std::string> label_choice(const Options& options) {
    if (options.has("labels") && options.has("label-map"))
        return Error{ErrorCode::invalid_argument, "--labels names a scheme, and --label-map stands instead of one",
                     "label-map"};
    std::string chosen = options.get_or_default<std::string>("labels");
    if (options.has("label-map")) {
        chosen = options.get<std::string>("label-map");
        if (chosen.find(':') == std::string::npos)
            chosen += ':'; // never a scheme's name
    }
    if (!chosen.empty() && chosen != "auto")
        MFRES_CHECK(LabelCoding::parse(chosen));
    return chosen;
}

void add_accept_option(Options& options) {
    const std::string help =
        "check that gives a warning instead of rejecting a case; may be repeated: " + plausibility_check_names();
    options.add()("accept", po::value<std::vector<std::string>>()->composing(), help.c_str());
}

Result<AcceptedChecks> accepted_checks(const Options& options) {
    AcceptedChecks accepted;
    for (const std::string& code : options.get_or_default<std::vector<std::string>>("accept")) {
        MFRES_TRY(const ErrorCode check, parse_plausibility_check(code));
        accepted.insert(check);
    }
    return accepted;
}

void add_small_part_options(Options& options) {
    // clang-format off
    options.add()
        ("min-enhancing", po::value<double>(), "mm^3: less enhancing tumour in total is labelled as necrotic core; 0 = never (default as the model file recommends)")
        ("min-component", po::value<double>(), "mm^3: smaller connected components of tumour are removed, except the largest; 0 = never (default as the model file recommends)");
    // clang-format on
}

void add_config_option(Options& options) {
    options.add()(
        "config", po::value<std::string>(),
        "JSON file of options, e.g. {\"threads\": 2, \"resample\": true}; those of the command line come first");
}

namespace {

bool ends_in(const std::filesystem::path& path, std::initializer_list<std::string_view> endings) {
    std::string file = path.filename().string();
    for (char& c : file)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return std::any_of(endings.begin(), endings.end(),
                       [&](std::string_view ending) { return file.size() > ending.size() && file.ends_with(ending); });
}

} // namespace

Status check_ending(std::string_view option, const std::filesystem::path& path,
                    std::initializer_list<std::string_view> endings) {
    if (path.empty() || ends_in(path, endings))
        return {};
    std::string allowed;
    for (const std::string_view ending : endings)
        allowed.append(allowed.empty() ? "" : " or ").append(ending);
    return Error{ErrorCode::invalid_argument,
                 text("the file of --", option, ", ", path.string(), ", must end in ", allowed), path.string()};
}

Status check_folder(std::string_view option, const std::filesystem::path& path,
                    std::initializer_list<std::string_view> endings) {
    std::error_code ignored;
    const bool file = std::filesystem::exists(path, ignored) && !std::filesystem::is_directory(path, ignored);
    const bool named_as_file = ends_in(path, endings) && !std::filesystem::is_directory(path, ignored);
    if (path.empty() || (!file && !named_as_file))
        return {};
    return Error{ErrorCode::invalid_argument,
                 text("--", option, " names a folder where there are several cases, and ", path.string(), " is ",
                      file ? "a file" : "a file's name"),
                 path.string()};
}

OrderedJson provenance(const Options& options) {
    static const std::string start = [] {
        namespace time = std::chrono;
        const auto now = time::floor<time::seconds>(time::system_clock::now()); // counted in UTC
        const auto day = time::floor<time::days>(now);
        const time::year_month_day date(day);
        const time::hh_mm_ss clock(now - day);
        std::array<char, 32> words{};
        print_classic(words.data(), words.size(), "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int>(date.year()),
                      static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                      static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                      static_cast<int>(clock.seconds().count()));
        return std::string(words.data());
    }();
    return {{"program", text("mfres ", version())}, {"date", start}, {"options", options.as_json()}};
}

std::string with_provenance(const Options& options, const std::string& report) {
    const auto content = OrderedJson::parse(report, nullptr, false);
    if (!content.is_object())
        return report;
    OrderedJson whole = provenance(options);
    for (const auto& [key, value] : content.items())
        whole[key] = value;
    return whole.dump(2, ' ', false, OrderedJson::error_handler_t::replace);
}

void add_report_options(Options& options) {
    // clang-format off
    options.add()
        ("json", "print the result, or the error, as JSON to stdout")
        ("quiet,q", "no progress, and no confirmation of files that were written");
    // clang-format on
}

void add_output_options(Options& options) {
    options.add()("force", "overwrite existing files");
    add_report_options(options);
}

void confirm(const Options& options, const Json& object, const std::string& line) {
    if (options.has("json"))
        std::cout << object.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
    else if (!options.has("quiet"))
        std::cout << line << '\n';
}

std::vector<std::string> listed(const std::string& names) {
    std::vector<std::string> parts;
    std::istringstream stream(names);
    pass_exceptions(stream);
    for (std::string part; std::getline(stream, part, ',');)
        parts.push_back(part);
    return parts;
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

Result<std::vector<int>> parse_cpus(const std::string& list) {
    std::vector<int> cpus;
    const char* at = list.data();
    const char* const end = at + list.size();
    while (at != end) {
        int value = 0;
        const auto [rest, problem] = std::from_chars(at, end, value);
        if (problem != std::errc() || value < 0 || (rest != end && (*rest != ',' || rest + 1 == end)))
            return Error{ErrorCode::invalid_argument, text("'", list, "' is not a list of CPUs; write 0 or 0,2"), list};
        cpus.push_back(value);
        at = rest == end ? rest : rest + 1;
    }
    return cpus;
}

} // namespace mfres::cli
