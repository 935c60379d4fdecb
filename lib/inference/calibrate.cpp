// SPDX-License-Identifier: MIT
#include "inference/calibrate.h"

#include "core/names.h"
#include "core/try.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

constexpr auto calibration_method_names = enum_names<CalibrationMethod>({{CalibrationMethod::minmax, "minmax"},
                                                                         {CalibrationMethod::percentile, "percentile"},
                                                                         {CalibrationMethod::mse, "mse"}});

/// Bytes of activations that are looked at in one pass: all of a network's at once would not fit into memory.
constexpr std::int64_t bytes_per_pass = std::int64_t{400} << 20;

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
    Calibrator(CasePredictor& predictor, const CalibrationOptions& options, const Progress& progress)
        : predictor_(predictor), options_(options), progress_(progress) {}

    Result<QuantizationRecord> run(const std::vector<BoxSource>& cases) {
        MFRES_TRY(const Graph graph, parameter_graph(predictor_.model().variant));
        const Graph form = inference_form(graph);
        MFRES_CHECK(check_keep(form, options_.keep));
        readers_ = values_to_measure(form, options_.keep);
        if (readers_.empty())
            return Error{ErrorCode::invalid_argument, "no convolution is left to quantize", "keep"};
        const bool histograms = options_.method != CalibrationMethod::minmax;
        rounds_ = (histograms ? 2.0 : 1.0) * static_cast<double>(cases.size());
        for (const BoxSource& source : cases)
            MFRES_CHECK(measure(source, false));
        for (const BoxSource& source : cases)
            if (histograms)
                MFRES_CHECK(measure(source, true));

        QuantizationRecord record;
        record.calibration = to_string(options_.method);
        record.cases = static_cast<int>(cases.size());
        for (const auto& [value, names] : readers_)
            for (const std::string& name : names)
                record.ranges.emplace(name, range_of(magnitudes_[value], options_.method));
        return record;
    }

  private:
    Status measure(const BoxSource& source, bool histogram) {
        if (progress_ && !progress_("calibrate", done_ / rounds_))
            return Error{ErrorCode::interrupted, text("stopped on request before case ", source.id), source.id};
        MFRES_TRY(const OwnedBox owned, source.load(predictor_));
        MFRES_TRY(const Network network, predictor_.boxes().inference_network(owned.box.size));
        for (const std::vector<NodeId>& pass : passes(network.graph))
            MFRES_CHECK(predictor_.boxes().observe(network, pass, owned.box, [&](const Executable& executable) {
                Status noted;
                for (std::size_t i = 0; noted.ok() && i < pass.size(); ++i)
                    noted = note(source.id, network.graph.node(pass[i]).name, executable.output(i),
                                 magnitudes_[pass[i]], histogram);
                return noted;
            }));
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

    static Status note(const std::string& id, const std::string& node, const StridedView<const float>& values,
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
            return Error{ErrorCode::logits_not_finite, text(id, ": the network produced NaN or Inf at node ", node),
                         id};
        return {};
    }

    CasePredictor& predictor_;
    const CalibrationOptions& options_;
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

std::string_view to_string(CalibrationMethod method) noexcept {
    return calibration_method_names.of(method);
}

Result<CalibrationMethod> parse_calibration_method(std::string_view text) {
    return calibration_method_names.parse("calibration", text);
}

ActivationRange range_of(const Magnitudes& magnitudes, CalibrationMethod method) {
    const float limit = method == CalibrationMethod::minmax       ? magnitudes.largest()
                        : method == CalibrationMethod::percentile ? percentile(magnitudes)
                                                                  : least_squares(magnitudes);
    return {magnitudes.least < 0.0F ? -limit : 0.0F, limit};
}

Result<QuantizationRecord> calibrate(const Model& model, const std::vector<BoxSource>& cases,
                                     const CalibrationOptions& options, const Progress& progress) {
    if (cases.empty())
        return Error{ErrorCode::dataset_empty, "there is no case to calibrate with", {}};
    PredictorOptions setup{.compute = options.compute, .accept = options.accept};
    setup.compute.precision = Precision::f32;
    MFRES_TRY(const auto predictor, CasePredictor::open(borrowed(model), model.variant.name(), setup));
    const ThreadPoolScope work(predictor->pool());
    return Calibrator(*predictor, options, progress).run(cases);
}

} // namespace mfres
