// SPDX-License-Identifier: MIT
// The report of a benchmark as JSON and as text.
#include <mfres/benchmark.h>

#include "core/format.h"
#include "core/json_value.h"

#include <array>
#include <cmath>

namespace mfres {

namespace {

/// Rounds milliseconds to microseconds.
double rounded(double value) {
    return std::round(value * 1000.0) / 1000.0;
}

std::string op_lines(const BenchmarkReport& report) {
    std::string lines = format_classic("\n  %9s %7s %8s %8s %9s  %s\n", "ms", "share", "MB", "MMAC", "of floor", "op");
    double sum = 0.0;
    for (const BenchmarkOp& op : report.ops)
        sum += op.median_ms;
    for (const BenchmarkOp& op : report.ops) {
        const std::string of_floor = op.floor_ms > 0 ? format_classic("%.1f x", op.median_ms / op.floor_ms) : "-";
        lines +=
            format_classic("  %9.3f %6.1f%% %8.2f %8.1f %9s  ", op.median_ms, 100.0 * op.median_ms / sum,
                           static_cast<double>(op.bytes) / 1e6, static_cast<double>(op.macs) / 1e6, of_floor.c_str());
        lines += op.node + " (" + op.operation + ", " + op.implementation + ")\n";
    }
    return lines + format_classic("  %9.3f  all ops\n", sum);
}

} // namespace

std::string to_json(const BenchmarkReport& report) {
    OrderedJson json = {{"model", {{"file", report.model_file}, {"weights_sha256", report.weights_sha256}}},
                        {"network", report.network},
                        {"backend", {{"name", report.used.backend}, {"engine", report.used.engine}}},
                        {"precision", to_string(report.used.precision)},
                        {"allow_tf32", report.used.tf32},
                        {"deterministic", report.used.deterministic},
                        {"threads", report.used.threads},
                        {"shape", report.shape},
                        {"runs", report.times_ms.size()},
                        {"median_ms", rounded(report.median_ms)},
                        {"min_ms", rounded(report.min_ms)},
                        {"max_ms", rounded(report.max_ms)},
                        {"compile_ms", rounded(report.compile_ms)},
                        {"first_ms", rounded(report.first_ms)},
                        {"peak_rss_mib", rounded(report.peak_rss_mib)},
                        {"planned_peak_mib", rounded(report.planned_peak_mib)},
                        {"barriers", report.barriers},
                        {"macs", report.macs}};
    OrderedJson times = OrderedJson::array();
    for (const double time : report.times_ms)
        times.push_back(rounded(time));
    json["times_ms"] = std::move(times);
    if (report.machine.gflops > 0)
        json["machine"] = {{"gflops", rounded(report.machine.gflops)},
                           {"gigabytes_per_second", rounded(report.machine.gigabytes_per_second)},
                           {"arithmetic_floor_ms", rounded(report.arithmetic_floor_ms)}};
    for (const BenchmarkOp& op : report.ops)
        json["ops"].push_back({{"node", op.node},
                               {"operation", op.operation},
                               {"implementation", op.implementation},
                               {"median_ms", rounded(op.median_ms)},
                               {"bytes", op.bytes},
                               {"macs", op.macs},
                               {"floor_ms", rounded(op.floor_ms)}});
    return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace);
}

std::string to_text(const BenchmarkReport& report) {
    std::string lines =
        format_classic("%s, %lldx%lldx%lld, %s, ", report.network.c_str(), static_cast<long long>(report.shape[2]),
                       static_cast<long long>(report.shape[3]), static_cast<long long>(report.shape[4]),
                       to_string(report.used.precision).data()) +
        report.used.engine + format_classic(", %d threads\n", report.used.threads);
    lines += format_classic("  median    %9.2f ms of %zu runs (%.2f to %.2f)\n", report.median_ms,
                            report.times_ms.size(), report.min_ms, report.max_ms);
    lines += format_classic("  ready in  %9.2f ms, first run %.2f ms\n", report.compile_ms, report.first_ms);
    lines += format_classic("  memory    %9.1f MiB planned, %.1f MiB resident at the peak\n", report.planned_peak_mib,
                            report.peak_rss_mib);
    if (report.barriers > 0)
        lines += format_classic("  barriers  %9lld per pass, at which threads wait for each other\n",
                                static_cast<long long>(report.barriers));
    if (report.machine.gflops > 0)
        lines +=
            format_classic("  floor     %9.2f ms for %.2f GMAC at %.0f GFLOP/s (%.2f x; memory copies at %.1f GB/s)\n",
                           report.arithmetic_floor_ms, static_cast<double>(report.macs) / 1e9, report.machine.gflops,
                           report.median_ms / report.arithmetic_floor_ms, report.machine.gigabytes_per_second);
    return report.ops.empty() ? lines : lines + op_lines(report);
}

} // namespace mfres
