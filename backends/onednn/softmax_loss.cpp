#include "backends/onednn/softmax_loss.h"

#include "backends/onednn/vector_loops.h"

namespace mfres::onednn {

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
    const VectorLoops& loops = vector_loops();
    rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
        float* p = of_thread(scratch, thread);
        ClassSums* sums = by_chunk + chunk.index * channels;
        std::fill_n(sums, channels, ClassSums());
        for (std::int64_t first = chunk.first; first < chunk.end; first += voxels_at_once) {
            const std::int64_t voxels = std::min(voxels_at_once, chunk.end - first);
            loops.probabilities(logits + first * channels, voxels, channels, voxels_at_once, p,
                                p + channels * voxels_at_once);
            for (std::int64_t c = 0; c < channels; ++c) {
                const RowSums row =
                    loops.class_sums(p + c * voxels_at_once, classes + first, voxels, static_cast<int>(c));
                sums[c].probability_truth += double{row.probability_truth};
                sums[c].probability += double{row.probability};
                sums[c].probability_squared += double{row.probability_squared};
                sums[c].truth += double{row.truth};
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
    const VectorLoops& loops = vector_loops();
    std::vector<RowSlope> rounded;
    for (const ClassSlope& slope : slopes)
        rounded.push_back({static_cast<float>(slope.truth), static_cast<float>(slope.constant),
                           static_cast<float>(slope.probability)});
    rows_.for_chunks([&](const Blocks::Chunk& chunk, int thread) {
        float* p = of_thread(scratch, thread);
        float* spare = p + channels * voxels_at_once;
        for (std::int64_t first = chunk.first; first < chunk.end; first += voxels_at_once) {
            const std::int64_t voxels = std::min(voxels_at_once, chunk.end - first);
            loops.probabilities(logits + first * channels, voxels, channels, voxels_at_once, p, spare);
            loops.logit_gradient(p, classes + first, voxels, channels, voxels_at_once, rounded.data(), spare,
                                 gradient + first * channels);
        }
    });
}

} // namespace mfres::onednn
