// SPDX-License-Identifier: MIT
// Times of ops, interpolated between those that a machine was measured with.
#include "benchmark/op_extents.h"
#include "core/guard.h"
#include "graph/rewrite.h"
#include "networks/registry.h"

#include <mfres/machine.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace mfres {

namespace {

constexpr std::size_t neighbours = 4; ///< samples that an op's time is made of

/// Places of ops among the samples: logarithms to base 2, so that 1 is a factor of two.
using Place = std::array<double, 3>;

Place place_of(const OpExtents& extents) {
    const double elements = static_cast<double>(extents.channels) * static_cast<double>(extents.voxels);
    const auto log = [](double value) { return std::log2(std::max(value, 1.0)); };
    if (extents.macs == 0)
        return {log(static_cast<double>(extents.bytes)), 0.0, 0.0};
    return {log(static_cast<double>(extents.macs) / elements), log(static_cast<double>(extents.channels)),
            log(static_cast<double>(extents.voxels))};
}

/// What grows with an op of one place: multiply-adds, or bytes where there are none.
double work_of(const OpExtents& extents) {
    return static_cast<double>(extents.macs > 0 ? extents.macs : extents.bytes);
}

double distance(const Place& a, const Place& b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/// The rate of an exact number of threads, or of the nearest one, scaled.
template <typename Rate, typename Value>
double rate_for(const std::vector<Rate>& rates, int threads, const Value& value) {
    const Rate* nearest = nullptr;
    for (const Rate& rate : rates)
        if (nearest == nullptr || std::abs(rate.threads - threads) < std::abs(nearest->threads - threads))
            nearest = &rate;
    if (nearest == nullptr)
        return 0.0;
    return value(*nearest) * (nearest->threads == threads ? 1.0 : static_cast<double>(threads) / nearest->threads);
}

class TimePredictor {
  public:
    TimePredictor(const Machine& machine, Precision precision, int threads) : machine_(machine) {
        result_.machine = machine.name;
        result_.measured = machine.measured;
        result_.precision = precision;
        result_.threads = threads;
    }

    Status prepare() {
        if (result_.threads < 1)
            return Error{ErrorCode::invalid_argument, text("threads is ", result_.threads, ", allowed is 1 and more"),
                         "threads"};
        std::vector<PeakRate> peaks;
        for (const PeakRate& peak : machine_.peaks)
            if (peak.precision == result_.precision)
                peaks.push_back(peak);
        if (peaks.empty())
            return Error{ErrorCode::invalid_argument,
                         text("machine ", machine_.name, " has no rate for ", to_string(result_.precision)),
                         "precision"};
        const int threads = std::min(result_.threads, std::max(machine_.cores, 1));
        gmacs_ = rate_for(peaks, threads, [](const PeakRate& peak) { return peak.gmacs; });
        for (const OpOverhead& overhead : machine_.overheads)
            if (overhead.threads <= threads)
                overhead_ms_ = overhead.microseconds / 1e3;
        copies_ = nearest_threads(machine_.copies, threads);
        for (const OpSample& sample : nearest_threads(machine_.ops, threads))
            if (sample.precision == result_.precision)
                samples_.push_back(
                    {sample.extents.op_class, place_of(sample.extents), work_of(sample.extents), sample.ms});
        return {};
    }

    void add(const std::string& name, const OpExtents& extents) {
        PredictedOp op{name, extents, 0.0, 0.0, OpBound::memory};
        const double compute = gmacs_ > 0.0 ? static_cast<double>(extents.macs) / gmacs_ / 1e6 : 0.0;
        const double rate = copy_rate(extents.bytes);
        const double memory = rate > 0.0 ? stored_bytes(extents) / rate / 1e6 : 0.0;
        op.roofline_ms = std::max(compute, memory);
        op.bound = overhead_ms_ > op.roofline_ms ? OpBound::overhead
                   : compute > memory            ? OpBound::compute
                                                 : OpBound::memory;
        op.ms = extents.bytes == 0 && extents.macs == 0 ? 0.0
                : samples_.empty()                      ? overhead_ms_ + op.roofline_ms
                                                        : interpolated(extents, overhead_ms_ + op.roofline_ms);
        result_.total_ms += op.ms;
        result_.roofline_ms += op.roofline_ms;
        result_.ops.push_back(std::move(op));
    }

    PredictedTime finish() { return std::move(result_); }

  private:
    struct Sample {
        OpClass op_class;
        Place place;
        double work;
        double ms;
    };

    template <typename Entry>
    static std::vector<Entry> nearest_threads(const std::vector<Entry>& all, int threads) {
        int nearest = 0;
        for (const Entry& entry : all)
            if (nearest == 0 || std::abs(entry.threads - threads) < std::abs(nearest - threads))
                nearest = entry.threads;
        std::vector<Entry> chosen;
        for (const Entry& entry : all)
            if (entry.threads == nearest)
                chosen.push_back(entry);
        return chosen;
    }

    /// Bytes at the precision's own width; extents have them in f32.
    double stored_bytes(const OpExtents& extents) const {
        const bool half = result_.precision == Precision::bf16 || result_.precision == Precision::fp16;
        return static_cast<double>(extents.bytes) * (half ? 0.5 : result_.precision == Precision::int8 ? 0.25 : 1.0);
    }

    /// Of the smallest working set that is not below `bytes`, of the largest one beyond all.
    double copy_rate(std::int64_t bytes) const {
        const CopyRate* chosen = nullptr;
        for (const CopyRate& copy : copies_) {
            const bool fits = copy.bytes >= bytes;
            if (chosen == nullptr || (fits && (chosen->bytes < bytes || copy.bytes < chosen->bytes)) ||
                (!fits && chosen->bytes < bytes && copy.bytes > chosen->bytes))
                chosen = &copy;
        }
        return chosen != nullptr ? chosen->gigabytes_per_second : 0.0;
    }

    /// The mean of the nearest samples' times per work, weighted by the inverse square of their distance.
    double interpolated(const OpExtents& extents, double without_samples) const {
        const Place place = place_of(extents);
        std::array<std::pair<double, const Sample*>, neighbours> nearest;
        nearest.fill({1e300, nullptr});
        for (const Sample& sample : samples_) {
            if (sample.op_class != extents.op_class)
                continue;
            const double away = distance(place, sample.place);
            for (auto& entry : nearest)
                if (away < entry.first) {
                    std::move_backward(&entry, nearest.data() + neighbours - 1, nearest.data() + neighbours);
                    entry = {away, &sample};
                    break;
                }
        }
        double weights = 0.0;
        double sum = 0.0;
        for (const auto& [away, sample] : nearest) {
            if (sample == nullptr)
                continue;
            const double weight = 1.0 / (away + 1e-3);
            weights += weight;
            sum += weight * std::log(std::max(sample->ms - overhead_ms_, 1e-6) / sample->work);
        }
        return weights > 0.0 ? overhead_ms_ + std::exp(sum / weights) * work_of(extents) : without_samples;
    }

    const Machine& machine_;
    PredictedTime result_;
    double gmacs_ = 0.0;
    double overhead_ms_ = 0.0;
    std::vector<CopyRate> copies_;
    std::vector<Sample> samples_;
};

/// A layer of a report by what it says about itself.
OpExtents extents_of(const LayerComplexity& layer) {
    OpExtents extents;
    extents.macs = layer.counts.macs;
    extents.bytes = layer.counts.bytes_read + layer.counts.bytes_written;
    extents.channels = layer.output.size() > 1 ? std::max<std::int64_t>(layer.output[1], 1) : 1;
    std::int64_t elements = 1;
    for (const std::int64_t extent : layer.output)
        elements *= std::max<std::int64_t>(extent, 1);
    const std::string& words = layer.operation;
    const bool convolution = words.starts_with("Conv") || words.starts_with("conv");
    const auto has = [&](const char* part) { return words.find(part) != std::string::npos; };
    if (extents.macs > 0 && !convolution) { // products of matrices have their channels last
        extents.channels = layer.output.empty() ? 1 : std::max<std::int64_t>(layer.output.back(), 1);
        extents.op_class = OpClass::pointwise;
    } else if (extents.macs > 0) {
        extents.op_class = has(" stride") || words.starts_with("ConvTranspose")       ? OpClass::strided
                           : has(" 1x1x1") || has(" 1x1 ") || words.ends_with(" 1x1") ? OpClass::pointwise
                           : layer.output.size() == 4 || has("1x3x3") || has("3x3x1") || has("3x1x3") ? OpClass::planar
                                                                                                      : OpClass::cubic;
    } else if (words.starts_with("Resize") || words.starts_with("Upsample") || words.starts_with("upsample")) {
        extents.op_class = OpClass::resampling;
    }
    extents.voxels = elements / extents.channels;
    return extents;
}

} // namespace

Result<PredictedTime> predict_time(std::string_view name_or_json, const std::array<std::int64_t, 3>& size,
                                   std::int64_t batch, const Machine& machine, Precision precision, int threads) {
    return guarded("network", [&]() -> Result<PredictedTime> {
        MFRES_TRY(const Variant variant, parse_variant(name_or_json));
        MFRES_TRY(const Graph graph, build_network(variant, size, batch));
        TimePredictor predictor(machine, precision, threads);
        MFRES_CHECK(predictor.prepare());
        const std::int64_t input = graph.node(graph.input()).shape.elements() * 4;
        predictor.add("input", {OpClass::elementwise, 0, 2 * input, 1, 1}); // is copied into the network
        for (const NamedExtents& op : extents_of_ops(inference_form(graph)))
            predictor.add(op.name, op.extents);
        return predictor.finish();
    });
}

Result<PredictedTime> predict_time(const ComplexityReport& report, const Machine& machine, Precision precision,
                                   int threads) {
    return guarded("report", [&]() -> Result<PredictedTime> {
        TimePredictor predictor(machine, precision, threads);
        MFRES_CHECK(predictor.prepare());
        for (const LayerComplexity& layer : report.layers)
            predictor.add(layer.name, extents_of(layer));
        return predictor.finish();
    });
}

} // namespace mfres
