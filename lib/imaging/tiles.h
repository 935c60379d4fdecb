// When memory is short: cover the padded box with equal tiles, and turn the tiles' logits into labels while holding
// only the part of the box that tiles still overlap. With memory enough: labels from one pass over the logits.
//
// Tiles form a product of positions along x, y and z and are visited with x outermost, so that everything before the
// next tile's x is finished and can be turned into labels and forgotten.
//
// Blending. Where tiles overlap, the logits of a voxel are averaged with weights that fall off from the centre of a
// tile, because a network sees less of the surroundings of a voxel near a tile's face (the idea of Isensee et al.,
// "nnU-Net", Nature Methods 2021). What is held per voxel is the weighted mean so far, m <- m + w / (W + w) * (l - m),
// W being the weights of the tiles before: that needs no map of weights, because W follows from one table per axis,
// and it makes tiles that agree give back exactly the logits they agree on, so no tie appears that was none.
#pragma once

#include "core/argmax.h"
#include "core/tensor.h"

#include <mfres/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
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

/// Blending weights along one axis of a tile: a Gaussian around its centre with a standard deviation of 1/8 of its
/// length, 1 at the maximum. Symmetric, at least exp(-8). A voxel's weight is the product over the three axes.
std::vector<float> blend_weights(std::int64_t length);

/// Bytes that a BlendedArgmax for such tiles allocates.
std::int64_t blend_bytes(const std::array<std::int64_t, 3>& box_size, const std::array<std::int64_t, 3>& tile_size,
                         int classes);

/// Turns logits that arrive tile by tile into labels of the whole box. Holds float maps only for as many planes of
/// constant x as a tile is long; a plane's labels are written as soon as no further tile reaches it.
/// With one tile, and wherever overlapping tiles agree, the labels equal those of argmax() on the whole. They do not
/// depend on the number of threads.
class BlendedArgmax {
  public:
    /// `labels` is [x][y][z] of plan.box_size, z fastest, and must outlive the object.
    /// Errors: invalid_argument (classes outside 1..256, labels of another size than the box, an empty plan),
    /// memory_limit (the allocation of blend_bytes() failed).
    static Result<BlendedArgmax> create(TilePlan plan, int classes, std::span<std::uint8_t> labels, int threads);

    /// Adds the logits [1, classes, x, y, z] of tile next_tile(); any strides.
    /// Errors: invalid_argument (another shape, or all tiles were added before) and logits_not_finite with counts and
    /// the first place, after which nothing was added; logits_not_finite also where finite logits of opposite signs
    /// are so great that their mean overflows, and then the labels are to be thrown away.
    Status add(const StridedView<const float>& logits);

    /// Number of the tile that add() expects, in the plan's order; plan().count() when all were added.
    std::size_t next_tile() const { return next_tile_; }
    bool complete() const { return next_tile_ == plan_.count(); }
    /// Labels of planes x < finished_planes() are final; all others are not written yet.
    std::int64_t finished_planes() const { return finished_planes_; }
    const TilePlan& plan() const { return plan_; }

  private:
    /// Along one axis, for every voxel of the current tile: its weight, the weights of earlier positions, of all.
    struct AxisWeights {
        std::vector<float> own, before, total;
    };

    BlendedArgmax() = default;
    void weigh_tile();
    float* row_of(std::int64_t x, std::int64_t y);
    void blend_row(const float* logits, const StridedView<const float>& view, std::int64_t x, std::int64_t y,
                   const std::array<std::int64_t, 3>& offset);
    Status finish_planes(std::int64_t end);

    TilePlan plan_;
    int classes_ = 0;
    int threads_ = 1;
    std::span<std::uint8_t> labels_;
    std::array<AxisWeights, 3> weights_;
    std::vector<float> window_; ///< weighted means [x mod tile length][y][class][z]
    std::size_t next_tile_ = 0;
    std::int64_t finished_planes_ = 0;
};

} // namespace mfres
