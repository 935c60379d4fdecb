// SPDX-License-Identifier: MIT
// Predictions as tables and JSON, and the roofline plot.
#include "core/format.h"
#include "core/json_value.h"
#include "core/try.h"
#include "report/complexity_parts.h"
#include "report/log_plot.h"

#include <mfres/machine.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace mfres {

using namespace complexity_parts;

namespace {

constexpr const char* prediction_note =
    "Predicted: ops as the backend runs them (inference form, fusion groups; an ONNX file as it is written), interpolated "
    "between timed ops of the machine. Roofline: multiply-adds at the peak rate or bytes at the copy rate, the larger of "
    "both. A machine by its data sheet gives the roofline alone.";

TextTable totals_table(const std::vector<PredictedTime>& predictions) {
    TextTable table({{"", "machine", false},
                     {"", "", false},
                     {"", "precision", false},
                     {"", "threads", true},
                     {"", "predicted ms", true},
                     {"", "roofline ms", true}});
    for (const PredictedTime& one : predictions)
        table.row({one.machine, one.measured ? "measured" : "data sheet", std::string(to_string(one.precision)),
                   grouped(std::int64_t{one.threads}), grouped(one.total_ms, 3), grouped(one.roofline_ms, 3)});
    return table;
}

double intensity(const PredictedOp& op) {
    return op.extents.bytes > 0 ? 2.0 * static_cast<double>(op.extents.macs) / static_cast<double>(op.extents.bytes)
                                : 0.0;
}

TextTable ops_table(const PredictedTime& prediction, bool short_names) {
    TextTable table({{"", "op", false},
                     {"", "class", false},
                     {"", "10^6 MACs", true},
                     {"", "MB", true},
                     {"", "ops per byte", true},
                     {"", "ms", true},
                     {"", "per cent", true},
                     {"", "roofline ms", true},
                     {"", "bound", false}});
    for (const PredictedOp& op : prediction.ops)
        table.row({short_names ? shortened(op.name, 34) : op.name, std::string(to_string(op.extents.op_class)),
                   grouped(static_cast<double>(op.extents.macs) / 1e6, 1),
                   grouped(static_cast<double>(op.extents.bytes) / 1e6, 2), grouped(intensity(op), 1),
                   grouped(op.ms, 3), grouped(prediction.total_ms > 0 ? 100.0 * op.ms / prediction.total_ms : 0.0, 1),
                   grouped(op.roofline_ms, 3), std::string(to_string(op.bound))});
    return table;
}

OrderedJson prediction_json(const PredictedTime& prediction, bool per_layer) {
    OrderedJson json{{"machine", prediction.machine},
                     {"measured", prediction.measured},
                     {"precision", to_string(prediction.precision)},
                     {"threads", prediction.threads},
                     {"ms", prediction.total_ms},
                     {"roofline_ms", prediction.roofline_ms}};
    for (const PredictedOp& op : prediction.ops)
        if (per_layer)
            json["ops"].push_back({{"name", op.name},
                                   {"class", to_string(op.extents.op_class)},
                                   {"macs", op.extents.macs},
                                   {"bytes", op.extents.bytes},
                                   {"ops_per_byte", intensity(op)},
                                   {"ms", op.ms},
                                   {"share", prediction.total_ms > 0 ? op.ms / prediction.total_ms : 0.0},
                                   {"roofline_ms", op.roofline_ms},
                                   {"bound", to_string(op.bound)}});
    return json;
}

struct ClassLook {
    OpClass op_class;
    Marker marker;
    Colour colour; ///< of the Okabe-Ito palette
};
constexpr std::array<ClassLook, 5> class_looks = {{{OpClass::pointwise, Marker::circle, {0x00, 0x72, 0xB2}},
                                                   {OpClass::planar, Marker::square, {0xD5, 0x5E, 0x00}},
                                                   {OpClass::cubic, Marker::triangle, {0x00, 0x9E, 0x73}},
                                                   {OpClass::strided, Marker::square, {0xCC, 0x79, 0xA7}},
                                                   {OpClass::fusion_group, Marker::circle, {0xE6, 0x9F, 0x00}}}};

/// The rates of a machine for a number of threads: exact, or of the nearest number.
template <typename Rates, typename Value>
double best_rate(const Rates& rates, int threads, const Value& value) {
    double best = 0.0;
    int distance = -1;
    for (const auto& rate : rates) {
        const int away = std::abs(rate.threads - threads);
        if (distance < 0 || away < distance || (away == distance && value(rate) > best)) {
            best = value(rate);
            distance = away;
        }
    }
    return best;
}

} // namespace

std::string roofline_svg(const Machine& machine, const PredictedTime& prediction) {
    constexpr Colour roof{0x22, 0x22, 0x22};
    std::vector<PeakRate> peaks;
    for (const PeakRate& peak : machine.peaks)
        if (peak.precision == prediction.precision)
            peaks.push_back(peak);
    const double peak = 2.0 * best_rate(peaks, prediction.threads, [](const PeakRate& rate) { return rate.gmacs; });
    std::int64_t largest = 0;
    for (const CopyRate& copy : machine.copies)
        largest = std::max(largest, copy.bytes);
    std::vector<CopyRate> from_memory, from_cache;
    for (const CopyRate& copy : machine.copies)
        (copy.bytes == largest ? from_memory : from_cache).push_back(copy);
    const auto rate_of = [](const CopyRate& copy) { return copy.gigabytes_per_second; };
    const double memory = best_rate(from_memory, prediction.threads, rate_of);
    const double cache = best_rate(from_cache, prediction.threads, rate_of);
    LogRange x{1.0, 10.0};
    LogRange y{std::max(peak / 10.0, 1e-3), std::max(peak, 1e-3)};
    if (memory > 0.0 && peak > 0.0)
        x.include(2.0 * peak / memory);
    for (const PredictedOp& op : prediction.ops)
        if (op.extents.macs > 0 && op.ms > 0.0) {
            x.include(intensity(op));
            y.include(2.0 * static_cast<double>(op.extents.macs) / op.ms / 1e6);
        }
    y.include(std::max(memory, cache) * x.least);
    LogPlot plot(
        text(prediction.machine, ", ", to_string(prediction.precision), ", ", counted(prediction.threads, "thread")),
        "operations per byte (eq. 13)", "10^9 operations per second", x, y);
    const LogRange across = x.rounded();
    for (const auto& [rate, words] : {std::pair{memory, "memory"}, {cache, "cache"}})
        if (rate > 0.0 && peak > 0.0) {
            plot.line({{across.least, rate * across.least}, {peak / rate, peak}}, roof, 1.5,
                      words[0] == 'c' ? 5.0 : 0.0);
            if (peak / rate > 2.0 * across.least)
                plot.words(across.least * 1.8, rate * across.least * 1.15, text(words, ' ', grouped(rate, 1), " GB/s"),
                           roof);
        }
    if (peak > 0.0) {
        plot.line({{memory > 0.0 ? peak / std::max(memory, cache) : across.least, peak}, {across.most, peak}}, roof,
                  1.5);
        plot.words(across.most, peak, text("peak ", grouped(peak, 1)), roof, Anchor::end);
    }
    for (const ClassLook& look : class_looks) {
        bool any = false;
        for (const PredictedOp& op : prediction.ops)
            if (op.extents.op_class == look.op_class && op.extents.macs > 0 && op.ms > 0.0) {
                const double share = prediction.total_ms > 0.0 ? op.ms / prediction.total_ms : 0.0;
                plot.point(intensity(op), 2.0 * static_cast<double>(op.extents.macs) / op.ms / 1e6, look.marker,
                           3.0 + 12.0 * std::sqrt(share), look.colour);
                any = true;
            }
        if (any)
            plot.key(std::string(to_string(look.op_class)), look.marker, look.colour);
    }
    return plot.drawing().svg();
}

std::string render(const ComplexityReport& report, const std::vector<PredictedTime>& predictions, ReportFormat format,
                   bool per_layer) {
    switch (format) {
    case ReportFormat::csv: return render(report, format, per_layer);
    case ReportFormat::json: {
        OrderedJson json = as_json(report, per_layer);
        json["predictions"] = OrderedJson::array();
        for (const PredictedTime& prediction : predictions)
            json["predictions"].push_back(prediction_json(prediction, per_layer));
        return dumped(json);
    }
    case ReportFormat::text:
    case ReportFormat::markdown:
    case ReportFormat::html: break;
    }
    Page page(page_style(format));
    add_report(page, page_style(format), report, per_layer);
    page.table(totals_table(predictions));
    for (const PredictedTime& prediction : predictions)
        if (per_layer) {
            page.paragraph(text(prediction.machine, ", ", to_string(prediction.precision), ", ",
                                counted(prediction.threads, "thread"), ":"));
            page.table(ops_table(prediction, page_style(format) == PageStyle::text));
        }
    page.paragraph(prediction_note);
    return page.finish();
}

} // namespace mfres
