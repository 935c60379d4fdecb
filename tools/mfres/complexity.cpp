// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "option_groups.h"
#include "run_and_print.h"

#include "core/file.h"
#include "core/try.h"

#include <mfres/complexity.h>
#include <mfres/machine.h>
#include <mfres/sweep.h>

#include <algorithm>
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
    "  mfres complexity --compare --network mf-res2net --network dmfnet\n"
    "  mfres complexity --network mf-res2net --machine machine.json --per-layer --plot roofline.svg\n"
    "  mfres complexity --sweep \"splits=2|4\" --sweep \"scale=0.5|0.75|1\" --max-macs 8e9 --plot pareto.svg\n"
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
    if (options.has("file") && !options.has("network")) {
        if (options.has("size") || options.get<std::int64_t>("batch") != 1)
            return Error{ErrorCode::invalid_argument,
                         "--size and --batch are of --network; ONNX files take --input name=1x3x224x224", "size"};
        return reports;
    }
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

// ---- predictions ----------------------------------------------------------------------------------------------------

/// Precisions and threads of --precision and --threads, in place of those that the machine has rates of.
Result<std::vector<std::pair<Precision, int>>> predicted_runs(const Options& options, const Machine& machine) {
    MFRES_TRY(const std::vector<Precision> wanted, precisions_of(options));
    const int threads = options.get<int>("threads");
    if (threads < 0 || threads > 4096)
        return Error{ErrorCode::invalid_argument, text("--threads is ", threads, ", allowed is 0 to 4096"), "threads"};
    std::vector<std::pair<Precision, int>> runs;
    for (const PeakRate& peak : machine.peaks) {
        const bool asked = wanted.empty() || std::find(wanted.begin(), wanted.end(), peak.precision) != wanted.end();
        const std::pair run{peak.precision, threads > 0 ? threads : peak.threads};
        if (asked && std::find(runs.begin(), runs.end(), run) == runs.end())
            runs.push_back(run);
    }
    for (const Precision precision : wanted)
        if (std::none_of(runs.begin(), runs.end(), [&](const auto& run) { return run.first == precision; }))
            runs.emplace_back(precision, std::max(threads, 1)); // predict_time() says what is missing
    return runs;
}

Result<PredictedTime> predicted(const ComplexityReport& report, const Machine& machine, Precision precision,
                                int threads) {
    if (report.onnx)
        return predict_time(report, machine, precision, threads);
    return predict_time(report.network.json, {report.input[2], report.input[3], report.input[4]}, report.input[0],
                        machine, precision, threads);
}

Status write_plot(const Options& options, const std::string& svg) {
    if (!options.has("plot"))
        return {};
    return write_file_atomically(options.get<std::string>("plot"), svg, options.has("force"));
}

Result<std::string> with_predictions(const Options& options, const ComplexityReport& report, ReportFormat format) {
    MFRES_TRY(const Machine machine, find_machine(options.get<std::string>("machine")));
    MFRES_TRY(const auto runs, predicted_runs(options, machine));
    std::vector<PredictedTime> predictions;
    for (const auto& [precision, threads] : runs) {
        MFRES_TRY(predictions.emplace_back(), predicted(report, machine, precision, threads));
    }
    if (predictions.empty())
        return Error{ErrorCode::invalid_argument, text("machine ", machine.name, " has no rates"), "machine"};
    MFRES_CHECK(write_plot(options, roofline_svg(machine, predictions.front())));
    return render(report, predictions, format, options.has("per-layer"));
}

// ---- comparisons and sweeps -----------------------------------------------------------------------------------------

Result<std::string> compared(const Options& options, ReportFormat format) {
    MFRES_TRY(std::vector<ComplexityReport> reports, wanted_reports(options));
    if (reports.size() != 2 || (!options.has("network") && !options.has("file")))
        return Error{ErrorCode::invalid_argument,
                     "--compare takes two networks: two ONNX files, two times --network, or one of each", "compare"};
    ComplexityComparison comparison = compare(std::move(reports[0]), std::move(reports[1]));
    if (options.has("machine")) {
        MFRES_TRY(const Machine machine, find_machine(options.get<std::string>("machine")));
        MFRES_TRY(const auto runs, predicted_runs(options, machine));
        for (const auto& [precision, threads] : runs) {
            MFRES_TRY(const PredictedTime a, predicted(comparison.a, machine, precision, threads));
            MFRES_TRY(const PredictedTime b, predicted(comparison.b, machine, precision, threads));
            comparison.predicted.push_back({machine.name, precision, threads, a.total_ms, b.total_ms});
        }
    }
    return render(comparison, format, options.has("per-layer"));
}

/// "splits=2|4" -> an axis. Errors: invalid_argument.
Result<SweepAxis> parse_axis(const std::string& argument) {
    const std::size_t equal = argument.find('=');
    if (equal == 0 || equal == std::string::npos || equal + 1 == argument.size())
        return Error{ErrorCode::invalid_argument,
                     text("--sweep is KEY=VALUE|VALUE..., such as splits=2|4; '", argument, "' is not"), "sweep"};
    SweepAxis axis{argument.substr(0, equal), {""}};
    for (const char letter : argument.substr(equal + 1)) {
        if (letter == '|')
            axis.values.emplace_back();
        else
            axis.values.back() += letter;
    }
    return axis;
}

/// A count such as 8e9. Errors: invalid_argument.
Result<std::optional<std::int64_t>> budget_of(const Options& options, const char* name, double unit) {
    if (!options.has(name))
        return std::optional<std::int64_t>();
    const double value = options.get<double>(name) * unit;
    if (!(value >= 0.0 && value < 9e18))
        return Error{ErrorCode::invalid_argument,
                     text("--", name, " is ", options.get<double>(name), ", which is no budget"), name};
    return std::optional(static_cast<std::int64_t>(value));
}

Result<SweepOptions> sweep_options(const Options& options) {
    SweepOptions chosen;
    MFRES_TRY(const std::vector<std::string> names, wanted_networks(options));
    if (options.has("network") && names.size() != 1)
        return Error{ErrorCode::invalid_argument, "--sweep varies one network, given by one --network", "sweep"};
    if (options.has("network"))
        chosen.network = names.front();
    for (const std::string& argument : options.get<std::vector<std::string>>("sweep")) {
        MFRES_TRY(chosen.axes.emplace_back(), parse_axis(argument));
    }
    MFRES_TRY(chosen.size, parse_size(options.has("size") ? options.get<std::string>("size") : "128"));
    chosen.batch = options.get<std::int64_t>("batch");
    MFRES_TRY(chosen.budget.parameters, budget_of(options, "max-parameters", 1.0));
    MFRES_TRY(chosen.budget.macs, budget_of(options, "max-macs", 1.0));
    MFRES_TRY(chosen.budget.bytes, budget_of(options, "max-mib", 1 << 20));
    if (options.has("max-ms"))
        chosen.budget.ms = options.get<double>("max-ms");
    return chosen;
}

Result<std::string> swept(const Options& options, ReportFormat format) {
    MFRES_TRY(SweepOptions chosen, sweep_options(options));
    Machine machine;
    if (options.has("machine")) {
        MFRES_TRY(machine, find_machine(options.get<std::string>("machine")));
        MFRES_TRY(const auto runs, predicted_runs(options, machine));
        if (runs.empty())
            return Error{ErrorCode::invalid_argument, text("machine ", machine.name, " has no rates"), "machine"};
        chosen.predict = [&machine, run = runs.front(), batch = chosen.batch](const std::string& json,
                                                                              const auto& size) -> Result<double> {
            MFRES_TRY(const PredictedTime prediction, predict_time(json, size, batch, machine, run.first, run.second));
            return prediction.total_ms;
        };
    } else if (options.has("max-ms")) {
        return Error{ErrorCode::invalid_argument, "--max-ms needs --machine, by which times are predicted", "max-ms"};
    }
    MFRES_TRY(const SweepReport report,
              with_progress(options, [&](ProgressDisplay& display) { return sweep(chosen, display.progress()); }));
    MFRES_CHECK(write_plot(options, pareto_svg(report)));
    const int rows = options.get<int>("rows");
    return render(report, format, static_cast<std::size_t>(std::max(rows, 0)));
}

Result<std::string> counted(const Options& options) {
    MFRES_TRY(const ReportFormat format, format_of(options));
    if (options.has("sweep"))
        return swept(options, format);
    if (options.has("compare"))
        return compared(options, format);
    if (options.has("plot") && !options.has("machine"))
        return Error{ErrorCode::invalid_argument, "--plot is of --sweep, or of --machine", "plot"};
    if (!options.has("machine") && is_paper_table(options)) {
        MFRES_TRY(const Table2Report report, table2());
        return render(report, format);
    }
    MFRES_TRY(const std::vector<ComplexityReport> reports, wanted_reports(options));
    const bool per_layer = options.has("per-layer");
    if (options.has("machine") && reports.size() != 1)
        return Error{
            ErrorCode::invalid_argument,
            "--machine predicts the time of one network, of --network or an ONNX file, or of two with --compare",
            "machine"};
    if (options.has("machine"))
        return with_predictions(options, reports[0], format);
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
        ("compare", "two networks beside each other: what differs")
        ("sweep", po::value<std::vector<std::string>>(), "vary a key of the network: splits=2|4, also size=96|128 and scale=0.5|1 (of all widths); repeatable, all combinations")
        ("max-parameters", po::value<double>(), "budget of a sweep: learnables, 2e6 say")
        ("max-macs", po::value<double>(), "budget of a sweep: multiply-adds, 8e9 say")
        ("max-mib", po::value<double>(), "budget of a sweep: MiB of weights and activations")
        ("max-ms", po::value<double>(), "budget of a sweep: predicted milliseconds")
        ("rows", po::value<int>()->default_value(40), "variants of a sweep that are shown; CSV and JSON have all")
        ("machine", po::value<std::string>(), "predict times on this machine: a file of mfres probe, or a name of mfres probe --list")
        ("precision", po::value<std::string>()->default_value("auto"), "of the prediction: f32, bf16, fp16 or int8, also a list; auto: all that the machine has; a sweep takes the first")
        ("threads", po::value<int>()->default_value(0), "of the prediction; 0 = all numbers that the machine was measured with; a sweep takes the first")
        ("plot", po::value<std::string>(), "write this SVG: roofline of the first prediction, or Pareto front of a sweep")
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
