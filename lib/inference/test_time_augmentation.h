// SPDX-License-Identifier: MIT
// Test-time mirroring: the network labels a volume and its mirror images, and the mean of the probabilities, turned
// back, decides. A network trained on mirrored crops is only roughly indifferent to mirroring; the mean is exactly so
// along the axes that were mirrored, as far as the volume has no padding that lies on one side. (Isensee et al.,
// "nnU-Net", Nature Methods 2021, does so along all axes.)
#pragma once

#include "core/outputs.h"
#include "core/tensor.h"

#include <mfres/predictor.h>
#include <mfres/status.h>

#include <array>
#include <cstddef>

namespace mfres {

/// Every combination of the axes, 1 to 8.
std::size_t mirror_images(const MirrorAxes& axes) noexcept;

/// Combination n in [0, mirror_images(axes)); the first one mirrors nothing.
MirrorAxes mirror_image(const MirrorAxes& axes, std::size_t n) noexcept;

/// The same memory seen mirrored: element x is what was element X - 1 - x. Precondition: rank 5.
template <typename T>
StridedView<T> mirrored(StridedView<T> seen, const MirrorAxes& axes) {
    for (std::size_t axis = 0; axis < 3; ++axis)
        if (axes[axis]) {
            seen.data += (seen.shape[static_cast<int>(axis) + 2] - 1) * seen.strides[axis + 2];
            seen.strides[axis + 2] = -seen.strides[axis + 2];
        }
    return seen;
}

/// The mean of probabilities over passes: of the softmax over the classes, or of the sigmoids of regions.
class ProbabilityMean {
  public:
    /// For logits of `shape` [1, classes or regions, x, y, z], of which it holds as many floats.
    explicit ProbabilityMean(const Shape& shape, Outputs outputs = Outputs::classes)
        : sums_(shape, 0.0F), outputs_(outputs) {}

    /// Adds the probabilities of every voxel. Results do not depend on the number of threads.
    /// Errors: invalid_argument (another shape); logits_not_finite, which names the first place in a box where voxel
    /// (0, 0, 0) of the logits is `offset`.
    Status add(const StridedView<const float>& values, int threads, const std::array<std::int64_t, 3>& offset = {});

    /// Sums of what was added: in each voxel proportional to the mean, so the greatest is the same, and a region's
    /// is above one half where its sum is above half the number of passes.
    StridedView<const float> sums() const { return view(sums_); }

    /// Forgets what was added.
    void clear();

  private:
    Tensor sums_;
    Outputs outputs_;
};

} // namespace mfres
