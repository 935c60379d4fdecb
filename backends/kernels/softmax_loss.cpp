// SPDX-License-Identifier: MIT
#include "backends/kernels/softmax_loss.h"

#include "backends/kernels/vector_loops.h"

namespace mfres::kernels {

SoftmaxLoss::SoftmaxLoss(const Shape& shape, int threads) : rows_(shape, threads) {}

std::int64_t SoftmaxLoss::floats_per_thread() const {
    return voxels_at_once * (rows_.channels() + 4);
}

std::int64_t SoftmaxLoss::workspace_bytes() const {
    return rows_.threads() * floats_per_thread() * static_cast<std::int64_t>(sizeof(float)) +
           rows_.chunks() * rows_.channels() * static_cast<std::int64_t>(sizeof(ClassSums));
}

template <typename Body>
void SoftmaxLoss::for_probabilities(const float* logits, float* workspace, const Body& body) const {
    const std::int64_t channels = rows_.channels();
    const VectorLoops& loops = vector_loops();
    rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
        float* p = of_thread(workspace, thread);
        float* spare = p + channels * voxels_at_once;
        for (std::int64_t first = chunk.first; first < chunk.end; first += voxels_at_once) {
            const std::int64_t voxels = std::min(voxels_at_once, chunk.end - first);
            loops.probabilities(logits + first * channels, voxels, channels, voxels_at_once, p, spare);
            body(chunk, thread, first, voxels, p, spare);
        }
    });
}

std::vector<ClassSums> SoftmaxLoss::sums(const float* logits, const std::uint8_t* classes, std::size_t groups,
                                         float* workspace) const {
    const std::int64_t channels = rows_.channels();
    auto* by_chunk = reinterpret_cast<ClassSums*>(of_thread(workspace, rows_.threads()));
    const VectorLoops& loops = vector_loops();
    std::fill_n(by_chunk, rows_.chunks() * channels, ClassSums());
    for_probabilities(
        logits, workspace,
        [&](const Blocks::Chunk& chunk, int, std::int64_t first, std::int64_t voxels, const float* p, const float*) {
            ClassSums* sums = by_chunk + chunk.index * channels;
            for (std::int64_t c = 0; c < channels; ++c) {
                const RowSums row =
                    loops.class_sums(p + c * voxels_at_once, classes + first, voxels, static_cast<int>(c));
                sums[c].probability_truth += double{row.probability_truth};
                sums[c].probability += double{row.probability};
                sums[c].probability_squared += double{row.probability_squared};
                sums[c].truth += double{row.truth};
            }
        });
    std::vector<ClassSums> all(groups * static_cast<std::size_t>(channels));
    const std::int64_t chunks_of_group = rows_.chunks() / static_cast<std::int64_t>(groups);
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

void SoftmaxLoss::count_digits(const float* logits, const std::uint8_t* classes, double gamma, std::uint64_t prefix,
                               int shift, std::span<double> counts, float* workspace) const {
    const std::int64_t channels = rows_.channels();
    const VectorLoops& loops = vector_loops();
    std::vector<std::vector<std::uint32_t>> of_threads(static_cast<std::size_t>(rows_.threads()),
                                                       std::vector<std::uint32_t>(digit_values));
    for_probabilities(
        logits, workspace,
        [&](const Blocks::Chunk&, int thread, std::int64_t first, std::int64_t voxels, const float* p, float* spare) {
            float* value = spare + 2 * voxels_at_once;
            loops.pointwise(logits + first * channels, p, spare, classes + first, voxels, channels, voxels_at_once,
                            static_cast<float>(gamma), value, value + voxels_at_once);
            std::vector<std::uint32_t>& own = of_threads[static_cast<std::size_t>(thread)];
            for (std::int64_t v = 0; v < voxels; ++v)
                if (const std::uint64_t key = ordered_bits(value[v]); has_prefix(key, prefix, shift))
                    ++own[digit_of(key, shift)];
        });
    for (const std::vector<std::uint32_t>& own : of_threads)
        for (std::size_t digit = 0; digit < digit_values; ++digit)
            counts[digit] += static_cast<double>(own[digit]);
}

namespace {

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

} // namespace

VoxelSums SoftmaxLoss::gradient(const float* logits, const std::uint8_t* classes, const LossTerms& terms,
                                const float* targets, float* workspace, float* gradient) const {
    const std::int64_t channels = rows_.channels();
    const VectorLoops& loops = vector_loops();
    std::vector<RowSlope> rounded;
    for (const ClassSlope& slope : terms.slopes())
        rounded.push_back({static_cast<float>(slope.truth), static_cast<float>(slope.constant),
                           static_cast<float>(slope.probability)});
    const bool by_sample = terms.groups() > 1;
    const DistillationRule& soft = terms.distillation();
    std::vector<float> cooled( // logits over the temperature, by thread
        terms.has_distillation() ? static_cast<std::size_t>(rows_.threads() * voxels_at_once * channels) : 0);
    std::vector<VoxelSums> sums(static_cast<std::size_t>(rows_.chunks()));
    for_probabilities(
        logits, workspace,
        [&](const Blocks::Chunk& chunk, int thread, std::int64_t first, std::int64_t voxels, float* p, float* spare) {
            float* value = spare + 2 * voxels_at_once;
            float* coefficient = value + voxels_at_once;
            const float* own = logits + first * channels;
            float* to = gradient + first * channels;
            VoxelSums& sum = sums[static_cast<std::size_t>(chunk.index)];
            if (terms.has_pointwise()) { // before the gradient overwrites `spare`
                loops.pointwise(own, p, spare, classes + first, voxels, channels, voxels_at_once,
                                static_cast<float>(terms.rule().gamma), value, coefficient);
                sum.pointwise += count_values(terms.rule(), voxels, value, coefficient);
            }
            loops.logit_gradient(p, classes + first, voxels, channels, voxels_at_once,
                                 rounded.data() + (by_sample ? chunk.sample * channels : 0), spare, to);
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
    VoxelSums total;
    for (const VoxelSums& chunk : sums)
        total += chunk;
    return total;
}

} // namespace mfres::kernels
