// SPDX-License-Identifier: MIT
#include "gpu/roofline.h"

#include "backends/cuda/planned_step.h"
#include "backends/cuda/planning_engine.h"
#include "core/json.h"
#include "core/try.h"
#include "graph/rewrite.h"
#include "model/model.h"
#include "report/text_table.h"
#include "train/loss.h"

#include <algorithm>
#include <map>

namespace mfres::cuda {

namespace {

constexpr const char* no_level = "input, loss, update";

/// Grids of the nodes, in training and in the inference form.
class Levels {
  public:
    explicit Levels(const Graph& graph) {
        const Graph form = inference_form(graph);
        for (const Graph* each : {&form, &graph})
            for (const Node& node : each->nodes())
                if (node.shape.rank() == 5 && node.kind() != OpKind::input)
                    grids_[node.name] = {node.shape[2], node.shape[3], node.shape[4]};
    }

    std::string name(const std::string& node) const {
        const auto at = grids_.find(node);
        return at == grids_.end() ? no_level : text(at->second[0], "x", at->second[1], "x", at->second[2]);
    }
    std::int64_t voxels(const std::string& node) const {
        const auto at = grids_.find(node);
        return at == grids_.end() ? 0 : at->second[0] * at->second[1] * at->second[2];
    }

  private:
    std::map<std::string, Axes> grids_;
};

struct Rates {
    double gmacs = 0.0, gigabytes_per_second = 0.0;
};

Result<Rates> rates_of(const Machine& machine, Precision precision) {
    Rates rates;
    for (const PeakRate& peak : machine.peaks)
        if (peak.precision == precision)
            rates.gmacs = std::max(rates.gmacs, peak.gmacs);
    for (const CopyRate& copy : machine.copies)
        rates.gigabytes_per_second = std::max(rates.gigabytes_per_second, copy.gigabytes_per_second);
    if (rates.gmacs > 0.0 && rates.gigabytes_per_second > 0.0)
        return rates;
    return Error{ErrorCode::invalid_argument,
                 text("machine ", machine.name, " has no rate for ", to_string(precision), " or none for copies"),
                 "precision"};
}

void add(const Launch& launch, const Rates& rates, RooflineRow& row) {
    const double compute = static_cast<double>(launch.macs) / rates.gmacs / 1e6;
    const double memory = static_cast<double>(launch.bytes) / rates.gigabytes_per_second / 1e6;
    ++row.launches;
    row.bytes += launch.bytes;
    row.macs += launch.macs;
    row.roofline_ms += std::max(compute, memory);
    row.compute_ms += compute > memory ? compute : 0.0;
}

void print_rows(const std::vector<RooflineRow>& rows, const RooflineRow& total, const char* title, std::string& to) {
    TextTable table({{"", title, false},
                     {"", "launches", true},
                     {"", "MB", true},
                     {"", "10^6 MACs", true},
                     {"", "roofline ms", true},
                     {"", "compute-bound ms", true}});
    const auto print = [&](const RooflineRow& row) {
        table.row({row.name, grouped(row.launches), grouped(static_cast<double>(row.bytes) / 1e6, 1),
                   grouped(static_cast<double>(row.macs) / 1e6, 1), grouped(row.roofline_ms, 3),
                   grouped(row.compute_ms, 3)});
    };
    for (const RooflineRow& row : rows)
        print(row);
    table.rule();
    print(total);
    to += table.text();
}

OrderedJson json_of(const RooflineRow& row) {
    return {{"name", row.name}, {"launches", row.launches},       {"bytes", row.bytes},
            {"macs", row.macs}, {"roofline_ms", row.roofline_ms}, {"compute_ms", row.compute_ms}};
}

} // namespace

Result<Roofline> roofline(const Graph& graph, const std::vector<Launch>& launches, const Machine& machine,
                          Precision precision) {
    MFRES_TRY(const Rates rates, rates_of(machine, precision));
    Roofline result;
    result.machine = machine.name;
    result.precision = precision;
    result.total.name = "total";
    const Levels levels(graph);
    std::map<std::int64_t, std::map<std::string, RooflineRow>, std::greater<>> by_voxels;
    std::map<std::string, RooflineRow> by_kernel;
    for (const Launch& launch : launches) {
        add(launch, rates, by_voxels[levels.voxels(launch.node)][levels.name(launch.node)]);
        add(launch, rates, by_kernel[launch.kernel]);
        add(launch, rates, result.total);
    }
    for (auto& [voxels, rows] : by_voxels)
        for (auto& [name, row] : rows) {
            row.name = name;
            result.levels.push_back(row);
        }
    for (auto& [name, row] : by_kernel) {
        row.name = name;
        result.kernels.push_back(row);
    }
    std::stable_sort(result.kernels.begin(), result.kernels.end(),
                     [](const RooflineRow& a, const RooflineRow& b) { return a.roofline_ms > b.roofline_ms; });
    return result;
}

Result<Roofline> planned_roofline(const Graph& graph, bool training, const Machine& machine, Precision precision) {
    LaunchLog log(false);
    const Weights weights = init_weights(graph, 1);
    PlannedStep step;
    if (training) {
        TrainingOptions options;
        options.precision = precision;
        MFRES_TRY(const Loss loss, make_loss({}));
        MFRES_TRY(step, plan_training(make_planning_engine(log), log, graph, weights, loss, options));
    } else {
        CompileOptions options;
        options.precision = precision;
        MFRES_TRY(step, plan_inference(make_planning_engine(log), log, graph, weights, options));
    }
    MFRES_TRY(Roofline result, roofline(graph, step.launches, machine, precision));
    result.peak_bytes = step.peak_bytes;
    result.workspace_bytes = ConvolutionRules().workspace_limit;
    return result;
}

std::string to_text(const Roofline& roofline) {
    const auto mib = [](std::int64_t bytes) { return grouped(static_cast<double>(bytes) / 1048576.0, 1) + " MiB"; };
    std::string all =
        text(roofline.machine, ", ", to_string(roofline.precision), ", device memory: ", mib(roofline.peak_bytes),
             " and a workspace of convolutions of at most ", mib(roofline.workspace_bytes), ", together ",
             mib(roofline.peak_bytes + roofline.workspace_bytes), "\n\n");
    print_rows(roofline.levels, roofline.total, "level", all);
    all += "\n";
    print_rows(roofline.kernels, roofline.total, "kernel", all);
    return all;
}

std::string to_json(const Roofline& roofline) {
    OrderedJson json{{"machine", roofline.machine},       {"precision", to_string(roofline.precision)},
                     {"peak_bytes", roofline.peak_bytes}, {"workspace_bytes", roofline.workspace_bytes},
                     {"total", json_of(roofline.total)},  {"levels", OrderedJson::array()},
                     {"kernels", OrderedJson::array()}};
    for (const RooflineRow& row : roofline.levels)
        json["levels"].push_back(json_of(row));
    for (const RooflineRow& row : roofline.kernels)
        json["kernels"].push_back(json_of(row));
    return json.dump(1) + "\n";
}

} // namespace mfres::cuda
