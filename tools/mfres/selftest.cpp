// SPDX-License-Identifier: MIT
#include "option_groups.h"
#include "run_and_print.h"

#include <mfres/selftest.h>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Checks in about ten seconds whether this installation computes what it should: golden values, every op of every\n"
    "backend against the reference backend, and the labels of the synthetic case against the record of each model.\n"
    "The exit code is 0 if all checks pass, else that of the first one that fails.";

constexpr const char* examples = "Examples:\n"
                                 "  mfres selftest\n"
                                 "  mfres selftest --json --quiet\n"
                                 "  mfres selftest --backend native --model m.safetensors\n"
                                 "  mfres selftest --record --model m.safetensors   # makes m.selftest.json\n";

Options make_options() {
    Options options("selftest [--model FILE]... [--backend NAME]", about, examples);
    // clang-format off
    options.add()
        ("model,m", po::value<std::vector<std::string>>()->composing(), "a model file or the name of weights; may be repeated. Without it: all that come with mfres")
        ("backend", po::value<std::string>()->default_value("auto"), backend_help("all that work here").c_str())
        ("record", "make the record of each --model instead: what it makes of the synthetic case on this machine");
    // clang-format on
    add_threads_option(options);
    add_output_options(options);
    return options;
}

/// Makes the record of every model that is named.
int record(const Options& options, const SelftestOptions& chosen) {
    if (chosen.models.empty())
        return usage_error("--record needs --model");
    Json written = Json::array();
    std::string lines;
    for (const auto& model : chosen.models) {
        const auto path = with_progress(options, [&](ProgressDisplay& display) {
            return record_selftest(model, chosen, options.has("force"), display.progress());
        });
        if (!path)
            return fail(path.error(), options.has("json"));
        written.push_back(path->string());
        lines += (lines.empty() ? "" : "\n") + path->string() + ": written";
    }
    confirm(options, {{"records", written}}, lines);
    return exit_ok;
}

} // namespace

int selftest(const std::vector<std::string>& arguments) {
    Options options = make_options();
    if (const auto done = options.parse(arguments))
        return *done;
    SelftestOptions chosen;
    chosen.backend = options.get<std::string>("backend");
    chosen.models = options.paths("model");
    chosen.threads = options.get<int>("threads");
    if (options.has("record"))
        return record(options, chosen);
    const auto report =
        with_progress(options, [&](ProgressDisplay& display) { return run_selftest(chosen, display.progress()); });
    const int code = print_report(options, report, [](const SelftestReport& of) { return to_text(of); });
    const SelftestCheck* const failed = report ? report->first_failure() : nullptr;
    return failed != nullptr ? exit_code(failed->failure->code) : code;
}

} // namespace mfres::cli
