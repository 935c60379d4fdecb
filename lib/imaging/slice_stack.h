// SPDX-License-Identifier: MIT
// A compact volume made of slices that arrive one after the other, so that the whole volume is never in memory.
//
// What is background is known after the last slice only. The most frequent value of the first slice is taken for it
// until then, and of each slice the rectangle of other values is kept. Where that was wrong, the whole volume is put
// together again; the result is that of CompactVolume's own constructor in any case.
#pragma once

#include "core/page_vector.h"
#include "imaging/compact_volume.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace mfres {

/// T: float or a type that CompactVolume stores. Volumes of floats that are integers of 16 bits are stored as such.
template <typename T>
class SliceStack {
  public:
    /// Intensity = stored * slope + inter, as in CompactVolume; 1 and 0 for floats. `expected`: voxels that memory is
    /// reserved for. `most_bytes`: cap on the voxels that are kept, 0 = none; append() and finish() throw std::bad_alloc
    /// where they would take more.
    SliceStack(const Grid& grid, double slope, double inter, std::size_t expected, std::int64_t most_bytes = 0);

    /// The next voxels, i fastest; no more than the grid has.
    void append(std::span<const T> voxels);

    /// The same without a copy: where the next voxels of the slice have to be written, and how many of them have been. At
    /// least one until all voxels of the grid have come.
    std::span<T> room() { return std::span(slice_).subspan(filled_); }
    void took(std::size_t voxels);

    /// Voxels so far.
    std::int64_t count() const { return count_; }

    /// Precondition: all voxels of the grid have come, and none is NaN.
    CompactVolume finish() &&;

  private:
    /// What is kept of a slice: width x height voxels from (i, j) on.
    struct Part {
        std::int64_t k, i, j, width, height;
    };

    void take_slice();
    void check_bytes(std::size_t bytes) const;
    template <typename Kept>
    void keep(PageVector<Kept>& kept, const Part& part) const;
    void give_up_integers();
    template <typename Kept>
    CompactVolume finish(PageVector<Kept> kept) const;
    template <typename Kept>
    CompactVolume from_whole(const PageVector<Kept>& kept) const;

    Grid grid_;
    double slope_;
    double inter_;
    std::int64_t most_bytes_;
    PageVector<T> slice_;
    std::size_t filled_ = 0; ///< voxels of the slice
    std::int64_t slices_ = 0;
    std::int64_t count_ = 0;
    T guess_{};
    bool integers_ = false;                  ///< floats that have been whole numbers of 16 bits so far
    PageVector<T> border_;                   ///< in the order of the volume
    PageVector<Part> parts_;                 ///< not empty ones, in the order of slices
    PageVector<T> kept_;                     ///< the parts' voxels, one after the other
    PageVector<std::int16_t> integers_kept_; ///< in place of kept_ while integers_
};

} // namespace mfres
