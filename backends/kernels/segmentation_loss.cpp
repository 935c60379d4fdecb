// SPDX-License-Identifier: MIT
#include "backends/kernels/segmentation_loss.h"

#include "backends/kernels/vector_loops.h"

namespace mfres::kernels {

namespace {

/// Slopes as the loops take them.
std::vector<RowSlope> rounded(const std::vector<ClassSlope>& slopes) {
    std::vector<RowSlope> rows;
    for (const ClassSlope& slope : slopes)
        rows.push_back({static_cast<float>(slope.truth), static_cast<float>(slope.constant),
                        static_cast<float>(slope.probability)});
    return rows;
}

VoxelSums total(const std::vector<VoxelSums>& chunks) {
    VoxelSums all;
    for (const VoxelSums& chunk : chunks)
        all += chunk;
    return all;
}

/// Multiplies each coefficient by what its voxel counts by, and returns the sum of the values times that.
double count_values(const PointwiseRule& rule, std::int64_t voxels, const float* value, float* coefficient) {
    const auto threshold = static_cast<float>(rule.threshold);
    double sum = 0.0;
    for (std::int64_t v = 0; v < voxels; ++v) {
        const double counts = value[v] < threshold ? 0.0 : value[v] == threshold ? rule.at_threshold : 1.0;
        sum += counts * double{value[v]};
        coefficient[v] *= static_cast<float>(rule.weight * counts);
    }
    return sum;
}

/// One region of some voxels as two classes, whose logits are 0 and that of the region. Arrays of `stride` voxels.
class RegionRows {
  public:
    static constexpr std::int64_t floats_per_voxel = 14 + region_count; ///< with the bytes of `truth`

    RegionRows(float* memory, std::int64_t stride)
        : logits(memory), p(logits + 2 * stride), spare(p + 2 * stride), value(spare + 2 * stride),
          region_value(value + stride), counts(region_value + stride), gradient(counts + stride),
          targets(gradient + 2 * stride), coefficients(targets + 2 * stride),
          truth(reinterpret_cast<std::uint8_t*>(coefficients + region_count * stride)), stride_(stride) {}

    float *logits, *p, *spare; ///< as VectorLoops::probabilities has them
    float *value, *region_value, *counts, *gradient, *targets;
    float* coefficients; ///< by region
    std::uint8_t* truth; ///< 1 inside the region

    /// Probabilities of region `region`: `all` and `classes` are those of the voxels, `factor` scales the logits.
    void take(const float* all, const std::uint8_t* classes, std::int64_t region, std::int64_t voxels, float factor) {
        for (std::int64_t v = 0; v < voxels; ++v) {
            logits[2 * v] = 0.0F;
            logits[2 * v + 1] = factor * all[v * region_count + region];
            truth[v] = in_region(region, classes[v]) ? 1 : 0;
        }
        vector_loops().probabilities(logits, voxels, 2, stride_, p, spare);
    }

    /// Values of the pointwise part and coefficients of every region.
    void take_pointwise(const float* all, const std::uint8_t* classes, std::int64_t voxels, float gamma) {
        std::fill_n(value, voxels, 0.0F);
        for (std::int64_t r = 0; r < region_count; ++r) {
            take(all, classes, r, voxels, 1.0F);
            vector_loops().pointwise(logits, p, spare, truth, voxels, 2, stride_, gamma, region_value,
                                     coefficients + r * stride_);
            for (std::int64_t v = 0; v < voxels; ++v)
                value[v] += region_value[v];
        }
        for (std::int64_t v = 0; v < voxels; ++v)
            value[v] /= static_cast<float>(region_count);
    }

  private:
    std::int64_t stride_;
};

} // namespace

SegmentationLoss::SegmentationLoss(const Shape& shape, int threads) : rows_(shape, threads) {}

std::int64_t SegmentationLoss::floats_per_thread() const {
    const std::int64_t of_classes = rows_.channels() + 4;
    const bool may_be_regions = rows_.channels() == region_count;
    return voxels_at_once * (may_be_regions ? std::max(of_classes, RegionRows::floats_per_voxel) : of_classes);
}

std::int64_t SegmentationLoss::workspace_bytes() const {
    return rows_.threads() * floats_per_thread() * static_cast<std::int64_t>(sizeof(float)) +
           rows_.chunks() * rows_.channels() * static_cast<std::int64_t>(sizeof(ClassSums));
}

template <typename Body>
void SegmentationLoss::for_voxels(const Body& body) const {
    rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
        for (std::int64_t first = chunk.first; first < chunk.end; first += voxels_at_once)
            body(chunk, thread, first, std::min(voxels_at_once, chunk.end - first));
    });
}

template <typename Body>
void SegmentationLoss::for_row_sums(const float* logits, const std::uint8_t* classes, Outputs outputs, float* workspace,
                                    const Body& body) const {
    const std::int64_t channels = rows_.channels();
    const VectorLoops& loops = vector_loops();
    for_voxels([&](const Blocks::Chunk& chunk, int thread, std::int64_t first, std::int64_t voxels) {
        float* p = of_thread(workspace, thread);
        if (outputs == Outputs::classes) {
            loops.probabilities(logits + first * channels, voxels, channels, voxels_at_once, p,
                                p + channels * voxels_at_once);
            for (std::int64_t c = 0; c < channels; ++c)
                body(chunk, c, loops.class_sums(p + c * voxels_at_once, classes + first, voxels, static_cast<int>(c)));
            return;
        }
        RegionRows rows(p, voxels_at_once);
        for (std::int64_t r = 0; r < region_count; ++r) {
            rows.take(logits + first * channels, classes + first, r, voxels, 1.0F);
            body(chunk, r, loops.class_sums(rows.p + voxels_at_once, rows.truth, voxels, 1));
        }
    });
}

std::vector<ClassSums> SegmentationLoss::sums(const float* logits, const std::uint8_t* classes, const LossTerms& terms,
                                              float* workspace) const {
    const std::int64_t channels = rows_.channels();
    auto* by_chunk = reinterpret_cast<ClassSums*>(of_thread(workspace, rows_.threads()));
    std::fill_n(by_chunk, rows_.chunks() * channels, ClassSums());
    for_row_sums(logits, classes, terms.outputs(), workspace,
                 [&](const Blocks::Chunk& chunk, std::int64_t c, const RowSums& row) {
                     ClassSums& sums = by_chunk[chunk.index * channels + c];
                     sums.probability_truth += double{row.probability_truth};
                     sums.probability += double{row.probability};
                     sums.probability_squared += double{row.probability_squared};
                     sums.truth += double{row.truth};
                 });
    std::vector<ClassSums> all(terms.groups() * static_cast<std::size_t>(channels));
    const std::int64_t chunks_of_group = rows_.chunks() / static_cast<std::int64_t>(terms.groups());
    for (std::int64_t chunk = 0; chunk < rows_.chunks(); ++chunk)
        for (std::int64_t c = 0; c < channels; ++c) {
            const ClassSums& part = by_chunk[chunk * channels + c];
            ClassSums& sum = all[static_cast<std::size_t>(chunk / chunks_of_group * channels + c)];
            sum.probability_truth += part.probability_truth;
            sum.probability += part.probability;
            sum.probability_squared += part.probability_squared;
            sum.truth += part.truth;
        }
    return all;
}

void SegmentationLoss::count_digits(const float* logits, const std::uint8_t* classes, const LossTerms& terms,
                                    std::uint64_t prefix, int shift, std::span<double> counts, float* workspace) const {
    const std::int64_t channels = rows_.channels();
    const VectorLoops& loops = vector_loops();
    const auto gamma = static_cast<float>(terms.rule().gamma);
    std::vector<std::vector<std::uint32_t>> of_threads(static_cast<std::size_t>(rows_.threads()),
                                                       std::vector<std::uint32_t>(digit_values));
    for_voxels([&](const Blocks::Chunk&, int thread, std::int64_t first, std::int64_t voxels) {
        float* p = of_thread(workspace, thread);
        float* spare = p + channels * voxels_at_once;
        float* value = spare + 2 * voxels_at_once;
        const float* own_logits = logits + first * channels;
        if (terms.outputs() == Outputs::classes) {
            loops.probabilities(own_logits, voxels, channels, voxels_at_once, p, spare);
            loops.pointwise(own_logits, p, spare, classes + first, voxels, channels, voxels_at_once, gamma, value,
                            value + voxels_at_once);
        } else {
            RegionRows rows(p, voxels_at_once);
            rows.take_pointwise(own_logits, classes + first, voxels, gamma);
            value = rows.value;
        }
        std::vector<std::uint32_t>& own = of_threads[static_cast<std::size_t>(thread)];
        for (std::int64_t v = 0; v < voxels; ++v)
            if (const std::uint64_t key = ordered_bits(value[v]); has_prefix(key, prefix, shift))
                ++own[digit_of(key, shift)];
    });
    for (const std::vector<std::uint32_t>& own : of_threads)
        for (std::size_t digit = 0; digit < digit_values; ++digit)
            counts[digit] += static_cast<double>(own[digit]);
}

VoxelSums SegmentationLoss::gradient(const float* logits, const std::uint8_t* classes, const LossTerms& terms,
                                     const float* targets, float* workspace, float* gradient) const {
    if (terms.outputs() == Outputs::regions)
        return region_gradient(logits, classes, terms, targets, workspace, gradient);
    return class_gradient(logits, classes, terms, targets, workspace, gradient);
}

VoxelSums SegmentationLoss::class_gradient(const float* logits, const std::uint8_t* classes, const LossTerms& terms,
                                           const float* targets, float* workspace, float* gradient) const {
    const std::int64_t channels = rows_.channels();
    const VectorLoops& loops = vector_loops();
    const std::vector<RowSlope> slopes = rounded(terms.slopes());
    const bool by_sample = terms.groups() > 1;
    const DistillationRule& soft = terms.distillation();
    std::vector<float> cooled( // logits over the temperature, by thread
        terms.has_distillation() ? static_cast<std::size_t>(rows_.threads() * voxels_at_once * channels) : 0);
    std::vector<VoxelSums> sums(static_cast<std::size_t>(rows_.chunks()));
    for_voxels([&](const Blocks::Chunk& chunk, int thread, std::int64_t first, std::int64_t voxels) {
        float* p = of_thread(workspace, thread);
        float* spare = p + channels * voxels_at_once;
        float* value = spare + 2 * voxels_at_once;
        float* coefficient = value + voxels_at_once;
        const float* own = logits + first * channels;
        float* to = gradient + first * channels;
        VoxelSums& sum = sums[static_cast<std::size_t>(chunk.index)];
        loops.probabilities(own, voxels, channels, voxels_at_once, p, spare);
        if (terms.has_pointwise()) { // before the gradient overwrites `spare`
            loops.pointwise(own, p, spare, classes + first, voxels, channels, voxels_at_once,
                            static_cast<float>(terms.rule().gamma), value, coefficient);
            sum.pointwise += count_values(terms.rule(), voxels, value, coefficient);
        }
        loops.logit_gradient(p, classes + first, voxels, channels, voxels_at_once,
                             slopes.data() + (by_sample ? chunk.sample * channels : 0), spare, to);
        if (terms.has_pointwise())
            loops.add_pointwise(p, classes + first, coefficient, voxels, channels, voxels_at_once, to);
        if (!terms.has_distillation())
            return;
        float* cool = cooled.data() + thread * voxels_at_once * channels;
        loops.scale(voxels * channels, static_cast<float>(1.0 / soft.temperature), own, cool);
        loops.probabilities(cool, voxels, channels, voxels_at_once, p, spare);
        loops.add_distillation(cool, p, spare, targets + first * channels, voxels, channels, voxels_at_once,
                               static_cast<float>(soft.weight / soft.temperature), value, to);
        for (std::int64_t v = 0; v < voxels; ++v)
            sum.distillation += double{value[v]};
    });
    return total(sums);
}

VoxelSums SegmentationLoss::region_gradient(const float* logits, const std::uint8_t* classes, const LossTerms& terms,
                                            const float* targets, float* workspace, float* gradient) const {
    constexpr double share = 1.0 / static_cast<double>(region_count);
    const VectorLoops& loops = vector_loops();
    const std::vector<RowSlope> slopes = rounded(terms.slopes());
    const bool by_sample = terms.groups() > 1;
    const DistillationRule& soft = terms.distillation();
    std::vector<VoxelSums> sums(static_cast<std::size_t>(rows_.chunks()));
    for_voxels([&](const Blocks::Chunk& chunk, int thread, std::int64_t first, std::int64_t voxels) {
        RegionRows rows(of_thread(workspace, thread), voxels_at_once);
        const float* own = logits + first * region_count;
        VoxelSums& sum = sums[static_cast<std::size_t>(chunk.index)];
        if (terms.has_pointwise()) {
            rows.take_pointwise(own, classes + first, voxels, static_cast<float>(terms.rule().gamma));
            std::fill_n(rows.counts, voxels, static_cast<float>(share));
            sum.pointwise += count_values(terms.rule(), voxels, rows.value, rows.counts);
        }
        for (std::int64_t r = 0; r < region_count; ++r) {
            const RowSlope of_pair[2] = {
                {}, slopes[static_cast<std::size_t>((by_sample ? chunk.sample : 0) * region_count + r)]};
            rows.take(own, classes + first, r, voxels, 1.0F);
            loops.logit_gradient(rows.p, rows.truth, voxels, 2, voxels_at_once, of_pair, rows.spare, rows.gradient);
            if (terms.has_pointwise()) {
                float* coefficient = rows.coefficients + r * voxels_at_once;
                for (std::int64_t v = 0; v < voxels; ++v)
                    coefficient[v] *= rows.counts[v];
                loops.add_pointwise(rows.p, rows.truth, coefficient, voxels, 2, voxels_at_once, rows.gradient);
            }
            if (terms.has_distillation()) {
                rows.take(own, classes + first, r, voxels, static_cast<float>(1.0 / soft.temperature));
                for (std::int64_t v = 0; v < voxels; ++v) {
                    const float target = targets[(first + v) * region_count + r];
                    rows.targets[2 * v] = 1.0F - target;
                    rows.targets[2 * v + 1] = target;
                }
                loops.add_distillation(rows.logits, rows.p, rows.spare, rows.targets, voxels, 2, voxels_at_once,
                                       static_cast<float>(share * soft.weight / soft.temperature), rows.region_value,
                                       rows.gradient);
                for (std::int64_t v = 0; v < voxels; ++v)
                    sum.distillation += share * double{rows.region_value[v]};
            }
            for (std::int64_t v = 0; v < voxels; ++v)
                gradient[(first + v) * region_count + r] = rows.gradient[2 * v + 1];
        }
    });
    return total(sums);
}

} // namespace mfres::kernels
