#include "inference/calibrate.h"

#include "core/parallel.h"
#include "core/try.h"
#include "imaging/case.h"
#include "imaging/preprocess.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace mfres {

namespace {

/// Bytes of activations that are looked at in one pass: all of a network's at once would not fit into memory.
constexpr std::int64_t bytes_per_pass = std::int64_t{400} << 20;

/// The same graph with other outputs.
Graph with_outputs(const Graph& graph, const std::vector<NodeId>& outputs) {
    GraphBuilder builder;
    for (const Node& node : graph.nodes())
        (void)builder.add(node.name, node.op, node.inputs);
    for (const NodeId output : outputs)
        builder.output(output);
    return std::move(builder.finish()).value();
}

bool is_kept(const Graph& form, const Node& conv, NodeId id, const std::vector<std::string>& keep) {
    const auto named = [&](std::string_view name) { return std::find(keep.begin(), keep.end(), name) != keep.end(); };
    return named(conv.name) || (named("first") && conv.inputs[0] == form.input()) ||
           (named("last") && form.is_output(id));
}

Status check_keep(const Graph& form, const std::vector<std::string>& keep) {
    for (const std::string& name : keep)
        if (name != "first" && name != "last" &&
            std::none_of(form.nodes().begin(), form.nodes().end(),
                         [&](const Node& node) { return node.kind() == OpKind::conv && node.name == name; }))
            return Error{ErrorCode::invalid_argument,
                         text("'", name,
                              "' is no convolution of the network as it is run; 'mfres bench --profile' "
                              "lists them"),
                         "keep"};
    return {};
}

/// For each value that a convolution to be quantized reads, those convolutions.
std::map<NodeId, std::vector<std::string>> values_to_measure(const Graph& form, const std::vector<std::string>& keep) {
    std::map<NodeId, std::vector<std::string>> readers;
    for (NodeId id = 0; id < form.size(); ++id) {
        const Node& node = form.node(id);
        if (node.kind() == OpKind::conv && !is_kept(form, node, id, keep))
            readers[node.inputs[0]].push_back(node.name);
    }
    return readers;
}

template <typename Body>
void for_values(const StridedView<const float>& view, const Body& body) {
    Tensor dense(view.shape);
    copy(view, mfres::view(dense));
    for (const float value : dense.values())
        body(value);
}

class Calibrator {
  public:
    Calibrator(const Model& model, const Backend& backend, const CalibrationOptions& options, const Progress& progress)
        : model_(model), backend_(backend), options_(options), threads_(resolve_threads(options.threads)),
          progress_(progress) {}

    Result<QuantizationRecord> run(const std::vector<CaseFiles>& cases) {
        MFRES_TRY(const Graph graph, parameter_graph(model_.variant));
        const Graph form = inference_form(graph);
        MFRES_CHECK(check_keep(form, options_.keep));
        readers_ = values_to_measure(form, options_.keep);
        if (readers_.empty())
            return Error{ErrorCode::invalid_argument, "no convolution is left to quantize", "keep"};
        const bool histograms = options_.method != "minmax";
        rounds_ = (histograms ? 2.0 : 1.0) * static_cast<double>(cases.size());
        for (const CaseFiles& files : cases)
            MFRES_CHECK(measure(files, false));
        for (const CaseFiles& files : cases)
            if (histograms)
                MFRES_CHECK(measure(files, true));

        QuantizationRecord record;
        record.calibration = options_.method;
        record.cases = static_cast<int>(cases.size());
        for (const auto& [value, names] : readers_)
            for (const std::string& name : names)
                record.ranges.emplace(name, range_of(magnitudes_[value], options_.method));
        return record;
    }

  private:
    Status measure(const CaseFiles& files, bool histogram) {
        if (progress_ && !progress_("calibrate", done_ / rounds_))
            return Error{ErrorCode::interrupted, text("stopped on request before case ", files.id), files.id};
        CaseOptions case_options;
        case_options.threads = threads_;
        case_options.min_voxel_mm = model_.metadata.voxel_min_mm;
        case_options.max_voxel_mm = model_.metadata.voxel_max_mm;
        MFRES_TRY(const Case loaded, load_case(files, case_options));
        MFRES_TRY(const Preprocessing preprocessing,
                  plan_preprocessing(loaded.scans,
                                     {.multiple = static_cast<int>(model_.variant.multiple()), .threads = threads_}));
        const auto& size = preprocessing.padded_size;
        MFRES_TRY(const Graph graph, build_network(model_.variant, {size[0], size[1], size[2]}));
        MFRES_TRY(const Network network, inference_form(graph, model_.weights));
        for (const std::vector<NodeId>& pass : passes(network.graph)) {
            const Graph probe = with_outputs(network.graph, pass);
            MFRES_TRY(const auto executable, backend_.compile(probe, network.weights, {.threads = threads_}));
            fill_input(preprocessing, loaded.scans, {0, 0, 0}, executable->input(), threads_);
            MFRES_CHECK(executable->run());
            for (std::size_t i = 0; i < pass.size(); ++i)
                MFRES_CHECK(note(files, network.graph.node(pass[i]).name, executable->output(i), magnitudes_[pass[i]],
                                 histogram));
        }
        done_ += 1.0;
        return {};
    }

    /// The values to measure in groups that fit into memory.
    std::vector<std::vector<NodeId>> passes(const Graph& graph) const {
        std::vector<std::vector<NodeId>> all(1);
        std::int64_t bytes = 0;
        for (const auto& [value, names] : readers_) {
            const std::int64_t own = graph.node(value).shape.elements() * static_cast<std::int64_t>(sizeof(float));
            if (bytes > 0 && bytes + own > bytes_per_pass) {
                all.emplace_back();
                bytes = 0;
            }
            bytes += own;
            all.back().push_back(value);
        }
        return all;
    }

    static Status note(const CaseFiles& files, const std::string& node, const StridedView<const float>& values,
                       Magnitudes& magnitudes, bool histogram) {
        bool finite = true;
        if (histogram) {
            const float per_bin = static_cast<float>(Magnitudes::bins) / std::max(magnitudes.largest(), 1e-30F);
            for_values(values, [&](float value) {
                const auto bin = static_cast<std::size_t>(std::abs(value) * per_bin);
                if (value != 0.0F)
                    magnitudes.counts[std::min(bin, Magnitudes::bins - 1)] += 1.0;
            });
        } else {
            for_values(values, [&](float value) {
                finite &= std::isfinite(value);
                magnitudes.least = std::min(magnitudes.least, value);
                magnitudes.most = std::max(magnitudes.most, value);
            });
        }
        if (!finite)
            return Error{ErrorCode::logits_not_finite,
                         text(files.id, ": the network produced NaN or Inf at node ", node), files.id};
        return {};
    }

    const Model& model_;
    const Backend& backend_;
    const CalibrationOptions& options_;
    int threads_;
    const Progress& progress_;
    double done_ = 0.0;
    double rounds_ = 1.0;
    std::map<NodeId, std::vector<std::string>> readers_;
    std::map<NodeId, Magnitudes> magnitudes_;
};

double total(const Magnitudes& magnitudes) {
    double sum = 0.0;
    for (const double count : magnitudes.counts)
        sum += count;
    return sum;
}

/// The upper end of the bin below which all but a share of 10^-4 lie.
float percentile(const Magnitudes& magnitudes) {
    constexpr double share = 1e-4;
    const double beyond = share * total(magnitudes);
    double above = 0.0;
    std::size_t bin = Magnitudes::bins;
    while (bin > 1 && above + magnitudes.counts[bin - 1] <= beyond)
        above += magnitudes.counts[--bin];
    return magnitudes.largest() * static_cast<float>(bin) / static_cast<float>(Magnitudes::bins);
}

/// The limit with the least expected squared error: rounding to steps of limit / levels below it, clamping above.
float least_squares(const Magnitudes& magnitudes) {
    const double levels = magnitudes.least < 0.0F ? 127.0 : 255.0;
    const double bin_width = double{magnitudes.largest()} / static_cast<double>(Magnitudes::bins);
    double best = 0.0;
    std::size_t best_bins = Magnitudes::bins;
    for (std::size_t bins = Magnitudes::bins; bins >= Magnitudes::bins / 32; bins -= Magnitudes::bins / 128) {
        const double limit = bin_width * static_cast<double>(bins);
        const double rounding = limit / levels * (limit / levels) / 12.0;
        double error = 0.0;
        for (std::size_t i = 0; i < Magnitudes::bins; ++i) {
            const double beyond = (static_cast<double>(i) + 0.5) * bin_width - limit;
            error += magnitudes.counts[i] * (i < bins ? rounding : beyond * beyond);
        }
        if (bins == Magnitudes::bins || error < best) {
            best = error;
            best_bins = bins;
        }
    }
    return static_cast<float>(bin_width * static_cast<double>(best_bins));
}

} // namespace

ActivationRange range_of(const Magnitudes& magnitudes, std::string_view method) {
    const float limit = method == "minmax"       ? magnitudes.largest()
                        : method == "percentile" ? percentile(magnitudes)
                                                 : least_squares(magnitudes);
    return {magnitudes.least < 0.0F ? -limit : 0.0F, limit};
}

Result<QuantizationRecord> calibrate(const Model& model, const std::vector<CaseFiles>& cases, const Backend& backend,
                                     const CalibrationOptions& options, const Progress& progress) {
    if (options.method != "minmax" && options.method != "percentile" && options.method != "mse")
        return Error{ErrorCode::invalid_argument,
                     text("calibration is '", options.method, "'; there is minmax, percentile and mse"), "calibration"};
    if (cases.empty())
        return Error{ErrorCode::dataset_empty, "there is no case to calibrate with", {}};
    if (model.variant.input_channels() != 4)
        return Error{ErrorCode::invalid_argument,
                     text("a model of ", model.variant.input_channels(),
                          " channels cannot be calibrated on cases of 4 modalities"),
                     {}};
    return Calibrator(model, backend, options, progress).run(cases);
}

} // namespace mfres
