// SPDX-License-Identifier: MIT
// Batches cut out of cases on the device, beside what the engine does meanwhile: cases go through page-locked memory
// and a second queue into arrays of their own, from which a finished batch is copied to where a step reads it.
#pragma once

#include "backends/crops.h"
#include "backends/cuda/engine.h"

#include <span>

namespace mfres::cuda {

class CropCutter {
  public:
    /// For batches of `samples` crops. Throws EngineError, as all that follows.
    CropCutter(Engine& engine, std::int64_t samples, const std::array<std::int64_t, 3>& extents);

    /// Begins a batch. Precondition: as many crops as samples; the one before was taken.
    void start(std::span<const CropRequest> crops);
    /// Copies the batch to `images` [sample][4][x][y][z] and `classes` [sample][x][y][z] on the device.
    void take(float* images, std::uint8_t* classes);

    /// What start() would hold for such crops, device and host memory alike counted once.
    std::int64_t bytes(std::span<const CropRequest> crops) const;
    /// The most that bytes() can be for cases of so many voxels.
    static std::int64_t most_bytes(std::int64_t samples, const std::array<std::int64_t, 3>& extents,
                                   std::int64_t case_voxels);

  private:
    std::int64_t voxels() const { return extents_[0] * extents_[1] * extents_[2]; }
    std::int64_t fixed_bytes() const;
    void cut(std::int64_t sample, const CropRequest& crop, const std::byte* at);

    Engine& engine_;
    std::int64_t samples_;
    std::array<std::int64_t, 3> extents_;
    Block staging_, cases_; ///< as they come from the host, in the same layout
    Block images_, classes_, brain_, extremes_;
    std::unique_ptr<SideQueue> queue_; // last: its work ends before the memory goes
};

} // namespace mfres::cuda
