// SPDX-License-Identifier: MIT
// Commands that work for a while and then print what they found.
#pragma once

#include "cli.h"

#include <iostream>

namespace mfres::cli {

/// work(display) with a display of its progress, which is cleared when the work is done. Ctrl-C stops it.
template <typename Work>
auto with_progress(const Options& options, const Work& work) {
    watch_signals();
    ProgressDisplay display(options.has("quiet"));
    auto result = work(display);
    display.clear();
    return result;
}

/// A report (a JSON object) with what made it before the rest: program and version, time in UTC, and all options. Anything
/// but an object is left as it is.
std::string with_provenance(const Options& options, const std::string& report);

/// Prints to_json(*report) with_provenance with --json, else text(*report); or the error. Returns the exit code.
template <typename Report, typename Text>
int print_report(const Options& options, const Result<Report>& report, const Text& text) {
    const bool json = options.has("json");
    if (!report)
        return fail(report.error(), json);
    std::cout << (json ? with_provenance(options, to_json(*report)) + "\n" : text(*report));
    return exit_ok;
}

} // namespace mfres::cli
