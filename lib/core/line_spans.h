// SPDX-License-Identifier: MIT
// A part of a voxel grid as one span per z-line: which voxels of a value are needed, when not all are.
#pragma once

#include <mfres/export.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mfres {

/// Voxels begin <= z < end of a z-line; none where the two are equal.
struct LineSpan {
    std::int32_t begin = 0;
    std::int32_t end = 0;

    bool empty() const { return begin >= end; }
    friend bool operator==(const LineSpan&, const LineSpan&) = default;
};

/// The smallest span that holds both.
inline LineSpan hull(const LineSpan& a, const LineSpan& b) {
    if (a.empty() || b.empty())
        return a.empty() ? b : a;
    return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

/// One span for each z-line (x, y) of a grid, or the whole grid. What is added to a line extends its span, so that the
/// spans cover at least what was added. Objects are reused without allocations for grids of the same size.
class MFRES_EXPORT LineSpans {
  public:
    using Size = std::array<std::int64_t, 3>;

    /// The whole grid, of any size.
    LineSpans() = default;
    /// Nothing of a grid of this size (voxels along x, y, z).
    explicit LineSpans(const Size& size) { clear(size); }

    /// Whether this is the whole grid. Otherwise line() tells which part it is.
    bool all() const { return all_; }
    void set_all() { all_ = true; }
    /// Makes this nothing of a grid.
    void clear(const Size& size);

    const Size& size() const { return size_; }
    /// Precondition: not all().
    LineSpan line(std::int64_t x, std::int64_t y) const { return lines_.empty() ? LineSpan{} : lines_[index(x, y)]; }

    /// Adds voxels [begin, end) of a line. Precondition: not all(), 0 <= begin <= end <= size()[2].
    void add(std::int64_t x, std::int64_t y, std::int64_t begin, std::int64_t end) { add(x, x + 1, y, begin, end); }
    /// Adds voxels [begin, end) of the lines x_begin <= x < x_end at y. Precondition: as above, within the grid.
    void add(std::int64_t x_begin, std::int64_t x_end, std::int64_t y, std::int64_t begin, std::int64_t end);
    /// Adds what `other` has. Precondition: one of the two is all(), or both have one size.
    void add(const LineSpans& other);

    /// Makes this `inner` grown by `reach` voxels along x, y and z to both sides, as far as the grid goes.
    void assign_grown(const LineSpans& inner, const Size& reach);
    /// Makes this the voxels that a trilinear upsampling by two reads for `fine`, on the grid with half the edges.
    /// Precondition: the edges of `fine` are even.
    void assign_halved(const LineSpans& fine);

    /// Exchanges the two ends of these axes (x, y, z).
    void mirror(const std::array<bool, 3>& axes);

    /// Number of voxels in the spans. Precondition: not all().
    std::int64_t voxels() const;

  private:
    std::size_t lines() const { return static_cast<std::size_t>(size_[0] * size_[1]); }
    std::size_t index(std::int64_t x, std::int64_t y) const { return static_cast<std::size_t>(x * size_[1] + y); }

    bool all_ = true;
    Size size_{};
    std::vector<LineSpan> lines_; ///< none as long as nothing was added
    std::vector<LineSpan> work_;  ///< of assign_grown
};

} // namespace mfres
