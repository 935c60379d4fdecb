// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "option_groups.h"

#include "core/file.h"
#include "core/try.h"

#include <mfres/complexity.h>

#include <charconv>
#include <iostream>
#include <utility>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Counts parameters, operations, memory traffic and memory of networks in three conventions, named in the column heads:\n"
    "the paper's formulas (eq. 11 and 13), learnables with MACs, and the counter used for the paper's Table 2.\n"
    "A network is a registered one, a variant of it, or any ONNX file. Without one: all networks of that table beside their\n"
    "published figures.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres complexity\n"
    "  mfres complexity --json\n"
    "  mfres complexity --network mf-res2net --per-layer --size 240,240,160\n"
    "  mfres complexity --network mf-res2net --network dmfnet --format markdown\n"
    "  mfres complexity --network variant.json        # {\"network\": \"mf-res2net\", \"widths\": [16, 32, 64, 128]}\n"
    "  mfres complexity resnet50.onnx --input input=1x3x224x224 --per-layer\n"
    "  mfres complexity --list                        # networks, and the keys their variants may set\n";

std::string networks_text() {
    std::string all;
    for (const NetworkInfo& network : networks()) {
        all += text(network.name, "\n  ", network.summary, "\n  status: ", network.status, '\n');
        for (const NetworkOption& option : network.options)
            all += text("    ", option.key, " = ", option.standard, "   ", option.help, "; ", option.allowed, '\n');
        all += '\n';
    }
    return all;
}

std::string networks_json() {
    OrderedJson all = OrderedJson::array();
    for (const NetworkInfo& network : networks()) {
        OrderedJson keys = OrderedJson::array();
        for (const NetworkOption& option : network.options)
            keys.push_back({{"key", option.key},
                            {"default", option.standard},
                            {"allowed", option.allowed},
                            {"help", option.help}});
        all.push_back({{"name", network.name},
                       {"summary", network.summary},
                       {"status", network.status},
                       {"keys", std::move(keys)}});
    }
    return all.dump(2) + "\n";
}

Result<ReportFormat> format_of(const Options& options) {
    if (options.has("json"))
        return ReportFormat::json;
    MFRES_TRY(const ReportFormat format, parse_report_format(options.get<std::string>("format")));
    if (format == ReportFormat::json)
        return Error{ErrorCode::invalid_argument,
                     "--format is text, markdown, csv or html; JSON is printed with --json", "format"};
    return format;
}

/// The networks of --network, all of them without it.
Result<std::vector<std::string>> wanted_networks(const Options& options) {
    std::vector<std::string> names;
    if (!options.has("network")) {
        for (const NetworkInfo& network : networks())
            names.push_back(network.name);
        return names;
    }
    for (const std::string& argument : options.get<std::vector<std::string>>("network")) {
        MFRES_TRY(names.emplace_back(), network_text(argument));
    }
    return names;
}

/// "input=1x3x224x224" -> name and shape; without a name for the only input. Errors: invalid_argument.
Result<std::pair<std::string, std::vector<std::int64_t>>> parse_input(const std::string& argument) {
    const std::size_t equal = argument.rfind('=');
    const std::string extents = equal == std::string::npos ? argument : argument.substr(equal + 1);
    std::pair<std::string, std::vector<std::int64_t>> input{equal == std::string::npos ? "" : argument.substr(0, equal),
                                                            {}};
    const char* at = extents.data();
    const char* const end = at + extents.size();
    while (true) {
        std::int64_t extent = 0;
        const auto [next, problem] = std::from_chars(at, end, extent);
        if (problem != std::errc{} || extent < 1 || (next != end && *next != 'x'))
            return Error{
                ErrorCode::invalid_argument,
                text("--input is name=1x3x224x224, with the name of an input and its extents; '", argument, "' is not"),
                "input"};
        input.second.push_back(extent);
        if (next == end)
            return input;
        at = next + 1;
    }
}

Result<OnnxComplexityOptions> onnx_options(const Options& options) {
    OnnxComplexityOptions chosen;
    chosen.allow_unknown = options.has("allow-unknown");
    for (const std::string& argument : options.get_or_default<std::vector<std::string>>("input")) {
        MFRES_TRY(auto input, parse_input(argument));
        chosen.inputs.insert(std::move(input));
    }
    return chosen;
}

/// The reports of the files and of --network, of all networks without either.
Result<std::vector<ComplexityReport>> wanted_reports(const Options& options) {
    std::vector<ComplexityReport> reports;
    MFRES_TRY(const OnnxComplexityOptions onnx, onnx_options(options));
    for (const std::filesystem::path& file : options.paths("file")) {
        MFRES_TRY(reports.emplace_back(), onnx_complexity(file, onnx));
    }
    if (options.has("file") && !options.has("network"))
        return reports;
    MFRES_TRY(const auto size, parse_size(options.has("size") ? options.get<std::string>("size") : "128"));
    MFRES_TRY(const std::vector<std::string> names, wanted_networks(options));
    for (const std::string& network : names) {
        MFRES_TRY(reports.emplace_back(), mfres::complexity(network, size, options.get<std::int64_t>("batch")));
    }
    return reports;
}

/// The paper's table where no option asks for something else.
bool is_paper_table(const Options& options) {
    return !options.has("network") && !options.has("file") && !options.has("size") &&
           options.get<std::int64_t>("batch") == 1 && !options.has("per-layer");
}

Result<std::string> counted(const Options& options) {
    MFRES_TRY(const ReportFormat format, format_of(options));
    if (is_paper_table(options)) {
        MFRES_TRY(const Table2Report report, table2());
        return render(report, format);
    }
    MFRES_TRY(const std::vector<ComplexityReport> reports, wanted_reports(options));
    const bool per_layer = options.has("per-layer");
    return reports.size() == 1 ? render(reports[0], format, per_layer) : render(reports, format, per_layer);
}

} // namespace

int complexity(const std::vector<std::string>& arguments) {
    Options options("complexity [FILE.onnx]... [--network NAME|FILE.json]... [--size X,Y,Z]", about, examples);
    // clang-format off
    options.add()
        ("network,n", po::value<std::vector<std::string>>(), "a registered network, or a variant: a JSON file or JSON text; repeatable")
        ("file", po::value<std::vector<std::string>>(), "an ONNX file, also without the option's name; repeatable")
        ("input", po::value<std::vector<std::string>>(), "shape of an input of the ONNX files: name=1x3x224x224, or 1x3x224x224 for the only one; repeatable")
        ("allow-unknown", "list operators of ONNX files that cannot be counted, and leave them out")
        ("size", po::value<std::string>(), "input voxels: 128 or 240,240,160 (default 128)")
        ("batch", po::value<std::int64_t>()->default_value(1), "cases per inference")
        ("per-layer", "every layer instead of every stage")
        ("format,f", po::value<std::string>()->default_value("text"), "text, markdown, csv or html; --json for JSON")
        ("out,o", po::value<std::string>(), "write to this file instead of stdout")
        ("list", "describe the networks and their variant keys");
    // clang-format on
    options.positional("file", -1);
    add_output_options(options);
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    const Result<std::string> rendered =
        options.has("list") ? (json ? networks_json() : networks_text()) : counted(options);
    if (!rendered)
        return fail(rendered.error(), json);
    if (!options.has("out")) {
        std::cout << *rendered;
        return exit_ok;
    }
    const auto written = write_file_atomically(options.get<std::string>("out"), *rendered, options.has("force"));
    return written ? exit_ok : fail(written.error(), json);
}

} // namespace mfres::cli
