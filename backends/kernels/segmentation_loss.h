// SPDX-License-Identifier: MIT
// A loss over channels-last logits: one pass for the class sums, one for the gradient and the pointwise part, and where
// that chooses the hardest voxels two that count digits. Each computes the probabilities again rather than keeping them.
#pragma once

#include "backends/kernels/blocked_loops.h"
#include "backends/planned/loss_terms.h"
#include "backends/training.h"

#include <span>
#include <vector>

namespace mfres::kernels {

class SegmentationLoss {
  public:
    /// `shape` is that of the logits.
    SegmentationLoss(const Shape& shape, int threads);

    /// Memory that the others work in.
    std::int64_t workspace_bytes() const;

    /// Sums of every class or region, [group][class]: one group, or one per sample; `classes` by voxel.
    std::vector<ClassSums> sums(const float* logits, const std::uint8_t* classes, const LossTerms& terms,
                                float* workspace) const;

    /// See CountDigits; of the values of the pointwise part, as float.
    void count_digits(const float* logits, const std::uint8_t* classes, const LossTerms& terms, std::uint64_t prefix,
                      int shift, std::span<double> counts, float* workspace) const;

    /// dL/dz_k = p_k (s_k - sum_j p_j s_j) with s = dL/dp of the slopes, plus those of the other parts, and the sums that
    /// the value takes. `targets`: of distillation, like the logits; null without it. Each region is computed as a softmax
    /// of its own over two classes with the logits 0 and z, whose second probability is sigmoid(z).
    VoxelSums gradient(const float* logits, const std::uint8_t* classes, const LossTerms& terms, const float* targets,
                       float* workspace, float* gradient) const;

  private:
    static constexpr std::int64_t voxels_at_once = 256;

    std::int64_t floats_per_thread() const;
    float* of_thread(float* workspace, int thread) const { return workspace + thread * floats_per_thread(); }

    /// body(chunk, thread, first voxel, voxels) for some voxels after the other.
    template <typename Body>
    void for_voxels(const Body& body) const;

    /// body(chunk, channel, sums of the channel over some voxels).
    template <typename Body>
    void for_row_sums(const float* logits, const std::uint8_t* classes, Outputs outputs, float* workspace,
                      const Body& body) const;

    VoxelSums class_gradient(const float* logits, const std::uint8_t* classes, const LossTerms& terms,
                             const float* targets, float* workspace, float* gradient) const;
    VoxelSums region_gradient(const float* logits, const std::uint8_t* classes, const LossTerms& terms,
                              const float* targets, float* workspace, float* gradient) const;

    Blocks rows_;
};

} // namespace mfres::kernels
