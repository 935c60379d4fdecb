// SPDX-License-Identifier: MIT
// When memory is short: cover the padded box with equal tiles, and take each voxel's label from the tile in which it
// lies deepest. With memory enough: labels from one pass over the logits.
//
// Where tiles overlap, a network sees most of the surroundings of a voxel in the tile whose faces are farthest from it.
// Along each axis neighbours therefore share their overlap in halves. Averaging the logits of all tiles instead, with
// weights that fall off from a tile's centre (Isensee et al., "nnU-Net", Nature Methods 2021), holds float maps of a
// slab of the whole box, which memory spent on larger tiles with wider overlaps outweighs.
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
/// along every axis on which there is more than one. All starts are multiples of `multiple`, so that a voxel falls on
/// the same phase of the network's strides in every tile; within that they are spread as evenly as possible.
/// Errors: invalid_argument (a size that is not a positive multiple of `multiple`, a negative overlap, or an overlap
/// that leaves less than `multiple` new voxels per tile).
Result<TilePlan> plan_tiles(const std::array<std::int64_t, 3>& box_size, const std::array<std::int64_t, 3>& tile_size,
                            std::int64_t overlap, std::int64_t multiple);

/// The tile that covers the box with the least computation (number of tiles x voxels per tile; then the larger tile)
/// among those whose `bytes_of(tile_size)` is at most `limit_bytes`. The whole box is the first candidate; after it,
/// per axis, the smallest edge for every possible number of tiles, since a larger one would only cost more.
/// `bytes_of` is asked once per candidate until one fits: a few dozen times for a head at 1 mm.
/// Errors: invalid_argument as plan_tiles; memory_limit, naming the smallest need of all candidates.
Result<std::array<std::int64_t, 3>>
choose_tile(const std::array<std::int64_t, 3>& box_size, std::int64_t overlap, std::int64_t multiple,
            std::int64_t limit_bytes, const std::function<std::int64_t(const std::array<std::int64_t, 3>&)>& bytes_of);

/// Turns logits that arrive tile by tile into labels of the whole box, without any float map of its own. With one tile,
/// and wherever overlapping tiles agree, the labels equal those of assign_labels() on the whole. They do not depend on the
/// number of threads.
class TileLabels {
  public:
    /// `labels` is [x][y][z] of plan.box_size, z fastest, and must outlive the object.
    /// Errors: invalid_argument (labels of another size than the box, an empty plan).
    static Result<TileLabels> create(TilePlan plan, std::span<std::uint8_t> labels, int threads,
                                     const LabelRule& rule = {});

    /// Labels the voxels that tile next_tile() decides, from its logits, `values` [1, classes, x, y, z]; any strides.
    /// Errors: invalid_argument (another shape, no class or more than 256, or all tiles were added before) and
    /// logits_not_finite with counts and the first place, anywhere in the tile; then the tile is still the next one.
    Status add(const StridedView<const float>& values);

    /// Number of the tile that add() expects, in the plan's order; plan().count() when all were added.
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

/// The voxels along `axis`, [first, second) in the box, that position `n` of the plan decides: up to the middle of what
/// it shares with each neighbour.
std::pair<std::int64_t, std::int64_t> decided_by(const TilePlan& plan, std::size_t axis, std::size_t n);

/// The voxels that tile n of the plan decides, along x, y and z.
std::array<std::pair<std::int64_t, std::int64_t>, 3> decided_by(const TilePlan& plan, std::size_t tile);

} // namespace mfres
