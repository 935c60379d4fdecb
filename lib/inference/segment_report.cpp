// SPDX-License-Identifier: MIT
// The report of a segmentation as JSON and as text.
#include <mfres/segmenter.h>

#include "core/format.h"
#include "core/json_value.h"
#include "core/postprocessing_json.h"
#include "core/try.h"

#include <array>

namespace mfres {

namespace {

OrderedJson parts_json(const std::vector<PredictionReport::Part>& parts) {
    OrderedJson all = OrderedJson::object();
    for (const auto& part : parts)
        all[part.name] = {{"voxels", part.voxels}, {"ml", part.millilitres}};
    return all;
}

std::string size_text(const std::array<std::int64_t, 3>& size) {
    return text(size[0], "x", size[1], "x", size[2]);
}

double mib(std::int64_t bytes) {
    return static_cast<double>(bytes) / (1024.0 * 1024.0);
}

} // namespace

std::string model_sentence(const PredictionReport& report) {
    return text("Predictions by ", report.network, " (", report.model_file, ", weights SHA-256 ", report.weights_sha256,
                ") on ", report.used.engine, " in ", to_string(report.used.precision),
                report.used.tf32 ? " with TF32" : "",
                report.mirror_images > 1 ? text(", mean of ", report.mirror_images, " mirror images.") : ".");
}

namespace {

/// `files`: the same report, where the case came from files.
std::string report_json(const PredictionReport& report, const SegmentReport* files, bool choices) {
    OrderedJson json;
    json["case"] = report.case_id;
    json["network"] = report.network;
    json["model"] = {{"file", report.model_file}, {"weights_sha256", report.weights_sha256}};
    const RunInfo& used = report.used;
    json["backend"] = {{"name", used.backend},
                       {"engine", used.engine},
                       {"precision", to_string(used.precision)},
                       {"allow_tf32", used.tf32},
                       {"deterministic", used.deterministic},
                       {"threads", used.threads}};
    if (files) {
        const auto& inputs = files->inputs;
        json["inputs"] = {{"t1", inputs[0]}, {"t1ce", inputs[1]}, {"t2", inputs[2]}, {"flair", inputs[3]}};
        json["output"] = files->output;
        json["preview"] = files->preview;
        if (!files->probabilities.empty())
            json["probabilities"] = files->probabilities;
    }
    if (report.contrasts != all_modalities)
        json["contrasts"] = names(report.contrasts);
    json["label_scheme"] = report.label_scheme;
    json["grid_size"] = report.grid_size;
    json["brain_box_size"] = report.brain_box_size;
    json["network_input_size"] = report.network_size;
    json["mirror_images"] = report.mirror_images;
    json["passes"] = report.tiles * report.mirror_images;
    json["classes"] = parts_json(report.classes);
    json["regions"] = parts_json(report.regions);
    json["postprocessing"] = postprocessing_json<OrderedJson>(report.postprocessing);
    json["stages_ms"] = OrderedJson::object();
    for (const auto& stage : report.stages)
        json["stages_ms"][stage.name] = stage.milliseconds;
    json["total_ms"] = report.total_milliseconds;
    json["planned_peak_bytes"] = report.planned_peak_bytes;
    json["measured_peak_bytes"] = report.measured_peak_bytes;
    json["warnings"] = report.warnings;
    if (choices) {
        json["chosen"] = OrderedJson::array();
        for (const auto& choice : report.chosen)
            json["chosen"].push_back(
                {{"node", choice.node}, {"operation", choice.operation}, {"implementation", choice.implementation}});
    }
    json["notice"] = "Research use only: not a medical device.";
    // Paths may hold bytes that are no UTF-8; they are replaced rather than failing the report.
    return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace);
}

} // namespace

std::string to_json(const PredictionReport& report, bool choices) {
    return report_json(report, nullptr, choices);
}

std::string to_json(const SegmentReport& report, bool choices) {
    return report_json(report, &report, choices);
}

std::string to_text(const SegmentReport& report) {
    std::string out = text("case        ", report.case_id, "  (grid ", size_text(report.grid_size), ", brain ",
                           size_text(report.brain_box_size), ")\n");
    out += text("network     ", report.network, "  (", report.model_file, ")\n");
    out += text("backend     ", report.used.engine, ", ", to_string(report.used.precision),
                report.used.tf32 ? " with TF32" : "", report.used.deterministic ? ", " : ", not deterministic, ",
                counted(report.used.threads, "thread"), ", ", report.tiles,
                report.tiles == 1 ? " pass of " : " tiles of ", size_text(report.network_size),
                report.mirror_images > 1 ? text(", ", report.mirror_images, " mirror images") : "", "\n\n");
    if (report.regions.empty() || report.regions[0].voxels == 0)
        out += "tumour      none found\n";
    for (const auto& part : report.classes)
        out += format_classic("  %-20s %9.2f ml  %9lld voxels\n", part.name.c_str(), part.millilitres,
                              static_cast<long long>(part.voxels));
    for (const auto& part : report.regions)
        out += format_classic("  %-20s %9.2f ml\n",
                              (part.name == "WT"   ? "whole tumour (WT)"
                               : part.name == "TC" ? "tumour core (TC)"
                                                   : "enhancing (ET)"),
                              part.millilitres);
    out += "\ntime       ";
    for (const auto& stage : report.stages)
        out += format_classic(" %s %.0f ms,", stage.name.c_str(), stage.milliseconds);
    out += format_classic(" total %.2f s\n", report.total_milliseconds / 1000.0);
    out += format_classic("memory      planned %.0f MiB", mib(report.planned_peak_bytes));
    if (report.measured_peak_bytes > 0)
        out += format_classic(", measured %.0f MiB", mib(report.measured_peak_bytes));
    out += " at the peak\n";
    for (const auto& warning : report.warnings)
        out += "warning     " + warning + "\n";
    if (!report.output.empty())
        out += "labels      " + report.output + "  (scheme " + report.label_scheme + ")\n";
    if (!report.probabilities.empty())
        out += "probability " + report.probabilities + "\n";
    if (!report.preview.empty())
        out += "picture     " + report.preview + "\n";
    return out + "\nResearch use only: not a medical device.\n";
}

} // namespace mfres
