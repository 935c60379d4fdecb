// SPDX-License-Identifier: MIT
// What counts as brain: the background of each contrast, what differs from it, and the largest connected part of that.
//
// Background. The background of a contrast is the most frequent value on the six border faces of its grid, not zero:
// after scl_slope and scl_inter the value outside the head can be anything, and dark tissue can lie below it. A second
// value is background, too, where it surrounds what differs from the first: zeros around a volume whose background was
// no longer zero when it was padded.
//
// Tolerance. Where the background is one value, a voxel is background if it differs from it by no more than four float
// roundings of it, which is exact equality for 0 and otherwise forgives what interpolation of a constant does to it.
// Where it is not (noise of 1e-6 after a rotation, the ringing of splines), one contrast would make the whole grid
// brain. So a background is called noisy where more than a small share of the foreground lies next to it, and then
// everything within a small share of the contrast's intensity range is background; brain.cpp has the numbers. No
// contrast of 38 skull-stripped cases is noisy, so that their brain is that of exact equality.
//
// Brain. A voxel is brain when at least one contrast shows something there; contrasts with a noisy background count
// only where all of them have one. One mask serves all four contrasts: tissue that happens to have the background value
// in one of them (cerebrospinal fluid in FLAIR, for example) keeps its true place below the mean instead of being
// lifted to it, and every contrast has the same silhouette. Voxels touching each other by a face, an edge or a corner
// form a part; the brain is the largest. Everything else (a stray header value, a slab of padding) counts as
// background and cannot stretch the box. Where a tolerance was needed, holes of the brain are filled, because it makes
// some in dark tissue.
#pragma once

#include "core/page_vector.h"
#include "imaging/compact_volume.h"
#include "imaging/run_mask.h"

#include <mfres/volume.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mfres {

/// The first contrast of a set that is not empty.
std::size_t first_of(const ModalitySet& set);

/// The background of one contrast.
struct Background {
    PageVector<float> values; ///< the most frequent value of the border first
    float tolerance = 0.0F;   ///< what is no farther from one of the values is background
    bool noisy = false;       ///< the tolerance is more than rounding

    bool differs(float value) const;
};

/// A set of contrasts as bits: bit m is contrast m of `modalities`.
using ContrastBits = std::uint8_t;

/// Where the brain lies in a grid.
struct Brain {
    Grid grid;
    std::array<Background, 4> backgrounds;
    std::int64_t brain_voxels = 0;
    std::int64_t speck_voxels = 0;            ///< that differ from the background and are not of the largest part
    std::int64_t second_part_voxels = 0;      ///< of the largest part that was left out
    std::int64_t border_voxels = 0;           ///< brain voxels on the grid's six border faces
    std::array<std::int64_t, 16> shown{};     ///< brain voxels by the contrasts that differ from their background there
    std::array<std::int64_t, 4> foreground{}; ///< voxels of the grid that differ from the background, by contrast

    /// The brain mask as runs along i, rows in the grid's order; see row().
    PageVector<VoxelRun> runs;
    PageVector<std::size_t> first_run; ///< row j + size[1] * k owns runs [first_run[row], first_run[row + 1])

    /// The brain voxels of row (j, k) of the grid, ascending.
    std::span<const VoxelRun> row(std::int64_t j, std::int64_t k) const {
        const auto index = static_cast<std::size_t>(j + grid.size[1] * k);
        return std::span(runs).subspan(first_run[index], first_run[index + 1] - first_run[index]);
    }

    /// Brain voxels in which all contrasts of `set` differ from their background.
    std::int64_t shown_by_all(ContrastBits set) const;
    /// Brain voxels in which at least one of them does.
    std::int64_t shown_by_any(ContrastBits set) const;
};

/// Marks of voxels, a bit each: rows along i of the whole grid, of which those beside a box are clear and take no memory.
class VoxelBits {
  public:
    VoxelBits() = default;
    /// Of a grid of `size` voxels; the box that may have marks is that of CompactVolume::kept_begin() and kept_size().
    VoxelBits(const std::array<std::int64_t, 3>& size, const std::array<std::int64_t, 3>& begin,
              const std::array<std::int64_t, 3>& kept);

    /// Voxel i is bit i % 64 of word i / 64. Precondition: the row is one of the box.
    std::uint64_t* row(std::int64_t j, std::int64_t k) {
        return bits_.data() + words_ * (j - first_[0] + rows_[0] * (k - first_[1]));
    }
    /// Word w of any row.
    std::uint64_t word(std::int64_t w, std::int64_t j, std::int64_t k) const {
        const std::int64_t y = j - first_[0];
        const std::int64_t z = k - first_[1];
        if (y < 0 || y >= rows_[0] || z < 0 || z >= rows_[1])
            return 0;
        return bits_[static_cast<std::size_t>(w + words_ * (y + rows_[0] * z))];
    }
    std::int64_t count() const;
    std::int64_t bytes() const { return static_cast<std::int64_t>(bits_.size() * sizeof bits_[0]); }

  private:
    std::array<std::int64_t, 2> first_{}; ///< j and k of the box
    std::array<std::int64_t, 2> rows_{};
    std::int64_t words_ = 0; ///< of a row
    PageVector<std::uint64_t> bits_;
};

/// Finds the brain of scans that come one after the other, so that no two of them have to be in memory.
class BrainFinder {
  public:
    /// The result does not depend on `threads`.
    explicit BrainFinder(int threads) : threads_(threads) { brain_.backgrounds.fill({{0.0F}, 0.0F, false}); }

    /// The scan of contrast m, each once, all on one grid of fewer than 2^31 voxels.
    void add(std::size_t m, const CompactVolume& scan);
    /// Those of several contrasts, at the same time. Precondition: one is present.
    void add(const std::array<CompactVolume, 4>& scans, const ModalitySet& present);

    /// What the marks of the scans so far take. While a scan is added there are two more like its own.
    std::int64_t bytes() const;

    /// The brain; empty where nothing differs from the background. Precondition: a scan has been added.
    Brain finish() &&;

  private:
    void mark_foreground(std::size_t m, const CompactVolume& scan);

    int threads_;
    Brain brain_;
    std::array<VoxelBits, 4> marks_;
    std::array<bool, 4> added_{};
};

/// The same for scans that are in memory. Those that are not `present` are not looked at.
Brain find_brain(const std::array<CompactVolume, 4>& scans, const ModalitySet& present, int threads);

} // namespace mfres
