// SPDX-License-Identifier: MIT
// A set of voxels of a grid as runs along i, and its connected components.
#pragma once

#include "core/page_vector.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace mfres {

/// Voxels begin <= i < end of one row along i.
struct VoxelRun {
    std::int32_t begin = 0;
    std::int32_t end = 0;

    std::int64_t length() const { return end - begin; }
    friend bool operator==(const VoxelRun&, const VoxelRun&) = default;
};

/// Row j + size[1] * k of the grid owns runs [first_run[row], first_run[row + 1]), ascending and apart from each other.
struct RunMask {
    std::array<std::int64_t, 3> size{};
    PageVector<VoxelRun> runs;
    PageVector<std::size_t> first_run;
};

/// What is not in the mask.
RunMask complement(const RunMask& mask);

/// What counts as touching: 6 neighbours of a voxel, or 26.
enum class Neighbours : std::uint8_t { faces, all };

/// Which runs belong together: a forest of runs, with path halving (Tarjan and van Leeuwen 1984). The root of a component
/// is its first run.
class Components {
  public:
    /// Of the runs of a mask, fewer than 2^32.
    Components(const RunMask& mask, Neighbours neighbours);

    std::uint32_t root(std::size_t run) {
        auto found = static_cast<std::uint32_t>(run);
        while (parent_[found] != found)
            found = parent_[found] = parent_[parent_[found]];
        return found;
    }

    /// The voxels of each component, at its root; 0 at the other runs.
    PageVector<std::int64_t> voxels(const RunMask& mask);

  private:
    void join(std::size_t a, std::size_t b);
    void join_rows(const RunMask& mask, std::size_t row, std::size_t other, std::int32_t reach);

    PageVector<std::uint32_t> parent_;
};

/// Removes the runs of all components but those with a root for which kept() is true.
template <typename Kept>
void keep_components(RunMask& mask, Components& components, const Kept& kept) {
    std::size_t count = 0;
    std::size_t run = 0;
    for (std::size_t row = 0; row + 1 < mask.first_run.size(); ++row) {
        mask.first_run[row] = count;
        for (const std::size_t row_end = mask.first_run[row + 1]; run < row_end; ++run)
            if (kept(components.root(run)))
                mask.runs[count++] = mask.runs[run];
    }
    mask.first_run.back() = count;
    mask.runs.resize(count);
}

} // namespace mfres
