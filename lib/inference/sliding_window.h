// SPDX-License-Identifier: MIT
// Sliding-window inference: the padded brain box is covered with overlapping tiles of equal size, and each voxel gets
// its label from the tile whose faces are farthest from it. Used under a memory limit; otherwise the box is one tile.
//
// Near the faces of a tile a network sees zero padding in place of the image, so predictions are best in the middle.
// Along each axis the overlap of two tiles is therefore divided in its middle. nnU-Net averages the logits of all tiles
// with Gaussian weights instead (Isensee et al., Nature Methods 2021). That needs float maps of the classes for the
// whole box; the same memory is better spent on larger tiles with wider overlaps.
#pragma once

#include "core/argmax.h"
#include "core/tensor.h"

#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace mfres {

/// Equal tiles that cover a box.
struct TilePlan {
    std::array<std::int64_t, 3> box_size{};
    std::array<std::int64_t, 3> tile_size{};
    std::array<std::vector<std::int64_t>, 3> starts; ///< per axis: first voxel of each position, ascending

    std::size_t count() const { return starts[0].size() * starts[1].size() * starts[2].size(); }
    /// First voxel of tile n in [0, count()): x changes slowest, z fastest.
    std::array<std::int64_t, 3> offset(std::size_t n) const;
};

/// Places tiles of `tile_size` (cut to the box where it is larger) so that neighbours share at least `overlap` voxels
/// along every axis on which there is more than one. All starts are multiples of `multiple`, the product of the
/// network's strides, so that strided ops sample the same voxels in every tile; apart from that they are evenly spaced.
/// Errors: invalid_argument (a size that is not a positive multiple of `multiple`, a negative overlap, or an overlap
/// that leaves less than `multiple` new voxels per tile).
Result<TilePlan> plan_tiles(const std::array<std::int64_t, 3>& box_size, const std::array<std::int64_t, 3>& tile_size,
                            std::int64_t overlap, std::int64_t multiple);

/// The tile size with the least computation (number of tiles x voxels per tile; of equal ones the larger tile) among
/// those with `bytes_of(tile_size)` <= `limit_bytes`. Candidates are the whole box and, along each axis, the smallest
/// edge for each number of tiles, since a larger edge for the same number only costs more. `bytes_of` is called once
/// per candidate, in this order, until one fits: a few dozen times for a head at 1 mm. Errors: invalid_argument as
/// plan_tiles; memory_limit, with the smallest memory of all candidates.
Result<std::array<std::int64_t, 3>>
choose_tile(const std::array<std::int64_t, 3>& box_size, std::int64_t overlap, std::int64_t multiple,
            std::int64_t limit_bytes, const std::function<std::int64_t(const std::array<std::int64_t, 3>&)>& bytes_of);

/// Makes the labels of the whole box from the logits of one tile after the other, and stores no logits. With one tile,
/// and wherever overlapping tiles agree, the labels equal assign_labels() of the whole box. They do not depend on the number
/// of threads.
class TileLabels {
  public:
    /// `labels` is [x][y][z] of plan.box_size, z fastest, and must outlive the object.
    /// Errors: invalid_argument (labels of another size than the box, an empty plan).
    static Result<TileLabels> create(TilePlan plan, std::span<std::uint8_t> labels, int threads,
                                     const LabelRule& rule = {});

    /// Writes the labels of the voxels assigned to tile next_tile() (see decided_by), from its logits `values`
    /// [1, classes, x, y, z], of any strides. Errors: invalid_argument (another shape, no class or more than 256, or no
    /// tile is left), logits_not_finite (counts them, names the first voxel); then next_tile() does not change.
    Status add(const StridedView<const float>& values);

    /// Index of the tile that add() expects, in the order of the plan; plan().count() after the last one.
    std::size_t next_tile() const { return next_tile_; }
    bool complete() const { return next_tile_ == plan_.count(); }
    const TilePlan& plan() const { return plan_; }

  private:
    TileLabels(TilePlan plan, std::span<std::uint8_t> labels, int threads, const LabelRule& rule)
        : plan_(std::move(plan)), labels_(labels), threads_(threads), rule_(rule) {}

    TilePlan plan_;
    std::span<std::uint8_t> labels_;
    int threads_;
    LabelRule rule_;
    std::size_t next_tile_ = 0;
};

/// The voxels [first, second) of the box along `axis` that take their labels from position `n` of the plan: up to the
/// middle of the overlap with each neighbour.
std::pair<std::int64_t, std::int64_t> decided_by(const TilePlan& plan, std::size_t axis, std::size_t n);

/// The voxels that take their labels from a tile of the plan, along x, y and z.
std::array<std::pair<std::int64_t, std::int64_t>, 3> decided_by(const TilePlan& plan, std::size_t tile);

} // namespace mfres
