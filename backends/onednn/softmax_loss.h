// A loss of class sums over channels-last logits: one pass for the sums, one for the gradient, which computes the
// probabilities again rather than keeping them.
#pragma once

#include "backends/onednn/blocked_loops.h"
#include "backends/training.h"

#include <span>
#include <vector>

namespace mfres::onednn {

class SoftmaxLoss {
  public:
    /// `shape` is that of the logits.
    SoftmaxLoss(const Shape& shape, int threads);

    /// Memory that sums() and gradient() work in.
    std::int64_t scratch_bytes() const;

    /// Sums of every class; `classes` by voxel.
    std::vector<ClassSums> sums(const float* logits, const std::uint8_t* classes, float* scratch) const;

    /// dL/dz_k = p_k (s_k - sum_j p_j s_j) with s = dL/dp of the slopes.
    void gradient(const float* logits, const std::uint8_t* classes, const std::vector<ClassSlope>& slopes,
                  float* scratch, float* gradient) const;

  private:
    static constexpr std::int64_t voxels_at_once = 256;

    std::int64_t floats_per_thread() const;
    float* of_thread(float* scratch, int thread) const { return scratch + thread * floats_per_thread(); }

    Blocks rows_;
};

} // namespace mfres::onednn
