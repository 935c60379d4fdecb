#include "backends/onednn/softmax_loss.h"

#include <bit>

#define MFRES_SIMD _Pragma("omp simd")

namespace mfres::onednn {

namespace {

/// exp(x) for x <= 0 to about one unit in the last place: exp(x) = 2^n exp(r), |r| <= ln(2)/2, and the Taylor series of
/// exp(r), whose eighth term is below 2^-27. Plain arithmetic, so that loops over it are vectorised. NaN stays NaN.
inline float exponential(float x) {
    constexpr float log2_e = 1.44269504F;
    constexpr float ln2_high = 0.693359375F; // few digits, so that its products with n are exact
    constexpr float ln2_low = -2.12194440e-4F;
    constexpr float to_nearest = 12582912.0F; // 1.5 * 2^23: adding it rounds to a whole number
    const float bounded = x < -87.0F ? -87.0F : x;
    const float shifted = bounded * log2_e + to_nearest;
    const float n = shifted - to_nearest;
    const float r = (bounded - n * ln2_high) - n * ln2_low;
    float series = 1.0F / 5040.0F;
    series = series * r + 1.0F / 720.0F;
    series = series * r + 1.0F / 120.0F;
    series = series * r + 1.0F / 24.0F;
    series = series * r + 1.0F / 6.0F;
    series = series * r + 0.5F;
    series = series * r + 1.0F;
    series = series * r + 1.0F;
    // The low bits of `shifted` hold n as an integer; in place of an exponent it is 2^n.
    const std::uint32_t power = (std::bit_cast<std::uint32_t>(shifted) + 127U) << 23U;
    return series * std::bit_cast<float>(power);
}

/// Probabilities of up to `stride` voxels, class by class: p[c * stride + voxel].
void probabilities(const float* logits, std::int64_t voxels, std::int64_t channels, std::int64_t stride, float* p,
                   float* most, float* total) {
    for (std::int64_t c = 0; c < channels; ++c) {
        float* own = p + c * stride;
        for (std::int64_t v = 0; v < voxels; ++v)
            own[v] = logits[v * channels + c];
    }
    std::copy_n(p, voxels, most);
    for (std::int64_t c = 1; c < channels; ++c) {
        const float* own = p + c * stride;
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v)
            most[v] = own[v] > most[v] ? own[v] : most[v];
    }
    std::fill_n(total, voxels, 0.0F);
    for (std::int64_t c = 0; c < channels; ++c) {
        float* own = p + c * stride;
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v) {
            own[v] = exponential(own[v] - most[v]);
            total[v] += own[v];
        }
    }
    MFRES_SIMD
    for (std::int64_t v = 0; v < voxels; ++v)
        total[v] = 1.0F / total[v];
    for (std::int64_t c = 0; c < channels; ++c) {
        float* own = p + c * stride;
        MFRES_SIMD
        for (std::int64_t v = 0; v < voxels; ++v)
            own[v] *= total[v];
    }
}

} // namespace

SoftmaxLoss::SoftmaxLoss(const Shape& shape, int threads) : rows_(shape, threads) {}

std::int64_t SoftmaxLoss::floats_per_thread() const {
    return voxels_at_once * (rows_.channels() + 4);
}

std::int64_t SoftmaxLoss::scratch_bytes() const {
    return rows_.threads() * floats_per_thread() * static_cast<std::int64_t>(sizeof(float)) +
           rows_.chunks() * rows_.channels() * static_cast<std::int64_t>(sizeof(ClassSums));
}

std::vector<ClassSums> SoftmaxLoss::sums(const float* logits, const std::uint8_t* classes, float* scratch) const {
    const std::int64_t channels = rows_.channels();
    auto* by_chunk = reinterpret_cast<ClassSums*>(of_thread(scratch, rows_.threads()));
    rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
        float* p = of_thread(scratch, thread);
        float* most = p + channels * voxels_at_once;
        float* total = most + voxels_at_once;
        ClassSums* sums = by_chunk + chunk.index * channels;
        std::fill_n(sums, channels, ClassSums());
        for (std::int64_t first = chunk.first; first < chunk.end; first += voxels_at_once) {
            const std::int64_t voxels = std::min(voxels_at_once, chunk.end - first);
            probabilities(logits + first * channels, voxels, channels, voxels_at_once, p, most, total);
            for (std::int64_t c = 0; c < channels; ++c) {
                const float* own = p + c * voxels_at_once;
                const std::uint8_t* truth = classes + first;
                float with_truth = 0.0F;
                float sum = 0.0F;
                float squares = 0.0F;
                float count = 0.0F;
#pragma omp simd reduction(+ : with_truth, sum, squares, count)
                for (std::int64_t v = 0; v < voxels; ++v) {
                    const float g = truth[v] == c ? 1.0F : 0.0F;
                    with_truth += own[v] * g;
                    sum += own[v];
                    squares += own[v] * own[v];
                    count += g;
                }
                sums[c].probability_truth += double{with_truth};
                sums[c].probability += double{sum};
                sums[c].probability_squared += double{squares};
                sums[c].truth += double{count};
            }
        }
    });
    std::vector<ClassSums> all(static_cast<std::size_t>(channels));
    for (std::int64_t chunk = 0; chunk < rows_.chunks(); ++chunk)
        for (std::int64_t c = 0; c < channels; ++c) {
            const ClassSums& part = by_chunk[chunk * channels + c];
            ClassSums& sum = all[static_cast<std::size_t>(c)];
            sum.probability_truth += part.probability_truth;
            sum.probability += part.probability;
            sum.probability_squared += part.probability_squared;
            sum.truth += part.truth;
        }
    return all;
}

void SoftmaxLoss::gradient(const float* logits, const std::uint8_t* classes, const std::vector<ClassSlope>& slopes,
                           float* scratch, float* gradient) const {
    const std::int64_t channels = rows_.channels();
    rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
        float* p = of_thread(scratch, thread);
        float* most = p + channels * voxels_at_once;
        float* total = most + voxels_at_once;
        float* mean = total + voxels_at_once;
        for (std::int64_t first = chunk.first; first < chunk.end; first += voxels_at_once) {
            const std::int64_t voxels = std::min(voxels_at_once, chunk.end - first);
            probabilities(logits + first * channels, voxels, channels, voxels_at_once, p, most, total);
            const std::uint8_t* truth = classes + first;
            const auto slope_of = [&](std::int64_t c) {
                const ClassSlope& slope = slopes[static_cast<std::size_t>(c)];
                return [=, with_truth = static_cast<float>(slope.truth), constant = static_cast<float>(slope.constant),
                        with_p = static_cast<float>(slope.probability)](std::int64_t v, float own) {
                    return (truth[v] == c ? with_truth : 0.0F) + constant + with_p * own;
                };
            };
            std::fill_n(mean, voxels, 0.0F);
            for (std::int64_t c = 0; c < channels; ++c) {
                const float* own = p + c * voxels_at_once;
                const auto slope = slope_of(c);
                MFRES_SIMD
                for (std::int64_t v = 0; v < voxels; ++v)
                    mean[v] += own[v] * slope(v, own[v]);
            }
            float* to = gradient + first * channels;
            for (std::int64_t c = 0; c < channels; ++c) {
                const float* own = p + c * voxels_at_once;
                const auto slope = slope_of(c);
                for (std::int64_t v = 0; v < voxels; ++v)
                    to[v * channels + c] = own[v] * (slope(v, own[v]) - mean[v]);
            }
        }
    });
}

} // namespace mfres::onednn
