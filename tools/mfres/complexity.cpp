// SPDX-License-Identifier: MIT
#include "cli.h"

#include "core/file.h"

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
    "  mfres complexity --format json\n"
    "  mfres complexity --network mf-res2net --per-layer --size 240,240,160\n"
    "  mfres complexity --network mf-res2net --network dmfnet --format markdown\n"
    "  mfres complexity --network variant.json        # {\"network\": \"mf-res2net\", \"widths\": [16, 32, 64, 128]}\n"
    "  mfres complexity --list                        # networks, and the keys their variants may set\n";

void list_networks() {
    for (const NetworkInfo& network : networks()) {
        std::cout << network.name << "\n  " << network.summary << "\n  status: " << network.status << '\n';
        for (const NetworkOption& option : network.options)
            std::cout << "    " << option.key << " = " << option.standard << "   " << option.help << "; "
                      << option.allowed << '\n';
        std::cout << '\n';
    }
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
        ("format,f", po::value<std::string>()->default_value("text"), "text, markdown, csv or json")
        ("out,o", po::value<std::string>(), "write to this file instead of stdout")
        ("force", "overwrite an existing output file")
        ("list", "describe the networks and their variant keys");
    // clang-format on
    if (const auto done = options.parse(arguments))
        return *done;
    if (options.has("list")) {
        list_networks();
        return exit_ok;
    }
    const auto format = parse_report_format(options.get<std::string>("format"));
    if (!format)
        return fail(format.error());
    const bool table = !options.has("network") && !options.has("size") && options.get<std::int64_t>("batch") == 1 &&
                       !options.has("per-layer");
    std::string rendered;
    if (table) {
        const auto report = table2();
        if (!report)
            return fail(report.error());
        rendered = render(*report, *format);
    } else {
        const auto size = parse_size(options.has("size") ? options.get<std::string>("size") : "128");
        if (!size)
            return fail(size.error());
        std::vector<std::string> names;
        if (options.has("network"))
            names = options.get<std::vector<std::string>>("network");
        else
            for (const NetworkInfo& network : networks())
                names.push_back(network.name);
        std::vector<ComplexityReport> reports;
        for (const std::string& argument : names) {
            const auto network = network_text(argument);
            if (!network)
                return fail(network.error());
            auto report = mfres::complexity(*network, *size, options.get<std::int64_t>("batch"));
            if (!report)
                return fail(report.error());
            reports.push_back(std::move(report).value());
        }
        rendered = reports.size() == 1 ? render(reports[0], *format, options.has("per-layer"))
                                       : render(reports, *format, options.has("per-layer"));
    }
    if (!options.has("out")) {
        std::cout << rendered;
        return exit_ok;
    }
    const auto written = write_file_atomically(options.get<std::string>("out"), rendered, options.has("force"));
    return written ? exit_ok : fail(written.error());
}

} // namespace mfres::cli
