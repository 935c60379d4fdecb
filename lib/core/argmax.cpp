// SPDX-License-Identifier: MIT
#include "core/argmax.h"

#include "core/parallel.h"
#include "core/try.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

namespace mfres {

namespace logits {

namespace {

/// Voxels of a z-line that are processed at once; a constant, so that the compiler vectorises loops over them.
constexpr std::int64_t lanes = 32;
using Lanes = std::array<float, lanes>;

/// Gathers `count` <= lanes values; the remaining lanes become 0.
inline void load(const float* from, std::int64_t stride, std::int64_t count, Lanes& to) {
    if (count < lanes)
        to.fill(0.0F);
    if (stride == 1)
        std::copy_n(from, count, to.begin());
    else
        for (std::int64_t i = 0; i < count; ++i)
            to[static_cast<std::size_t>(i)] = from[i * stride];
}

/// The number of lanes that are NaN or infinite, i.e. whose exponent bits are all set.
inline std::int32_t not_finite(const Lanes& values) {
    constexpr std::uint32_t exponent = 0x7F800000U;
    std::int32_t count = 0;
    for (const float value : values)
        count += (std::bit_cast<std::uint32_t>(value) & exponent) == exponent ? 1 : 0;
    return count;
}

/// Labels of up to `lanes` voxels along z; returns the number of logits that are not finite.
std::int64_t label_voxels(const float* logits, std::int64_t class_stride, std::int64_t z_stride, std::int64_t classes,
                          std::int64_t count, std::uint8_t* labels) {
    Lanes best;
    Lanes candidate;
    std::array<std::int32_t, lanes> winner{};
    load(logits, z_stride, count, best);
    std::int64_t bad = not_finite(best);
    for (std::int32_t c = 1; c < classes; ++c) {
        load(logits + c * class_stride, z_stride, count, candidate);
        bad += not_finite(candidate);
        for (std::size_t i = 0; i < lanes; ++i) {
            const bool greater = candidate[i] > best[i];
            best[i] = greater ? candidate[i] : best[i];
            winner[i] = greater ? c : winner[i];
        }
    }
    for (std::int64_t i = 0; i < count; ++i)
        labels[i] = static_cast<std::uint8_t>(winner[static_cast<std::size_t>(i)]);
    return bad;
}

/// The same for regions; the last that holds decides.
std::int64_t label_nested(const float* logits, std::int64_t region_stride, std::int64_t z_stride, float threshold,
                          std::int64_t count, std::uint8_t* labels) {
    constexpr std::array<std::uint8_t, region_count> class_of_region{2, 1, 3}; // WT without TC is oedema, and so on
    std::array<std::uint8_t, lanes> label{};
    Lanes values;
    std::int64_t bad = 0;
    for (std::int64_t r = 0; r < region_count; ++r) {
        load(logits + r * region_stride, z_stride, count, values);
        bad += not_finite(values);
        for (std::size_t i = 0; i < lanes; ++i)
            label[i] = values[i] > threshold ? class_of_region[static_cast<std::size_t>(r)] : label[i];
    }
    std::copy_n(label.begin(), count, labels);
    return bad;
}

} // namespace

std::int64_t label_row(const StridedView<const float>& logits, std::int64_t x, std::int64_t y, std::int64_t z,
                       std::int64_t count, const LabelRule& rule, std::uint8_t* labels) {
    std::int64_t bad = 0;
    for (std::int64_t done = 0; done < count; done += lanes) {
        const float* first = &logits.at(0, 0, x, y, z + done);
        const std::int64_t some = std::min(lanes, count - done);
        bad += rule.outputs == Outputs::regions
                   ? label_nested(first, logits.strides[1], logits.strides[4], rule.threshold, some, labels + done)
                   : label_voxels(first, logits.strides[1], logits.strides[4], logits.shape[1], some, labels + done);
    }
    return bad;
}

std::int64_t count_not_finite(const StridedView<const float>& logits, int threads) {
    std::atomic<std::int64_t> total{0};
    parallel_ranges(logits.shape[2], threads, [&](std::int64_t begin, std::int64_t end) {
        std::int64_t bad = 0;
        Lanes values;
        for (std::int64_t x = begin; x < end; ++x)
            for (std::int64_t y = 0; y < logits.shape[3]; ++y)
                for (std::int64_t z = 0; z < logits.shape[4]; z += lanes)
                    for (std::int64_t c = 0; c < logits.shape[1]; ++c) {
                        load(&logits.at(0, c, x, y, z), logits.strides[4], std::min(lanes, logits.shape[4] - z),
                             values);
                        bad += not_finite(values);
                    }
        total += bad;
    });
    return total;
}

Error not_finite_error(const StridedView<const float>& logits, std::int64_t bad,
                       const std::array<std::int64_t, 3>& offset) {
    std::int64_t nans = 0;
    std::string first;
    for (std::int64_t x = 0; x < logits.shape[2]; ++x)
        for (std::int64_t y = 0; y < logits.shape[3]; ++y)
            for (std::int64_t z = 0; z < logits.shape[4]; ++z)
                for (std::int64_t c = 0; c < logits.shape[1]; ++c) {
                    const float value = logits.at(0, c, x, y, z);
                    nans += std::isnan(value) ? 1 : 0;
                    if (first.empty() && !std::isfinite(value))
                        first = text("class ", c, " at voxel (", x + offset[0], ", ", y + offset[1], ", ",
                                     z + offset[2], ") of the padded box");
                }
    return {ErrorCode::logits_not_finite,
            text(bad, " of ", logits.shape.elements(), " logits are not finite (", nans, " NaN, ", bad - nans,
                 " infinite), the first for ", first),
            {}};
}

Status check_logits(const StridedView<const float>& logits, Outputs outputs) {
    if (outputs == Outputs::regions && logits.shape.rank() == 5 && logits.shape[1] != region_count)
        return Error{ErrorCode::invalid_argument,
                     text("labels of regions need ", region_count, " channels, got ", to_string(logits.shape)),
                     {}};
    if (logits.shape.rank() != 5 || logits.shape[0] != 1 || logits.shape[1] < 1 || logits.shape[1] > 256)
        return Error{ErrorCode::invalid_argument,
                     text("labels need logits of one batch item and 1 to 256 classes, [1, classes, x, y, z], got ",
                          to_string(logits.shape)),
                     {}};
    return {};
}

} // namespace logits

Status argmax(const StridedView<const float>& values, std::span<std::uint8_t> labels, int threads) {
    return assign_labels(values, {}, labels, threads);
}

Status assign_labels(const StridedView<const float>& values, const LabelRule& rule, std::span<std::uint8_t> labels,
                     int threads, const LineSpans& needed) {
    MFRES_CHECK(logits::check_logits(values, rule.outputs));
    const std::int64_t plane = values.shape[3] * values.shape[4];
    if (labels.size() != static_cast<std::uint64_t>(values.shape[2] * plane))
        return Error{ErrorCode::invalid_argument,
                     text("logits of ", to_string(values.shape), " do not fit ", labels.size(), " labels"),
                     {}};
    std::atomic<std::int64_t> bad{0};
    parallel_ranges(values.shape[2], resolve_threads(threads), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t x = begin; x < end; ++x)
            for (std::int64_t y = 0; y < values.shape[3]; ++y) {
                std::uint8_t* const line = labels.data() + x * plane + y * values.shape[4];
                const LineSpan span =
                    needed.all() ? LineSpan{0, static_cast<std::int32_t>(values.shape[4])} : needed.line(x, y);
                std::fill(line, line + span.begin, std::uint8_t{0});
                bad += logits::label_row(values, x, y, span.begin, span.end - span.begin, rule, line + span.begin);
                std::fill(line + span.end, line + values.shape[4], std::uint8_t{0});
            }
    });
    if (bad > 0)
        return logits::not_finite_error(values, bad, {0, 0, 0});
    return {};
}

} // namespace mfres
