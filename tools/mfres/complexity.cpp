// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "option_groups.h"

#include "core/file.h"
#include "core/try.h"

#include <mfres/complexity.h>

#include <iostream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Counts parameters, operations and memory of networks in three conventions, named in the column heads: the paper's\n"
    "formulas (eq. 11 and 13), learnables with MACs, and the counter used for the paper's Table 2.\n"
    "Without --network: all networks of that table beside their published figures.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres complexity\n"
    "  mfres complexity --json\n"
    "  mfres complexity --network mf-res2net --per-layer --size 240,240,160\n"
    "  mfres complexity --network mf-res2net --network dmfnet --format markdown\n"
    "  mfres complexity --network variant.json        # {\"network\": \"mf-res2net\", \"widths\": [16, 32, 64, 128]}\n"
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
        return Error{ErrorCode::invalid_argument, "--format is text, markdown or csv; JSON is printed with --json",
                     "format"};
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

/// The paper's table where no option asks for something else.
bool is_paper_table(const Options& options) {
    return !options.has("network") && !options.has("size") && options.get<std::int64_t>("batch") == 1 &&
           !options.has("per-layer");
}

Result<std::string> counted(const Options& options) {
    MFRES_TRY(const ReportFormat format, format_of(options));
    if (is_paper_table(options)) {
        MFRES_TRY(const Table2Report report, table2());
        return render(report, format);
    }
    MFRES_TRY(const auto size, parse_size(options.has("size") ? options.get<std::string>("size") : "128"));
    MFRES_TRY(const std::vector<std::string> names, wanted_networks(options));
    std::vector<ComplexityReport> reports;
    for (const std::string& network : names) {
        MFRES_TRY(reports.emplace_back(), mfres::complexity(network, size, options.get<std::int64_t>("batch")));
    }
    const bool per_layer = options.has("per-layer");
    return reports.size() == 1 ? render(reports[0], format, per_layer) : render(reports, format, per_layer);
}

} // namespace

int complexity(const std::vector<std::string>& arguments) {
    Options options("complexity [--network NAME|FILE.json]... [--size X,Y,Z]", about, examples);
    // clang-format off
    options.add()
        ("network,n", po::value<std::vector<std::string>>(), "a registered network, or a variant: a JSON file or JSON text; repeatable")
        ("size", po::value<std::string>(), "input voxels: 128 or 240,240,160 (default 128)")
        ("batch", po::value<std::int64_t>()->default_value(1), "cases per inference")
        ("per-layer", "every layer instead of every stage")
        ("format,f", po::value<std::string>()->default_value("text"), "text, markdown or csv; --json for JSON")
        ("out,o", po::value<std::string>(), "write to this file instead of stdout")
        ("list", "describe the networks and their variant keys");
    // clang-format on
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
